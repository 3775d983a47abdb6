"""Workloads that make space scarce or scatter files, on small disks.

``cleaning`` holds the disk at a high utilisation and overwrites, so that the
cleaner works between and below the requests.  ``full`` writes until it is
refused: the refusals are part of it, and so is what comes after them, deleting,
truncating, overwriting and writing again.  What is refused depends on the
filesystem, so neither tries its requests first.

``worn`` leaves little in many segments, so that few are clean while much may still be
promised, and then adds as much metadata as is promised.  ``merging`` changes names and files
between the steps of a checkpoint.  ``turning`` overwrites what a
round of the cleaner is to move, between the turns of that round.

``scattering`` overwrites files here and there and then leaves them alone, so that
they are put together in idle turns, and changes them in the middle of that.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator

from tests.support.client import Data, Request

REGULAR = stat.S_IFREG | 0o644
STEP_NS = 50_000_000
KIB = 1024
LIMIT_BYTES = 976 * KIB
"""What user data may occupy on the smallest disk."""

Call = tuple[object, ...]


def cleaning(seed: int, limit_bytes: int) -> list[Request]:
    """Return requests that keep about 80 % of ``limit_bytes`` in use and overwrite it."""
    return timed(_cleaning_calls(random.Random(f"cleaning {seed}"), limit_bytes))


def reusing(seed: int) -> list[Request]:
    """Return requests that let large files die and write anew in their place.

    What is freed lies between what is used, so that it is the next to be written.
    """
    return timed(_reusing_calls(random.Random(f"reusing {seed}")))


def crowded(seed: int) -> list[Request]:
    """Return requests that fill the disk with metadata, and sync rarely."""
    return timed(_crowded_calls(random.Random(f"crowded {seed}")))


def full(seed: int) -> list[Request]:
    """Return requests that fill the disk, twice, and go on when it is full."""
    return timed(_full_calls(random.Random(f"full {seed}")))


def worn(seed: int) -> list[Request]:
    """Return requests that leave few segments clean, none of them full, and then add metadata."""
    return timed(_worn_calls(random.Random(f"worn {seed}")))


def turning(seed: int, limit_bytes: int) -> list[Request]:
    """Return requests that overwrite files between single turns of the cleaner."""
    return timed(_turning_calls(random.Random(f"turning {seed}"), limit_bytes))


def scattering(seed: int) -> list[Request]:
    """Return requests that scatter files and let idle turns put them together.

    Much time passes before each turn.
    """
    requests: list[Request] = []
    now_ns = 0
    for call, *arguments in _scattering_calls(random.Random(f"scattering {seed}")):
        now_ns += 6_000_000_000 if call == "tick" else STEP_NS
        requests.append(Request(str(call), tuple(arguments), now_ns))
    return requests


def merging(seed: int) -> list[Request]:
    """Return requests that come between the steps of checkpoints, which are due all the time."""
    requests: list[Request] = []
    now_ns = 0
    for call, *arguments in _merging_calls(random.Random(f"merging {seed}")):
        now_ns += 61_000_000_000 if call == "tick" else STEP_NS
        requests.append(Request(str(call), tuple(arguments), now_ns))
    return requests


def timed(calls: Iterator[Call]) -> list[Request]:
    return [
        Request(str(call), tuple(arguments), STEP_NS * number)
        for number, (call, *arguments) in enumerate(calls, 1)
    ]


def some_data(choose: random.Random, *lengths: int) -> Data:
    return Data(choose.randrange(10_000), choose.choice(lengths))


def _cleaning_calls(choose: random.Random, limit_bytes: int) -> Iterator[Call]:
    share = choose.choice([0.75, 0.85, 0.92])
    size = choose.choice([12 * KIB, 30 * KIB, 64 * KIB])
    paths = [b"/%d" % number for number in range(int(limit_bytes * share) // (size + 2 * KIB))]
    for path in paths:
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), size))
    yield ("sync",)
    for _ in range(240):
        path = choose.choice(paths)
        match choose.randrange(30):
            case 0 | 1 | 2:
                yield ("sync",)
            case 3 | 4:
                yield ("tick", choose.choice([1, 3, 30]), True)
            case 5:
                yield ("checkpoint",)
            case 6:
                yield ("unlink", path)
                yield ("create", path, REGULAR, 0)
                yield ("write", path, 0, Data(choose.randrange(10_000), size))
            case 7:
                yield ("truncate", path, choose.randrange(size))
                yield ("write", path, 0, Data(choose.randrange(10_000), size))
            case _:
                data = some_data(choose, 1 * KIB, 3 * KIB, 6 * KIB, 10 * KIB)
                yield ("write", path, choose.randrange(size - 10 * KIB), data)
    yield ("sync",)


def _scattering_calls(choose: random.Random) -> Iterator[Call]:
    sizes = {b"/large": choose.choice([600, 900]), b"/small": 60}
    for path, size in sizes.items():
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), size * KIB))
    for turn in range(3):
        for path, size in sizes.items():
            for number in range(size // 6):
                offset = choose.randrange(size) * KIB
                yield ("write", path, offset, Data(choose.randrange(10_000), KIB))
                if number % 40 == 39:
                    yield ("sync",)
        yield choose.choice([("sync",), ("checkpoint",)])
        for _ in range(choose.choice([4, 8])):
            yield ("tick", 1, True)
            yield from _between_turns(choose, choose.choice(list(sizes.items())))
        if turn < 2:
            yield ("tick", 10, True)
    yield ("sync",)


def _between_turns(choose: random.Random, file: tuple[bytes, int]) -> Iterator[Call]:
    """Change a file that is being put together, and make it look as if it were old."""
    path, size = file
    match choose.randrange(6):
        case 0 | 1:
            offset = choose.randrange(size) * KIB
            yield ("write", path, offset, some_data(choose, KIB, 20 * KIB))
        case 2:
            yield ("truncate", path, choose.randrange(size // 2, size) * KIB)
        case 3:
            yield ("unlink", path)
            yield ("create", path, REGULAR, 0)
        case _:
            return
    if choose.random() < 0.5:
        yield ("sync",)
    yield ("utime", path, 12345)


def _reusing_calls(choose: random.Random) -> Iterator[Call]:
    paths = [b"/%d" % number for number in range(6)]
    for path in paths:
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), 110 * KIB))
    yield from [("checkpoint",), ("create", b"/little", REGULAR, 0), ("checkpoint",)]
    for _ in range(12):
        path = choose.choice(paths)
        # Where the commit and its flush are: both at the end, around the writes,
        # or around what frees.
        order = choose.choice(["sync", "checkpoint", "write between", "free between"])
        if order == "free between":
            yield ("begin_commit",)
        if choose.random() < 0.3:
            yield ("truncate", path, choose.choice([0, KIB, 64 * KIB]))
        else:
            yield ("unlink", path)
            yield ("create", path, REGULAR, 0)
        if order == "free between":
            yield ("finish_commit",)
        if order == "write between":
            yield ("begin_commit",)
        yield ("write", path, 0, Data(choose.randrange(10_000), choose.choice([KIB, 110 * KIB])))
        yield ("write", b"/little", choose.randrange(9000), some_data(choose, 2000))
        if order == "write between":
            yield ("finish_commit",)
        if order in ("sync", "checkpoint"):
            yield (order,)


def _crowded_calls(choose: random.Random) -> Iterator[Call]:
    for number in range(240):
        path = b"/%d" % number
        yield ("create", path, REGULAR, 0)
        match choose.randrange(4):
            case 0:
                yield ("write", path, 0, some_data(choose, 200))
            case 1:
                yield ("write", path, 0, some_data(choose, 12 * KIB, 40 * KIB))
            case _:
                yield ("setxattr", path, b"user.name", some_data(choose, 9 * KIB, 30 * KIB), 0)
        if choose.random() < 0.02:
            yield choose.choice([("sync",), ("checkpoint",), ("unlink", b"/%d" % (number // 2))])
    yield ("sync",)
    for number in range(0, 240, 3):
        yield ("unlink", b"/%d" % number)
    yield ("sync",)


def _worn_calls(choose: random.Random) -> Iterator[Call]:
    rest = choose.choice([12 * KIB, 16 * KIB, 20 * KIB])
    # The second time no more fits beside what is left of the first.
    for numbers in (range(33), range(33, 45)):
        paths = [b"/%d" % number for number in numbers]
        for path in paths:
            yield ("create", path, REGULAR, 0)
            yield ("write", path, 0, Data(choose.randrange(10_000), 60 * KIB))
            yield ("sync",)
        for path in paths:
            yield ("truncate", path, rest)
        yield ("checkpoint",)
    for _ in range(2):
        for path in choose.sample(paths, len(paths)):
            yield ("setxattr", path, b"user.name", some_data(choose, 30 * KIB, 50 * KIB), 0)
        yield ("sync",)
    yield ("checkpoint",)


def _turning_calls(choose: random.Random, limit_bytes: int) -> Iterator[Call]:
    size = 60 * KIB
    paths = [b"/%d" % number for number in range(limit_bytes * 8 // 9 // size)]
    for path in paths:
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), size))
    yield ("checkpoint",)
    # What holes this leaves is what is cleaned first.
    holed = choose.sample(paths, len(paths) // 5)
    for path in holed:
        yield ("write", path, 0, Data(choose.randrange(10_000), size // 2))
    yield ("sync",)
    for _ in range(12):
        yield ("tick", 1, True)
        for path in choose.sample(holed, 4):
            if choose.random() < 0.2:
                yield ("truncate", path, choose.randrange(size))
            yield ("write", path, choose.randrange(size - 4 * KIB), some_data(choose, 4 * KIB))
        yield ("sync",)
    yield ("tick", 30, True)
    yield ("sync",)


def _merging_calls(choose: random.Random) -> Iterator[Call]:
    directories = [b"/a", b"/b"]
    paths: list[bytes] = []
    for path in directories:
        yield ("mkdir", path, 0o755)
    for number in range(150):
        path = choose.choice(directories) + b"/%d" % number
        match choose.randrange(8) if paths else 7:
            case 0:
                yield ("unlink", paths.pop(choose.randrange(len(paths))))
            case 1:
                yield ("rename", paths.pop(choose.randrange(len(paths))), path, 0)
                paths.append(path)
            case 2 | 3:
                yield (
                    "write",
                    choose.choice(paths),
                    choose.randrange(20 * KIB),
                    some_data(choose, 3 * KIB),
                )
            case 4:
                yield (
                    "setxattr",
                    choose.choice(paths),
                    b"user.name",
                    some_data(choose, 30, 300),
                    0,
                )
            case _:
                yield ("create", path, REGULAR, 0)
                paths.append(path)
        if choose.random() < 0.5:
            yield ("tick", choose.choice([1, 1, 2]), choose.random() < 0.5)
        if choose.random() < 0.1:
            yield choose.choice([("sync",), ("checkpoint",)])
    yield ("sync",)


def _fill(choose: random.Random, prefix: bytes) -> Iterator[Call]:
    """Write about a quarter more than there is room for."""
    size = choose.choice([3 * KIB, 20 * KIB, 100 * KIB])
    count = min(LIMIT_BYTES * 5 // 4 // size, 45)
    size = max(size, LIMIT_BYTES * 5 // 4 // count)
    for number in range(count):
        path = prefix + b"%d" % number
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), size))
        if choose.random() < 0.15:
            yield choose.choice([("sync",), ("checkpoint",), ("tick", 2, False)])


def _full_calls(choose: random.Random) -> Iterator[Call]:
    yield ("mkdir", b"/d", 0o755)
    yield from _fill(choose, b"/d/a")
    for _ in range(30):
        path = b"/d/a%d" % choose.randrange(20)
        match choose.randrange(13):
            case 0:
                yield ("unlink", path)
            case 1:
                yield ("truncate", path, choose.randrange(10 * KIB))
            case 2:
                yield ("sync",)
            case 3:
                yield ("setxattr", path, b"user.name", some_data(choose, 30, 3000), 0)
            case 4:
                yield ("mkdir", b"/d/%d" % choose.randrange(100), 0o755)
            case 5:
                yield ("rename", path, b"/d/a%d" % choose.randrange(20), 0)
            case 6:
                yield ("write", path, 4_000_000, some_data(choose, 5000))
            case _:
                data = some_data(choose, KIB, 9 * KIB, 20 * KIB, 24 * KIB)
                yield ("write", path, choose.randrange(3 * KIB), data)
    yield ("sync",)
    for number in range(0, 45, 2):
        yield ("unlink", b"/d/a%d" % number)
    yield choose.choice([("sync",), ("checkpoint",), ("tick", 5, True)])
    yield from _fill(choose, b"/d/b")
    yield ("sync",)
