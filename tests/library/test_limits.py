"""Counts and sizes that are small elsewhere: links, names in a directory, bytes of a file."""

from __future__ import annotations

import errno
import stat

import pytest

from lfs.common.errors import FilesystemError
from lfs.ondisk import ROOT_INO
from tests.support.disks import Disk, data, problems

LINK_COUNT = 66_000
"""More than 16 bits, and than ext4 allows."""
LARGEST_BYTES = (1 << 63) - 1


def test_file_with_very_many_links_keeps_all_of_them() -> None:
    disk = Disk(64 << 20)
    filesystem = disk.filesystem
    ino = disk.make_file(b"file", b"content")
    many = filesystem.mkdir(ROOT_INO, b"many", 0o755, 0, 0, disk.now_ns).ino
    for number in range(LINK_COUNT):
        filesystem.link(ino, many, b"%d" % number, disk.now_ns)
        if number % 10_000 == 0:
            filesystem.sync(disk.now_ns)
    filesystem.sync(disk.now_ns)
    disk.mount()
    filesystem = disk.filesystem
    assert filesystem.getattr(ino).nlink == LINK_COUNT + 1
    entries = list(filesystem.readdir(many))
    assert {name for _, name, _, _ in entries} == {b"%d" % number for number in range(LINK_COUNT)}
    middle = len(entries) // 2
    assert list(filesystem.readdir(many, entries[middle][0])) == entries[middle + 1 :]
    assert problems(disk.medium) == []


@pytest.mark.parametrize("offset", [5 << 40, LARGEST_BYTES - 4096])
def test_file_far_beyond_the_disk_keeps_its_end(offset: int) -> None:
    disk = Disk()
    ino = disk.make_file(b"file", b"start")
    disk.write(ino, offset, data(1, 4096))
    disk.sync()
    disk.mount()
    inode = disk.filesystem.getattr(ino)
    assert inode.size == offset + 4096
    assert inode.blocks <= 3
    assert disk.filesystem.read(ino, offset, 8192, disk.now_ns) == data(1, 4096)
    assert disk.filesystem.read(ino, offset // 2, 10, disk.now_ns) == bytes(10)
    assert problems(disk.medium) == []


def test_file_past_the_largest_size_is_refused() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", b"start")
    with pytest.raises(FilesystemError) as refusal:
        disk.filesystem.write(ino, LARGEST_BYTES, b"x", disk.now_ns)
    assert refusal.value.errno == errno.EFBIG
    assert disk.read(ino) == b"start"


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFLNK, stat.S_IFDIR])
def test_only_regular_files_can_be_written(kind: int) -> None:
    disk = Disk()
    filesystem = disk.filesystem
    if kind == stat.S_IFLNK:
        ino = filesystem.symlink(ROOT_INO, b"it", b"target", 0, 0, 1).ino
    elif kind == stat.S_IFDIR:
        ino = filesystem.mkdir(ROOT_INO, b"it", 0o755, 0, 0, 1).ino
    else:
        ino = filesystem.create(ROOT_INO, b"it", kind | 0o644, 0, 0, 1).ino
    with pytest.raises(FilesystemError) as caught:
        filesystem.write(ino, 0, bytes(9000), 1)
    assert caught.value.errno == (errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL)
    disk.sync()
    assert problems(disk.medium) == []
