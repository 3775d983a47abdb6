"""The library refuses what is no argument, at once and with nothing changed.

Every parameter of every call is given every value that it can't have.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from lfs.common.errors import FilesystemError, FormatError
from lfs.common.turns import Flush
from lfs.device.memory import MemoryDevice
from lfs.filesystem import _CALLS, Filesystem, Options
from lfs.ondisk import ROOT_INO
from tests.support.disks import REGULAR, Disk
from tests.support.state import tree_state

NOT_A_NUMBER = ["1", b"1", 1.5, 1e18]
NO_INODE = [0, -1, 99, 1 << 64, 1 << 70, None, *NOT_A_NUMBER[:3]]
NOT_BYTES = ["text", 5, None, bytearray(b"text"), memoryview(b"text")]
NO_NEW_NAME = [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256, *NOT_BYTES]
NO_NAME = [b"missing", b"x" * 256, *NOT_BYTES]
NO_32_BITS = [-1, 1 << 32, 1 << 64, *NOT_A_NUMBER]
NO_NEW_TYPE = [0o040755, 0o120777, 0o030644, 0o070644, 0o170644]
NO_TIME = [1 << 63, -(1 << 63) - 1, None, *NOT_A_NUMBER]
FILE, DIRECTORY, SYMLINK, ORPHAN = 2, 3, 4, 5

Call = tuple[dict[str, Any], dict[str, list[Any]]]
"""The right arguments, and what each can't be."""

_OWNER = {"uid": 0, "gid": 0}
_BAD_OWNER = {"uid": [None, *NO_32_BITS], "gid": [None, *NO_32_BITS]}
_NEW = {"parent_ino": ROOT_INO, "name": b"new", **_OWNER, "now_ns": 5}
_BAD_NEW = {"parent_ino": NO_INODE, "name": NO_NEW_NAME, **_BAD_OWNER, "now_ns": NO_TIME}
_OF_FILE: Call = ({"ino": FILE}, {"ino": NO_INODE})
_TIME: Call = ({"now_ns": 5}, {"now_ns": NO_TIME})
_NO_CLOCK = {"now_ns": NO_TIME, "monotonic_ns": [time for time in NO_TIME if time is not None]}

