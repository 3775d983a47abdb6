"""Where a disk has its checkpoints, for the tests that damage what they need."""

from __future__ import annotations

from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.device.memory import MemoryDevice
from lfs.ondisk import Checkpoint
from tests.support.disks import Disk


def regions(medium: MemoryDevice) -> list[int]:
    """Return the byte offsets of the checkpoint regions, that of the newer one first."""
    superblock = read_superblock(medium)
    offsets = superblock.checkpoint_offset_bytes
    newest = read_checkpoints(medium, superblock)[0]
    return [offsets[newest.number % 2], offsets[(newest.number + 1) % 2]]


def newest_checkpoint(disk: Disk) -> Checkpoint:
    return read_checkpoints(disk.medium, disk.superblock)[0]
