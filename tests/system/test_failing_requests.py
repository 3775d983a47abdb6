"""A request that fails changes nothing.

Each kind of request is made again and again on a disk of which its first, second, ...
read fails, until it gets through, with nothing in any cache.  Whatever it answers
then, contents, attributes, names, dirty data, promises of space and what the next
commit would log are as before; and once the disk is well it does what it does on a
disk that always was.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable

import pytest

from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.files import acl
from lfs.files.directory import NameHash
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO
from tests.support.acls import user, value_of
from tests.support.bad_reads import KINDS, BadReads, empty_caches, whole_state
from tests.support.state import tree_state
from tests.support.volumes import format_small, mount

BLOCK = 1024
REGULAR = stat.S_IFREG | 0o644
LATER_NS = 10**12
OPTIONS = Options(atime="noatime", node_cache_bytes=1)
USER = 1000, 1000
READS_MAX = 3000
LISTED = value_of(
    {
        ("user", None): 6,
        user(7): 4,
        ("group", None): 4,
        ("mask", None): 4,
        ("other", None): 0,
    }
)


class LengthHash(NameHash):
    """A hash that many names share: of how many bytes they are."""

    def __call__(self, name: bytes) -> int:
        """Return the hash of ``name``."""
        return len(name) << 40


def long(name: str) -> bytes:
    """Return a name so long that a leaf holds few: those of its hash are in several leaves."""
    return name.encode().ljust(200, b"_")


@pytest.fixture(autouse=True)
def colliding_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfs.requests.core.NameHash", LengthHash)


def start() -> MemoryDevice:
    """Return a filesystem whose items fill many leaves."""
    medium = MemoryDevice(24 << 20)
    format_small(medium, BLOCK, 64)
    disk = Filesystem.mount(medium, 0, OPTIONS)
    folder = disk.mkdir(ROOT_INO, b"folder", 0o755, *USER, 1).ino
    other = disk.mkdir(ROOT_INO, b"other", 0o755, *USER, 1).ino
    disk.setxattr(other, acl.DEFAULT, LISTED, 1)
    disk.mkdir(ROOT_INO, b"empty", 0o755, *USER, 1)
    disk.mkdir(folder, b"child", 0o755, *USER, 1)
    for number in range(14):
        ino = disk.create(folder, long(f"{number}"), REGULAR, *USER, 1).ino
        disk.write(ino, 0, b"x" * 300, 1)
        disk.create(other, long(f"{number}"), REGULAR, *USER, 1)
    ino = disk.create(ROOT_INO, b"file", REGULAR, *USER, 1).ino
    for number in range(40):
        disk.write(ino, number * 40 * BLOCK, bytes([65 + number]) * 1500, 1)
    disk.setxattr(ino, acl.ACCESS, LISTED, 1)
    for number in range(6):
        disk.setxattr(ino, b"user.%d" % number, bytes([97 + number]) * 900, 1)
    disk.create(ROOT_INO, b"short", REGULAR, *USER, 1)
    short = disk.lookup(ROOT_INO, b"short").ino
    disk.write(short, 0, b"s" * 100, 1)
    disk.unmount(2)
    return medium


Act = Callable[[Filesystem], object]


def of(path: bytes, act: Callable[[Filesystem, int], object]) -> Act:
    """Return what makes a request of the file at ``path``."""
    return lambda disk: act(disk, find(disk, path))


def find(disk: Filesystem, path: bytes) -> int:
    """Return the inode number at a path."""
    ino = ROOT_INO
    for name in path.split(b"/"):
        ino = disk.lookup(ino, name).ino
    return ino


def resize(size: int) -> Act:
    """Return a truncation of the scattered file."""
    return of(b"file", lambda disk, ino: disk.setattr(ino, LATER_NS, size=size))


def write(offset: int, length: int) -> Act:
    """Return a write into the scattered file."""
    return of(b"file", lambda disk, ino: disk.write(ino, offset, b"w" * length, LATER_NS))


def move(source: bytes, name: bytes, target: bytes, new_name: bytes, flags: int = 0) -> Act:
    """Return a rename."""
    return lambda disk: disk.rename(
        find(disk, source), name, find(disk, target), new_name, LATER_NS, flags
    )


WHOLE_FILE = 40 * 40 * BLOCK
FOLDER = b"folder"
WITH_DIRTY_DATA = (
    "cut inside dirty data",
    "write over many with some dirty",
)
REQUESTS: dict[str, Act] = {
    "cut at a block": resize(40 * BLOCK * 3),
    "cut inside a block": resize(40 * BLOCK * 3 + 700),
    "cut inside a hole": resize(40 * BLOCK * 3 + 5 * BLOCK + 10),
    "cut to nothing": resize(0),
    "cut inside dirty data": resize(40 * BLOCK * 5 + 300),
    "extend": resize(WHOLE_FILE * 2),
    "extend a short one": of(b"short", lambda disk, ino: disk.setattr(ino, LATER_NS, size=9000)),
    "write a part of a block": write(40 * BLOCK * 7 + 100, 200),
    "write parts of two blocks": write(40 * BLOCK * 7 + 600, 700),
    "write over many": write(40 * BLOCK * 7 + 600, 300 * BLOCK),
    "write over many with some dirty": write(40 * BLOCK * 4 + 600, 300 * BLOCK),
    "write into a hole": write(40 * BLOCK * 7 + 9 * BLOCK + 1, 10),
    "write past the end": write(WHOLE_FILE + 5000, 100),
    "write at the end": write(40 * BLOCK * 39 + 1500, 100),
    "write to a short one": of(
        b"short", lambda disk, ino: disk.write(ino, 50, b"q" * 5000, LATER_NS)
    ),
    "rename": move(FOLDER, long("3"), FOLDER, b"new"),
    "rename to the same hash": move(FOLDER, long("3"), FOLDER, long("new")),
    "rename to a file of the same hash": move(FOLDER, long("3"), FOLDER, long("8")),
    "rename the other way": move(FOLDER, long("8"), FOLDER, long("3")),
    "rename the last of a hash": move(FOLDER, long("13"), FOLDER, long("5")),
    "rename over the last of a hash": move(FOLDER, long("5"), FOLDER, long("13")),
    "rename to another directory": move(FOLDER, long("3"), b"other", long("new")),
    "rename over one in another directory": move(FOLDER, long("3"), b"other", long("5")),
    "rename a directory": lambda disk: disk.rename(
        find(disk, FOLDER), b"child", find(disk, b"other"), b"moved", LATER_NS
    ),
    "rename a directory over an empty one": lambda disk: disk.rename(
        find(disk, FOLDER), b"child", ROOT_INO, b"empty", LATER_NS
    ),
    "exchange": move(FOLDER, long("3"), b"other", long("5"), 2),
    "unlink": lambda disk: disk.unlink(find(disk, FOLDER), long("3"), LATER_NS),
    "rmdir": lambda disk: disk.rmdir(find(disk, FOLDER), b"child", LATER_NS),
    "link": lambda disk: disk.link(find(disk, b"file"), find(disk, FOLDER), long("x"), LATER_NS),
    "create": lambda disk: disk.create(find(disk, FOLDER), long("x"), REGULAR, *USER, LATER_NS),
    "create with a default list": lambda disk: disk.create(
        find(disk, b"other"), long("x"), REGULAR, *USER, LATER_NS
    ),
    "mkdir with a default list": lambda disk: disk.mkdir(
        find(disk, b"other"), long("x"), 0o777, *USER, LATER_NS
    ),
    "symlink": lambda disk: disk.symlink(
        find(disk, FOLDER), long("x"), b"t" * 2000, *USER, LATER_NS
    ),
    "set an attribute": of(
        b"file", lambda disk, ino: disk.setxattr(ino, b"user.x", b"v" * 3000, LATER_NS)
    ),
    "replace an attribute": of(
        b"file", lambda disk, ino: disk.setxattr(ino, b"user.2", b"v" * 3000, LATER_NS)
    ),
    "remove an attribute": of(
        b"file", lambda disk, ino: disk.removexattr(ino, b"user.1", LATER_NS)
    ),
    "set a list": of(b"short", lambda disk, ino: disk.setxattr(ino, acl.ACCESS, LISTED, LATER_NS)),
    "remove a list": of(b"file", lambda disk, ino: disk.removexattr(ino, acl.ACCESS, LATER_NS)),
    "change the mode": of(
        b"file", lambda disk, ino: disk.setattr(ino, LATER_NS, mode=0o600, privileged=True)
    ),
    "change all attributes": of(
        b"file",
        lambda disk, ino: disk.setattr(
            ino, LATER_NS, mode=0o600, uid=3, gid=4, size=40 * BLOCK * 2 + 9, mtime_ns=77
        ),
    ),
    "list": lambda disk: list(disk.readdir(find(disk, FOLDER))),
    "list attributes": of(b"file", lambda disk, ino: disk.listxattr(ino)),
    "read": of(b"file", lambda disk, ino: disk.read(ino, 0, WHOLE_FILE, LATER_NS)),
    "extents": of(b"file", lambda disk, ino: disk.extents(ino)),
}
_MEDIUM: list[MemoryDevice] = []


def prepared(kind: str, name: str) -> tuple[Filesystem, BadReads]:
    """Return a mounted filesystem, with dirty data if the request is to meet some."""
    if not _MEDIUM:
        _MEDIUM.append(start())
    device = BadReads(_MEDIUM[0].copy(), kind)
    disk = Filesystem.mount(device, 10, OPTIONS)
    if name in WITH_DIRTY_DATA:
        ino = find(disk, b"file")
        disk.write(ino, 40 * BLOCK * 5, b"d" * 10 * BLOCK, 11)
        disk.write(ino, 40 * BLOCK * 9 + 33, b"d", 11)
    return disk, device


def outcome(disk: Filesystem, act: Act) -> FilesystemError | None:
    """Make a request; return how it failed."""
    empty_caches(disk)
    try:
        act(disk)
    except FilesystemError as error:
        return error
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REQUESTS)
def test_request_that_fails_changes_nothing(name: str, kind: str) -> None:
    act = REQUESTS[name]
    disk, device = prepared(kind, name)
    before = whole_state(disk)
    failed_count = 0
    for nth in range(1, READS_MAX):
        device.arm(nth)
        error = outcome(disk, act)
        fired = device.fired
        device.arm(0)
        if error is None:
            break
        failed_count += 1
        assert fired, (nth, error)
        assert error.errno == errno.EIO, (nth, error)
        after = whole_state(disk)
        assert after == before, (nth, error, [key for key in before if before[key] != after[key]])
    else:
        pytest.fail("it never succeeds")
    well, _ = prepared(kind, name)
    assert outcome(well, act) is None
    assert whole_state(disk)["tree"] == whole_state(well)["tree"]
    assert failed_count, "nothing was read: this proves nothing"
    assert not fired, "a failure that nobody noticed"
    assert whole_state(disk) == whole_state(well)


@pytest.mark.parametrize("kind", KINDS)
def test_commit_needs_no_read_that_may_fail(kind: str) -> None:
    neighbours_unread = 0
    for nth in range(1, READS_MAX):
        disk, device = prepared(kind, WITH_DIRTY_DATA[0])
        ino = find(disk, b"file")
        for block in range(100, 116, 2):
            # In pieces, so that its neighbours are taken along when half of it is written.
            disk.write(ino, block * BLOCK, b"p" * BLOCK, 12)
            disk.sync(12)
        for block in range(100, 109):
            disk.write(ino, block * BLOCK, b"q" * BLOCK, 12)
        disk.write(ino, 2 * WHOLE_FILE, b"a window that was not there", 12)
        expected = tree_state(disk, 0)
        device.arm(nth)
        assert outcome(disk, lambda disk: disk.sync(LATER_NS)) is None
        fired = device.fired
        device.arm(0)
        assert tree_state(disk, 0) == expected, nth
        assert tree_state(mount(device.inner, LATER_NS), 0) == expected, nth
        if not fired:
            break
        neighbours_unread += 1
    assert neighbours_unread, "no read: this proves nothing"
