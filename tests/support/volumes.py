"""Small filesystems in memory for tests."""

from __future__ import annotations

from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.device.base import BlockDevice
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.make import format_device
from lfs.ondisk import (
    CHECKPOINT_REGION_BYTES,
    HEAD_AREA_BYTES,
    Superblock,
    backup_superblock_offset_bytes,
)

FIRST_SEGMENT_BYTES = 256 * 1024
ROOT_MODE = 0o755


def superblock(
    device_bytes: int, block_bytes: int, segment_blocks: int, reserved_basis_points: int = 0
) -> Superblock:
    """Return a superblock with as many segments as fit, and the same identity every time."""
    segment_bytes = segment_blocks * block_bytes
    end_bytes = backup_superblock_offset_bytes(device_bytes)
    return Superblock(
        uuid=bytes(range(16)),
        label=b"test",
        block_bytes=block_bytes,
        segment_blocks=segment_blocks,
        device_blocks=device_bytes // block_bytes,
        first_segment_block=FIRST_SEGMENT_BYTES // block_bytes,
        segment_count=(end_bytes - FIRST_SEGMENT_BYTES) // segment_bytes,
        checkpoint_offset_bytes=(HEAD_AREA_BYTES, HEAD_AREA_BYTES + CHECKPOINT_REGION_BYTES),
        reserved_basis_points=reserved_basis_points,
        created_ns=0,
        hash_seed=bytes(16),
        filesystem_id=bytes(range(8)),
        copy_offset_bytes=end_bytes,
    )


def format_small(device: BlockDevice, block_bytes: int, segment_blocks: int) -> None:
    """Put an empty filesystem on ``device``."""
    layout = superblock(device.size_bytes, block_bytes, segment_blocks)
    format_device(device, layout, 0, ROOT_MODE, 0, 0)


def mount(device: BlockDevice, now_ns: int, options: Options | None = None) -> Filesystem:
    """Mount, as after a crash unless it was unmounted; the log's lines go nowhere."""
    device.is_mounted = False
    return Filesystem.mount(device, now_ns, options, report=lambda line: None)


def without_newest_checkpoint(medium: MemoryDevice) -> MemoryDevice:
    """Return a copy whose newer checkpoint region is lost."""
    medium = medium.copy()
    layout = read_superblock(medium)
    newest = read_checkpoints(medium, layout)[0]
    region = layout.checkpoint_offset_bytes[newest.number % 2]
    medium.write(region, [bytes(CHECKPOINT_REGION_BYTES)])
    return medium
