"""RENAME_WHITEOUT: a device 0:0 stays under the old name, in one step."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from itertools import count

import pytest

from fsck.check import check_device
from lfs.common.errors import FilesystemError
from lfs.ondisk import ROOT_INO
from tests.support.disks import REGULAR, Disk
from tests.support.names import EXCHANGE, NO_REPLACE, WHITEOUT


def names(disk: Disk) -> dict[bytes, int]:
    return {name: ino for _, name, ino, _ in disk.filesystem.readdir(ROOT_INO)}


@pytest.mark.parametrize("flags", [WHITEOUT, WHITEOUT | NO_REPLACE])
@pytest.mark.parametrize("directory", [False, True])
def test_whiteout_stays_under_the_old_name(flags: int, directory: bool) -> None:
    disk = Disk()
    filesystem = disk.filesystem
    if directory:
        ino = filesystem.mkdir(ROOT_INO, b"old", 0o755, 0, 0, 1).ino
    else:
        ino = disk.make_file(b"old", b"content")
    filesystem.rename(ROOT_INO, b"old", ROOT_INO, b"new", 7, flags, 5, 6)
    whiteout = filesystem.lookup(ROOT_INO, b"old")
    assert names(disk) == {b"old": whiteout.ino, b"new": ino}
    assert (whiteout.mode, whiteout.rdev, whiteout.nlink) == (stat.S_IFCHR, 0, 1)
    assert (whiteout.uid, whiteout.gid, whiteout.mtime_ns) == (5, 6, 7)
    root = filesystem.getattr(ROOT_INO)
    assert (root.size, root.nlink) == (2, 2 + directory)
    filesystem.sync(8)
    assert check_device(disk.medium).problems == []


def test_whiteout_takes_the_group_of_a_setgid_directory() -> None:
    disk = Disk()
    ino = disk.filesystem.mkdir(ROOT_INO, b"d", 0o2775, 0, 44, 1).ino
    disk.filesystem.create(ino, b"old", REGULAR, 0, 0, 1)
    disk.filesystem.rename(ino, b"old", ROOT_INO, b"new", 2, WHITEOUT, 5, 6)
    whiteout = disk.filesystem.lookup(ino, b"old")
    assert (whiteout.uid, whiteout.gid) == (5, 44)


def test_whiteout_over_another_file_makes_that_an_orphan() -> None:
    disk = Disk()
    disk.make_file(b"old")
    other = disk.make_file(b"new")
    lost = disk.filesystem.rename(ROOT_INO, b"old", ROOT_INO, b"new", 2, WHITEOUT)
    assert lost is not None
    assert (lost.ino, lost.nlink) == (other, 0)
    assert disk.filesystem.getattr(ROOT_INO).size == 2


@pytest.mark.parametrize("flags", [WHITEOUT | EXCHANGE, WHITEOUT | EXCHANGE | NO_REPLACE])
def test_whiteout_excludes_an_exchange(flags: int) -> None:
    disk = Disk()
    disk.make_file(b"old")
    disk.make_file(b"new")
    before = names(disk)
    with pytest.raises(FilesystemError) as caught:
        disk.filesystem.rename(ROOT_INO, b"old", ROOT_INO, b"new", 2, flags)
    assert caught.value.errno == errno.EINVAL
    assert names(disk) == before


def _fill(request: Callable[[bytes], object]) -> None:
    """Make requests with ever new names until there is no room for one."""
    for number in count():
        try:
            request(b"%d" % number)
        except FilesystemError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


def test_whiteout_that_has_no_room_changes_nothing() -> None:
    disk = Disk(device_bytes=16 << 20)
    filesystem = disk.filesystem
    disk.make_file(b"old")
    disk.make_file(b"new")

    def make_link(name: bytes) -> None:
        filesystem.symlink(ROOT_INO, b"link" + name, b"t" * 4000, 0, 0, 1)
        filesystem.sync(1)

    _fill(make_link)
    _fill(lambda name: disk.make_file(b"file" + name))
    before = names(disk), filesystem.statfs()
    for new_name in (b"new", b"newer"):
        with pytest.raises(FilesystemError) as caught:
            filesystem.rename(ROOT_INO, b"old", ROOT_INO, new_name, 2, WHITEOUT)
        assert caught.value.errno == errno.ENOSPC
        assert (names(disk), filesystem.statfs()) == before
    assert not filesystem.read_only
    filesystem.sync(3)
    assert check_device(disk.medium).problems == []
