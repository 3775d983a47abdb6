"""What work and memory an operation takes: by what it changes, not by the size of the file.

Work is counted in calls of functions, Python's and the interpreter's own, and memory
in what Python allocates: both are the same on every machine.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from types import FrameType

import pytest

from tests.support.disks import BLOCK_BYTES, Disk, data

# Calls of compiled functions are not seen.
pytestmark = pytest.mark.pure_core

MIB = 1 << 20
SMALL_MIB = 2
LARGE_MIB = 64
KIB_PER_UPDATE_MAX = 64


def disk_with_file(size_mib: int) -> tuple[Disk, int]:
    """Return a disk mounted anew with a file of ``size_mib``, and the inode number."""
    disk = Disk(256 * MIB, 256)
    ino = disk.make_file(b"file")
    content = data(1, MIB)
    for number in range(size_mib):
        disk.write(ino, number * MIB, content)
    disk.unmount()
    disk.mount()
    return disk, ino


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions are called while ``work`` runs."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def peak_kib_of(work: Callable[[], object]) -> int:
    """Return by how much more memory than before was in use at some moment."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] >> 10
    finally:
        tracemalloc.stop()


def overwrite(disk: Disk, ino: int, size: int) -> None:
    disk.write(ino, size // 2, data(2, BLOCK_BYTES))
    disk.sync()


def append(disk: Disk, ino: int, size: int) -> None:
    disk.write(ino, size, data(2, BLOCK_BYTES))
    disk.sync()


def cut(disk: Disk, ino: int, size: int) -> None:
    disk.truncate(ino, size - 3 * BLOCK_BYTES // 2)
    disk.sync()


@pytest.mark.parametrize("update", [overwrite, append, cut])
def test_small_update_takes_the_same_in_a_large_file(
    update: Callable[[Disk, int, int], None],
) -> None:
    # The way to an item is longer by the levels of a larger tree.
    assert calls_of_update(update, LARGE_MIB) < 1.5 * calls_of_update(update, SMALL_MIB)


def calls_of_update(update: Callable[[Disk, int, int], None], size_mib: int) -> int:
    """Return the calls that ``update`` takes; what it takes else is within its limits."""
    disk, ino = disk_with_file(size_mib)
    disk.device.reset_counters()
    calls = calls_of(partial(update, disk, ino, size_mib * MIB))
    assert disk.device.written_bytes <= 2 * BLOCK_BYTES
    disk, ino = disk_with_file(size_mib)
    assert peak_kib_of(partial(update, disk, ino, size_mib * MIB)) < KIB_PER_UPDATE_MAX
    return calls


def test_clean_data_takes_no_objects_for_its_blocks() -> None:
    disk, ino = disk_with_file(LARGE_MIB)
    disk.filesystem.read(ino, 0, MIB, disk.now_ns)
    before = sys.getallocatedblocks()
    for number in range(LARGE_MIB):
        disk.filesystem.read(ino, number * MIB, MIB, disk.now_ns)
    objects = sys.getallocatedblocks() - before
    assert objects < LARGE_MIB * MIB // BLOCK_BYTES // 8


CALLS_OF_REQUEST_MAX = 80_000
"""About 15 ms of a processor: one commit of as much as may wait for it."""


def test_no_request_does_the_work_of_many_others() -> None:
    disk = Disk(256 * MIB, 256)
    filesystem = disk.filesystem
    inos: list[int] = []

    def create() -> None:
        inos.append(disk.make_file(b"%d" % len(inos), bytes(BLOCK_BYTES)))

    def mode(ino: int) -> None:
        filesystem.setattr(ino, disk.now_ns, mode=0o600)

    def attribute(ino: int) -> None:
        filesystem.setxattr(ino, b"user.large", bytes(4000), disk.now_ns)

    calls = {"create": max(calls_of(create) for _ in range(1500))}
    for change in (mode, attribute):
        calls[change.__name__] = max(calls_of(partial(change, ino)) for ino in inos)
    assert max(calls.values()) <= CALLS_OF_REQUEST_MAX, calls