CALLS: dict[str, Call] = {
    "accessed": ({"ino": FILE, "now_ns": 5}, {"ino": NO_INODE, "now_ns": NO_TIME}),
    "begin_commit": _TIME,
    "write_ahead": _TIME,
    "begin_tick": ({"now_ns": 5, "idle": False}, _NO_CLOCK),
    "checkpoint": _TIME,
    "checkpoint_steps": _TIME,
    "commit_due": ({"now_ns": 5}, _NO_CLOCK),
    "create": (
        {**_NEW, "mode": REGULAR, "rdev": 0, "umask": 0},
        {
            **_BAD_NEW,
            "mode": [0, 0o644, *NO_NEW_TYPE, REGULAR | 1 << 20, None, *NO_32_BITS],
            "rdev": NO_32_BITS,
            "umask": NO_32_BITS,
        },
    ),
    "create_root": (
        {"mode": 0o040755, **_OWNER, "now_ns": 5},
        {"mode": [0o040755, *NO_32_BITS], **_BAD_OWNER, "now_ns": NO_TIME},
    ),
    "extents": (
        {"ino": FILE},
        {
            "ino": NO_INODE,
            "first_block": [-1, None, 1 << 63, *NOT_A_NUMBER],
            "windows_max": [0, -1, *NOT_A_NUMBER],
        },
    ),
    "fail": ({"error": OSError()}, {}),
    "finish_flush": ({"flush": Flush(0)}, {"flush": [None, 0, "0"]}),
    "finish_commit": ({"ticket": 0}, {"ticket": [-1, 1 << 60, None, *NOT_A_NUMBER]}),
    # What is no orphan is none of its business.
    "forget": ({"ino": FILE}, {}),
    "getattr": _OF_FILE,
    "getxattr": ({"ino": FILE, "name": b"user.a"}, {"ino": NO_INODE, "name": NO_NAME}),
    "link": (
        {"ino": FILE, "parent_ino": ROOT_INO, "name": b"new", "now_ns": 5},
        {
            "ino": [*NO_INODE, DIRECTORY],
            "parent_ino": [*NO_INODE, FILE],
            "name": [*NO_NEW_NAME, b"file"],
            "now_ns": NO_TIME,
        },
    ),
    "listxattr": _OF_FILE,
    "find": (
        {"parent_ino": ROOT_INO, "name": b"file"},
        {"parent_ino": [*NO_INODE, FILE], "name": [b"x" * 256, *NOT_BYTES]},
    ),
    "lookup": (
        {"parent_ino": ROOT_INO, "name": b"file"},
        {"parent_ino": [*NO_INODE, FILE], "name": [*NO_NAME, b"", b"a/b", b"a\0b"]},
    ),
    "mkdir": (
        {**_NEW, "mode": 0o755, "umask": 0},
        {**_BAD_NEW, "mode": [None, *NO_32_BITS], "umask": [None, *NO_32_BITS]},
    ),
    "open": _OF_FILE,
    "read": (
        {"ino": FILE, "offset": 0, "size": 10, "now_ns": 5},
        {
            "ino": [*NO_INODE, DIRECTORY],
            "offset": [-1, None, *NOT_A_NUMBER],
            "size": [-1, None, *NOT_A_NUMBER],
            "now_ns": NO_TIME,
        },
    ),
    "readdir": (
        {"ino": DIRECTORY, "cookie": 0},
        {"ino": [*NO_INODE, FILE], "cookie": [-1, 1 << 63, None, *NOT_A_NUMBER]},
    ),
    "readlink": ({"ino": SYMLINK}, {"ino": [*NO_INODE, FILE]}),
    "release": ({"ino": ORPHAN}, {"ino": [*NO_INODE, FILE]}),
    "remount": (
        {"now_ns": 5},
        {
            "now_ns": NO_TIME,
            "atime": ["sometimes", 5],
            "commit_interval_ns": [0, -1, *NOT_A_NUMBER],
            "cleaner_policy": ["lazy", 5],
        },
    ),
    "removexattr": (
        {"ino": FILE, "name": b"user.a", "now_ns": 5},
        {"ino": NO_INODE, "name": NO_NAME, "now_ns": NO_TIME},
    ),
    "rename": (
        {
            "parent_ino": ROOT_INO,
            "name": b"file",
            "new_parent_ino": ROOT_INO,
            "new_name": b"new",
            "now_ns": 5,
            "flags": 0,
            **_OWNER,
        },
        {
            **_BAD_OWNER,
            "parent_ino": [*NO_INODE, FILE],
            "name": [*NO_NAME, b".", b".."],
            "new_parent_ino": [*NO_INODE, FILE],
            "new_name": [*NO_NEW_NAME, b"directory"],
            "now_ns": NO_TIME,
            "flags": [3, 6, 7, 8, -1, 1 << 40, None, *NOT_A_NUMBER],
        },
    ),
    "rmdir": (
        {"parent_ino": ROOT_INO, "name": b"directory", "now_ns": 5},
        {"parent_ino": [*NO_INODE, FILE], "name": [*NO_NAME, b"file"], "now_ns": NO_TIME},
    ),
    "setattr": (
        {"ino": FILE, "now_ns": 5},
        {
            "ino": NO_INODE,
            "now_ns": NO_TIME,
            "mode": NO_32_BITS,
            **dict.fromkeys(_OWNER, NO_32_BITS),
            "size": [-1, 1 << 63, 1 << 64, *NOT_A_NUMBER],
            # Any number becomes the nearest that fits.
            "atime_ns": NOT_A_NUMBER,
            "mtime_ns": NOT_A_NUMBER,
        },
    ),
    "setxattr": (
        {"ino": FILE, "name": b"user.b", "value": b"x", "now_ns": 5, "flags": 0},
        {
            "ino": NO_INODE,
            "name": [b"", b"a\0b", b"x" * 256, *NOT_BYTES],
            "value": [bytes(65537), *NOT_BYTES],
            "now_ns": NO_TIME,
            "flags": [4, -1, None, *NOT_A_NUMBER],
        },
    ),
    "statfs": ({}, {}),
    "symlink": (
        {**_NEW, "target": b"x"},
        {**_BAD_NEW, "target": [b"", bytes(4096), *NOT_BYTES]},
    ),
    "sync": _TIME,
    "tick": ({"now_ns": 5, "idle": False}, _NO_CLOCK),
    "unlink": (
        {"parent_ino": ROOT_INO, "name": b"file", "now_ns": 5},
        {"parent_ino": [*NO_INODE, FILE], "name": [*NO_NAME, b"directory"], "now_ns": NO_TIME},
    ),
    "unmount": _TIME,
    "write": (
        {"ino": FILE, "offset": 0, "data": b"x", "now_ns": 5},
        {
            "ino": [*NO_INODE, DIRECTORY],
            "offset": [-1, 1 << 63, None, *NOT_A_NUMBER],
            "data": NOT_BYTES,
            "now_ns": NO_TIME,
        },
    ),
}
# Anything is true or false; what is called is the caller's.
_TRUTHS = {
    "on_damage",
    "privileged",
    "stamp",
    "clear_setgid",
    "idle",
    "read_only",
    "directory_atime",
    "error",
}


@pytest.fixture
def disk() -> Disk:
    """A disk with one inode of each kind that matters, some of it not yet on it."""
    disk = Disk(options=Options())
    disk.filesystem.remount(1, atime="strictatime")
    filesystem = disk.filesystem
    assert disk.make_file(b"file", bytes(10_000)) == FILE
    assert filesystem.mkdir(ROOT_INO, b"directory", 0o755, 0, 0, 1).ino == DIRECTORY
    assert filesystem.symlink(ROOT_INO, b"link", b"target", 0, 0, 1).ino == SYMLINK
    filesystem.setxattr(FILE, b"user.a", b"value", 1)
    filesystem.sync(2)
    assert disk.make_file(b"orphan") == ORPHAN
    filesystem.open(ORPHAN)
    filesystem.unlink(ROOT_INO, b"orphan", 3)
    filesystem.write(FILE, 4096, b"dirty", 3)
    return disk


