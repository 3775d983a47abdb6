"""A log without a filesystem: a usage table, a writer and a reader over memory."""

from __future__ import annotations

from collections.abc import Sequence

from lfs.common.checksum import checksum
from lfs.device.memory import MemoryDevice
from lfs.device.recording import RecordingDevice
from lfs.ondisk import BLOCK_DATA, Entry, Record, Summary, summary_to_blocks
from lfs.segments import usage_loading
from lfs.segments.reader import LogReader
from lfs.segments.usage import UsageTable
from lfs.segments.writer import LogWriter
from tests.support.volumes import FIRST_SEGMENT_BYTES, superblock

BLOCK_BYTES = 1024
SEGMENT_BLOCKS = 16
SEGMENT_COUNT = 2048
"""So many that runs may have order 3; a power of two, so that the lowest are taken first."""
DEVICE_BYTES = FIRST_SEGMENT_BYTES + SEGMENT_COUNT * SEGMENT_BLOCKS * BLOCK_BYTES + 4096


def usage_table() -> UsageTable:
    """Return a table with all segments withheld."""
    layout = superblock(DEVICE_BYTES, BLOCK_BYTES, SEGMENT_BLOCKS)
    return UsageTable(layout.first_segment_block, SEGMENT_BLOCKS, layout.segment_count, BLOCK_BYTES)


def block(number: int) -> bytes:
    """Return a block that differs from those of other numbers."""
    return number.to_bytes(8, "little") * (BLOCK_BYTES // 8)


class Log:
    """An empty log on a device of its own; nothing is live but what it writes."""

    def __init__(self) -> None:
        """Begin a chain with sequence number 1."""
        self.superblock = superblock(DEVICE_BYTES, BLOCK_BYTES, SEGMENT_BLOCKS)
        self.device = RecordingDevice(MemoryDevice(DEVICE_BYTES))
        self.usage = usage_table()
        usage_loading.finish_loading(self.usage, ())
        self.writer = LogWriter(self.device, self.superblock, self.usage)
        self.reader = LogReader(self.device, self.superblock)
        self.first_address = 0

    def write(
        self,
        head: int,
        blocks: int,
        records: Sequence[Record] = (),
        whole: bool = False,
        expected_blocks: int = 0,
    ) -> Summary:
        """Write as many of ``blocks`` blocks as are granted; returns the summary as read back."""
        record_bytes = sum(19 + len(value or b"") for _, value in records)
        placement = self.writer.reserve(
            head, blocks, record_bytes, 1, None if whole else lambda: 1 << 30, expected_blocks
        )
        buffers = [block(placement.sequence * 1000 + i) for i in range(placement.payload_blocks)]
        checksums = [checksum(buffer) for buffer in buffers]
        entries = [Entry(BLOCK_DATA, 7, 0, 0, checksums)] if blocks else []
        self.first_address = self.first_address or placement.address
        self.writer.emit(placement, entries, buffers, records, 0, 0)
        return self.reader.read_summary(placement.address)

    def chain(self) -> list[Summary]:
        """Return the log from its beginning."""
        return list(self.reader.follow(self.first_address, 1, 0))

    def overwrite(self, summary: Summary, filesystem_id: bytes | None = None) -> None:
        """Put ``summary``, whole and sealed, where it says that it belongs."""
        raw = summary.pack(filesystem_id or self.superblock.filesystem_id)
        padded = summary_to_blocks(raw, summary.summary_blocks, BLOCK_BYTES)
        self.device.write(summary.address * BLOCK_BYTES, [padded])

    def flip(self, address: int, offset: int = 0) -> None:
        """Flip one bit of the block at ``address``."""
        raw = bytearray(self.device.read(address * BLOCK_BYTES, BLOCK_BYTES))
        raw[offset] ^= 1
        self.device.write(address * BLOCK_BYTES, [bytes(raw)])
