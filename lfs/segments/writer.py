"""Appending log writes to the chain.

Theory.  Every log write says where the next one will begin.  The writer keeps
that promise: each open run keeps one block at its end, so that there is always
room at the promised place for at least a *jump*, a summary whose only purpose
is to lead somewhere else.

Use: ``reserve`` finds a place and fixes addresses and sequence number, so that
metadata that points into the payload can be built; ``emit`` writes.  Nothing may
come between the two.  Nothing is durable before the device is flushed.

Errors.  Where a write fails, the promise can't be kept: no later log write can be
reached from the last checkpoint, the chain is *broken*.  Its run is given up, a new
chain begins in other segments with the next sequence number, and until a new
checkpoint leads there (``mend``) nothing from the failed log write on counts as
flushed: neither is a run reused nor does a summary say so, from which roll-forward
would take the break for damage.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from lfs.common.errors import DeviceError, FilesystemError
from lfs.device.base import BlockDevice, Buffer
from lfs.device.closed import ClosedDevice
from lfs.ondisk import (
    BLOCK_USAGE,
    HEAD_BULK,
    HEAD_COUNT,
    HEAD_MAIN,
    SUMMARY_HEADER_BYTES,
    SUMMARY_JUMP,
    Change,
    EntryFields,
    Superblock,
    pack_summary,
    summary_checksum,
    summary_room_bytes,
    summary_to_blocks,
)
from lfs.segments.placement import Fit, Head, Placement, front_area
from lfs.segments.usage import UsageTable
from lfs.segments.write_bound import worth_blocks

_PAYLOAD_BLOCKS_MAX = 4096
_RECORD_BLOCKS_MAX = 256


class LogWriter:
    """The end of the log."""

    def __init__(
        self,
        device: BlockDevice,
        superblock: Superblock,
        usage: UsageTable,
    ) -> None:
        """Append for the filesystem of ``superblock``; ``start`` sets where."""
        self._device = device
        self._superblock = superblock
        self._usage = usage
        self._heads: list[Head | None] = [None] * HEAD_COUNT
        self._promised: Head | None = None
        self._worth_blocks = worth_blocks(superblock.segment_blocks)
        self.next_address = 0
        self.next_sequence = 1
        self.previous_checksum = 0
        self.flushed_sequence = 0
        self.blocks_since_checkpoint = 0
        self._broken_sequence: int | None = None

    # ----------------------------------------------------------------- starting

    def start(self, next_sequence: int, next_address: int, previous_checksum: int) -> None:
        """Continue a chain at ``next_address``, or begin one anywhere when that is 0."""
        self.next_sequence = next_sequence
        self.next_address = next_address
        self.previous_checksum = previous_checksum
        self.flushed_sequence = next_sequence - 1

    def resume(self, head: Head) -> None:
        """Tell which run the promised place lies in; interleaved ones are filled further.

        Commits go there too while there is room: the first one after a mount
        needs neither a jump nor a run of its own.
        """
        assert head.summary_next == self.next_address
        head.written_sequence = self._usage.last_sequence(self._usage.run_of(head.run_address))
        self._promised = head
        if head.number != HEAD_BULK:
            self._heads[head.number] = self._heads[HEAD_MAIN] = head

    def close(self) -> None:
        """Write nothing any more: whoever tries gets EBADF."""
        self._device = ClosedDevice(self._device.size_bytes)

    # ------------------------------------------------------------------- places

    @property
    def written_sequence(self) -> int:
        """Return the sequence number of the last log write."""
        return self.next_sequence - 1

    def open_runs(self) -> list[int]:
        """Return the first segments of the runs that may still be written to."""
        heads = [head for head in (*self._heads, self._promised) if head is not None]
        return [self._usage.segment_of(head.run_address) for head in heads]

    def record_bytes_max(self, number: int) -> int:
        """Return how many bytes of records fill the open run of a head, or a fresh segment."""
        head = self._heads[number]
        room_blocks = head.summary_room if head else 0
        if room_blocks < 2:
            room_blocks = self._superblock.segment_blocks - 1
        room_blocks = min(room_blocks, _RECORD_BLOCKS_MAX)
        room_bytes = summary_room_bytes(room_blocks, self._superblock.block_bytes)
        return room_bytes - SUMMARY_HEADER_BYTES

    def reserve(
        self,
        number: int,
        payload_blocks: int,
        record_bytes: int,
        extent_count: int,
        spare_blocks: Callable[[], int] | None = None,
        expected_blocks: int = 0,
    ) -> Placement:
        """Find a place for up to ``payload_blocks`` blocks on log head ``number``.

        ``record_bytes`` and ``extent_count`` bound what the summary must hold
        beside checksums.  All blocks get a place in this one log write, unless
        ``spare_blocks`` is given: it tells how many clean ones may go into a run beyond
        what is needed now, so that it has room for ``expected_blocks``.
        Raises FilesystemError(ENOSPC) when no segment is clean, which the ledger
        prevents.
        """
        whole = spare_blocks is None
        wanted = payload_blocks if whole else min(payload_blocks, _PAYLOAD_BLOCKS_MAX)
        fit = Fit(self._superblock.block_bytes, wanted, record_bytes, extent_count)
        head = self._heads[number]
        summary_blocks, granted = fit.into(head) if head else (0, -1)
        if (
            head is None
            or granted < 0
            or (granted < wanted and (whole or granted < self._worth_blocks))
        ):
            head = self._open(number, expected_blocks, fit, spare_blocks)
            summary_blocks, granted = fit.into(head)
            if granted < 0 or (whole and granted < wanted) or (wanted and not granted):
                raise FilesystemError(errno.ENOSPC, "log write larger than any clean run")
        if self._promised is not None and self.next_address != head.summary_next:
            self._jump(head)
        address = head.summary_next
        payload_address = head.payload_next or address + summary_blocks
        return Placement(
            head, self.next_sequence, address, summary_blocks, payload_address, granted
        )

    def _open(
        self, number: int, expected_blocks: int, fit: Fit, spare_blocks: Callable[[], int] | None
    ) -> Head:
        """Open a new run for a head, large enough for what is wanted and expected.

        While there is nothing to spare it is no larger than what is wanted now; what is
        to be written whole is promised to fit into a segment.
        """
        needed_segments = self._segments_for(number, fit.wanted_blocks, fit)
        most_segments = self._segments_for(number, max(fit.wanted_blocks, expected_blocks), fit)
        order = min((most_segments - 1).bit_length(), self._usage.order_max)
        excess_segments = (1 << order) - needed_segments
        if excess_segments > 0:
            excess_blocks = excess_segments * self._superblock.segment_blocks
            if spare_blocks and excess_blocks > spare_blocks():
                order = needed_segments.bit_length() - 1
        return self._start_run(number, self._usage.open_run(order, self.next_sequence), fit)

    def _segments_for(self, number: int, payload_blocks: int, fit: Fit) -> int:
        """Return how many segments a new run must have for so much payload."""
        needed = payload_blocks + fit.summary_blocks(payload_blocks) + 1
        if number == HEAD_BULK:
            needed = payload_blocks + front_area(payload_blocks, fit)
        return -(-needed // self._superblock.segment_blocks)

    def room_blocks(self, number: int) -> int:
        """Return what a log write may take of the open run of a head, 0 if there is none."""
        head = self._heads[number]
        return head.summary_room if head and not head.payload_next else 0

    def _start_run(self, number: int, run: int | None, fit: Fit) -> Head:
        if run is None:
            raise FilesystemError(errno.ENOSPC, "no clean segment left")
        address = self._usage.address_of(run)
        blocks = self._usage.run_blocks(run)
        head = Head(number, address, blocks, 0, address, address + blocks)
        if number == HEAD_BULK:
            head.summary_end = head.payload_next = address + front_area(blocks, fit)
        before = self._heads[number]
        self._heads[number] = head
        self._leave(before)
        return head

    def _leave(self, head: Head | None) -> None:
        """Let the host have no hole in a run that is filled no more.

        It may be needed again when the host has no room.  The chain must not lead there.
        What is longer than a segment stays: filling it would keep requests waiting.
        """
        if head is None or head in self._heads or head is self._promised:
            return
        block_bytes = self._superblock.block_bytes
        for start, end in (
            (head.summary_next, head.summary_end),
            (head.payload_next or head.run_end, head.run_end),
        ):
            if 0 < end - start <= self._superblock.segment_blocks:
                self._device.keep_room(start * block_bytes, (end - start) * block_bytes)

    def open_front(self, order: int) -> int:
        """Open a run of 2**order segments for the bulk head, larger than usual if need be.

        The caller has seen that it is free, and that there is space to spare.  Returns
        its address.
        """
        run = self._usage.open_large_run(order, self.next_sequence)
        return self._start_run(HEAD_BULK, run, self._plain_fit()).run_address

    def has_front_room(self, address: int, payload_blocks: int, extent_count: int) -> bool:
        """Tell whether the bulk head fills the run at ``address`` and has room there."""
        head = self._heads[HEAD_BULK]
        if head is None or head.run_address != address:
            return False
        fit = Fit(self._superblock.block_bytes, payload_blocks, 0, extent_count)
        return fit.into(head)[1] == payload_blocks

    def front_payload_blocks(self, order: int) -> int:
        """Return how many blocks of data such a run has room for."""
        blocks = self._superblock.segment_blocks << order
        return blocks - front_area(blocks, self._plain_fit())

    def _plain_fit(self) -> Fit:
        return Fit(self._superblock.block_bytes, 0, 0, 1)

    def close_large(self) -> None:
        """Let a large run be filled no more, so that it can be emptied."""
        head = self._heads[HEAD_BULK]
        if head and self._usage.segment_of(head.run_address) in self._usage.large_runs:
            self._heads[HEAD_BULK] = None

    # ------------------------------------------------------------------ writing

    def _jump(self, target: Head) -> None:
        """Lead the chain from the promised place to where ``target`` goes on."""
        head = self._promised
        assert head is not None
        assert head.summary_next == self.next_address
        placement = Placement(head, self.next_sequence, head.summary_next, 1, head.summary_next, 0)
        head.summary_next += 1
        self._write(placement, (), (), (), SUMMARY_JUMP, 0, target.summary_next, 0)
        self._promised = target
        self._leave(head)

    def emit(
        self,
        placement: Placement,
        entries: Sequence[EntryFields],
        buffers: Sequence[Buffer],
        records: Sequence[Change],
        flags: int,
        time_ns: int,
    ) -> None:
        """Write the log write that ``placement`` was reserved for.

        ``buffers`` hold whole blocks, at most as many as were granted, in the
        order of ``entries``; their blocks are counted as live.  Raises DeviceError;
        the run is given up then and the chain is broken, but the blocks are still
        counted there until they get another place.
        """
        head = placement.head
        blocks = 0
        for _, _, _, _, checksums in entries:
            blocks += len(checksums)
        assert blocks <= placement.payload_blocks
        assert placement.sequence == self.next_sequence
        if head.payload_next:
            head.summary_next += placement.summary_blocks
            head.payload_next += blocks
        else:
            head.summary_next += placement.summary_blocks + blocks
        if not head.run_sequence:
            head.run_sequence = placement.sequence
        if blocks and entries[0][0] == BLOCK_USAGE:
            self._usage.add_pages(placement.payload_address, blocks)
        elif blocks:
            self._usage.add_live(placement.payload_address, blocks)
        self._promised = head
        self._write(placement, entries, buffers, records, flags, time_ns, head.summary_next, blocks)

    def _write(
        self,
        placement: Placement,
        entries: Sequence[EntryFields],
        buffers: Sequence[Buffer],
        records: Sequence[Change],
        flags: int,
        time_ns: int,
        next_address: int,
        payload_blocks: int,
    ) -> None:
        head = placement.head
        block_bytes = self._superblock.block_bytes
        # By position, which is faster: in the order of FORMAT.md.
        raw = pack_summary(
            self._superblock.filesystem_id,
            placement.sequence,
            placement.address,
            next_address,
            head.run_address,
            head.run_sequence,
            head.summary_next,
            placement.payload_address,
            payload_blocks,
            placement.summary_blocks,
            self.previous_checksum,
            self.flushed_sequence,
            head.run_blocks,
            head.number,
            flags,
            time_ns,
            entries,
            records,
        )
        padded = summary_to_blocks(raw, placement.summary_blocks, block_bytes)
        self._usage.touch_run(self._usage.segment_of(head.run_address), placement.sequence)
        self.previous_checksum = summary_checksum(raw)
        self.next_sequence += 1
        self.next_address = next_address
        self.blocks_since_checkpoint += placement.summary_blocks + payload_blocks
        try:
            self._write_blocks(placement, padded, buffers)
        except DeviceError:
            self._give_up(placement, payload_blocks)
            raise
        head.written_sequence = placement.sequence

    def _write_blocks(
        self, placement: Placement, summary: bytes, buffers: Sequence[Buffer]
    ) -> None:
        block_bytes = self._superblock.block_bytes
        summary_end = placement.address + placement.summary_blocks
        if not buffers or placement.payload_address == summary_end:
            self._device.write(placement.address * block_bytes, [summary, *buffers])
        else:
            self._device.write(placement.payload_address * block_bytes, buffers)
            self._device.write(placement.address * block_bytes, [summary])

    def flushed(self, sequence: int) -> None:
        """Note that the device was flushed after log write ``sequence``."""
        if self._broken_sequence is not None:
            sequence = min(sequence, self._broken_sequence - 1)
        self.flushed_sequence = max(self.flushed_sequence, sequence)

    # ------------------------------------------------------------------- errors

    @property
    def is_broken(self) -> bool:
        """Tell whether no checkpoint leads to what is written now."""
        return self._broken_sequence is not None

    def mend(self) -> None:
        """Note that a checkpoint is durable that leads to the end of the log."""
        self._broken_sequence = None

    def _give_up(self, placement: Placement, payload_blocks: int) -> None:
        """Use the run where a log write failed no more, and begin a new chain elsewhere.

        Other open runs are filled further: what leads from one of their summaries to
        the next is not the chain.
        """
        failed = placement.head
        blocks = {*range(placement.address, placement.address + placement.summary_blocks)}
        blocks.update(range(placement.payload_address, placement.payload_address + payload_blocks))
        segments = {self._usage.segment_of(block) for block in blocks}
        run = self._usage.segment_of(failed.run_address)
        self._usage.give_up(run, segments, failed.written_sequence)
        for number, head in enumerate(self._heads):
            if head is not None and head.run_address == failed.run_address:
                self._heads[number] = None
        self._promised = None
        self.next_address = self.previous_checksum = 0
        if self._broken_sequence is None:
            self._broken_sequence = placement.sequence
