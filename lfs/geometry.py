"""How a device is divided (FORMAT.md, "The device").

Segments are the unit of allocation and cleaning.  Small ones suit small
devices, where the slack has to be many segments and yet few bytes; large ones
keep the usage table, which a mount reads, short.  So the size follows the device
until about 256 segments of 4 MiB, stays there, and grows again only to keep the
number of segments bounded.

All functions are pure.

Held by ``tests/library/test_geometry.py``.
"""

from __future__ import annotations

from lfs.common.errors import UsageError
from lfs.common.sizes import format_size
from lfs.ondisk import (
    BLOCK_BYTES_MAX,
    BLOCK_BYTES_MIN,
    CHECKPOINT_REGION_BYTES,
    HEAD_AREA_BYTES,
    SEGMENT_BLOCKS_MIN,
    SEGMENT_COUNT_MAX,
    SUPERBLOCK_ALIGN_BYTES,
    USAGE_PAGE_COUNT_MAX,
    Superblock,
    backup_superblock_offset_bytes,
    usage_per_page,
)

KIB = 1 << 10
MIB = 1 << 20

SEGMENT_COUNT_MIN = 32
SEGMENT_COUNT_USUAL = 256
SEGMENT_COUNT_MOST = 262144
SEGMENT_BYTES_USUAL_MAX = 4 * MIB
SMALL_DEVICE_BYTES = 64 * MIB
FIRST_SEGMENT_SMALL_BYTES = 256 * KIB
FIRST_SEGMENT_BYTES = MIB

RESERVED_PERCENT_MAX = 50
RESERVED_BASIS_POINTS_USUAL = 500
BLOCK_BYTES_USUAL = 4096
LABEL_BYTES_MAX = 64


def is_power_of_two(number: int) -> bool:
    """Tell whether ``number`` is 1, 2, 4, 8, ..."""
    return number > 0 and number & (number - 1) == 0


def check_block_bytes(block_bytes: int) -> None:
    """Raise UsageError unless ``block_bytes`` is a possible block size."""
    if not (is_power_of_two(block_bytes) and BLOCK_BYTES_MIN <= block_bytes <= BLOCK_BYTES_MAX):
        raise UsageError(
            f"block size {block_bytes} is not a power of two "
            f"from {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}"
        )


def check_segment_bytes(segment_bytes: int, block_bytes: int) -> None:
    """Raise UsageError unless ``segment_bytes`` suits blocks of ``block_bytes``."""
    least_bytes = SEGMENT_BLOCKS_MIN * block_bytes
    if not is_power_of_two(segment_bytes) or segment_bytes < least_bytes:
        raise UsageError(
            f"segment size {segment_bytes} is not a power of two of at least {least_bytes} bytes "
            f"({SEGMENT_BLOCKS_MIN} blocks)"
        )


def first_segment_bytes(device_bytes: int, block_bytes: int) -> int:
    """Return the byte at which segments begin."""
    small = device_bytes < SMALL_DEVICE_BYTES
    start_bytes = FIRST_SEGMENT_SMALL_BYTES if small else FIRST_SEGMENT_BYTES
    return -(-start_bytes // block_bytes) * block_bytes


def segment_count_max(block_bytes: int) -> int:
    """Return how many segments a filesystem may have."""
    return min(SEGMENT_COUNT_MAX, USAGE_PAGE_COUNT_MAX * usage_per_page(block_bytes))


def count_segments(device_bytes: int, block_bytes: int, segment_bytes: int) -> int:
    """Return how many segments fit between the areas at both ends of the device."""
    end_bytes = backup_superblock_offset_bytes(device_bytes)
    return max(0, (end_bytes - first_segment_bytes(device_bytes, block_bytes)) // segment_bytes)


def smallest_device_bytes(block_bytes: int, segment_bytes: int) -> int:
    """Return the smallest device that has ``SEGMENT_COUNT_MIN`` segments."""
    segments_bytes = SEGMENT_COUNT_MIN * segment_bytes
    for start_bytes in (FIRST_SEGMENT_SMALL_BYTES, FIRST_SEGMENT_BYTES):
        device_bytes = start_bytes + segments_bytes + SUPERBLOCK_ALIGN_BYTES
        if count_segments(device_bytes, block_bytes, segment_bytes) >= SEGMENT_COUNT_MIN:
            break
    return device_bytes


def choose_segment_bytes(device_bytes: int, block_bytes: int) -> int:
    """Return the segment size for a device when the user does not name one."""
    least_bytes = SEGMENT_BLOCKS_MIN * block_bytes
    wanted_bytes = min(device_bytes // SEGMENT_COUNT_USUAL, SEGMENT_BYTES_USUAL_MAX)
    segment_bytes = max(least_bytes, 1 << max(wanted_bytes, 1).bit_length() - 1)
    count_max = min(SEGMENT_COUNT_MOST, segment_count_max(block_bytes))
    while count_segments(device_bytes, block_bytes, segment_bytes) > count_max:
        segment_bytes *= 2
    return segment_bytes


def plan(
    device_bytes: int,
    *,
    block_bytes: int,
    segment_bytes: int | None,
    reserved_basis_points: int,
    uuid: bytes,
    label: bytes,
    hash_seed: bytes,
    filesystem_id: bytes,
    created_ns: int,
) -> Superblock:
    """Return the superblock of a new filesystem on a device of ``device_bytes``.

    ``segment_bytes`` None chooses.  Raises UsageError with one line when sizes
    are impossible or do not go together.
    """
    check_block_bytes(block_bytes)
    if segment_bytes is None:
        segment_bytes = choose_segment_bytes(device_bytes, block_bytes)
    check_segment_bytes(segment_bytes, block_bytes)
    segment_count = count_segments(device_bytes, block_bytes, segment_bytes)
    if segment_count < SEGMENT_COUNT_MIN:
        least_bytes = smallest_device_bytes(block_bytes, segment_bytes)
        raise UsageError(
            f"{format_size(device_bytes)} is too small: with segments of "
            f"{format_size(segment_bytes)} at least {format_size(least_bytes)} are needed"
        )
    if segment_count > segment_count_max(block_bytes):
        raise UsageError(
            f"segments of {format_size(segment_bytes)} are too small for "
            f"{format_size(device_bytes)}: use at least "
            f"{format_size(choose_segment_bytes(device_bytes, block_bytes))}"
        )
    return Superblock(
        uuid=uuid,
        label=label,
        block_bytes=block_bytes,
        segment_blocks=segment_bytes // block_bytes,
        device_blocks=device_bytes // block_bytes,
        first_segment_block=first_segment_bytes(device_bytes, block_bytes) // block_bytes,
        segment_count=segment_count,
        checkpoint_offset_bytes=(HEAD_AREA_BYTES, HEAD_AREA_BYTES + CHECKPOINT_REGION_BYTES),
        reserved_basis_points=reserved_basis_points,
        created_ns=created_ns,
        hash_seed=hash_seed,
        filesystem_id=filesystem_id,
        copy_offset_bytes=backup_superblock_offset_bytes(device_bytes),
    )
