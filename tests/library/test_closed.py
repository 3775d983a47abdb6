"""Once a mount has ended, nothing that somebody has kept or begun reaches the device."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest

from lfs.common.errors import DeviceError, FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from tests.support.disks import REGULAR, Disk, data, problems

LATER_NS = 10**12
FILE_COUNT = 40

Kept = Callable[[], object]


def started(filesystem: Filesystem, ino: int) -> Kept:
    steps = filesystem.checkpoint_steps(LATER_NS)
    next(steps)
    return lambda: [*steps]


def not_started(filesystem: Filesystem, ino: int) -> Kept:
    steps = filesystem.checkpoint_steps(LATER_NS)
    return lambda: [*steps]


def read_often(filesystem: Filesystem, ino: int) -> Kept:
    """Each time of access is a change, and many of them are committed."""
    read = filesystem.read
    inos = [inode_of(filesystem, number) for number in range(FILE_COUNT)]
    filesystem.core.maintenance._inodes.count_max = FILE_COUNT // 2
    return lambda: [read(each, 0, 1, LATER_NS + each) for each in inos]


def inode_of(filesystem: Filesystem, number: int) -> int:
    return filesystem.lookup(ROOT_INO, b"a%d" % number).ino


def bound(name: str, *arguments: object, **named: object) -> Callable[[Filesystem, int], Kept]:
    """Keep a call with these arguments; ``"ino"`` stands for a file's number."""

    def keep(filesystem: Filesystem, ino: int) -> Kept:
        return partial(
            getattr(filesystem, name),
            *(ino if argument == "ino" else argument for argument in arguments),
            **named,
        )

    return keep


KEPT: dict[str, Callable[[Filesystem, int], Kept]] = {
    "steps": started,
    "steps not started": not_started,
    "read": read_often,
    "accessed": bound("accessed", "ino", LATER_NS),
    "begin_commit": bound("begin_commit", LATER_NS),
    "begin_tick": bound("begin_tick", LATER_NS, True),
    "checkpoint": bound("checkpoint", LATER_NS),
    "create": bound("create", ROOT_INO, b"new", REGULAR, 0, 0, LATER_NS),
    "forget": bound("forget", "ino"),
    "remount": bound("remount", LATER_NS, read_only=True),
    "setattr": bound("setattr", "ino", LATER_NS, mode=0o600),
    "sync": bound("sync", LATER_NS),
    "tick": bound("tick", LATER_NS, True),
    "unlink": bound("unlink", ROOT_INO, b"a1", LATER_NS),
    "write": bound("write", "ino", 0, bytes(9000), LATER_NS),
}


@pytest.mark.parametrize("end", ["unmount", "abandon"])
@pytest.mark.parametrize("what", KEPT)
def test_what_was_kept_writes_nothing_after_the_end(what: str, end: str) -> None:
    disk = Disk()
    filesystem = disk.filesystem
    for number in range(FILE_COUNT):
        disk.make_file(b"a%d" % number, data(number, 3000))
    disk.sync()
    ino = inode_of(filesystem, 0)
    for number in range(FILE_COUNT):
        filesystem.setattr(inode_of(filesystem, number), disk.now_ns, mode=0o640)
    filesystem.remount(disk.now_ns, atime="strictatime")
    kept = KEPT[what](filesystem, ino)
    if end == "unmount":
        filesystem.unmount(disk.now_ns)
    else:
        filesystem.abandon()
    lines = [*disk.lines]
    other = Filesystem.mount(disk.medium, disk.now_ns)
    for number in range(FILE_COUNT):
        made = other.create(ROOT_INO, b"b%d" % number, REGULAR, 0, 0, disk.now_ns).ino
        other.write(made, 0, data(number, 5000), disk.now_ns)
    other.sync(disk.now_ns)
    event_count = len(disk.device.events)
    medium = contents_of(disk.medium)
    assert error_of(kept) in (0, errno.EBADF, errno.EROFS)
    assert len(disk.device.events) == event_count
    assert contents_of(disk.medium) == medium
    # Nor is anything told of a filesystem that is somebody else's now.
    assert disk.lines == lines
    other.abandon()
    assert problems(disk.medium) == []


def error_of(request: Kept) -> int | None:
    try:
        request()
    except FilesystemError as error:
        return error.errno
    return 0


def contents_of(device: MemoryDevice) -> bytes:
    return device.read(0, device.size_bytes)


def test_device_is_as_usable_as_before_for_whom_it_belongs_to() -> None:
    disk = Disk()
    volume = disk.filesystem.core.volume
    disk.unmount()
    assert disk.filesystem.device is disk.device
    assert disk.device.read(0, 4096) == disk.medium.read(0, 4096)
    closed = volume.device
    for request in (
        lambda: closed.read(0, 4096),
        lambda: closed.write(0, [bytes(4096)]),
        closed.flush,
    ):
        with pytest.raises(DeviceError, match="not mounted any more") as caught:
            request()
        assert caught.value.errno == errno.EBADF
    closed.close()


def test_end_that_was_kept_lets_nobody_in_beside_who_writes_now() -> None:
    disk = Disk()
    abandon, unmount = disk.filesystem.abandon, disk.filesystem.unmount
    disk.filesystem.unmount(disk.now_ns)
    Filesystem.mount(disk.device, disk.now_ns)
    abandon()
    unmount(disk.now_ns)
    with pytest.raises(FilesystemError) as caught:
        Filesystem.mount(disk.device, disk.now_ns)
    assert caught.value.errno == errno.EBUSY
