"""Blocks that are damaged or can't be read, one structure at a time: what is lost, what goes on.

The table is in docs/design/damage.md, "What is lost".
"""

from __future__ import annotations

from bisect import bisect_right

import pytest

from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.errors import DamageError, FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.inodes.inode import inode_key
from lfs.inodes.window import window_key
from lfs.ondisk import ROOT_INO, Branch
from tests.support.bad_reads import KINDS, SECTOR_BYTES, BadReads
from tests.support.disks import BLOCK_BYTES, LATER_NS, REGULAR
from tests.support.state import tree_state
from tests.support.volumes import format_small

OPTIONS = Options(node_cache_bytes=1, atime="noatime")


class BadDisk:
    """A filesystem on a disk with at most one bad place."""

    def __init__(self, kind: str) -> None:
        self.medium = MemoryDevice(32 << 20)
        format_small(self.medium, BLOCK_BYTES, 64)
        self.kind = kind
        self.bad_block = 0
        self.mount()

    def mount(self, read_only: bool = False) -> None:
        """Mount what the medium holds."""
        self.lines: list[str] = []
        self.device = BadReads(self.medium, self.kind)
        if self.bad_block:
            self.spoil(self.bad_block)
        options = Options(read_only=read_only, node_cache_bytes=1, atime="noatime")
        self.filesystem = Filesystem.mount(self.device, 10, options, self.lines.append)

    def spoil(self, block: int) -> None:
        """Let a block be bad from now on, for this mount and the next ones."""
        self.bad_block = block
        self.device.bad_sector = block * BLOCK_BYTES // SECTOR_BYTES
        imap = self.filesystem.core.volume.imap
        imap.nodes.drop(block)
        imap._near.clear()

    def make_files(self, count: int) -> list[int]:
        """Make files that lie in several leaves."""
        filesystem = self.filesystem
        inos = []
        for number in range(count):
            ino = filesystem.create(ROOT_INO, b"file %d" % number, REGULAR, 0, 0, 2).ino
            filesystem.write(ino, 0, b"%d" % number * 100, 2)
            inos.append(ino)
        filesystem.checkpoint(3)
        filesystem.checkpoint(3)
        return inos

    def leaf(self, key: bytes) -> int:
        """Return the block of the leaf that would hold ``key``."""
        imap = self.filesystem.core.volume.imap
        pointer = imap.root
        while isinstance(node := imap.nodes.load(pointer), Branch):
            pointer = node.children[max(0, bisect_right(node.keys, key) - 1)]
        return pointer.address


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest) -> BadDisk:
    return BadDisk(request.param)


def orphan_with_a_bad_leaf(disk: BadDisk) -> int:
    """Leave a large file without a name behind a crash, a leaf of its map bad."""
    filesystem = disk.filesystem
    ino = filesystem.create(ROOT_INO, b"victim", REGULAR, 0, 0, 2).ino
    filesystem.open(ino)
    for number in range(400):
        filesystem.write(ino, number * 128 * BLOCK_BYTES, b"y" * BLOCK_BYTES, 2)
    filesystem.create(ROOT_INO, b"neighbour", REGULAR, 0, 0, 2)
    filesystem.unlink(ROOT_INO, b"victim", 3)
    filesystem.checkpoint(4)
    filesystem.checkpoint(4)
    disk.spoil(disk.leaf(window_key(ino, 200)))
    return ino


def test_bad_orphan_holds_up_nobody(disk: BadDisk) -> None:
    ino = orphan_with_a_bad_leaf(disk)
    disk.mount()
    filesystem = disk.filesystem
    assert not filesystem.read_only
    assert [line for line in disk.lines if f"orphan {ino} can't" in line], disk.lines
    new = filesystem.create(ROOT_INO, b"precious", REGULAR, 0, 0, 11).ino
    filesystem.write(new, 0, b"accepted", 12)
    for second in range(20):
        filesystem.tick(second * 10**9, idle=True)
    filesystem.forget(ino)
    filesystem.remount(13, read_only=True)
    filesystem.remount(14, read_only=False)
    filesystem.unmount(15)
    told = [line for line in disk.lines if f"orphan {ino} can't" in line]
    # Once for each time that somebody could have got rid of it: mount and remount.
    assert len(told) == 2, disk.lines
    disk.mount()
    assert disk.filesystem.read(new, 0, 100, 20) == b"accepted"
    assert "recovered" not in " ".join(disk.lines), "the unmount left no clean image"


def test_bad_orphan_goes_once_it_can_be_read(disk: BadDisk) -> None:
    ino = orphan_with_a_bad_leaf(disk)
    disk.mount()
    assert disk.filesystem.core.volume.usage.live_total > 200
    disk.filesystem.unmount(11)
    disk.bad_block = 0
    disk.mount()
    while disk.filesystem.tick(12, idle=True):
        pass
    assert disk.filesystem.core.volume.usage.live_total < 100
    with pytest.raises(FilesystemError):
        disk.filesystem.getattr(ino)
    assert disk.lines == []


def test_list_of_what_waits_that_is_bad_leaves_a_mount_to_read_by(disk: BadDisk) -> None:
    inos = disk.make_files(300)
    disk.filesystem.unmount(4)
    disk.mount()
    disk.spoil(disk.leaf(bytes(17)))
    disk.mount()
    # What was cut off a file and waits there must not come back by a write.
    assert disk.filesystem.read_only
    assert any(line.startswith("read-only from now on") for line in disk.lines)
    # The root directory lies there too, but not every file.
    assert disk.filesystem.read(inos[-1], 0, 3, 11) == b"299"


