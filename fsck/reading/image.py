"""Reading blocks of the filesystem under check, with every address distrusted.

Held by ``tests/fsck/test_structure.py``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

from lfs.common.checksum import checksum
from lfs.common.errors import DamageError
from lfs.device.base import BlockDevice
from lfs.ondisk import Pointer, Summary, Superblock, summary_blocks, summary_from_blocks


class Image:
    """A device and the superblock that was chosen for it."""

    def __init__(self, device: BlockDevice, superblock: Superblock) -> None:
        """Take ``device`` and its ``superblock``, whose geometry fits the device."""
        self.device = device
        self.superblock = superblock
        self.filesystem_id = superblock.filesystem_id
        self.block_bytes = superblock.block_bytes
        self.segment_blocks = superblock.segment_blocks
        self.first_block = superblock.first_segment_block
        self.end_block = superblock.end_block

    def is_in_segments(self, address: int, count: int = 1) -> bool:
        """Tell whether ``count`` blocks from ``address`` lie in segments."""
        return self.first_block <= address and address + count <= self.end_block

    def read(self, address: int, count: int = 1) -> bytes:
        """Return ``count`` blocks; raises DamageError outside the segments, DeviceError."""
        if not self.is_in_segments(address, count):
            raise DamageError(
                f"address {address}: expected {count} blocks within "
                f"{self.first_block} to {self.end_block - 1}"
            )
        return self.device.read(address * self.block_bytes, count * self.block_bytes)

    def read_verified(self, pointer: Pointer) -> bytes:
        """Return the block of ``pointer``; raises DamageError on a mismatch, DeviceError."""
        raw = self.read(pointer.address)
        found = checksum(raw)
        if found != pointer.checksum:
            raise DamageError(
                f"block {pointer.address}: expected checksum {pointer.checksum:#010x}, "
                f"found {found:#010x}"
            )
        return raw

    def read_summary(self, address: int) -> Summary:
        """Return the summary at ``address``; raises DamageError when there is none, DeviceError."""
        first = self.read(address)
        length = Summary.peek_bytes(first, self.filesystem_id, address)
        blocks = summary_blocks(length, self.block_bytes)
        raw = first if blocks == 1 else first + self.read(address + 1, blocks - 1)
        raw = summary_from_blocks(raw, length, self.block_bytes, address)
        return Summary.unpack(raw, self.filesystem_id, address)

    def segment(self, address: int) -> int:
        """Return the segment that holds ``address``."""
        return (address - self.first_block) // self.segment_blocks

    def segment_address(self, segment: int) -> int:
        """Return the first block of ``segment``."""
        return self.first_block + segment * self.segment_blocks


class Run(NamedTuple):
    """A run in use: its segments, live blocks (usage table) and youngest log write."""

    first_segment: int
    segment_count: int
    live_blocks: int
    last_sequence: int


class RunTable:
    """The runs in use, in order of their segments, in compact columns."""

    def __init__(self) -> None:
        """Start without runs."""
        self.first_segments = array("Q")
        self.segment_counts = array("Q")
        self.live_blocks = array("Q")
        self.last_sequences = array("Q")

    def __len__(self) -> int:
        return len(self.first_segments)

    def __getitem__(self, index: int) -> Run:
        return Run(
            self.first_segments[index],
            self.segment_counts[index],
            self.live_blocks[index],
            self.last_sequences[index],
        )

    def append(self, run: Run) -> None:
        """Add ``run``, which lies behind all others."""
        self.first_segments.append(run.first_segment)
        self.segment_counts.append(run.segment_count)
        self.live_blocks.append(run.live_blocks)
        self.last_sequences.append(run.last_sequence)

    def find(self, segment: int) -> int | None:
        """Return the index of the run that holds ``segment``, or None if it is clean."""
        index = bisect_right(self.first_segments, segment) - 1
        if index < 0 or segment >= self.first_segments[index] + self.segment_counts[index]:
            return None
        return index

    def has_live_blocks(self, segment: int) -> bool:
        """Tell whether ``segment`` is in a run that the usage table says has live blocks."""
        index = self.find(segment)
        return index is not None and self.live_blocks[index] > 0
