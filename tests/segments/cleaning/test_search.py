"""Files that were scattered in earlier mounts, or forgotten, are found in the map."""

from __future__ import annotations

import pytest

from lfs.alloc.delayed import scattered
from lfs.alloc.delayed.scattered import FILES_MAX
from lfs.common.errors import DamageError
from lfs.imap.map import Imap
from tests.segments.cleaning.scattered import (
    LATER,
    MIB,
    defragmenter_of,
    piece_count,
    roomy_disk,
    scattered_file,
)
from tests.support.disks import BLOCK_BYTES, Disk, data, problems


def many_turns(disk: Disk, count: int = 400) -> None:
    """Let idle turns follow each other, also when they say that there is nothing to do."""
    disk.now_ns += LATER
    for _ in range(count):
        disk.filesystem.tick(disk.now_ns, idle=True)


def test_files_of_an_earlier_mount_are_put_in_order() -> None:
    disk = roomy_disk()
    files = [scattered_file(disk, b"%d" % number) for number in range(3)]
    in_order = disk.make_file(b"in order", data(9, MIB))
    disk.sync()
    before = disk.filesystem.extents(in_order)
    disk.unmount()
    disk.mount()
    many_turns(disk)
    assert [piece_count(disk, ino) <= 8 for ino, _ in files] == [True] * 3
    assert disk.filesystem.extents(in_order) == before
    for ino, content in files:
        assert disk.read(ino) == content
    assert problems(disk.medium) == []


@pytest.mark.pure_core
def test_one_turn_reads_little_of_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scattered, "LEAVES_AT_ONCE", 2)
    disk = roomy_disk()
    scattered_file(disk, blocks=4096)
    disk.unmount()
    disk.mount()
    looks: list[int] = []
    batch = Imap.batch

    def counted(self: Imap, start: bytes, end: bytes) -> object:
        looks[-1] += 1
        return batch(self, start, end)

    monkeypatch.setattr(Imap, "batch", counted)
    disk.now_ns += LATER
    for _ in range(40):
        looks.append(0)
        disk.filesystem.core.maintenance._search.step()
    assert max(looks) == 2
    # All of it was looked through, once.
    assert looks[-1] == 0


def test_more_files_than_are_remembered_are_all_put_in_order() -> None:
    disk = roomy_disk()
    inos = [disk.make_file(b"%d" % number, data(number, 40 * BLOCK_BYTES)) for number in range(90)]
    assert len(inos) > FILES_MAX
    # All of the map has been looked through before any of them is scattered.
    many_turns(disk, 50)
    for block in range(0, 40, 2):
        for ino in inos:
            disk.write(ino, block * BLOCK_BYTES, data(block, BLOCK_BYTES))
        disk.sync()
    before = [piece_count(disk, ino) for ino in inos]
    assert min(before) > 8
    many_turns(disk, 2000)
    assert max(piece_count(disk, ino) for ino in inos) <= 4
    assert not defragmenter_of(disk)._scattered.has_left_out


def test_files_with_holes_that_lie_in_order_are_not_looked_for_for_ever() -> None:
    """A hole parts nothing: there is nothing to put in order."""
    disk = roomy_disk()
    for number in range(200):
        ino = disk.make_file(b"%d" % number)
        for block in range(0, 48, 2):
            disk.write(ino, block * BLOCK_BYTES, data(block, BLOCK_BYTES))
    disk.unmount()
    disk.mount()
    many_turns(disk, 50)
    one = disk.filesystem.core.maintenance._search
    assert one._position is None
    assert not defragmenter_of(disk)._scattered.has_left_out
    assert defragmenter_of(disk).moved_blocks == 0


def test_files_of_one_leaf_that_are_too_many_wait() -> None:
    disk = roomy_disk()
    inos = [disk.make_file(b"%d" % number, data(number, 20 * BLOCK_BYTES)) for number in range(99)]
    for block in range(0, 20, 2):
        for ino in inos:
            disk.write(ino, block * BLOCK_BYTES, data(block, BLOCK_BYTES))
        disk.sync()
    disk.unmount()
    disk.mount()
    one = disk.filesystem.core.maintenance._search
    one.step()
    scattered = defragmenter_of(disk)._scattered
    assert scattered.is_full
    assert not scattered.has_left_out
    many_turns(disk, 2000)
    assert max(piece_count(disk, ino) for ino in inos) <= 4
    assert one._position is None


def test_what_is_known_of_a_file_that_was_written_stays() -> None:
    disk = roomy_disk()
    ino, _ = scattered_file(disk)
    scattered = defragmenter_of(disk)._scattered
    known = scattered.blocks(ino), scattered.written_ns(ino)
    assert known[0]
    disk.filesystem.core.maintenance._search.step()
    assert (scattered.blocks(ino), scattered.written_ns(ino)) == known


@pytest.mark.pure_core
def test_nothing_is_looked_for_while_no_more_can_be_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = roomy_disk()
    scattered = defragmenter_of(disk)._scattered
    for ino in range(1000, 1000 + FILES_MAX):
        scattered.note(ino, 1, 0)
    looks: list[bytes] = []
    batch = Imap.batch

    def counted(self: Imap, start: bytes, end: bytes) -> object:
        looks.append(start)
        return batch(self, start, end)

    monkeypatch.setattr(Imap, "batch", counted)
    one = disk.filesystem.core.maintenance._search
    one.step()
    assert not looks
    scattered.forget(1000)
    one.step()
    assert looks


@pytest.mark.pure_core
def test_what_can_not_be_read_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = roomy_disk()
    files = [scattered_file(disk, b"%d" % number) for number in range(3)]
    disk.unmount()
    disk.mount()
    looks: list[bytes] = []
    batch = Imap.batch

    def failing(self: Imap, start: bytes, end: bytes) -> object:
        looks.append(start)
        if len(looks) == 1:
            raise DamageError("a leaf")
        return batch(self, start, end)

    one = disk.filesystem.core.maintenance._search
    with monkeypatch.context() as patch:
        patch.setattr(Imap, "batch", failing)
        one.step()
    # What begins with the leaf that can't be read is not found, the rest is.
    assert len(looks) > 2
    many_turns(disk)
    assert piece_count(disk, files[-1][0]) <= 8
