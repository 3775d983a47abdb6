"""Remounting through the library: what changes, what reaches the disk, what is refused."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from lfs.common.errors import DeviceError, FilesystemError, FormatError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.make import make_filesystem
from lfs.mount.unmount import is_clean
from lfs.ondisk import ROOT_INO
from tests.support.disks import (
    BLOCK_BYTES,
    REGULAR,
    Disk,
    data,
    flip_byte,
    mounted_state,
    problems,
)

READ_ONLY = Options(read_only=True)


def refusal(disk: Disk, read_only: bool) -> FilesystemError:
    """Remount, and return the error."""
    with pytest.raises(FilesystemError) as caught:
        disk.filesystem.remount(disk.now_ns, read_only=read_only)
    return caught.value


def test_remount_read_only_leaves_a_clean_image_with_everything() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", data(1, 3 * BLOCK_BYTES))
    disk.sync()
    disk.write(ino, 0, data(2, BLOCK_BYTES))
    state = disk.state()
    assert not is_clean(disk.medium)
    disk.filesystem.remount(disk.now_ns, read_only=True)
    assert is_clean(disk.medium)
    assert problems(disk.medium) == []
    assert disk.state() == mounted_state(disk.medium.copy()) == state


def test_remount_read_only_refuses_changes_and_writes_nothing_more() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", b"content")
    disk.filesystem.remount(disk.now_ns, read_only=True)
    written = len(disk.written())
    with pytest.raises(FilesystemError) as caught:
        disk.write(ino, 0, b"other")
    assert caught.value.errno == errno.EROFS
    disk.sync()
    assert not disk.filesystem.tick(10**18, idle=True)
    disk.unmount()
    assert len(disk.written()) == written


def test_remount_read_only_removes_orphans() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", data(1, BLOCK_BYTES))
    inode_count = disk.filesystem.statfs().inode_count
    disk.filesystem.unlink(ROOT_INO, b"file", disk.now_ns)
    disk.filesystem.remount(disk.now_ns, read_only=True)
    assert disk.filesystem.statfs().inode_count == inode_count - 1
    with pytest.raises(FilesystemError) as caught:
        disk.filesystem.getattr(ino)
    assert caught.value.errno == errno.ESTALE


def test_remount_read_only_waits_for_an_open_orphan() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", b"content")
    disk.filesystem.open(ino)
    disk.filesystem.unlink(ROOT_INO, b"file", disk.now_ns)
    assert refusal(disk, read_only=True).errno == errno.EBUSY
    disk.write(ino, 0, b"CONTENT")
    disk.filesystem.release(ino)
    disk.filesystem.remount(disk.now_ns, read_only=True)
    assert is_clean(disk.medium)


def test_remount_writable_goes_on_where_it_was() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", b"content")
    disk.filesystem.remount(disk.now_ns, read_only=True)
    disk.filesystem.remount(disk.now_ns, read_only=False)
    disk.write(ino, 0, b"CONTENT")
    disk.sync()
    assert not is_clean(disk.medium)
    state = disk.state()
    disk.mount()
    assert disk.state() == state
    disk.unmount()
    assert problems(disk.medium) == []


def test_remount_writable_of_what_was_mounted_read_only_after_a_crash() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", data(1, 3 * BLOCK_BYTES))
    disk.make_file(b"other")
    disk.filesystem.open(ino)
    disk.filesystem.unlink(ROOT_INO, b"file", disk.now_ns)
    disk.sync()
    disk.options = replace(disk.options, read_only=True)
    disk.mount()
    inode_count = disk.filesystem.statfs().inode_count
    assert disk.written() == []
    disk.filesystem.remount(disk.now_ns, read_only=False)
    # What a mount would have done: the log is in a checkpoint, the orphan is gone.
    assert disk.log() == []
    assert disk.filesystem.statfs().inode_count == inode_count - 1
    disk.make_file(b"third", data(2, BLOCK_BYTES))
    state = disk.state()
    disk.unmount()
    assert problems(disk.medium) == []
    assert mounted_state(disk.medium) == state


def test_remount_writable_twice_checkpoints_once() -> None:
    disk = Disk()
    disk.make_file(b"file")
    disk.sync()
    disk.options = replace(disk.options, read_only=True)
    disk.mount()
    disk.filesystem.remount(disk.now_ns, read_only=False)
    disk.filesystem.remount(disk.now_ns, read_only=True)
    written = len(disk.written())
    disk.filesystem.remount(disk.now_ns, read_only=False)
    assert len(disk.written()) == written


def test_remount_writable_is_refused_after_writing_failed() -> None:
    disk = Disk()
    disk.filesystem.fail(DeviceError(errno.EIO, "write failed", 0))
    assert "writing has failed" in str(refusal(disk, read_only=False))
    assert disk.filesystem.read_only
    # It is read-only as it is, and nothing is written for it.
    disk.filesystem.remount(disk.now_ns, read_only=True)
    assert disk.written() == []


def test_remount_writable_is_refused_without_the_log() -> None:
    disk = Disk()
    disk.make_file(b"file")
    disk.sync()
    disk.options = replace(disk.options, read_only=True, roll_forward=False)
    disk.mount()
    assert "norecovery" in str(refusal(disk, read_only=False))
    assert disk.filesystem.read_only


def test_remount_writable_is_refused_on_a_read_only_device() -> None:
    disk = Disk()
    disk.unmount()
    disk.medium.read_only = True
    disk.mount()
    error = refusal(disk, read_only=False)
    assert (error.errno, str(error)) == (errno.EROFS, "the device is read-only")


def test_remount_writable_is_refused_with_features_that_allow_reading_only() -> None:
    disk = Disk(options=READ_ONLY)
    disk.filesystem.core.volume.superblock = disk.superblock.replaced(read_only_compatible=1 << 60)
    with pytest.raises(FormatError, match="only a read-only mount"):
        disk.filesystem.remount(disk.now_ns, read_only=False)
    assert disk.filesystem.read_only


class _Failing(MemoryDevice):
    failing = False

    def flush(self) -> None:
        if self.failing:
            raise DeviceError(errno.EIO, "flush failed")


def test_remount_read_only_that_cannot_write_its_checkpoint_fails() -> None:
    disk = Disk()
    disk.unmount()
    medium = _Failing(disk.medium.size_bytes)
    medium.write(0, [disk.medium.read(0, medium.size_bytes)])
    filesystem = Filesystem.mount(medium, 1)
    filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1)
    medium.failing = True
    with pytest.raises(DeviceError):
        filesystem.remount(2, read_only=True, atime="noatime")
    assert filesystem.read_only
    assert filesystem.options.atime == "relatime"
    with pytest.raises(FilesystemError, match="writing has failed"):
        filesystem.remount(3, read_only=False)


def test_remount_changes_the_other_choices_and_leaves_what_is_not_named() -> None:
    disk = Disk()
    disk.filesystem.remount(1, atime="strictatime", commit_interval_ns=7, cleaner_policy="greedy")
    expected = replace(
        disk.options, atime="strictatime", commit_interval_ns=7, cleaner_policy="greedy"
    )
    assert disk.filesystem.options == expected
    disk.filesystem.remount(1, read_only=True)
    assert disk.filesystem.options == replace(expected, read_only=True)


def test_remount_commit_interval_takes_effect() -> None:
    disk = Disk()
    disk.make_file(b"file")
    assert not disk.filesystem.commit_due(8)
    disk.filesystem.remount(1, commit_interval_ns=7)
    assert disk.filesystem.commit_due(8)


def test_remount_access_times_take_effect() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", b"content")
    disk.filesystem.read(ino, 0, 1, 5)
    assert disk.filesystem.getattr(ino).atime_ns == 1
    disk.filesystem.remount(1, atime="strictatime")
    disk.filesystem.read(ino, 0, 1, 5)
    assert disk.filesystem.getattr(ino).atime_ns == 5


def test_remount_writable_is_refused_once_somebody_else_has_written() -> None:
    disk = Disk()
    disk.make_file(b"a")
    disk.filesystem.remount(disk.now_ns, read_only=True)
    other = Filesystem.mount(disk.medium, disk.now_ns)
    other.create(ROOT_INO, b"b", REGULAR, 0, 0, disk.now_ns)
    other.unmount(disk.now_ns)
    assert refusal(disk, read_only=False).errno == errno.ESTALE
    assert disk.filesystem.read_only
    disk.filesystem.unmount(disk.now_ns)
    again = Filesystem.mount(disk.medium, disk.now_ns)
    assert {entry.name for entry in again.readdir(ROOT_INO)} == {b"a", b"b"}


@pytest.mark.parametrize("mounted_read_only", [False, True])
def test_remount_writable_is_refused_once_somebody_else_has_only_logged(
    mounted_read_only: bool,
) -> None:
    # A mount of a clean image begins to log without a checkpoint.
    disk = Disk()
    disk.make_file(b"a")
    if mounted_read_only:
        disk.unmount()
        disk.options = replace(disk.options, read_only=True)
        disk.mount()
    else:
        disk.filesystem.remount(disk.now_ns, read_only=True)
    other = Filesystem.mount(disk.medium, disk.now_ns)
    other.create(ROOT_INO, b"b", REGULAR, 0, 0, disk.now_ns)
    other.sync(disk.now_ns)
    other.abandon()
    assert refusal(disk, read_only=False).errno == errno.ESTALE
    disk.filesystem.unmount(disk.now_ns)
    again = Filesystem.mount(disk.medium, disk.now_ns)
    assert {entry.name for entry in again.readdir(ROOT_INO)} == {b"a", b"b"}


@pytest.mark.parametrize("index", [0, 1])
def test_remount_writable_goes_on_beside_a_checkpoint_region_that_is_lost(index: int) -> None:
    disk = Disk()
    disk.make_file(b"a")
    disk.filesystem.remount(disk.now_ns, read_only=True)
    flip_byte(disk.medium, disk.superblock.checkpoint_offset_bytes[index] + 20)
    disk.filesystem.remount(disk.now_ns, read_only=False)
    disk.make_file(b"b")
    disk.unmount()
    again = Filesystem.mount(disk.medium, disk.now_ns)
    assert {entry.name for entry in again.readdir(ROOT_INO)} == {b"a", b"b"}


def test_remount_writable_is_refused_without_any_checkpoint() -> None:
    disk = Disk(options=READ_ONLY)
    for offset_bytes in disk.superblock.checkpoint_offset_bytes:
        flip_byte(disk.medium, offset_bytes + 20)
    with pytest.raises(FormatError, match="both checkpoint regions"):
        disk.filesystem.remount(disk.now_ns, read_only=False)
    assert disk.filesystem.read_only


def test_remount_writable_is_refused_on_another_filesystem() -> None:
    disk = Disk(options=READ_ONLY)
    make_filesystem(disk.medium, disk.now_ns, os.urandom)
    assert refusal(disk, read_only=False).errno == errno.ESTALE
