"""A tree with one of everything that a program may want to copy, and how two are compared.

Only root can make it: it has devices, owners and attributes of root's own.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from tests.support.client import Data

SPARSE_BYTES = 64 << 20
_SPARSE_AT = (0, 1 << 20, (5 << 20) + 123, SPARSE_BYTES - 5000)
# More than any of the sparse file's parts fills in blocks of 64 KiB.
SPARSE_USED_BYTES_MAX = 1 << 20
_SECOND_NS = 1_000_000_000
# What ext4 and lfs both have room for: from 1901 to 2262, to the nanosecond.
_TIMES_NS = {
    "1902": -2_145_916_800 * _SECOND_NS + 1,
    "1969": -1,
    "1970": 0,
    "last-of-32-bits": (1 << 31) * _SECOND_NS - 1,
    "2038": (1 << 31) * _SECOND_NS + 123_456_789,
    "2106": (1 << 32) * _SECOND_NS + 999_999_999,
    "2261": 9_200_000_000 * _SECOND_NS + 7,
}
_NAMES = (
    b"-rf",
    b" spaces at both ends ",
    b"line\nand line",
    b"tab\tbell\x07",
    b"back\\slash\\012",
    b"quotes'\"`$(date)",
    b"not text \xff\xfe\x80",
    "\u00e4 as one".encode(),
    "a\u0308 as two".encode(),
    b"*",
    b"...",
    b"%s%n",
    b"n" * 255,
)
# cap_net_raw=ep, as setcap(8) stores it: the revision with the effective bit, and two sets.
_CAPABILITY = struct.pack("<5I", 0x0200_0001, 1 << 13, 0, 0, 0)
_OWNERS = ((0, 0), (1000, 1000), (65534, 1), (4_000_000_000, 4_000_000_001))
_MODES = (0o000, 0o400, 0o644, 0o755, 0o1777, 0o2755, 0o4755, 0o7777)


def make_tree(top: Path) -> None:
    """Make a tree of about a hundred names at ``top``."""
    top.mkdir()
    for make in (_make_contents, _make_names, _make_types, _make_attributes, _make_sparse):
        make(top)
    # Last: what was made in a directory has changed its time.
    _make_times(top)


def _make_contents(top: Path) -> None:
    place = top / "contents"
    place.mkdir()
    for size in (0, 1, 511, 4095, 4096, 4097, 70_000, 1_000_000):
        (place / f"{size}").write_bytes(Data(size, size).bytes())
    for number in range(3):
        (top / f"link{number}").hardlink_to(place / "4097")


def _make_names(top: Path) -> None:
    place = os.fsencode(top / "names")
    os.mkdir(place)
    for name in _NAMES:
        path = os.path.join(place, name)
        with open(path, "wb") as file:
            file.write(name)
        os.symlink(name, os.path.join(place, b"to " + name[:200]))
    deep = Path(os.fsdecode(place), *["deep"] * 60)
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")


def _make_types(top: Path) -> None:
    place = top / "types"
    place.mkdir()
    (place / "dangling").symlink_to("nowhere/at/all")
    (place / "long").symlink_to("x" * 4000)
    (place / "loop").symlink_to("loop")
    os.mkfifo(place / "fifo", 0o620)
    os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(place / "loop7", stat.S_IFBLK | 0o660, os.makedev(7, 7))
    os.mknod(place / "large-numbers", stat.S_IFCHR | 0o600, os.makedev(4000, 1_000_000))
    for number, mode in enumerate(_MODES):
        for owner, group in _OWNERS:
            path = place / f"{mode:o}-{owner}"
            path.mkdir() if number % 3 == 2 else path.write_text("content")
            os.chown(path, owner, group)
            path.chmod(mode)


def _make_attributes(top: Path) -> None:
    place = top / "attributes"
    (place / "directory").mkdir(parents=True)
    for name in ("few", "many", "program"):
        (place / name).write_bytes(name.encode())
    os.setxattr(place / "few", "user.empty", b"")
    os.setxattr(place / "few", "user.bytes", bytes(range(256)))
    os.setxattr(place / "few", "trusted.note", b"for root")
    for number in range(20):
        os.setxattr(place / "many", f"user.{'n' * number}{number}", Data(number, 100).bytes())
    os.setxattr(place / "directory", "user.of-directory", b"yes")
    (place / "symlink").symlink_to("few")
    os.setxattr(place / "symlink", "trusted.of-symlink", b"yes", follow_symlinks=False)
    os.chown(place / "program", 1000, 1000)
    (place / "program").chmod(0o755)
    # After chown, which takes capabilities away.
    os.setxattr(place / "program", "security.capability", _CAPABILITY)


def _make_sparse(top: Path) -> None:
    with (top / "sparse").open("wb") as file:
        for offset in _SPARSE_AT:
            file.seek(offset)
            file.write(Data(offset, 5000).bytes())
    with (top / "hole").open("wb") as file:
        file.truncate(SPARSE_BYTES)


def _make_times(top: Path) -> None:
    place = top / "times"
    place.mkdir()
    for name, time_ns in _TIMES_NS.items():
        (place / name).write_text(name)
        (place / f"{name}-directory").mkdir()
        (place / f"{name}-symlink").symlink_to(name)
        for path in place.glob(f"{name}*"):
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
    os.utime(place, ns=(5, 5))
    os.utime(top, ns=(-5, -5))


def make_what_tar_omits(top: Path) -> None:
    """Add a socket, and a hard link of what is no regular file."""
    place = top / "types"
    (place / "fifo-again").hardlink_to(place / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        # The name that bind(2) takes is short.
        descriptor = os.open(place, os.O_RDONLY)
        try:
            one.bind(f"/proc/self/fd/{descriptor}/socket")
        finally:
            os.close(descriptor)


class Entry(NamedTuple):
    """What a copy of one name must have in common with the original."""

    mode: int
    owner: tuple[int, int]
    names: int
    device: int
    mtime_ns: int
    attributes: dict[str, bytes]
    content: str
    """Of a file a digest, of a symlink its target."""
    first_name: bytes
    """The first name of the same inode: tells which names are hard links of each other."""


def entries_of(top: Path) -> dict[bytes, Entry]:
    """Return all that is in a tree, by path."""
    found: dict[bytes, Entry] = {}
    first: dict[int, bytes] = {}
    base = os.fsencode(top)
    for directory, directories, files in os.walk(base):
        directories.sort()
        for name in [b".", *sorted(directories + files)]:
            path = os.path.join(directory, name)
            key = os.path.normpath(os.path.relpath(path, base))
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                first.setdefault(status.st_ino, key)
            found[key] = _entry(path, status, first.get(status.st_ino, b""))
    return found


def _entry(path: bytes, status: os.stat_result, first_name: bytes) -> Entry:
    is_directory = stat.S_ISDIR(status.st_mode)
    return Entry(
        mode=status.st_mode,
        owner=(status.st_uid, status.st_gid),
        # Of a directory the count is the filesystem's own affair.
        names=0 if is_directory else status.st_nlink,
        device=status.st_rdev,
        mtime_ns=status.st_mtime_ns,
        attributes={
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        },
        content=_content(path, status.st_mode),
        first_name=first_name,
    )


def _content(path: bytes, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return os.fsdecode(os.readlink(path))
    if not stat.S_ISREG(mode):
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare_trees(source: Path, copy: Path) -> None:
    """Fail with the first names at which two trees differ."""
    expected, found = entries_of(source), entries_of(copy)
    assert list(found) == list(expected)
    different = {key: (found[key], entry) for key, entry in expected.items() if found[key] != entry}
    assert not different, dict(list(different.items())[:3])


def check_sparse(top: Path) -> None:
    """Fail when a copy fills the holes of the sparse files."""
    for name in ("sparse", "hole"):
        used = (top / name).stat().st_blocks * 512
        assert used <= SPARSE_USED_BYTES_MAX, f"{name} uses {used} bytes"
