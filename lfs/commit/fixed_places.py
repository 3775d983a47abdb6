"""The fixed places: superblocks and checkpoint regions.

Theory.  There are two of each, and one that holds serves; a lost superblock is made again.

One superblock is near the start of the device.  The other, the copy, lies where the first
says, and without that it is looked for where ``mkfs`` puts it: at the end of the device.
Where a device has grown, the copy follows to its new end.

Order: only one of the two is ever being written, and the other one, which is whole, is
durable by then.  A copy in a new place comes first, and what says so after it.  So
whatever a crash leaves has one that holds, and the next mount goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lfs.common.errors import DamageError, DeviceError, FilesystemError, FormatError
from lfs.device.base import BlockDevice
from lfs.ondisk import (
    CHECKPOINT_MAGIC,
    CHECKPOINT_REGION_BYTES,
    CHECKPOINT_REGION_COUNT,
    FORMAT_VERSION,
    HEAD_AREA_BYTES,
    INCOMPATIBLE_KNOWN,
    READ_ONLY_COMPATIBLE_KNOWN,
    SUPERBLOCK_ALIGN_BYTES,
    SUPERBLOCK_MAGIC,
    SUPERBLOCK_OFFSET_BYTES,
    Checkpoint,
    Superblock,
    backup_superblock_offset_bytes,
    superblock_seal_holds,
)


class _Found(NamedTuple):
    """What is at the place of a superblock: one, or why there is none."""

    offset_bytes: int
    superblock: Superblock | None
    failure: DamageError | DeviceError | None
    raw: bytes = b""


def _read(device: BlockDevice, offset_bytes: int) -> _Found:
    raw = b""
    try:
        end_bytes = offset_bytes + SUPERBLOCK_ALIGN_BYTES
        if offset_bytes < SUPERBLOCK_OFFSET_BYTES or end_bytes > device.size_bytes:
            raise DamageError(f"byte {offset_bytes} is outside the device")
        raw = device.read(offset_bytes, SUPERBLOCK_ALIGN_BYTES)
        return _Found(offset_bytes, Superblock.unpack(raw, offset_bytes), None, raw)
    except (DamageError, DeviceError) as error:
        return _Found(offset_bytes, None, error, raw)


def _find(device: BlockDevice) -> tuple[_Found, _Found]:
    """Return what is at the places of the first superblock and of its copy."""
    first = _read(device, SUPERBLOCK_OFFSET_BYTES)
    if first.superblock is not None:
        return first, _read(device, first.superblock.copy_offset_bytes)
    return first, _read(device, backup_superblock_offset_bytes(device.size_bytes))


def read_superblock(device: BlockDevice) -> Superblock:
    """Return the superblock of ``device``, from its copy if need be.

    Raises FormatError when it has no lfs filesystem, one of another format or
    with unknown incompatible features, or one that the device is too small for.
    """
    places = _find(device)
    found = [place.superblock for place in places if place.superblock is not None]
    if not found:
        raise FormatError(_none_found(device, places))
    superblock = max(found, key=lambda candidate: candidate.generation)
    unknown = superblock.incompatible & ~INCOMPATIBLE_KNOWN
    if superblock.format_version < FORMAT_VERSION:
        raise FormatError(
            f"made by an older version of lfs (format {superblock.format_version}, "
            f"this one knows {FORMAT_VERSION} only): copy its files with that version"
        )
    if superblock.format_version > FORMAT_VERSION or unknown:
        raise FormatError(
            f"made by a newer version of lfs (format {superblock.format_version}, "
            f"unknown incompatible features {unknown:#x})"
        )
    needed_bytes = superblock.device_blocks * superblock.block_bytes
    if device.size_bytes < superblock.end_block * superblock.block_bytes:
        raise FormatError(
            f"truncated: the filesystem needs {needed_bytes} bytes, "
            f"the device has {device.size_bytes}"
        )
    return superblock


def _none_found(device: BlockDevice, places: tuple[_Found, _Found]) -> str:
    """Return why there is no superblock, and what may help."""
    unreadable = [place.failure for place in places if isinstance(place.failure, DeviceError)]
    if unreadable:
        return f"no superblock can be read: {unreadable[0]}"
    if not has_checkpoint_regions(device):
        return "not an lfs filesystem (no valid superblock)"
    first, copy = places
    if superblock_seal_holds(first.raw) or copy.raw.startswith(SUPERBLOCK_MAGIC):
        # The copy is at the end of the device, or the first was written as it is.
        failures = [str(place.failure) for place in places if place.failure is not None]
        return f"neither superblock of an lfs filesystem holds: {'; '.join(failures)}"
    return (
        "no valid superblock at byte 4096 or at the end, but checkpoints of an lfs filesystem: "
        "if the image or disk has grown, make it as long as it was (truncate -s), for the copy "
        "of its superblock is at its old end"
    )


def has_checkpoint_regions(device: BlockDevice) -> bool:
    """Tell whether there is a checkpoint where ``mkfs`` puts them."""
    for number in range(CHECKPOINT_REGION_COUNT):
        offset_bytes = HEAD_AREA_BYTES + number * CHECKPOINT_REGION_BYTES
        if offset_bytes + SUPERBLOCK_ALIGN_BYTES > device.size_bytes:
            return False
        try:
            raw = device.read(offset_bytes, SUPERBLOCK_ALIGN_BYTES)
        except DeviceError:
            continue
        if raw.startswith(CHECKPOINT_MAGIC):
            return True
    return False


def require_writable(superblock: Superblock, read_only: bool) -> None:
    """Raise FormatError when features allow only a read-only mount."""
    if superblock.read_only_compatible & ~READ_ONLY_COMPATIBLE_KNOWN and not read_only:
        raise FormatError("has features of a newer version that allow only a read-only mount")


def tell_of_lost(device: BlockDevice, report: Callable[[str], None]) -> None:
    """Report a superblock that does not hold, on a mount that changes nothing."""
    for place in _find(device):
        if place.superblock is None:
            report(
                f"the superblock at byte {place.offset_bytes} is lost ({place.failure}): "
                "the next writable mount writes it again"
            )


def renew_superblocks(
    device: BlockDevice, superblock: Superblock, report: Callable[[str], None]
) -> Superblock:
    """Make both places hold ``superblock``, the one that counts, durably; return it.

    Where the device has grown, it has another generation then, and the copy is at the
    new end.  ``report`` gets a line for whatever was done.  An error of the device is
    told, too, and changes nothing: the other one still serves.
    """
    first, copy = _find(device)
    wanted = _at_the_end(device, superblock)
    if wanted.copy_offset_bytes != copy.offset_bytes:
        copy = _read(device, wanted.copy_offset_bytes)
    for place in (copy, first):
        whole = wanted.at(place.offset_bytes)
        if place.superblock == whole:
            continue
        try:
            device.write(place.offset_bytes, [whole.pack().ljust(SUPERBLOCK_ALIGN_BYTES, b"\0")])
            device.flush()
        except DeviceError as error:
            report(f"the superblock at byte {place.offset_bytes} can't be written: {error}")
            return superblock
        if place.failure is not None and wanted is superblock:
            why = f"was lost ({place.failure}): it is there again"
        else:
            why = "is as new as the other one now"
        report(f"the superblock at byte {place.offset_bytes} {why}")
    return wanted


def _at_the_end(device: BlockDevice, superblock: Superblock) -> Superblock:
    """Return ``superblock`` with its copy at the end of the device, if that may be used."""
    offset_bytes = backup_superblock_offset_bytes(device.size_bytes)
    end_bytes = superblock.end_block * superblock.block_bytes
    if offset_bytes == superblock.copy_offset_bytes or offset_bytes < end_bytes:
        return superblock
    try:
        raw = device.read(offset_bytes, SUPERBLOCK_ALIGN_BYTES)
    except DeviceError:
        return superblock
    # Somebody may have appended something to an image: only what is free is taken.
    if raw.strip(b"\0") and not raw.startswith(SUPERBLOCK_MAGIC):
        return superblock
    return superblock.replaced(
        copy_offset_bytes=offset_bytes,
        device_blocks=device.size_bytes // superblock.block_bytes,
        generation=superblock.generation + 1,
    )


def read_checkpoints(device: BlockDevice, superblock: Superblock) -> list[Checkpoint]:
    """Return the valid checkpoints, newest first."""
    found: list[Checkpoint] = []
    for offset in superblock.checkpoint_offset_bytes:
        try:
            raw = device.read(offset, CHECKPOINT_REGION_BYTES)
            found.append(Checkpoint.unpack(raw, superblock.filesystem_id, offset))
        except (DamageError, FilesystemError):
            continue
    return sorted(found, key=lambda checkpoint: -checkpoint.number)