def state(disk: Disk) -> tuple[object, ...]:
    """Return all that a call might change; nothing is read that changes it."""
    filesystem = disk.filesystem
    inodes = {ino: filesystem.getattr(ino).pack() for ino in (ROOT_INO, FILE, DIRECTORY, ORPHAN)}
    return (
        inodes,
        filesystem.statfs(),
        filesystem.dirty,
        filesystem.read_only,
        filesystem.options,
        filesystem.getattr(ORPHAN).open_count,
        filesystem.listxattr(FILE),
        list(filesystem.readdir(ROOT_INO)),
        disk.device.write_count,
    )


def test_every_parameter_of_every_call_is_here() -> None:
    assert set(CALLS) == {*_CALLS, "unmount"}
    for name, (arguments, bad) in CALLS.items():
        parameters = set(inspect.signature(getattr(Filesystem, name)).parameters) - {"self"}
        assert set(arguments) | set(bad) | _TRUTHS >= parameters, name
        assert set(arguments) | set(bad) <= parameters, name


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_argument_is_refused_and_changes_nothing(disk: Disk, name: str) -> None:
    arguments, bad = CALLS[name]
    before = state(disk)
    for parameter, values in bad.items():
        for value in values:
            with pytest.raises((FilesystemError, TypeError)) as caught:
                getattr(disk.filesystem, name)(**{**arguments, parameter: value})
            error = caught.value
            assert len(str(error).splitlines()) == 1
            assert not isinstance(error, FilesystemError) or error.errno != errno.EIO
            assert state(disk) == before, (name, parameter, value)
    # Nothing is left that a commit could stumble over.
    tree = tree_state(disk.filesystem, 7)
    disk.filesystem.sync(7)
    disk.filesystem.abandon()
    disk.mount()
    assert tree_state(disk.filesystem, 7) == tree


@pytest.mark.parametrize("name", CALLS)
def test_what_is_right_is_not_refused(disk: Disk, name: str) -> None:
    arguments, _ = CALLS[name]
    if name == "create_root":
        return
    getattr(disk.filesystem, name)(**arguments)


@pytest.mark.parametrize("end", ["unmount", "abandon"])
def test_no_call_is_answered_afterwards_and_nothing_written(disk: Disk, end: str) -> None:
    filesystem = disk.filesystem
    ends: dict[str, Callable[[], None]] = {
        "unmount": lambda: filesystem.unmount(9),
        "abandon": filesystem.abandon,
    }
    ends[end]()
    before = disk.device.write_count
    for name in _CALLS:
        with pytest.raises(FilesystemError) as caught:
            getattr(filesystem, name)(**CALLS[name][0])
        assert caught.value.errno == errno.EBADF
    for again in ends.values():
        again()
    assert disk.device.write_count == before


def test_second_mount_of_a_device_is_refused_while_the_first_may_write() -> None:
    disk = Disk()
    device = disk.device
    for options in (Options(), Options(read_only=True)):
        with pytest.raises(FilesystemError) as caught:
            Filesystem.mount(device, 2, options)
        assert caught.value.errno == errno.EBUSY
    disk.filesystem.unmount(3)
    readers = [Filesystem.mount(device, 4, Options(read_only=True)) for _ in range(2)]
    writer = Filesystem.mount(device, 5)
    with pytest.raises(FilesystemError) as caught:
        readers[0].remount(6, read_only=False)
    assert caught.value.errno == errno.EBUSY
    writer.remount(7, read_only=True)
    readers[0].remount(8, read_only=False)
    with pytest.raises(FilesystemError) as caught:
        writer.remount(9, read_only=False)
    assert caught.value.errno == errno.EBUSY
    # Who only reads lets go of nothing.
    readers[1].unmount(10)
    with pytest.raises(FilesystemError):
        Filesystem.mount(device, 11)
    readers[0].abandon()
    Filesystem.mount(device, 12).unmount(13)


def test_mount_that_fails_leaves_the_device_free() -> None:
    device = MemoryDevice(16 << 20)
    with pytest.raises(FormatError):
        Filesystem.mount(device, 1)
    assert not device.is_mounted


def test_abandoned_filesystem_is_as_after_a_crash(disk: Disk) -> None:
    disk.make_file(b"lost")
    disk.filesystem.abandon()
    disk.mount()
    names = {entry.name for entry in disk.filesystem.readdir(ROOT_INO)}
    assert names == {b"file", b"directory", b"link"}


@pytest.mark.parametrize(
    "choice",
    [
        {"atime": "never"},
        {"cleaner_policy": ""},
        {"errors": "abort"},
        {"commit_interval_ns": 0},
        {"checkpoint_interval_ns": -1},
        {"dirty_bytes_max": 0},
        {"extent_bytes_max": 1.5},
    ],
)
def test_choice_that_is_none_is_refused(choice: dict[str, Any]) -> None:
    with pytest.raises((FilesystemError, TypeError)):
        Options(**choice)
