"""The command mkfs.lfs.

Exit codes: 0 done, 1 refused or failed (one line on standard error says why),
2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from lfs.command import entries
from lfs.command.notes import noting
from lfs.command.parser import Parser
from lfs.command.start import Uninterrupted, Unwinding
from lfs.common.errors import FilesystemError, FormatError, UsageError
from lfs.common.sizes import HELP, format_size, parse_size
from lfs.device.base import BlockDevice
from lfs.device.file import FileDevice
from lfs.device.file_limit import lift_file_limit
from lfs.geometry import (
    BLOCK_BYTES_USUAL,
    LABEL_BYTES_MAX,
    RESERVED_BASIS_POINTS_USUAL,
    RESERVED_PERCENT_MAX,
    plan,
)
from lfs.make import ROOT_MODE, format_device
from lfs.ondisk import (
    FILESYSTEM_ID_BYTES,
    FORMAT_VERSION,
    Superblock,
    backup_superblock_offset_bytes,
)
from mkfs.signatures import HEAD_BYTES, TAIL_BYTES, find_contents, wipe_signatures
from mkfs.target import create_image, final_size_bytes, refuse_swap, resize_image

SIZE_BYTES_MAX = 2**63 - 1
LOCK_WAIT_SECONDS = 10.0
_DISCARD_STEP_BYTES = 1 << 30


def _size(text: str) -> int:
    try:
        size_bytes = parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if size_bytes > SIZE_BYTES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is more than a file or disk can have")
    return size_bytes


def _label(text: str) -> bytes:
    label = os.fsencode(text)
    if len(label) > LABEL_BYTES_MAX:
        raise argparse.ArgumentTypeError(f"a label has at most {LABEL_BYTES_MAX} bytes")
    return label


def _uuid(text: str) -> bytes:
    try:
        return uuid.UUID(text).bytes
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from error


def _basis_points(text: str) -> int:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage") from error
    if not 0 <= percent <= RESERVED_PERCENT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to {RESERVED_PERCENT_MAX}")
    return round(percent * 100)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mkfs.lfs",
        description="Make an empty lfs filesystem on an image file or a block device.",
        epilog=f"Sizes are {HELP}.",
    )
    option = parser.add_argument
    option(
        "-b",
        dest="block_bytes",
        metavar="BLOCK",
        type=_size,
        default=BLOCK_BYTES_USUAL,
        help="block size: a power of two from 1K to 64K (default: 4K)",
    )
    option(
        "-s",
        dest="segment_bytes",
        metavar="SEGMENT",
        type=_size,
        help="segment size: a power of two, at least 64 blocks (default: by device size)",
    )
    option(
        "-L",
        dest="label",
        metavar="LABEL",
        type=_label,
        default=b"",
        help="label of at most 64 bytes",
    )
    option("-U", dest="uuid", metavar="UUID", type=_uuid, help="UUID (default: random)")
    option(
        "-m",
        dest="reserved_basis_points",
        metavar="RESERVED%",
        type=_basis_points,
        default=RESERVED_BASIS_POINTS_USUAL,
        help="share kept for root, in percent (default: 5)",
    )
    option(
        "-K",
        dest="discard",
        action="store_false",
        help="do not discard the blocks first: an image keeps the space that the host gave it",
    )
    option("-n", dest="dry_run", action="store_true", help="print the layout and change nothing")
    option("-q", dest="quiet", action="store_true", help="print nothing but errors")
    option(
        "-f",
        dest="force",
        action="store_true",
        help="overwrite a filesystem or other data, and cut a longer image off at SIZE",
    )
    option("target", metavar="TARGET", type=Path, help="image file or block device")
    option(
        "size_bytes",
        metavar="SIZE",
        type=_size,
        nargs="?",
        help="size of the image; a missing one is created, sparse",
    )
    return parser


def _plan(options: argparse.Namespace, device_bytes: int) -> Superblock:
    return plan(
        device_bytes,
        block_bytes=options.block_bytes,
        segment_bytes=options.segment_bytes,
        reserved_basis_points=options.reserved_basis_points,
        uuid=options.uuid or uuid.uuid4().bytes,
        label=options.label,
        hash_seed=os.urandom(16),
        filesystem_id=os.urandom(FILESYSTEM_ID_BYTES),
        created_ns=time.time_ns(),
    )


def write_filesystem(device: BlockDevice, superblock: Superblock, discard: bool = True) -> None:
    """Make the filesystem that ``superblock`` describes; raises DeviceError.

    With ``discard`` the blocks are given back to the host or the disk first.

    Ctrl-C leaves what was there, nothing that looks like a filesystem, or the whole new
    one.  A crash at the very start may leave damaged remains of what was there instead.
    """
    with Uninterrupted():
        wipe_signatures(device)
    # What was wiped stays: nobody promises that discarded ranges read as zeros.
    end_bytes = device.size_bytes - TAIL_BYTES
    for offset_bytes in range(HEAD_BYTES, end_bytes, _DISCARD_STEP_BYTES) if discard else ():
        device.discard(offset_bytes, min(end_bytes - offset_bytes, _DISCARD_STEP_BYTES))
    # Whoever makes the image is to be able to use it, root or not.
    with Uninterrupted():
        format_device(
            device, superblock, superblock.created_ns, ROOT_MODE, os.getuid(), os.getgid()
        )


def _make_new(options: argparse.Namespace) -> tuple[Superblock, int]:
    """Create an image file with a filesystem; a failure leaves no file.

    Returns the superblock and the size of the image in bytes.
    """
    path: Path = options.target
    if options.size_bytes is None:
        raise UsageError(f"{path} does not exist: give a SIZE to create an image file")
    size_bytes = options.size_bytes - options.size_bytes % FileDevice.align_bytes
    superblock = _plan(options, size_bytes)
    if options.dry_run:
        return superblock, size_bytes
    with Unwinding():
        create_image(path, size_bytes)
        try:
            with contextlib.closing(FileDevice(path)) as device:
                write_filesystem(device, superblock, options.discard)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return superblock, size_bytes


def _make_on_existing(options: argparse.Namespace) -> tuple[Superblock, int]:
    """Make a filesystem on a file or block device that is there, unless that would do harm.

    Returns the superblock and the size of the target in bytes.
    """
    path: Path = options.target
    refuse_swap(path)
    opened = FileDevice(
        path,
        read_only=options.dry_run,
        wait_seconds=LOCK_WAIT_SECONDS,
        on_wait=None if options.quiet else noting("mkfs.lfs"),
    )
    with contextlib.closing(opened) as device:
        found = None if options.force else find_contents(device)
        if found is not None:
            raise UsageError(f"{path} holds {found}: use -f to overwrite it")
        size_bytes = final_size_bytes(device, options.size_bytes, options.force)
        if options.block_bytes < device.sector_bytes:
            raise UsageError(
                f"{path} has sectors of {format_size(device.sector_bytes)}: blocks must not be "
                f"smaller (-b {device.sector_bytes})"
            )
        superblock = _plan(options, size_bytes)
        if options.dry_run:
            return superblock, size_bytes
        if size_bytes != device.size_bytes:
            resize_image(path, size_bytes)
            device.size_bytes = size_bytes
        write_filesystem(device, superblock, options.discard)
    return superblock, size_bytes


def layout_lines(path: Path, superblock: Superblock, device_bytes: int) -> Iterator[str]:
    """Yield the lines that describe a filesystem on ``path``."""
    block_bytes = superblock.block_bytes
    copy_offset_bytes = backup_superblock_offset_bytes(device_bytes)
    first_bytes = superblock.first_segment_block * block_bytes
    segment_bytes = superblock.segment_blocks * block_bytes
    checkpoints = " and ".join(map(str, superblock.checkpoint_offset_bytes))
    # Names and labels need not be text.
    label = os.fsdecode(superblock.label)
    yield f"{path}: lfs filesystem, format {FORMAT_VERSION}"
    yield f"  uuid         {uuid.UUID(bytes=superblock.uuid)}"
    yield f"  label        {label or '(none)'}"
    yield f"  size         {format_size(device_bytes)}"
    yield f"  blocks       {superblock.device_blocks} of {format_size(block_bytes)}"
    yield (
        f"  segments     {superblock.segment_count} of {format_size(segment_bytes)}, "
        f"from byte {first_bytes}"
    )
    yield f"  superblock   at byte {superblock.offset_bytes}, copy at byte {copy_offset_bytes}"
    yield f"  checkpoints  at bytes {checkpoints}"
    yield f"  reserved     {superblock.reserved_basis_points / 100:g} % for root"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mkfs.lfs with ``arguments`` (default: the command line) and return its exit code."""
    options = _parser().parse_args(arguments)
    lift_file_limit()
    try:
        if options.target.exists():
            superblock, device_bytes = _make_on_existing(options)
        else:
            superblock, device_bytes = _make_new(options)
    except (UsageError, FormatError) as error:
        return _fail(str(error))
    except FilesystemError as error:
        return _fail(f"{options.target}: {error.strerror}")
    except OSError as error:
        return _fail(f"{error.filename or options.target}: {error.strerror}")
    if not options.quiet:
        print("\n".join(layout_lines(options.target, superblock, device_bytes)))
    return 0


def _fail(message: str) -> int:
    print(f"mkfs.lfs: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    entries.mkfs()
