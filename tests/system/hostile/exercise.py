"""What people do with an image that they were given: check, mount, read all, change all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from fsck.check import check_device
from lfs.common.errors import FilesystemError, FormatError
from lfs.device.memory import MemoryDevice
from lfs.files.directory import DirectoryEntry
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from tests.system.hostile.cases import BLOCK_BYTES, REGULAR

ENTRIES_MAX = 300
T = TypeVar("T")


def exercise(device: MemoryDevice) -> str:
    """Mount, list and read everything, change everything, check; return what came of it.

    Only refusals that a user may see are caught.
    """
    try:
        check_device(device.copy())
    except (FormatError, FilesystemError) as error:
        outcome = f"fsck refused: {type(error).__name__}"
    else:
        outcome = "checked"
    try:
        filesystem = Filesystem.mount(device, 10, report=lambda line: None)
    except (FormatError, FilesystemError) as error:
        return f"{outcome}, mount refused: {type(error).__name__}"
    found = _walk(filesystem)
    _change(filesystem, found)
    return f"{outcome}, {len(found)} inodes, {'failed' if filesystem.read_only else 'writable'}"


def _try(call: Callable[..., T], *arguments: object, **named: object) -> T | None:
    """Make a request; a refusal with an errno is fine, and gives None."""
    try:
        return call(*arguments, **named)
    except FilesystemError as error:
        if not error.errno:
            raise
        return None


def _walk(fs: Filesystem) -> dict[int, tuple[int, bytes]]:
    """Look at everything; return the directory and name of each inode."""
    found: dict[int, tuple[int, bytes]] = {}
    directories = [ROOT_INO]
    while directories:
        directory = directories.pop()
        for entry in _try(_listed, fs, directory) or []:
            _try(fs.lookup, directory, entry.name)
            if entry.ino in found or len(found) > ENTRIES_MAX:
                continue
            found[entry.ino] = directory, entry.name
            inode = _try(fs.getattr, entry.ino)
            if inode is not None and inode.is_directory:
                directories.append(entry.ino)
    for ino in found:
        _look(fs, ino)
    fs.statfs()
    return found


def _listed(fs: Filesystem, directory: int) -> list[DirectoryEntry]:
    found = [*islice(fs.readdir(directory), ENTRIES_MAX + 1)]
    assert len(found) <= ENTRIES_MAX, "a listing without an end"
    return found


def _look(fs: Filesystem, ino: int) -> None:
    for offset in (0, 3000, 40 * BLOCK_BYTES, (1 << 62) + 1):
        _try(fs.read, ino, offset, 8192, 10)
    _try(fs.readlink, ino)
    for name in _try(fs.listxattr, ino) or []:
        _try(fs.getxattr, ino, name)
    _try(fs.extents, ino)


def _change(fs: Filesystem, found: dict[int, tuple[int, bytes]]) -> None:
    """Change whatever was found, and let the background have its turns."""
    inos = list(found)
    for ino in inos:
        _try(fs.write, ino, 100, b"changed" * 400, 11)
        _try(fs.setxattr, ino, b"user.large", b"new" * 500, 11)
        _try(fs.setattr, ino, 11, size=1)
        _try(fs.mkdir, ino, b"new", 0o755, 0, 0, 11)
        _try(fs.create, ino, b"file", REGULAR, 0, 0, 11)
        _try(fs.sync, 12)
    for ino, other in zip(inos, [*inos[1:], ROOT_INO], strict=False):
        parent, name = found[ino]
        _try(fs.rename, parent, name, other, b"moved", 13)
        _try(fs.rename, parent, name, ROOT_INO, b"%d" % ino, 13)
        _try(fs.link, ino, ROOT_INO, b"link to %d" % ino, 13)
    _try(fs.sync, 14)
    for ino in inos:
        for where, what in (found[ino], (ROOT_INO, b"%d" % ino)):
            gone = _try(fs.unlink, where, what, 15) or _try(fs.rmdir, where, what, 15)
            if gone is not None and gone.nlink == 0:
                _try(fs.forget, ino)
    for turn in range(20):
        _try(fs.tick, 10**11 + turn * 10**10, idle=True)
    _try(fs.checkpoint, 10**12)
    _try(fs.unmount, 10**12)
