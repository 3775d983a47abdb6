"""A full filesystem keeps what it accepted, lets go of what is deleted, and goes on.

What a write promised is there after ``sync`` and a remount, whatever was
refused later (P4).  Deleting and truncating work on a full filesystem, and the
space comes back.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator

import pytest

from fsck.check import check_device
from lfs.device.memory import MemoryDevice
from lfs.ondisk import ROOT_INO
from lfs.segments.cleaning.cleaner import Cleaner
from tests.support.client import Data
from tests.support.volumes import format_small, mount
from tests.system.full.disks import DEVICE_BYTES, KIB, MIB, REGULAR, SEGMENT_BLOCKS, Disk, error_of


def one_big_file(disk: Disk, choose: random.Random) -> Iterator[None]:
    ino = disk.make_file(b"big%d" % choose.randrange(10**6))
    for index in range(DEVICE_BYTES // (128 * KIB)):
        disk.write(ino, index * 128 * KIB, Data(index, 128 * KIB).bytes())
        yield


def small_files(disk: Disk, choose: random.Random) -> Iterator[None]:
    for index in range(10**6):
        ino = disk.make_file(b"small-%d-%d" % (index, choose.randrange(10**6)))
        disk.write(ino, 0, Data(index, choose.randrange(9000)).bytes())
        yield


def directories(disk: Disk, choose: random.Random) -> Iterator[None]:
    for index in range(10**6):
        parent = disk.make_directory(b"directory-%d-%d" % (index, choose.randrange(10**6)))
        for name in (b"first", b"second"):
            disk.write(disk.make_file(name, parent), 0, bytes(3000))
        yield


def many_appends(disk: Disk, choose: random.Random) -> Iterator[None]:
    inos = [disk.make_file(b"append-%d-%d" % (i, choose.randrange(10**6))) for i in range(20)]
    for index in range(10**6):
        ino = choose.choice(inos)
        disk.write(ino, len(disk.contents[ino]), Data(index, choose.randrange(1, 5000)).bytes())
        yield


def scattered_blocks(disk: Disk, choose: random.Random) -> Iterator[None]:
    """Single blocks far apart: as much metadata for each byte as can be."""
    ino = disk.make_file(b"scattered%d" % choose.randrange(10**6))
    for index in range(10**6):
        disk.write(ino, index * 20 * KIB % (64 * MIB), Data(index, 1000).bytes())
        yield


def synced_writes(disk: Disk, choose: random.Random) -> Iterator[None]:
    """A sync after every write: as many summaries for each byte as can be."""
    for index in range(10**6):
        ino = disk.make_file(b"synced-%d-%d" % (index, choose.randrange(10**6)))
        disk.write(ino, 0, Data(index, 20_000).bytes())
        disk.sync()
        yield


Filler = Callable[[Disk, random.Random], Iterator[None]]
FILLERS: list[Filler] = [
    one_big_file,
    small_files,
    directories,
    many_appends,
    scattered_blocks,
    synced_writes,
]


@pytest.mark.parametrize("filler", FILLERS, ids=lambda filler: filler.__name__)
@pytest.mark.parametrize("block_bytes", [1024, 4096])
def test_fill_until_refused_keeps_what_was_accepted(filler: Filler, block_bytes: int) -> None:
    disk = Disk(block_bytes)
    disk.fill(filler(disk, random.Random(1)))
    assert disk.used_share() > 0.85
    disk.verify()
    disk.verify_after_crash()


@pytest.mark.parametrize(
    "filler", [one_big_file, small_files, many_appends], ids=lambda f: f.__name__
)
def test_delete_when_full_gives_the_space_back_twenty_times(filler: Filler) -> None:
    disk = Disk()
    choose = random.Random(2)
    accepted_bytes = []
    for _ in range(20):
        disk.fill(filler(disk, choose))
        accepted_bytes.append(sum(map(len, disk.contents.values())))
        for number, ino in enumerate(list(disk.contents)):
            if number % 3 == 0:
                disk.truncate(ino, 0)
            disk.delete(ino)
    assert min(accepted_bytes) > 0.9 * max(accepted_bytes), accepted_bytes
    disk.fill(filler(disk, choose))
    disk.verify_after_crash()


def test_files_of_one_block_with_much_metadata_are_deleted_from_a_full_disk() -> None:
    device = MemoryDevice(8 * MIB)
    format_small(device, 1024, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    names: list[bytes] = []

    def fill() -> None:
        for number in range(100_000):
            names.append(b"%d_" % number + b"x" * 190)
            ino = filesystem.create(ROOT_INO, names[-1], REGULAR, 0, 0, number).ino
            filesystem.setxattr(ino, b"user.a", bytes(600), number)
            filesystem.write(ino, 0, bytes([number % 256]) * 1024, number)

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(10**9)
    names = [entry.name for entry in filesystem.readdir(ROOT_INO)]
    random.Random(1).shuffle(names)
    # Each block that is moved changes a leaf of its own.
    for number, name in enumerate(names[: len(names) // 2]):
        filesystem.forget(filesystem.unlink(ROOT_INO, name, 10**9 + number).ino)
    filesystem.unmount(2 * 10**9)
    assert not check_device(device, data=True).problems


@pytest.mark.pure_core
def test_disk_where_cleaning_gains_nothing_refuses_and_does_not_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Cleaner, "make_room", lambda self, *arguments: None)
    monkeypatch.setattr(Cleaner, "help", lambda self, now_ns: False)
    disk = Disk(1024)

    def create() -> None:
        for number in range(100_000):
            disk.make_file(b"%d" % number + b"-" * 200)

    def remove() -> None:
        for parent, name in names:
            disk.filesystem.forget(disk.filesystem.unlink(parent, name, disk._now_ns()).ino)
            disk.filesystem.sync(disk._now_ns())

    assert error_of(create) == errno.ENOSPC
    names = [*disk.names.values()]
    random.Random(1).shuffle(names)
    assert error_of(remove) == errno.ENOSPC
    assert not disk.filesystem.read_only
    disk.filesystem.unmount(disk._now_ns())
    monkeypatch.undo()
    again = mount(disk.device, disk._now_ns())
    kept = {entry.name for entry in again.readdir(ROOT_INO)}
    removed = [name for _, name in names if name not in kept]
    for parent, name in names[len(removed) :]:
        again.forget(again.unlink(parent, name, disk._now_ns()).ino)
    again.unmount(disk._now_ns())
    assert not check_device(disk.device, data=True).problems


def test_truncate_when_full_gives_the_space_back() -> None:
    disk = Disk()
    disk.fill(one_big_file(disk, random.Random(3)))
    (ino,) = disk.contents
    size = len(disk.contents[ino])
    disk.truncate(ino, size // 2)
    disk.sync()
    for offset in range(size // 2, size - MIB, 64 * KIB):
        disk.write(ino, offset, Data(offset, 64 * KIB).bytes())
    disk.verify_after_crash()


def test_delete_every_other_file_when_full_leaves_usable_holes() -> None:
    disk = Disk()
    choose = random.Random(4)
    disk.fill(small_files(disk, choose))
    for ino in list(disk.contents)[::2]:
        disk.delete(ino)
    assert disk.used_share() < 0.75
    disk.fill(small_files(disk, choose))
    assert disk.used_share() > 0.85
    disk.verify_after_crash()
