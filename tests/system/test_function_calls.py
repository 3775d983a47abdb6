"""How many functions of the core each operation calls: no more than when this was written.

The same on every machine, so what gets slower by a layer more, or a copy more, is seen
at once.  Numbers are means of many operations, with what they bring about now and then:
write-out, commits, evictions.  What a commit costs for each file it writes out has a limit of
its own.  Whoever makes an operation cheaper lowers its number.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import lfs
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from tests.support.disks import BLOCK_BYTES, Disk, data

# Calls of compiled functions are not seen.
pytestmark = pytest.mark.pure_core

MIB = 1 << 20
REGULAR = stat.S_IFREG | 0o644
CORE = str(Path(lfs.__file__).parent)
COUNT = 400
SPARE_SHARE = 50
"""A mean may be larger by one in so many, or a version of Python would matter."""

CALLS = {
    "create": 38.08,
    "mkdir": 40.07,
    "lookup": 9.02,
    "getattr": 2.02,
    "chmod": 22.02,
    "truncate": 62.03,
    "setxattr": 30.52,
    "read": 15.02,
    "read_large": 21.22,
    "append": 21.22,
    "overwrite": 22.32,
    "write_large": 62.71,
    "write_and_sync": 112.42,
    "rename": 65.14,
    "unlink": 68.74,
    "readdir": 16.71,
    "checkpoint": 31.25,
}
"""What an operation of ``Bench`` calls."""

WRITTEN_OUT_CALLS = 32.83
"""What a commit calls for each small file that it writes out."""


class Bench:
    """A filesystem with files to do something with."""

    def __init__(self) -> None:
        self.disk = Disk(128 * MIB, 64)
        self.filesystem: Filesystem = self.disk.filesystem
        self.inos = [self.disk.make_file(self.name(number)) for number in range(COUNT)]
        for ino in self.inos:
            self.disk.write(ino, 0, data(ino, 5000))
        self.large = self.disk.make_file(b"large", data(1, 8 * MIB))
        self.directory = self.filesystem.mkdir(ROOT_INO, b"d", 0o755, 0, 0, 1).ino
        self.disk.checkpoint()
        self.now_ns = 1

    @staticmethod
    def name(number: int) -> bytes:
        return b"file %d" % number

    def create(self, number: int) -> None:
        self.filesystem.create(self.directory, b"new %d" % number, REGULAR, 0, 0, self.now_ns)

    def mkdir(self, number: int) -> None:
        self.filesystem.mkdir(self.directory, b"new %d" % number, 0o755, 0, 0, self.now_ns)

    def lookup(self, number: int) -> None:
        self.filesystem.find(ROOT_INO, self.name(number))

    def getattr(self, number: int) -> None:
        self.filesystem.getattr(self.inos[number])

    def chmod(self, number: int) -> None:
        self.filesystem.setattr(self.inos[number], self.now_ns, mode=0o600)

    def truncate(self, number: int) -> None:
        self.filesystem.setattr(self.inos[number], self.now_ns, size=4500)

    def setxattr(self, number: int) -> None:
        self.filesystem.setxattr(self.inos[number], b"user.a", b"value", self.now_ns)

    def read(self, number: int) -> None:
        self.filesystem.read(self.large, number * BLOCK_BYTES, BLOCK_BYTES, self.now_ns)

    def read_large(self, number: int) -> None:
        self.filesystem.read(self.large, number % 64 * MIB // 8, MIB // 8, self.now_ns)

    def append(self, number: int) -> None:
        self.disk.write(self.large, 8 * MIB + number * BLOCK_BYTES, data(1, BLOCK_BYTES))

    def overwrite(self, number: int) -> None:
        self.disk.write(self.large, number * 7 % 2048 * BLOCK_BYTES, data(1, BLOCK_BYTES))

    def write_large(self, number: int) -> None:
        self.disk.write(self.large, number % 64 * MIB // 8, data(number % 7, MIB // 8))

    def write_and_sync(self, number: int) -> None:
        self.disk.write(self.inos[number], 0, data(1, BLOCK_BYTES))
        self.disk.sync()

    def rename(self, number: int) -> None:
        old = self.name(number)
        self.filesystem.rename(ROOT_INO, old, self.directory, old, self.now_ns)

    def unlink(self, number: int) -> None:
        self.filesystem.unlink(ROOT_INO, self.name(number), self.now_ns)
        self.filesystem.forget(self.inos[number])

    def readdir(self, number: int) -> None:
        if number % 100 == 0:
            list(self.filesystem.readdir(ROOT_INO))

    def checkpoint(self, number: int) -> None:
        if number % 100 == 0:
            for ino in self.inos[number : number + 100]:
                self.filesystem.setattr(ino, self.now_ns, mode=0o600)
            self.disk.checkpoint()


def calls_of(work: Callable[[], None]) -> int:
    """Return how many functions of the core ``work`` calls."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        if event == "call" and frame.f_code.co_filename.startswith(CORE):
            count += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("operation", CALLS)
def test_operation_calls_no_more_functions(operation: str) -> None:
    work: Callable[[int], None] = getattr(Bench(), operation)

    def repeat() -> None:
        for number in range(COUNT):
            work(number)

    calls = calls_of(repeat) / COUNT
    assert calls <= CALLS[operation] * (1 + 1 / SPARE_SHARE), f"{operation}: {calls:.2f}"


def test_commit_calls_no_more_functions_for_each_file_it_writes_out() -> None:
    bench = Bench()
    for ino in bench.inos:
        bench.disk.write(ino, 0, data(1, BLOCK_BYTES))
    calls = calls_of(bench.disk.sync) / COUNT
    assert calls <= WRITTEN_OUT_CALLS * (1 + 1 / SPARE_SHARE), f"{calls:.2f}"