def test_new_files_need_no_leaf_that_is_bad(disk: BadDisk) -> None:
    inos = disk.make_files(300)
    parent = disk.filesystem.mkdir(ROOT_INO, b"folder", 0o755, 0, 0, 4).ino
    # Its entries lie with it: behind all files.
    disk.filesystem.checkpoint(5)
    disk.filesystem.checkpoint(5)
    disk.spoil(disk.leaf(inode_key(inos[-1])))
    other = disk.filesystem.create(ROOT_INO, b"other", REGULAR, 0, 0, 6).ino
    disk.filesystem.write(other, 0, b"o" * 300_000, 6)
    below = disk.filesystem.mkdir(ROOT_INO, b"below", 0o755, 0, 0, 6).ino
    disk.filesystem.create(below, b"deep", REGULAR, 0, 0, 6)
    disk.filesystem.checkpoint(7)
    disk.filesystem.write(other, 300_000, b"o", 8)
    disk.filesystem.sync(8)
    for _ in range(2):
        disk.mount()
        assert not disk.filesystem.read_only, disk.lines
        assert len(disk.filesystem.read(other, 0, 400_000, 11)) == 300_001
        assert [entry.name for entry in disk.filesystem.readdir(below)] == [b"deep"]
        with pytest.raises(DamageError):
            disk.filesystem.getattr(parent)
        assert disk.filesystem.getattr(inos[0]).size
        disk.filesystem.unmount(12)


def test_leaf_that_changes_is_tried_again_and_then_ends_writing(disk: BadDisk) -> None:
    inos = disk.make_files(300)
    filesystem = disk.filesystem
    filesystem.setattr(inos[100], 4, mode=0o600, privileged=True)
    other = filesystem.create(ROOT_INO, b"other", REGULAR, 0, 0, 4).ino
    disk.spoil(disk.leaf(inode_key(inos[100])))
    for _ in range(2):
        with pytest.raises(DamageError):
            filesystem.checkpoint(5)
        assert not filesystem.read_only
        filesystem.write(other, 0, b"accepted" * 1000, 6)
    with pytest.raises(DamageError):
        filesystem.checkpoint(7)
    assert filesystem.read_only
    assert sum(line.startswith("read-only from now on") for line in disk.lines) == 1
    for _ in range(3):
        assert not filesystem.tick(LATER_NS, idle=True)
    filesystem.unmount(8)
    for read_only in (False, True):
        disk.mount(read_only)
        # What was accepted is in the log, and what is not damaged can be read.
        assert disk.filesystem.read_only
        assert disk.filesystem.read(other, 0, 10_000, 11) == b"accepted" * 1000
        assert disk.filesystem.getattr(inos[100]).mode & 0o777 == 0o600
        assert disk.filesystem.getattr(inos[0]).size
        assert any("read-only" in line for line in disk.lines)


def test_leaf_that_can_be_read_again_ends_nothing(disk: BadDisk) -> None:
    inos = disk.make_files(300)
    filesystem = disk.filesystem
    for round_number in range(4):
        filesystem.setattr(inos[100], 4, mode=0o600 + round_number, privileged=True)
        disk.spoil(disk.leaf(inode_key(inos[100])))
        filesystem.tick(10**12 * (round_number + 1), idle=False)
        filesystem.tick(10**12 * (round_number + 1) + 1, idle=False)
        disk.device.bad_sector = None
        assert filesystem.tick(10**12 * (round_number + 1) + 2, idle=False)
        assert not filesystem.read_only
    disk.bad_block = 0
    filesystem.unmount(LATER_NS)
    disk.mount()
    assert disk.filesystem.getattr(inos[100]).mode & 0o777 == 0o603


def test_usage_page_lost_in_both_checkpoints_leaves_all_to_be_read(disk: BadDisk) -> None:
    disk.make_files(50)
    expected = tree_state(disk.filesystem, 5)
    disk.filesystem.unmount(5)
    layout = read_superblock(disk.medium)
    for checkpoint in read_checkpoints(disk.medium, layout):
        for pointer in checkpoint.usage_pages:
            if pointer.address:
                disk.medium.write(pointer.address * BLOCK_BYTES, [bytes(BLOCK_BYTES)])
    disk.mount()
    assert disk.filesystem.read_only
    assert tree_state(disk.filesystem, 11) == expected
    assert disk.filesystem.statfs().total_blocks
    with pytest.raises(FilesystemError):
        disk.filesystem.remount(12, read_only=False)


def test_two_checkpoints_never_share_a_root(disk: BadDisk) -> None:
    disk.make_files(300)
    disk.filesystem.sync(4)
    disk.mount()
    layout = read_superblock(disk.medium)
    one, other = read_checkpoints(disk.medium, layout)
    assert one.imap_root.address != other.imap_root.address


@pytest.mark.parametrize("nth", range(1, 12))
def test_one_wrong_answer_does_not_shorten_the_log(disk: BadDisk, nth: int) -> None:
    filesystem = disk.filesystem
    for number in range(3):
        ino = filesystem.create(ROOT_INO, b"file %d" % number, REGULAR, 0, 0, 2).ino
        filesystem.write(ino, 0, b"x" * 9000, 2)
        filesystem.sync(3)
    expected = tree_state(filesystem, 4)
    device = BadReads(disk.medium.copy(), disk.kind)
    device.arm(nth)
    again = Filesystem.mount(device, 10, OPTIONS, disk.lines.append)
    device.arm(0)
    assert tree_state(again, 11) == expected, disk.lines
    assert not again.read_only
