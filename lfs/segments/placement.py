"""Where a log write goes: the open runs, and what fits into one.

Theory.  Runs come in two layouts.  *Interleaved*: each summary is followed by its payload,
one device request for a small commit.  *Front*: the summaries share the first blocks of the
run, and the payloads follow each other without a gap, for contiguous large files.

Held by ``tests/segments/test_writer.py``.
"""

from __future__ import annotations

from lfs.common.checksum import CHECKSUM_BYTES
from lfs.ondisk import ENTRY_BYTES, SUMMARY_HEADER_BYTES, summary_blocks

BULK_BLOCKS = 256
"""Extents of at least this many blocks go to the bulk head."""

_FRONT_BLOCKS_PER_SUMMARY_BLOCK = 192


class Head:
    """An open run and how far it has been filled.  ``payload_next`` 0 means interleaved."""

    __slots__ = (
        "number",
        "payload_next",
        "run_address",
        "run_blocks",
        "run_sequence",
        "summary_end",
        "summary_next",
        "written_sequence",
    )

    def __init__(
        self,
        number: int,
        run_address: int,
        run_blocks: int,
        run_sequence: int,
        summary_next: int,
        summary_end: int,
        payload_next: int = 0,
    ) -> None:
        """Fill the run of head ``number`` from ``summary_next`` on."""
        self.number = number
        self.run_address = run_address
        self.run_blocks = run_blocks
        self.run_sequence = run_sequence
        self.summary_next = summary_next
        self.summary_end = summary_end
        self.payload_next = payload_next
        self.written_sequence = 0
        """The last log write that the device took into this run; 0 if there is none."""

    @property
    def run_end(self) -> int:
        """Return the address one past the run."""
        return self.run_address + self.run_blocks

    @property
    def summary_room(self) -> int:
        """Return the blocks a summary (and an interleaved payload) may take."""
        return self.summary_end - self.summary_next - 1


class Placement:
    """Where the next log write goes: fixed by ``reserve``, used up by ``emit``."""

    __slots__ = (
        "address",
        "head",
        "payload_address",
        "payload_blocks",
        "sequence",
        "summary_blocks",
    )

    def __init__(
        self,
        head: Head,
        sequence: int,
        address: int,
        summary_blocks: int,
        payload_address: int,
        payload_blocks: int,
    ) -> None:
        """Let log write ``sequence`` go to these addresses of the run of ``head``."""
        self.head = head
        self.sequence = sequence
        self.address = address
        self.summary_blocks = summary_blocks
        self.payload_address = payload_address
        self.payload_blocks = payload_blocks


class Fit:
    """A log write that looks for room: what its summary must hold, what it would carry."""

    __slots__ = ("block_bytes", "extent_count", "record_bytes", "wanted_blocks")

    def __init__(
        self, block_bytes: int, wanted_blocks: int, record_bytes: int, extent_count: int
    ) -> None:
        """Look for ``wanted_blocks`` of payload, and what the summary has besides checksums."""
        self.block_bytes = block_bytes
        self.wanted_blocks = wanted_blocks
        self.record_bytes = record_bytes
        self.extent_count = extent_count

    def summary_blocks(self, payload_blocks: int) -> int:
        """Return the blocks that a summary for this much payload takes."""
        extent_count = min(self.extent_count, payload_blocks)
        entry_bytes = ENTRY_BYTES * extent_count + CHECKSUM_BYTES * payload_blocks
        length = SUMMARY_HEADER_BYTES + entry_bytes + self.record_bytes
        return 1 if length <= self.block_bytes else summary_blocks(length, self.block_bytes)

    def into(self, head: Head) -> tuple[int, int]:
        """Return the blocks of summary and payload that fit into ``head``; -1 if none do."""
        room_blocks = head.summary_end - head.summary_next - 1
        if head.payload_next:
            payload = min(self.wanted_blocks, head.run_end - head.payload_next)
            summary = self.summary_blocks(payload)
            return (summary, payload) if summary <= room_blocks else (0, -1)
        payload = min(self.wanted_blocks, room_blocks)
        summary = self.summary_blocks(payload)
        payload = min(payload, room_blocks - summary)
        return (summary, payload) if payload >= 0 else (0, -1)


def front_area(run_blocks: int, fit: Fit) -> int:
    """Return the blocks for summaries: of one log write that fills a run, or many smaller ones."""
    smaller = -(
        -(SUMMARY_HEADER_BYTES + ENTRY_BYTES + CHECKSUM_BYTES * BULK_BLOCKS) // fit.block_bytes
    )
    many_blocks = run_blocks // _FRONT_BLOCKS_PER_SUMMARY_BLOCK * smaller
    return max(fit.summary_blocks(run_blocks), many_blocks) + 2
