"""What was cut off or removed is gone for everybody at once, however it is given up."""

from __future__ import annotations

import pytest

from lfs.common.errors import FilesystemError
from lfs.filesystem import Options
from lfs.ondisk import ROOT_INO
from tests.alloc.admission.sparse import (
    BLOCK_BYTES,
    STEP,
    WINDOW_BYTES,
    check,
    drain,
    fresh_device,
    sparse_file,
)
from tests.support.state import tree_state
from tests.support.volumes import mount


def test_what_is_given_up_is_gone_at_once() -> None:
    """Blocks of the file and of the disk, the inode, and what is read: as if all were done."""
    filesystem = mount(fresh_device(), 1, STEP)
    empty = filesystem.statfs()
    ino = sparse_file(filesystem, 60)
    filesystem.checkpoint(3)
    used_blocks = empty.free_blocks - filesystem.statfs().free_blocks
    assert used_blocks >= 60
    filesystem.setattr(ino, 4, size=0)
    assert filesystem.getattr(ino).blocks == 0
    assert filesystem.core.inodes.cuts.count == 1
    assert empty.free_blocks - filesystem.statfs().free_blocks < used_blocks - 50
    filesystem.setattr(ino, 5, size=60 * WINDOW_BYTES)
    assert filesystem.read(ino, 0, 60 * WINDOW_BYTES, 6) == bytes(60 * WINDOW_BYTES)
    assert filesystem.extents(ino) == []
    other = sparse_file(filesystem, 60, b"other")
    filesystem.unlink(ROOT_INO, b"other", 7)
    filesystem.forget(other)
    assert filesystem.core.inodes.leaving
    assert filesystem.statfs().inode_count == 2
    assert empty.free_blocks - filesystem.statfs().free_blocks < used_blocks - 50
    for call in (filesystem.getattr, filesystem.extents, filesystem.listxattr):
        with pytest.raises(FilesystemError, match=r"no inode"):
            call(other)


def test_new_data_where_something_was_cut_off() -> None:
    device = fresh_device()
    filesystem = mount(device, 1, STEP)
    ino = sparse_file(filesystem, 30)
    filesystem.setattr(ino, 4, size=0)
    for index in (20, 10, 29, 11):
        filesystem.write(ino, index * WINDOW_BYTES + 7, b"new", 5)
    expected = bytearray(29 * WINDOW_BYTES + 10)
    for index in (20, 10, 29, 11):
        expected[index * WINDOW_BYTES + 7 : index * WINDOW_BYTES + 10] = b"new"
    ranges = [(cut.first, cut.end) for cut in filesystem.core.inodes.cuts.of(ino)]
    assert ranges == [(2, 10), (12, 20), (21, 29)]
    for now_ns in (6, 7, 8):
        assert filesystem.read(ino, 0, len(expected) + 1, now_ns) == expected
        filesystem.sync(now_ns)
        check(device)
        filesystem = mount(device.copy(), now_ns, STEP)
    drain(filesystem)
    assert filesystem.read(ino, 0, len(expected) + 1, 9) == expected
    assert filesystem.getattr(ino).blocks == 4


def test_new_data_in_a_window_that_was_being_written() -> None:
    filesystem = mount(fresh_device(), 1, STEP)
    ino = sparse_file(filesystem, 10)
    offset = 8 * WINDOW_BYTES
    filesystem.write(ino, offset + 3 * BLOCK_BYTES, b"late", 4)
    filesystem.setattr(ino, 5, size=0)
    filesystem.write(ino, offset + 3 * BLOCK_BYTES, b"new", 6)
    filesystem.sync(7)
    drain(filesystem)
    filesystem.getattr(ino).windows.clear()
    assert filesystem.read(ino, offset, 4 * BLOCK_BYTES, 8) == bytes(3 * BLOCK_BYTES) + b"new"


def test_a_cut_inside_what_was_cut_off() -> None:
    device = fresh_device()
    filesystem = mount(device, 1, STEP)
    ino = sparse_file(filesystem, 10)
    filesystem.setattr(ino, 4, size=BLOCK_BYTES)
    filesystem.setattr(ino, 5, size=9 * WINDOW_BYTES)
    filesystem.setattr(ino, 6, size=7 * WINDOW_BYTES + 3 * BLOCK_BYTES + 5)
    filesystem.sync(7)
    check(device)
    drain(filesystem)
    filesystem.unmount(8)
    check(device)


def test_read_only_mounts_show_it_too_and_a_remount_goes_on() -> None:
    device = fresh_device(16 << 20)
    filesystem = mount(device, 1, STEP)
    ino = sparse_file(filesystem, 400)
    filesystem.setattr(ino, 4, size=BLOCK_BYTES)
    filesystem.setattr(ino, 4, size=400 * WINDOW_BYTES)
    filesystem.remount(5, read_only=True)
    check(device)
    expected = b"\1" * BLOCK_BYTES + bytes(399 * WINDOW_BYTES)
    for reader in (filesystem, mount(device, 6, Options(read_only=True))):
        assert reader.core.inodes.cuts.count == 1
        assert reader.read(ino, 0, len(expected), 6) == expected
        assert not reader.tick(7, idle=True)
    filesystem = mount(device, 8, STEP)
    filesystem.remount(9, read_only=True)
    filesystem.remount(10, read_only=False)
    drain(filesystem)
    assert not filesystem.core.inodes.cuts.count
    assert filesystem.read(ino, 0, len(expected), 11) == expected
    filesystem.unmount(12)
    check(device)


def test_ranges_beyond_the_limit_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfs.alloc.admission.removal._CUTS_MAX", 4)
    device = fresh_device()
    filesystem = mount(device, 1, STEP)
    ino = sparse_file(filesystem, 100)
    filesystem.setattr(ino, 4, size=0)
    for index in range(3, 100, 3):
        filesystem.write(ino, index * WINDOW_BYTES, b"new", 5)
        assert filesystem.core.inodes.cuts.count <= 4
    filesystem.sync(6)
    check(device)


def test_write_where_all_that_a_file_has_was_cut_off_gives_that_up_first() -> None:
    """A file that was cut to nothing counts no block, but its windows are still mapped."""
    device = fresh_device()
    filesystem = mount(device, 1, STEP)
    ino = sparse_file(filesystem, 40)
    filesystem.checkpoint(4)
    filesystem.setattr(ino, 5, size=0)
    filesystem.write(ino, 30 * WINDOW_BYTES + 5 * BLOCK_BYTES, b"new" * BLOCK_BYTES, 6)
    filesystem.sync(7)
    check(device)
    expected = tree_state(filesystem, 8)
    filesystem.abandon()
    again = mount(device, 9, STEP)
    assert tree_state(again, 10) == expected
    assert again.read(ino, 30 * WINDOW_BYTES, BLOCK_BYTES, 10) == bytes(BLOCK_BYTES)
    drain(again)
    check(device)
