"""Verifying file data against the checksums in the windows.

FORMAT.md, "Window".  Extents are gathered into batches, sorted by address and
read in large requests, so that a file scattered over the disk costs no seeks of
its own.  A batch is bounded in blocks and extents, and so is its memory.

Held by ``tests/fsck/test_items.py``.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from fsck.reading.image import Image
from fsck.reading.report import Report
from lfs.common.errors import DamageError, DeviceError
from lfs.ondisk import is_reserved, original_data

BATCH_BYTES = 1 << 30
BATCH_EXTENTS = 1 << 16
READ_BYTES = 1 << 20


class DataExtent(NamedTuple):
    """Blocks to verify: ``checksums`` holds 4 bytes a block; the last ``zero_bytes``
    of the last block are past the file's size.
    """

    address: int
    blocks: int
    ino: int
    file_block: int
    checksums: bytes
    zero_bytes: int


class DataVerifier:
    """Reads what it is given, sooner or later, and reports what does not match."""

    def __init__(self, image: Image, report: Report, total_blocks: int) -> None:
        """Take the image and, for progress only, about how many blocks there are."""
        self._image = image
        self._report = report
        self._total_blocks = total_blocks
        self._extents: list[DataExtent] = []
        self._pending_blocks = 0
        self.block_count = 0

    def add(self, extent: DataExtent) -> None:
        """Take ``extent``, which lies in segments; raises nothing."""
        self._extents.append(extent)
        self._pending_blocks += extent.blocks
        pending_bytes = self._pending_blocks * self._image.block_bytes
        if pending_bytes >= BATCH_BYTES or len(self._extents) >= BATCH_EXTENTS:
            self.finish()

    def finish(self) -> None:
        """Verify everything added so far."""
        self._extents.sort()
        group: list[DataExtent] = []
        group_blocks = 0
        limit = max(1, READ_BYTES // self._image.block_bytes)
        for extent in self._extents:
            adjacent = group and group[-1].address + group[-1].blocks == extent.address
            if group and not (adjacent and group_blocks + extent.blocks <= limit):
                self._verify_group(group, group_blocks)
                group, group_blocks = [], 0
            group.append(extent)
            group_blocks += extent.blocks
        if group:
            self._verify_group(group, group_blocks)
        self.block_count += self._pending_blocks
        if self._extents:
            total = max(self._total_blocks, self.block_count)
            self._report.progress(f"data: {self.block_count} of at most {total} blocks verified")
        self._extents = []
        self._pending_blocks = 0

    def _verify_group(self, group: list[DataExtent], blocks: int) -> None:
        """Verify adjacent extents with one read; block by block if that fails."""
        try:
            raw = self._image.read(group[0].address, blocks)
        except (DamageError, DeviceError):
            for extent in group:
                self._verify_singly(extent)
            return
        offset = 0
        for extent in group:
            self._verify(extent, raw, offset)
            offset += extent.blocks * self._image.block_bytes

    def _verify_singly(self, extent: DataExtent) -> None:
        for index in range(extent.blocks):
            is_last = index == extent.blocks - 1
            block = DataExtent(
                extent.address + index,
                1,
                extent.ino,
                extent.file_block + index,
                extent.checksums[4 * index : 4 * index + 4],
                extent.zero_bytes if is_last else 0,
            )
            try:
                raw = self._image.read(block.address)
            except (DamageError, DeviceError) as error:
                self._add_problem("data-unreadable", block, 0, str(error.strerror))
            else:
                self._verify(block, raw, 0)

    def _verify(self, extent: DataExtent, raw: bytes, offset: int) -> None:
        """Verify ``extent``, whose blocks begin at ``offset`` of ``raw``."""
        size = self._image.block_bytes
        expected = struct.unpack(f"<{extent.blocks}I", extent.checksums)
        stored = raw[offset : offset + extent.blocks * size]
        data, failed = original_data(stored, expected, size)
        for index in failed:
            text = f"expected checksum {expected[index]:#010x}, found another"
            self._add_problem("data-checksum", extent, index, text)
        for index in range(extent.blocks):
            if is_reserved(stored, index * size):
                text = "the block begins like a summary, which data never does"
                self._add_problem("data-reserved", extent, index, text)
        if extent.zero_bytes and extent.blocks - 1 not in failed:
            tail = data[len(data) - extent.zero_bytes :]
            if tail.strip(b"\0"):
                text = f"expected {extent.zero_bytes} zero bytes past the file's size, found others"
                self._add_problem("data-tail", extent, extent.blocks - 1, text)

    def _add_problem(self, code: str, extent: DataExtent, index: int, text: str) -> None:
        address = extent.address + index
        place = f"inode {extent.ino}, file block {extent.file_block + index}, address {address}"
        self._report.add(code, f"{place}: {text}", address, extent.ino)
