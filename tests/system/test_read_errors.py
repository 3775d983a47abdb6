"""A disk that can't be read for a while: what needs it fails, and nothing that was promised."""

from __future__ import annotations

import errno

import pytest

from lfs.common.errors import FilesystemError, UnreadableError
from lfs.ondisk import Branch
from tests.support.disks import BLOCK_BYTES, LATER_NS, data, problems
from tests.system.faulty_disks import FaultyDisk, check_kept


def test_unreadable_node_fails_what_needs_it_and_nothing_else() -> None:
    disk = FaultyDisk()
    inos = [disk.make_file(b"file %d" % number, data(number, 3_000)) for number in range(400)]
    disk.unmount()
    disk.mount()
    imap = disk.filesystem.core.volume.imap
    disk.read(inos[0])
    root = imap.nodes.load(imap.root)
    assert isinstance(root, Branch)
    leaf = root.children[-1].address * BLOCK_BYTES
    disk.plan(f"error EIO on read in {leaf}+4096")
    failed = []
    for ino in inos:
        try:
            disk.read(ino)
        except FilesystemError as error:
            if error.errno != errno.EIO:
                raise
            failed.append(ino)
    assert 0 < len(failed) < len(inos) // 2
    disk.write(inos[0], 0, b"changed")
    disk.sync()
    assert not disk.filesystem.read_only
    disk.plan("seed 0")
    assert [disk.read(ino)[7:] for ino in failed] == [
        data(inos.index(ino), 3_000)[7:] for ino in failed
    ]
    disk.filesystem.unmount(LATER_NS)
    assert problems(disk.medium) == []


def test_checkpoint_that_cannot_read_a_node_is_made_later() -> None:
    disk = FaultyDisk()
    inos = [disk.make_file(b"file %d" % number, data(number, 3_000)) for number in range(400)]
    disk.unmount()
    disk.mount()
    disk.write(inos[-1], 0, b"changed")
    disk.filesystem.core.volume.imap.nodes._nodes.clear()
    disk.plan("error EIO on read; error EIO on write nth 1")
    with pytest.raises(UnreadableError):
        disk.sync()
    assert not disk.filesystem.read_only
    assert disk.filesystem.dirty
    disk.plan("seed 0")
    disk.sync()
    check_kept(disk)


def test_unreadable_window_fails_writes_to_its_file_and_no_sync() -> None:
    disk = FaultyDisk()
    inos = [disk.make_file(b"file %d" % number, data(number, 9_000)) for number in range(400)]
    disk.unmount()
    disk.mount()
    for ino in inos:
        disk.filesystem.getattr(ino)
    disk.filesystem.core.volume.imap.nodes._nodes.clear()
    disk.plan("error EIO on read times 1")
    with pytest.raises(UnreadableError):
        disk.filesystem.write(inos[0], 0, data(7, 4096), disk.now_ns)
    disk.write(inos[200], 0, data(8, 4096))
    disk.sync()
    assert disk.read(inos[0]) == data(0, 9_000)
    assert disk.read(inos[200]) == data(8, 4096) + data(200, 9_000)[4096:]
    check_kept(disk)


def test_window_that_became_unreadable_after_a_sync_fails_the_next_write_alone() -> None:
    disk = FaultyDisk()
    inos = [disk.make_file(b"file %d" % number, data(number, 9_000)) for number in range(400)]
    disk.sync()
    disk.write(inos[0], 0, data(6, 4096))
    disk.sync()
    disk.checkpoint()
    disk.filesystem.core.inodes.get(inos[0]).windows.clear()
    disk.filesystem.core.volume.imap.nodes._nodes.clear()
    disk.plan("error EIO on read times 1")
    with pytest.raises(UnreadableError):
        disk.filesystem.write(inos[0], 0, data(7, 4096), disk.now_ns)
    disk.write(inos[200], 0, data(8, 4096))
    disk.sync()
    check_kept(disk)
