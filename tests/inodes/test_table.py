"""Inodes in memory: which stay, and what is known about them without looking."""

from __future__ import annotations

import stat

import pytest

from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.imap.map import Imap
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.inodes.window import Window
from lfs.ondisk import KEY_KIND, KIND_XATTR, ROOT_INO
from tests.support.volumes import format_small, mount

REGULAR = stat.S_IFREG | 0o644


def empty() -> MemoryDevice:
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    return device


def attribute_items(filesystem: Filesystem) -> int:
    """Return how many items of attributes there are."""
    items = filesystem.core.volume.imap.scan(bytes(17), b"\xff" * 17)
    return sum(1 for key, _ in items if key[KEY_KIND] == KIND_XATTR)


@pytest.mark.pure_core
def test_inodes_that_must_stay_are_not_looked_at_for_each_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filesystem = Filesystem.mount(empty(), 0, Options(inode_count_max=50))
    passes: list[InodeTable] = []
    evict = InodeTable._evict

    def counted(self: InodeTable) -> None:
        passes.append(self)
        evict(self)

    monkeypatch.setattr(InodeTable, "_evict", counted)
    for number in range(1000):
        filesystem.create(ROOT_INO, b"%d" % number, REGULAR, 0, 0, 1)
    assert 10 <= len(passes) <= 1000 // 50
    filesystem.sync(2)
    for number in range(1000):
        filesystem.lookup(ROOT_INO, b"%d" % number)
        assert len(filesystem.core.inodes._inodes) <= 101


@pytest.mark.parametrize("remounted", [False, True])
def test_removed_file_takes_its_attributes_along(remounted: bool) -> None:
    device = empty()
    filesystem = mount(device, 0)
    ino = filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1).ino
    filesystem.setxattr(ino, b"user.name", b"value", 2)
    if remounted:
        filesystem.unmount(3)
        filesystem = mount(device, 3)
    assert attribute_items(filesystem) == 1
    filesystem.forget(filesystem.unlink(ROOT_INO, b"file", 4).ino)
    assert attribute_items(filesystem) == 0


def test_new_file_that_inherits_a_list_takes_it_along() -> None:
    filesystem = mount(empty(), 0)
    directory = filesystem.mkdir(ROOT_INO, b"directory", 0o755, 0, 0, 1).ino
    entries = ((1, 7, -1), (2, 5, 1000), (4, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
    value = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + mode.to_bytes(2, "little") + (who % 2**32).to_bytes(4, "little")
        for tag, mode, who in entries
    )
    filesystem.setxattr(directory, b"system.posix_acl_default", value, 2)
    filesystem.create(directory, b"file", REGULAR, 0, 0, 3)
    assert attribute_items(filesystem) == 2
    filesystem.forget(filesystem.unlink(directory, b"file", 4).ino)
    assert attribute_items(filesystem) == 1


def test_removing_a_new_file_looks_for_no_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = mount(empty(), 0)
    filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1)
    monkeypatch.setattr(Imap, "scan", None)
    filesystem.forget(filesystem.unlink(ROOT_INO, b"file", 2).ino)


def test_inode_without_dirty_blocks_has_nothing_for_them_in_memory() -> None:
    filesystem = mount(empty(), 0)
    inode = filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1)
    filesystem.write(inode.ino, 0, b"inline", 2)
    counts = [dirty_count(inode)]
    filesystem.write(inode.ino, 4096, b"a block", 3)
    counts.append(dirty_count(inode))
    filesystem.sync(4)
    counts.append(dirty_count(inode))
    assert counts == [None, 2, None]


def dirty_count(inode: Inode) -> int | None:
    """Return how many blocks are dirty, None where nothing is kept for them."""
    return inode.dirty.count if inode.dirty else None


def test_what_a_request_holds_stays_the_only_object_of_its_inode() -> None:
    filesystem = Filesystem.mount(empty(), 0, Options(inode_count_max=5))
    inos = [filesystem.create(ROOT_INO, b"%d" % n, REGULAR, 0, 0, 1).ino for n in range(100)]
    filesystem.sync(2)
    filesystem.lookup(ROOT_INO, b"99")
    table = filesystem.core.inodes
    assert len(table._inodes) <= 10
    held = table.get(inos[0])
    # What making room may do before a request changes what it holds.
    filesystem.checkpoint(3)
    for ino in inos:
        assert table.get(ino).ino == ino
    assert table.get(inos[0]) is held
    # The next request may let go of it.
    filesystem.lookup(ROOT_INO, b"99")
    assert len(table._inodes) <= 10


def test_windows_in_memory_are_bounded_while_a_file_grows() -> None:
    filesystem = mount(empty(), 0)
    filesystem.core.inodes.cache._bytes_max = 4 * Window(128).memory_bytes + 500
    inode = filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1)
    size = 4096 * filesystem.core.volume.window_blocks
    for number in range(12):
        filesystem.write(inode.ino, number * size, bytes([number]) * size, 2)
        filesystem.sync(3)
        assert len(inode.windows) <= 4
    filesystem.write(inode.ino, 0, bytes(4096), 4)
    filesystem.sync(5)
    for number in range(1, 12):
        assert filesystem.read(inode.ino, number * size, size, 6) == bytes([number]) * size


def test_holes_part_no_extents() -> None:
    window = Window(128)
    assert window.fragment_count(128) == 0
    for number in range(8):
        window.map(2 * number, [number], 1000 + number)
    assert (len(window.extents), window.fragment_count(128)) == (8, 1)
    window.map(4, [9], 2000)
    assert (len(window.extents), window.fragment_count(128)) == (8, 3)
    assert window.fragment_count(2) == 2


def test_what_is_written_over_becomes_one_with_what_it_then_adjoins() -> None:
    window = Window(128)
    window.map(0, [1, 2], 1000)
    window.map(2, [3, 4], 2000)
    assert window.map(2, [5, 6], 1002) == [(2000, 2)]
    assert window.extents == [(0, 4, 1000)]
    assert window.map(4, [7], 1004) == []
    assert window.extents == [(0, 5, 1000)]
    assert window.map(0, [8] * 5, 3000) == [(1000, 5)]
    assert (window.extents, window.mapped) == ([(0, 5, 3000)], 5)
    assert window.checksums[:5].tolist() == [8] * 5
