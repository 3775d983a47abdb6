"""Operations on the content and attributes of one file, each compared with its model."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.programs.stress.model import File

FILE_BYTES_MAX = 1 << 20
DIRECT_BYTES = 4096
_SIZES = (100, 5000, 100_000)
_ATTRIBUTES = ("user.one", "user.two", "user.a-longer-name")

Step = Callable[[random.Random, str, File], None]


@contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """Open a file for a while."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def any_bytes(choose: random.Random) -> bytes:
    """Draw data to write, most of it short."""
    return choose.randbytes(choose.randint(1, choose.choice(_SIZES)))


def compare(found: bytes, expected: bytes | bytearray, what: str) -> None:
    """Fail with the first byte that differs."""
    if found == expected:
        return
    same = next(
        (at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]),
        min(len(found), len(expected)),
    )
    raise AssertionError(
        f"{what}: {len(found)} bytes, expected {len(expected)}; from byte {same} on"
        f" {found[same : same + 16].hex()}, expected {expected[same : same + 16].hex()}"
    )


def write_at(choose: random.Random, descriptor: int, file: File) -> None:
    """Write at a random offset, at times beyond the end."""
    data = any_bytes(choose)
    offset = choose.randint(0, min(len(file.content) + 50_000, FILE_BYTES_MAX - len(data)))
    assert os.pwrite(descriptor, data, offset) == len(data)
    file.write(offset, data)


def read_at(choose: random.Random, descriptor: int, file: File) -> None:
    """Read at a random offset."""
    offset, size = choose.randint(0, len(file.content)), choose.randint(1, 200_000)
    found = os.pread(descriptor, size, offset)
    compare(found, file.content[offset : offset + size], f"read at {offset}")


def check_attributes(descriptor: int, file: File) -> None:
    """Compare size, mode, count of names and extended attributes."""
    found = os.fstat(descriptor)
    assert found.st_size == len(file.content), f"size {found.st_size}, not {len(file.content)}"
    assert found.st_nlink == file.names, f"{found.st_nlink} names, not {file.names}"
    assert found.st_mode & 0o7777 == file.mode, f"mode {found.st_mode:o}, not {file.mode:o}"
    names = set(os.listxattr(descriptor))
    assert names == set(file.attributes), f"attributes {names}, not {set(file.attributes)}"
    for name, value in file.attributes.items():
        compare(os.getxattr(descriptor, name), value, name)


def check_file(path: str, file: File) -> None:
    """Compare all of a file."""
    with opened(path, os.O_RDONLY) as descriptor:
        compare(os.pread(descriptor, len(file.content) + 1, 0), file.content, path)
        check_attributes(descriptor, file)


# ------------------------------------------------------------------------- operations


def write(choose: random.Random, path: str, file: File) -> None:
    with opened(path, os.O_WRONLY) as descriptor:
        for _ in range(choose.randint(1, 4)):
            write_at(choose, descriptor, file)


def append(choose: random.Random, path: str, file: File) -> None:
    data = any_bytes(choose)
    if len(file.content) + len(data) > FILE_BYTES_MAX:
        return
    with opened(path, os.O_WRONLY | os.O_APPEND) as descriptor:
        assert os.write(descriptor, data) == len(data)
    file.content += data


def read(choose: random.Random, path: str, file: File) -> None:
    with opened(path, os.O_RDONLY) as descriptor:
        read_at(choose, descriptor, file)
        check_attributes(descriptor, file)


def read_all(choose: random.Random, path: str, file: File) -> None:
    """Read a whole file, at times from the disk and not from the kernel's memory."""
    with opened(path, os.O_RDONLY) as descriptor:
        if choose.random() < 0.5:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    check_file(path, file)


def truncate(choose: random.Random, path: str, file: File) -> None:
    size = choose.choice(
        [0, choose.randint(0, len(file.content)), choose.randint(0, FILE_BYTES_MAX)]
    )
    if choose.random() < 0.5:
        os.truncate(path, size)
    else:
        with opened(path, os.O_RDWR) as descriptor:
            os.ftruncate(descriptor, size)
    file.truncate(size)


def rewrite(choose: random.Random, path: str, file: File) -> None:
    """Empty a file by opening it, and fill it again."""
    data = any_bytes(choose)
    with opened(path, os.O_WRONLY | os.O_TRUNC) as descriptor:
        assert os.write(descriptor, data) == len(data)
    file.content[:] = data


def sync(choose: random.Random, path: str, file: File) -> None:
    with opened(path, os.O_RDWR) as descriptor:
        write_at(choose, descriptor, file)
        (os.fsync if choose.random() < 0.5 else os.fdatasync)(descriptor)


def change_mode(choose: random.Random, path: str, file: File) -> None:
    mode = 0o600 | choose.randrange(0o100)
    os.chmod(path, mode)
    file.mode = mode


def set_attribute(choose: random.Random, path: str, file: File) -> None:
    name = choose.choice(_ATTRIBUTES)
    value = choose.randbytes(choose.choice([0, 10, 700, 9000]))
    os.setxattr(path, name, value)
    file.attributes[name] = value


def remove_attribute(choose: random.Random, path: str, file: File) -> None:
    if file.attributes:
        name = choose.choice(sorted(file.attributes))
        os.removexattr(path, name)
        del file.attributes[name]


def map_memory(choose: random.Random, path: str, file: File) -> None:
    """Change a file through mapped memory, and compare what the mapping shows."""
    size = len(file.content)
    if size == 0:
        return
    with opened(path, os.O_RDWR) as descriptor, mmap.mmap(descriptor, size) as memory:
        compare(memory[:], file.content, "mapped memory")
        for _ in range(choose.randint(1, 3)):
            start = choose.randrange(size)
            data = any_bytes(choose)[: size - start]
            memory[start : start + len(data)] = data
            file.write(start, data)
        if choose.random() < 0.5:
            memory.flush()


def write_direct(choose: random.Random, path: str, file: File) -> None:
    """Write and read whole blocks past the kernel's memory."""
    count = choose.randint(1, 16)
    offset = choose.randint(0, FILE_BYTES_MAX // DIRECT_BYTES - count) * DIRECT_BYTES
    offset = min(offset, len(file.content) // DIRECT_BYTES * DIRECT_BYTES)
    data = choose.randbytes(count * DIRECT_BYTES)
    # Anonymous memory begins at a page, as O_DIRECT wants it.
    direct = os.O_RDWR | os.O_DIRECT
    with mmap.mmap(-1, len(data)) as memory, opened(path, direct) as descriptor:
        memory[:] = data
        assert os.pwritev(descriptor, [memory], offset) == len(data)
        file.write(offset, data)
        memory[:] = bytes(len(data))
        assert os.preadv(descriptor, [memory], offset) == len(data)
        compare(memory[:], data, f"direct read at {offset}")


WEIGHTED: list[tuple[int, Step]] = [
    (10, write),
    (6, append),
    (8, read),
    (4, read_all),
    (4, truncate),
    (3, rewrite),
    (2, sync),
    (3, change_mode),
    (3, set_attribute),
    (2, remove_attribute),
    (4, map_memory),
    (4, write_direct),
]
