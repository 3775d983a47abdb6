"""Reading log writes: one summary, a run from front to back, the chain in order.

The reader trusts nothing: a place either holds a whole summary of this
filesystem or ``DamageError`` says why not.  It never decides what a missing
summary means; roll-forward and the cleaner do.
"""

from __future__ import annotations

from collections.abc import Iterator

from lfs.common.errors import DamageError, UnreadableError
from lfs.device.base import BlockDevice
from lfs.device.reading import ATTEMPTS, read_or_damage
from lfs.ondisk import (
    SUMMARY_MAGIC,
    Summary,
    Superblock,
    original_data,
    summary_blocks,
    summary_from_blocks,
)

VERIFY_BLOCKS = 1024
_SEARCH_BYTES = 1 << 20


class LogReader:
    """Reads summaries and verifies payloads of one filesystem's log."""

    def __init__(self, device: BlockDevice, superblock: Superblock) -> None:
        """Take the device and the superblock that gives geometry and identity."""
        self._device = device
        self._superblock = superblock

    def read_summary(self, address: int) -> Summary:
        """Return the summary at ``address``; raises DamageError when there is none."""
        superblock = self._superblock
        block_bytes = superblock.block_bytes
        if not superblock.first_segment_block <= address < superblock.end_block:
            raise DamageError(f"summary at {address}: outside the segments")
        raw = self._read(address, 1)
        length = Summary.peek_bytes(raw, superblock.filesystem_id, address)
        blocks = summary_blocks(length, block_bytes)
        if address + blocks > superblock.end_block:
            raise DamageError(f"summary at {address}: longer than the device")
        if blocks > 1:
            rest = self._read(address + 1, blocks - 1)
            raw += rest
        raw = summary_from_blocks(raw, length, block_bytes, address)
        summary = Summary.unpack(raw, superblock.filesystem_id, address)
        self._check_place(summary)
        return summary

    def _read(self, address: int, count: int) -> bytes:
        """Return blocks of the log as they are; raises UnreadableError."""
        return read_or_damage(
            self._device, address, count, self._superblock.block_bytes, "log blocks"
        )

    def _check_place(self, summary: Summary) -> None:
        """Raise DamageError unless everything the summary names lies inside its run."""
        superblock = self._superblock
        start, end = summary.run_address, summary.run_address + summary.run_blocks
        inside = (
            superblock.first_segment_block <= start < end <= superblock.end_block
            and start <= summary.address
            and summary.address + summary.summary_blocks <= end
            and start <= summary.payload_address
            and summary.payload_address + summary.payload_blocks <= end
            and start <= summary.run_next_address <= end
            and summary.summary_blocks >= 1
        )
        if not inside:
            raise DamageError(f"summary at {summary.address}: not inside its run")

    def possible_summaries(self, address: int, end: int) -> Iterator[int]:
        """Yield, in order, each block from ``address`` up to ``end`` that may begin a summary.

        Nearly none does, so many are read at once; what can't be read may.
        """
        block_bytes = self._superblock.block_bytes
        step = _SEARCH_BYTES // block_bytes
        for start in range(address, end, step):
            count = min(step, end - start)
            try:
                raw = self._read(start, count)
            except UnreadableError:
                yield from range(start, start + count)
                continue
            for index in range(count):
                if raw.startswith(SUMMARY_MAGIC, index * block_bytes):
                    yield start + index

    def payload_holds(self, summary: Summary) -> bool:
        """Tell whether every payload block has the checksum its entry says.

        What does not is read again: a single wrong answer must not end a log.
        """
        expected = [value for entry in summary.entries for value in entry.checksums]
        for start in range(0, len(expected), VERIFY_BLOCKS):
            batch = expected[start : start + VERIFY_BLOCKS]
            address = summary.payload_address + start
            if not any(self._holds(address, batch) for _ in range(ATTEMPTS)):
                return False
        return True

    def _holds(self, address: int, expected: list[int]) -> bool:
        try:
            raw = self._read(address, len(expected))
        except UnreadableError:
            return False
        return not original_data(raw, expected, self._superblock.block_bytes)[1]

    def walk_run(self, run_address: int, last_sequence: int) -> Iterator[Summary]:
        """Yield the summaries of the run at ``run_address`` up to ``last_sequence``.

        Raises DamageError when it ends before a summary with ``last_sequence``
        was seen: then the owners of some blocks are unknown.
        """
        address = run_address
        sequence = 0
        run_sequence = None
        while sequence < last_sequence:
            summary = self.read_summary(address)
            if run_sequence is None:
                run_sequence = summary.sequence
            proper = (
                summary.run_address == run_address
                and summary.run_sequence == run_sequence
                and sequence < summary.sequence <= last_sequence
            )
            if not proper:
                raise DamageError(
                    f"summary at {address}: log write {summary.sequence} of run "
                    f"{summary.run_sequence} instead of one after {sequence} of {run_sequence}"
                )
            yield summary
            sequence = summary.sequence
            address = summary.run_next_address

    def follow(self, address: int, sequence: int, previous_checksum: int) -> Iterator[Summary]:
        """Yield the chain from the log write ``sequence`` promised at ``address``.

        Ends at the first place that does not hold the summary the chain demands;
        payloads are not looked at.
        """
        while True:
            summary = self.read_again(address)
            if summary is None or summary.sequence != sequence:
                return
            if summary.previous_checksum != previous_checksum:
                return
            yield summary
            address = summary.next_address
            sequence += 1
            previous_checksum = summary.checksum

    def read_again(self, address: int) -> Summary | None:
        """Return the summary at ``address``, or None when several tries find none."""
        for _ in range(ATTEMPTS):
            try:
                return self.read_summary(address)
            except DamageError:
                continue
        return None

    def torn(self, address: int, sequence: int) -> str | None:
        """Say why what begins like log write ``sequence`` at ``address`` is none.

        None when nothing does; what can't be read may.
        """
        try:
            raw = self._read(address, 1)
            if not raw.startswith(SUMMARY_MAGIC):
                return None
            summary = self.read_summary(address)
        except DamageError as error:
            return str(error)
        if summary.sequence == sequence and not self.payload_holds(summary):
            return f"summary at {address}: its data is not whole"
        return None
