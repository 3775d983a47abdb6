"""Workloads that take more at once than is clean, on small disks.

``brimming`` writes more than there is, slack and all, and overwrites what was accepted,
which must not be refused however full the disk is.  ``bursting`` leaves holes everywhere and
then adds as much metadata as goes before a commit.  ``surging`` overwrites much between the
turns of a round that began while there was no need.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.crash.workloads.pressure import KIB, REGULAR, Call, some_data, timed
from tests.support.client import Data, Request


def brimming(seed: int, device_bytes: int) -> list[Request]:
    """Return requests that write more than the device holds, and overwrite what was accepted."""
    return timed(_brimming_calls(random.Random(f"brimming {seed}"), device_bytes))


def bursting(seed: int, device_bytes: int) -> list[Request]:
    """Return requests that leave holes everywhere, and then add as much as goes at once."""
    return timed(_bursting_calls(random.Random(f"bursting {seed}"), device_bytes))


def surging(seed: int, device_bytes: int) -> list[Request]:
    """Return requests that take all they can between turns of a cleaner that moves much."""
    return timed(_surging_calls(random.Random(f"surging {seed}"), device_bytes))


def _brimming_calls(choose: random.Random, device_bytes: int) -> Iterator[Call]:
    size = choose.choice([16 * KIB, 60 * KIB, 250 * KIB])
    paths = [b"/%d" % number for number in range(device_bytes // size)]
    for path in paths:
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), size))
    yield choose.choice([("sync",), ("checkpoint",)])
    for _ in range(400):
        path = choose.choice(paths)
        match choose.randrange(40):
            case 0:
                yield choose.choice([("sync",), ("checkpoint",), ("tick", 2, True)])
            case 1:
                yield ("unlink", path)
                yield ("create", path, REGULAR, 0)
                yield ("write", path, 0, Data(choose.randrange(10_000), size))
            case 2:
                for flooded in choose.sample(paths, len(paths) // 4):
                    yield ("write", flooded, 0, Data(choose.randrange(10_000), size))
            case 3 | 4 | 5 | 6 | 7 | 8 | 9:
                yield ("write", path, 0, Data(choose.randrange(10_000), size))
            case _:
                data = some_data(choose, KIB, 3 * KIB, 10 * KIB)
                yield ("write", path, choose.randrange(size // KIB - 10) * KIB, data)
    yield ("sync",)


def _bursting_calls(choose: random.Random, device_bytes: int) -> Iterator[Call]:
    size = 60 * KIB
    rest = choose.choice([6 * KIB, 12 * KIB, 20 * KIB])
    paths = [b"/%d" % number for number in range(device_bytes // size)]
    for path in paths:
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), size))
        yield ("sync",)
        yield ("truncate", path, rest)
    for _ in range(3):
        yield ("checkpoint",)
        for path in choose.sample(paths, len(paths)):
            if choose.random() < 0.8:
                data = some_data(choose, 30 * KIB, 60 * KIB)
                yield ("setxattr", path, b"user.name", data, 0)
            else:
                yield ("write", path, choose.randrange(rest - KIB), some_data(choose, KIB))
        for path in choose.sample(paths, len(paths) // 2):
            yield ("removexattr", path, b"user.name")
    yield ("sync",)


def _surging_calls(choose: random.Random, device_bytes: int) -> Iterator[Call]:
    size = 60 * KIB
    rest = choose.choice([42 * KIB, 46 * KIB, 50 * KIB])
    # Little is clean then, but as much as need not be made more of in requests.
    paths = [b"/%d" % number for number in range(device_bytes // (64 * KIB) - 22)]
    for path in paths:
        yield ("create", path, REGULAR, 0)
        yield ("write", path, 0, Data(choose.randrange(10_000), size))
        yield ("sync",)
        yield ("truncate", path, rest)
    yield ("checkpoint",)
    for _ in range(8):
        yield ("tick", choose.randrange(10, 50), True)
        for path in choose.sample(paths, choose.choice([4, 12])):
            yield ("write", path, 0, Data(choose.randrange(10_000), rest))
    yield ("sync",)
