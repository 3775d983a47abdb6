"""What the bytes of an image are: in which files and disks they lie, and where.

Two paths may lead to the same bytes: a file and a loop device over it, two loop
devices, a partition and its disk, two nodes of one device, links of any kind.  So an
image is known by its *places*: a range of the file or device that was named, and of
each one that this is made of, down to the last.  Two images share bytes when a place
of the one overlaps a place of the other.

A file is known by its device and inode numbers, a block device by its own number.
What a loop device is made of the driver tells by ``LOOP_GET_STATUS64``, right even
where the name in ``/sys`` now leads to another file.  A device that is made of
others in a way that is not told (device mapper, RAID) has a place in each of them
that is not *exact*.

Nothing of what is found by itself may hang, see ``lfs.device.exclusion.mount_table``: the
driver asks the file behind a loop device, so it is asked only where the mount table
says that this file lies on a filesystem of the kernel, or on that of the image.

Held by ``tests/device/exclusion/test_exclusion.py``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lfs.device.exclusion.mount_table import mount_of, read_table

SYS = Path("/sys")
DEV = Path("/dev")
END = 1 << 62
"""Where a place ends that reaches to the end of its file or device, wherever that is."""

_SECTOR_BYTES = 512
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_STATUS = struct.Struct("=QQQQQ192x")

_MayTouch = Callable[[str], bool]


class Place(NamedTuple):
    """The bytes from ``start`` to ``end`` of a file or of a block device."""

    device: int
    """The number of the block device, or of the filesystem in which the file is."""
    ino: int
    """The file's inode; 0 for a block device."""
    path: str
    """Where it was, to be opened and verified; empty when nothing is known."""
    start: int
    end: int
    exact: bool = True
    """Whether the image has all of the range, and not just something in it."""

    @property
    def is_disk(self) -> bool:
        """Tell whether it is in a block device."""
        return self.ino == 0

    def overlaps(self, other: Place) -> bool:
        """Tell whether both have bytes in common."""
        same = self.device == other.device and self.ino == other.ino
        return same and self.start < other.end and other.start < self.end

    def is_of(self, status: os.stat_result) -> bool:
        """Tell whether ``status`` is that of its file or device."""
        if self.is_disk:
            return stat.S_ISBLK(status.st_mode) and status.st_rdev == self.device
        regular = stat.S_ISREG(status.st_mode)
        return regular and (status.st_dev, status.st_ino) == (self.device, self.ino)


def places_of(status: os.stat_result, path: str) -> list[Place]:
    """Return the places of the image with ``status``, which was opened at ``path``.

    What is neither a file nor a block device has none.
    """
    if stat.S_ISREG(status.st_mode):
        return [Place(status.st_dev, status.st_ino, path, 0, END)]
    if not stat.S_ISBLK(status.st_mode):
        return []
    return list(_disk_places(status.st_rdev, 0, END, True, lambda _: True))


def share_bytes(first: str, second: str) -> bool:
    """Tell whether two paths lead to any bytes in common; raises OSError."""
    places = [places_of(os.stat(path), path) for path in (first, second)]
    return any(a.overlaps(b) for a in places[0] for b in places[1])


def loops_over(places: list[Place]) -> Iterator[Place]:
    """Yield the loop devices that lie in ``places`` but are not among them."""
    own = {whole_disk(place.device) for place in places if place.is_disk}
    may_touch = _only_local(places)
    for folder in sorted(SYS.glob("block/loop*")):
        number = _number(folder)
        if number is None or number in own or not (folder / "loop").exists():
            continue
        found: list[Place] = []
        with suppress(OSError):  # it has just gone
            found = list(_disk_places(number, 0, END, True, may_touch))
        if any(place.overlaps(other) for place in found for other in places):
            yield found[0]


def partitions_of(number: int) -> Iterator[Place]:
    """Yield the partitions of a disk."""
    for folder in sorted(_folder(number).glob("*/partition")):
        part = _number(folder.parent)
        if part is not None:
            yield Place(part, 0, node_path(part), 0, END)


def partition_places(number: int) -> list[Place]:
    """Return the places of a partition that was found by itself."""
    return list(_disk_places(number, 0, END, True, lambda _: True))


