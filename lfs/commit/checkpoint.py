"""Checkpoints: the point from which the next mount starts.

Order (docs/design/log-and-commit.md, "Order of writes"): a commit; the nodes of the new
inode map; the usage pages; flush; the checkpoint region;
flush.  A crash anywhere before the region is whole leaves the older checkpoint
and the log after it, which lead to the same tree.

Merging ahead.  Merging all that has changed takes as long as that is much.  So a checkpoint
that nobody waits for merges parts of it first (``lfs.imap.part``), while requests are
served; what came meanwhile and the rest, which is little, is merged at its end.  Parts are
merged while there is room for what they take beside all that is promised, and for all of
it once more: a mount after a crash begins where the last checkpoint was.

Errors.  Nodes and usage pages that can't be written in one place are written in
another.  A region has its place: the same one is tried again, because the other
holds the only checkpoint there is.  A checkpoint mends a broken log, and a second
one follows at once: the older region leads only to where the log broke, so it must
not be what a mount falls back to.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterator
from itertools import chain

from lfs.alloc.delayed.ledger import Ledger
from lfs.commit.commit import Committer
from lfs.commit.merger import Merger
from lfs.common.checksum import checksum
from lfs.common.errors import DamageError, DeviceError, FilesystemError
from lfs.common.turns import Flush, Turn
from lfs.device.reading import ATTEMPTS
from lfs.imap.part import PART_BLOCKS, next_part
from lfs.ondisk import (
    BLOCK_USAGE,
    CHECKPOINT_CLEAN,
    CHECKPOINT_REGION_COUNT,
    HEAD_METADATA,
    KEY_BYTES,
    NO_BLOCK,
    SUMMARY_CHECKPOINT,
    SUPERBLOCK_ALIGN_BYTES,
    Checkpoint,
    Entry,
    Pointer,
    UsagePage,
    pack_usage_page,
)
from lfs.segments.placement import Placement
from lfs.volume.volume import Volume

_LOWEST_KEY = bytes(KEY_BYTES)
_REGION_ATTEMPTS = 3
_PASSES_MAX = 4


class Checkpointer:
    """Writes checkpoints."""

    def __init__(self, volume: Volume, ledger: Ledger, committer: Committer) -> None:
        """Write checkpoints of one volume."""
        self._volume = volume
        self._ledger = ledger
        self._committer = committer
        self._merger = Merger(volume, ledger)
        self.elapsed_ns = 0
        """When the last one was made (``Volume.elapsed``)."""
        self._begun_count = 0
        self._work: Iterator[Flush | None] | None = None
        self.last_clean = False
        self._unread_count = 0
        """How many times in a row a node could not be read."""

    @property
    def dirty(self) -> bool:
        """Tell whether memory holds anything that no commit has logged to where it counts."""
        return self._committer.has_unlogged or self._volume.log.is_broken

    def commit(self, now_ns: int) -> int:
        """Log everything; returns the sequence number that must be flushed for it to last.

        Where the log is broken, everything is durable when this returns.  Raises
        DeviceError; then the last commit counts, and the volume has failed.  Raises
        DamageError where the log is broken and the checkpoint can't be written yet.
        """
        self._committer.log(now_ns)
        if self._volume.log.is_broken:
            self.checkpoint(now_ns)
        return self._volume.log.written_sequence

    def checkpoint(self, now_ns: int, clean: bool = False) -> None:
        """Make everything durable and reachable from a checkpoint region.

        ``clean`` says that nothing will be logged after it.  Raises DeviceError; the
        last commit that was flushed counts then, and the volume has failed.  Raises
        DamageError when a node that changes is damaged or can't be read: the log has
        been flushed, so unless that is broken nothing is lost, and the next checkpoint
        may succeed.  The third time the volume fails, as the log can't be bounded any
        more; and so it does with ENOSPC, when the nodes find no room.
        """
        for flush in self._at_once(now_ns, clean):
            self._volume.await_flush(flush)

    def insist(self, now_ns: int, clean: bool = False) -> None:
        """Write a checkpoint, or try until the volume has failed; raises what it failed of."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self.checkpoint(now_ns, clean)
            except DamageError:
                if self._volume.failed:
                    raise
        return self.checkpoint(now_ns, clean)

    @property
    def busy(self) -> bool:
        """Tell whether ``step`` has begun a checkpoint and not finished it."""
        return self._work is not None

    def step(self, now_ns: int) -> Turn:
        """Make a checkpoint in bounded turns; raises as ``checkpoint``."""
        if self._work is None:
            self._work = self.steps(now_ns)
        try:
            return Turn(True, next(self._work))
        except StopIteration:
            self._work = None
            return Turn(more=True)
        except BaseException:
            self._work = None
            raise

    def steps(self, now_ns: int) -> Iterator[Flush | None]:
        """Make a checkpoint in bounded steps; yields the flushes that it has to wait for.

        Requests may come between steps: the region says what was so before its flush, and
        what they log afterwards follows it.  Should a checkpoint be needed at once, then
        that is made, and this one ends: nothing but what that one writes anew leads to its
        blocks.
        """
        self._begun_count += 1
        mine = self._begun_count
        for _ in chain(self.write_ahead(now_ns), self._merged_ahead(now_ns)):
            yield None
            if self._is_over(mine):
                return
        yield from self._at_once(now_ns, clean=False)

    def write_ahead(self, now_ns: int) -> Iterator[None]:
        """Write most of the dirty data in parts, ahead of a commit; yields after each."""
        return self._committer.write_ahead(now_ns)

    def _is_over(self, mine: int) -> bool:
        """Tell whether the checkpoint that was begun as number ``mine`` is not to be finished."""
        return mine != self._begun_count or self._volume.failed or self._volume.is_closed

    def _merged_ahead(self, now_ns: int) -> Iterator[None]:
        """Merge what has changed part by part, until what is left takes no longer than those."""
        volume = self._volume
        items_max = volume.options.merged_items_max
        for _ in range(_PASSES_MAX):
            start: bytes | None = _LOWEST_KEY
            if len(volume.imap.changes) <= items_max:
                return
            self._committer.log(now_ns)
            yield
            while start is not None:
                # After a crash all of it is merged once more, beside what the parts have taken.
                taken_blocks = self._merger.ahead_blocks + PART_BLOCKS
                if volume.log.is_broken or self._ledger.shortage_blocks(taken_blocks) > 0:
                    return
                try:
                    keys, start = next_part(volume.imap, start, items_max, volume.block_bytes)
                    self._merger.merge_part(keys, now_ns)
                except DamageError:
                    # What is said of it, and done, is for the end.
                    return
                yield

    def _at_once(self, now_ns: int, clean: bool) -> Iterator[Flush]:
        """Make a checkpoint of all that is in memory now; yields its flushes."""
        self._begun_count += 1
        while (yield from self._mends(now_ns, clean)):
            pass

    def _mends(self, now_ns: int, clean: bool) -> Generator[Flush, None, bool]:
        """Write one checkpoint; tell whether the log before it was broken."""
        volume = self._volume
        log = volume.log
        mine = self._begun_count
        self._committer.log(now_ns)
        try:
            rebuilt = self._merger.rebuilt()
        except FilesystemError as error:
            self._note_unread(error)
            raise
        try:
            self._merger.write(rebuilt, now_ns)
            self._write_usage(now_ns)
        except BaseException as error:
            volume.fail(error)
            raise
        sequence = log.written_sequence
        log_blocks = log.blocks_since_checkpoint
        offset_bytes, raw = self._region(now_ns, clean)
        for is_region_written in (False, True):
            if is_region_written:
                self._write_in_place(offset_bytes, raw)
            flush = Flush(sequence)
            yield flush
            if mine != self._begun_count or volume.failed or volume.is_closed:
                return False
            volume.await_flush(flush)
        volume.state.checkpoint_number += 1
        volume.state.sequences = (volume.state.sequences[1], sequence + 1)
        was_broken = log.is_broken
        log.mend()
        volume.flushed(sequence)
        log.blocks_since_checkpoint -= log_blocks
        volume.error_count = self._unread_count = self._merger.ahead_blocks = 0
        self.elapsed_ns = volume.elapsed.ns
        self.last_clean = clean
        return was_broken

    def _note_unread(self, error: FilesystemError) -> None:
        """Go on without a checkpoint for now, or end writing when that is hopeless."""
        volume = self._volume
        # Whatever follows: what was accepted is in the log.
        volume.flush(volume.log.written_sequence)
        self._unread_count += 1
        if isinstance(error, DamageError) and self._unread_count < ATTEMPTS:
            volume.report(f"{error}: no checkpoint could be written, trying again later")
        else:
            volume.fail(error)

    # -------------------------------------------------------------- usage table

    def _write_usage(self, now_ns: int) -> None:
        """Write the usage pages that changed, in as many log writes as it takes.

        They do not count themselves, so that where one goes changes no other.  What
        their own log writes change of runs that they describe is dirty for the next
        checkpoint; a mount finds it out from where the pages lie.
        """
        volume = self._volume
        usage = volume.usage
        indices = sorted(usage.dirty_pages)
        while indices:
            placement = volume.reserve(
                HEAD_METADATA,
                len(indices),
                0,
                len(indices),
                spare_blocks=self._ledger.log_spare_blocks,
            )
            now = indices[: placement.payload_blocks]
            if self._write_pages(now, placement, now_ns):
                indices = indices[len(now) :]
        usage.note_commit(volume.log.written_sequence, volume.log.open_runs())

    def _write_pages(self, indices: list[int], placement: Placement, now_ns: int) -> bool:
        """Write usage pages as one log write; tell whether that could be written."""
        volume = self._volume
        usage = volume.usage
        head = placement.head
        usage.touch_run(usage.run_of(placement.address), placement.sequence)
        blocks = []
        entries = []
        pointers = []
        for address, index in enumerate(indices, placement.payload_address):
            page = UsagePage(
                usage.page_entries(index, volume.state.checkpoint_number + 1),
                placement.sequence,
                head.run_address,
                head.run_blocks,
            )
            raw = pack_usage_page(page, index, volume.filesystem_id, address, volume.block_bytes)
            pointer = Pointer(address, checksum(raw))
            blocks.append(raw)
            pointers.append(pointer)
            entries.append(Entry(BLOCK_USAGE, 0, 0, index, [pointer.checksum]))
        needed_until = volume.state.checkpoint_number + 2
        if not volume.emit(placement, entries, blocks, (), SUMMARY_CHECKPOINT, now_ns):
            for pointer in pointers:
                usage.drop_page(pointer.address, needed_until)
            return False
        for index, pointer in zip(indices, pointers, strict=True):
            before = volume.state.usage_pages[index]
            if before != NO_BLOCK:
                usage.drop_page(before.address, needed_until)
            volume.state.usage_pages[index] = pointer
        return True

    # ------------------------------------------------------------------- region

    def _region(self, now_ns: int, clean: bool) -> tuple[int, bytes]:
        """Return where the next region goes and what it says, as of now."""
        volume = self._volume
        log = volume.log
        imap = volume.imap
        number = volume.state.checkpoint_number + 1
        offset_bytes = volume.superblock.checkpoint_offset_bytes[number % CHECKPOINT_REGION_COUNT]
        record = Checkpoint(
            number=number,
            next_sequence=log.next_sequence,
            next_address=log.next_address,
            previous_checksum=log.previous_checksum,
            flags=CHECKPOINT_CLEAN if clean else 0,
            imap_root=imap.root,
            imap_root_level=imap.root_level,
            next_ino=volume.state.next_ino,
            inode_count=max(0, volume.state.inode_count),
            live_block_count=volume.usage.live_total,
            node_count=imap.node_count,
            time_ns=now_ns,
            usage_pages=tuple(volume.state.usage_pages),
        )
        raw = record.pack(volume.filesystem_id, offset_bytes)
        # Whole sectors, also where they are large.
        length = -(-len(raw) // SUPERBLOCK_ALIGN_BYTES) * SUPERBLOCK_ALIGN_BYTES
        return offset_bytes, raw.ljust(length, b"\0")

    def _write_in_place(self, offset_bytes: int, raw: bytes) -> None:
        """Write a region, several times if need be; the volume fails if none succeeds."""
        volume = self._volume
        for attempt in range(1, _REGION_ATTEMPTS + 1):
            try:
                volume.device.write(offset_bytes, [raw])
            except DeviceError as error:
                if error.errno != errno.EIO or attempt == _REGION_ATTEMPTS:
                    volume.fail(error)
                    raise
                volume.report(f"{error}: writing the checkpoint region again")
            except BaseException as error:
                volume.fail(error)
                raise
            else:
                return
