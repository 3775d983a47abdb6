"""``lfs filefrag``: the extents of a file, in the form of filefrag(8)."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from lfs.command.notes import noting
from lfs.command.output import add_json, print_json
from lfs.common.errors import FilesystemError, FormatError, UsageError
from lfs.control.door import FILESYSTEM_TYPE, asking
from lfs.control.extents import Extent, read_extents
from lfs.control.questions import mounted_target
from lfs.device.exclusion.mount_table import read_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lfs.filesystem import Filesystem

_LOCK_WAIT_SECONDS = 2.0


class FileMap(NamedTuple):
    """What is printed of one file; sizes in bytes, addresses in blocks."""

    name: str
    size_bytes: int
    block_bytes: int
    extents: Sequence[Extent]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "filefrag",
        help="show the extents of a file",
        description="Show where the blocks of a file are, one line for each extent.",
    )
    parser.add_argument(
        "--image",
        metavar="IMAGE",
        help="an image, mounted or not; FILE is then a path inside it",
    )
    add_json(parser)
    parser.add_argument("files", metavar="FILE", nargs="+")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the extents of every file; raises UsageError, FilesystemError or OSError."""
    if arguments.image is None:
        maps = [mounted_file_map(name) for name in arguments.files]
    else:
        maps = image_file_maps(arguments.image, arguments.files)
    if arguments.json:
        print_json({"files": [file_map._asdict() for file_map in maps]})
        return 0
    for file_map in maps:
        print(describe(file_map))
    return 0


def mounted_file_map(path: str) -> FileMap:
    """Return the map of a file on a mounted lfs, after its dirty blocks got their places.

    Raises UsageError when it is on another filesystem or no file, OSError.
    """
    # A fifo or a device is not waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return _open_file_map(path, descriptor, " (see --image)")
    finally:
        os.close(descriptor)


def _open_file_map(name: str, descriptor: int, hint: str = "") -> FileMap:
    status = os.fstat(descriptor)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise UsageError(f"{name} is neither a file nor a directory")
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
    block_bytes = os.fstatvfs(descriptor).f_bsize
    with asking(name, hint):
        extents = read_extents(f"/proc/self/fd/{descriptor}")
    return FileMap(name, status.st_size, block_bytes, extents)


def image_file_maps(image: str, paths: Sequence[str]) -> list[FileMap]:
    """Return the maps of files by their paths inside an image, from its mount if it has one.

    Raises UsageError, FilesystemError, OSError.
    """
    mount_point = _mount_point(image)
    if mount_point is not None:
        return [_file_map_inside(mount_point, path) for path in paths]
    # A mounted file is asked for its map: only an image that is not mounted needs all this.
    from lfs.device.file import FileDevice
    from lfs.filesystem import Filesystem, Options

    opened = FileDevice(image, True, wait_seconds=_LOCK_WAIT_SECONDS, on_wait=noting("lfs"))
    with contextlib.closing(opened) as device:
        try:
            filesystem = Filesystem.mount(device, 0, Options(read_only=True, atime="noatime"))
            return [_image_file_map(filesystem, path) for path in paths]
        except FormatError as error:
            raise UsageError(f"{image}: {error}") from error


def _mount_point(image: str) -> str | None:
    """Return where the mount table shows an image by its path, if its daemon answers there."""
    for entry in reversed(read_table()):
        if entry.filesystem_type != FILESYSTEM_TYPE:
            continue
        # The daemon may be dead, something else mounted over it, or the source a mere name.
        with contextlib.suppress(OSError):
            if os.path.samefile(entry.source, image):
                mounted_target(entry.path)
                return entry.path
    return None


def _file_map_inside(mount_point: str, path: str) -> FileMap:
    """Return the map of a file by its path inside a mount, from which no link leads away."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    with contextlib.ExitStack() as opened:
        descriptor = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, descriptor)
        # Above the mount point is no part of the image.
        for name in filter(None, os.path.normpath(f"/{path}").split("/")):
            try:
                descriptor = os.open(name, flags, dir_fd=descriptor)
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}") from error
            opened.callback(os.close, descriptor)
        return _open_file_map(path, descriptor)


def _image_file_map(filesystem: Filesystem, path: str) -> FileMap:
    from lfs.ondisk import ROOT_INO

    inode = filesystem.getattr(ROOT_INO)
    try:
        for name in os.fsencode(path).split(b"/"):
            if name:
                inode = filesystem.lookup(inode.ino, name)
    except FilesystemError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if not (inode.is_regular or inode.is_directory):
        raise UsageError(f"{path} is neither a file nor a directory")
    block_bytes = filesystem.statfs().block_bytes
    return FileMap(path, inode.size, block_bytes, list(filesystem.extents(inode.ino)))


def describe(file_map: FileMap) -> str:
    """Return the table of a file's extents.

    ``expected`` is the address at which the extent would have gone on from the
    one before it, where it does not.
    """
    extents = file_map.extents
    file_blocks = -(-file_map.size_bytes // file_map.block_bytes)
    blocks = f"{file_blocks} block{_s(file_blocks)} of {file_map.block_bytes} bytes"
    lines = [f"File size of {file_map.name} is {file_map.size_bytes} ({blocks})"]
    if extents:
        lines.append(" ext:     logical_offset:        physical_offset: length:   expected: flags:")
    expected = None
    for index, (first, address, count) in enumerate(extents):
        jump = f"{expected}:" if expected not in (None, address) else ""
        flag = "last" if index == len(extents) - 1 else ""
        line = (
            f"{index:4}: {first:8}..{first + count - 1:8}: "
            f"{address:10}..{address + count - 1:10}: {count:6}: {jump:>11} {flag}"
        )
        lines.append(line.rstrip())
        expected = address + count
    piece_count = fragment_count(extents)
    lines.append(f"{file_map.name}: {piece_count} extent{_s(piece_count)} found")
    return "\n".join(lines)


def fragment_count(extents: Sequence[Extent]) -> int:
    """Return how many places on disk a reader has to go to."""
    ends = [address + count for _, address, count in extents]
    return sum(1 for extent, end in zip(extents, [0, *ends], strict=False) if extent[1] != end)


def _s(count: int) -> str:
    return "" if count == 1 else "s"