def whole_disk(number: int) -> int:
    """Return the number of the disk that a partition is on, or ``number`` itself."""
    folder = _folder(number)
    if (folder / "partition").exists():
        return _number(folder.resolve().parent) or number
    return number


def node_path(number: int) -> str:
    """Return the path of the node by which the kernel names a block device, or nothing.

    Other nodes of the same device are other inodes, so that a lock goes to this one.
    """
    with suppress(OSError):
        for line in (_folder(number) / "uevent").read_text().splitlines():
            name, _, value = line.partition("=")
            if name == "DEVNAME":
                path = DEV / value
                status = path.stat()
                if stat.S_ISBLK(status.st_mode) and status.st_rdev == number:
                    return str(path)
    return ""


def _disk_places(
    number: int, start: int, end: int, exact: bool, may_touch: _MayTouch
) -> Iterator[Place]:
    """Yield the places of a range of a block device, from itself down."""
    yield Place(number, 0, node_path(number), start, end, exact)
    folder = _folder(number)
    if (folder / "partition").exists():
        first = _integer(folder / "start") * _SECTOR_BYTES
        last = first + _integer(folder / "size") * _SECTOR_BYTES
        disk = whole_disk(number)
        yield from _disk_places(disk, first + start, min(first + end, last), exact, may_touch)
    elif (folder / "loop").exists():
        yield from _backing_places(number, start, end, exact, may_touch)
    else:
        for slave in sorted(folder.glob("slaves/*/dev")):
            below = _number(slave.parent)
            if below is not None:
                yield from _disk_places(below, 0, END, False, may_touch)


def _backing_places(
    number: int, start: int, end: int, exact: bool, may_touch: _MayTouch
) -> Iterator[Place]:
    """Yield the places of a range of a loop device in what is behind it."""
    folder = _folder(number) / "loop"
    with suppress(OSError):
        path = os.fsdecode((folder / "backing_file").read_bytes().rstrip(b"\n"))
        if not may_touch(path):
            return
        device, ino, disk, offset, limit = _loop_status(number, folder, path)
        start, end = offset + start, min(offset + end, offset + limit if limit else END, END)
        if disk:
            yield from _disk_places(disk, start, end, exact, may_touch)
        else:
            yield Place(device, ino, path, start, end, exact)


def _loop_status(number: int, folder: Path, path: str) -> tuple[int, int, int, int, int]:
    """Return device, inode, number if it is a disk, offset and size limit; raises OSError."""
    answer = bytearray(_LOOP_STATUS.size)
    try:
        descriptor = os.open(node_path(number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # Not ours to open: what the name leads to is the best that can be known.
        status = os.stat(path)
        disk = status.st_rdev if stat.S_ISBLK(status.st_mode) else 0
        offset, limit = _integer(folder / "offset"), _integer(folder / "sizelimit")
        return status.st_dev, status.st_ino, disk, offset, limit
    try:
        fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, answer)
    finally:
        os.close(descriptor)
    device, ino, disk, offset, limit = _LOOP_STATUS.unpack(answer)
    # For a file the driver gives the device of its filesystem twice.
    return _decoded(device), ino, _decoded(disk) if disk != device else 0, offset, limit


def _only_local(places: list[Place]) -> _MayTouch:
    """Return what tells of a path whether asking for its file can't hang."""
    try:
        table = read_table()
    except OSError:
        table = []
    paths = [os.path.realpath(place.path) for place in places if place.path]
    entries = [mount_of(path, table) for path in paths]
    known = {entry.device_number for entry in entries if entry is not None}

    def may_touch(path: str) -> bool:
        entry = mount_of(path.removesuffix(" (deleted)"), table)
        return entry is None or not entry.may_hang or entry.device_number in known

    return may_touch


def _folder(number: int) -> Path:
    return SYS / "dev/block" / f"{os.major(number)}:{os.minor(number)}"


def _number(folder: Path) -> int | None:
    """Return the number of the device whose folder this is; None when it has just gone."""
    try:
        major, _, minor = (folder / "dev").read_text().strip().partition(":")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENOTDIR):
            return None
        raise
    return os.makedev(int(major), int(minor))


def _integer(path: Path) -> int:
    return int(path.read_text())


def _decoded(number: int) -> int:
    """Return a device number as Python has it from one as the kernel packs it in 32 bits."""
    return os.makedev(number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00)
