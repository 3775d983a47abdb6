"""Filesystems that lack one safeguard, to prove that the explorer would miss it.

Every barrier of "Order of writes" (docs/design/log-and-commit.md), every checksum that a
mount or a read looks at, and every reservation has its canary.  A canary is a
function that takes the safeguard out by patching; ``test_canaries`` names the
exploration that catches it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from fsck.reading.report import Report
from lfs.alloc import margins as margins_module
from lfs.alloc.delayed import ledger as ledger_module
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.write_out import UnplacedExtent
from lfs.alloc.dirty import DirtyData
from lfs.alloc.margins import cleaner_segments
from lfs.commit import checkpoint as checkpoint_module
from lfs.commit.checkpoint import Checkpointer
from lfs.commit.commit import Committer
from lfs.commit.log_end import LogEnd
from lfs.commit.recovery import Recovery
from lfs.commit.roll_forward import RollForward
from lfs.common.errors import DamageError
from lfs.common.turns import Flush, Turn
from lfs.filesystem import Filesystem
from lfs.mounting import Mount
from lfs.ondisk import SUMMARY_COMMIT, Pointer, Summary
from lfs.ondisk import checkpoint as ondisk_checkpoint
from lfs.ondisk import summary as ondisk_summary
from lfs.ondisk import superblock as ondisk_superblock
from lfs.segments.cleaning import defragment as defragment_module
from lfs.segments.cleaning import rounds as rounds_module
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.defragment import Defragmenter
from lfs.segments.cleaning.moving import Failure, Mover, Piece
from lfs.segments.cleaning.rounds import Rounds
from lfs.segments.reader import LogReader
from lfs.segments.usage import UsageTable
from lfs.segments.writer import LogWriter
from lfs.volume.volume import Volume

Patch = Callable[[Any, str, Any], None]
Canary = Callable[[Patch], None]

CANARIES: dict[str, Canary] = {}
"""Canaries by the name of the safeguard that they lack."""


def _canary(name: str) -> Callable[[Canary], Canary]:
    def register(function: Canary) -> Canary:
        CANARIES[name] = function
        return function

    return register


@contextmanager
def installed(name: str) -> Iterator[None]:
    """Take out the safeguard called ``name``."""
    with ExitStack() as stack:

        def patch(owner: Any, attribute: str, replacement: Any) -> None:
            stack.enter_context(mock.patch.object(owner, attribute, replacement))

        CANARIES[name](patch)
        yield


# ----------------------------------------------------------------------- barriers


def _skip_flushes(
    patch: Patch, owner: type, method: str, skipped: Callable[[int], bool], outside: str = ""
) -> None:
    """Let some of the flushes that ``method`` asks for not reach the device.

    ``skipped`` takes the number of the flush within one call, from 1.  Flushes in
    calls of the checkpointer's method ``outside`` count for none.
    """
    numbers: list[int] = []
    whole_method = getattr(owner, method)
    whole_flush = Volume.flush

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        numbers.append(0)
        try:
            return whole_method(self, *arguments, **options)
        finally:
            numbers.pop()

    def flush(self: Volume, sequence: int) -> None:
        if numbers:
            numbers[-1] += 1
            if skipped(numbers[-1]):
                self.flushed(sequence)
                return
        whole_flush(self, sequence)

    patch(owner, method, counted)
    patch(Volume, "flush", flush)
    if outside:
        whole_outside = getattr(Checkpointer, outside)

        def uncounted(self: Any, *arguments: Any, **options: Any) -> Any:
            kept, numbers[:] = numbers[:], []
            try:
                return whole_outside(self, *arguments, **options)
            finally:
                numbers[:] = kept

        patch(Checkpointer, outside, uncounted)


class _OwnFlush(Flush):
    """A flush that one part of the core asks for, and no checkpoint."""


def _skip_flushes_of_turns(patch: Patch, module: Any, owner: type) -> None:
    """Let the flushes that turns of ``owner`` end with not reach the device."""
    whole_step: Any = owner.step  # type: ignore[attr-defined]

    def step(self: Any, now_ns: int) -> Turn:
        turn: Turn = whole_step(self, now_ns)
        if not isinstance(turn.flush, _OwnFlush):
            return turn
        self._volume.flushed(turn.flush.sequence)
        turn.flush.done = True
        return Turn(turn.more)

    patch(module, "Flush", _OwnFlush)
    patch(owner, "step", step)


@_canary("flush in sync")
def _sync(patch: Patch) -> None:
    _skip_flushes(patch, Filesystem, "sync", lambda number: True)


@_canary("flush before the checkpoint region")
def _before_region(patch: Patch) -> None:
    _skip_flushes(patch, Checkpointer, "checkpoint", lambda number: number == 1)


@_canary("flush after the checkpoint region")
def _after_region(patch: Patch) -> None:
    _skip_flushes(patch, Checkpointer, "checkpoint", lambda number: number == 2)


@_canary("flush at mount")
def _at_mount(patch: Patch) -> None:
    _skip_flushes(patch, Mount, "begin", lambda number: number == 1, "checkpoint")


@_canary("flush when the cleaner makes room")
def _in_cleaner(patch: Patch) -> None:
    _skip_flushes(patch, Cleaner, "make_room", lambda number: True, "checkpoint")


@_canary("flush when the cleaner works in the background")
def _in_step(patch: Patch) -> None:
    _skip_flushes_of_turns(patch, rounds_module, Cleaner)


@_canary("second checkpoint at mount")
def _second_checkpoint(patch: Patch) -> None:
    whole_begin, whole_checkpoint = Mount.begin, Checkpointer.checkpoint
    counts: list[int] = []

    def begin(self: Mount, recovery: Recovery, now_ns: int) -> None:
        counts.append(0)
        try:
            whole_begin(self, recovery, now_ns)
        finally:
            counts.pop()

    def checkpoint(self: Checkpointer, now_ns: int, clean: bool = False) -> None:
        if counts:
            counts[-1] += 1
            if counts[-1] == 2:
                return
        whole_checkpoint(self, now_ns, clean)

    patch(Mount, "begin", begin)
    patch(Checkpointer, "checkpoint", checkpoint)


@_canary("checkpoint regions in turn")
def _in_turn(patch: Patch) -> None:
    whole = Report.add

    def add(self: Report, code: str, *arguments: Any, **options: Any) -> None:
        # That a region is out of turn is no loss yet.
        if code != "checkpoint-region":
            whole(self, code, *arguments, **options)

    patch(checkpoint_module, "CHECKPOINT_REGION_COUNT", 1)
    patch(Report, "add", add)


# ------------------------------------------------------------------------- moving


@_canary("flush when files are put together")
def _in_defragmenter(patch: Patch) -> None:
    _skip_flushes_of_turns(patch, defragment_module, Defragmenter)


@_canary("moving only what is still in its place")
def _still_there(patch: Patch) -> None:
    def load(self: Mover, pieces: list[Piece], failures: list[Failure]) -> list[UnplacedExtent]:
        volume = self._volume
        extents = []
        for ino, first, address, count in pieces:
            inode = self._inodes.find(ino)
            if inode is not None:
                size = volume.block_bytes
                raw = volume.device.read(address * size, count * size)
                extents.append(UnplacedExtent(inode, first, count, [raw]))
        return extents

    patch(Mover, "load", load)


# ------------------------------------------------------------------------- errors


@_canary("checkpoint where the log is broken")
def _mended(patch: Patch) -> None:
    patch(LogWriter, "is_broken", False)


@_canary("second checkpoint where the log is broken")
def _mended_twice(patch: Patch) -> None:
    whole = Checkpointer._mends

    def once(self: Checkpointer, now_ns: int, clean: bool) -> Generator[Flush, None, bool]:
        yield from whole(self, now_ns, clean)
        return False

    patch(Checkpointer, "_mends", once)


@_canary("another place after an error")
def _elsewhere(patch: Patch) -> None:
    whole = Volume.emit

    def emit(self: Volume, *arguments: Any) -> bool:
        whole(self, *arguments)
        return True

    patch(Volume, "emit", emit)


# -------------------------------------------------------------------------- reuse


@_canary("reuse only after a flush")
def _reuse_unflushed(patch: Patch) -> None:
    whole = Committer.log

    def log(self: Committer, now_ns: int, flags: int = 0) -> None:
        whole(self, now_ns, flags)
        volume = self._volume
        ticket = volume.log.written_sequence
        volume.usage.release(ticket, volume.state.sequences[0], volume.state.checkpoint_number)

    patch(Committer, "log", log)


@_canary("reuse only of what is empty in a commit")
def _reuse_uncommitted(patch: Patch) -> None:
    whole = Volume.flushed

    def flushed(self: Volume, sequence: int) -> None:
        self.usage.note_commit(sequence, self.log.open_runs())
        whole(self, sequence)

    patch(Volume, "flushed", flushed)


@_canary("reuse only of log writes before the older checkpoint")
def _reuse_log(patch: Patch) -> None:
    whole = UsageTable.release

    def release(self: UsageTable, flushed: int, log_start: int, number: int) -> None:
        whole(self, flushed, 1 << 62, number)

    patch(UsageTable, "release", release)


@_canary("reuse only of metadata that no checkpoint needs")
def _reuse_metadata(patch: Patch) -> None:
    whole = UsageTable.release

    def release(self: UsageTable, flushed: int, log_start: int, number: int) -> None:
        whole(self, flushed, log_start, 1 << 62)

    patch(UsageTable, "release", release)


# ---------------------------------------------------------------------- checksums


@_canary("checksums of payload in roll-forward")
def _payload(patch: Patch) -> None:
    patch(LogReader, "payload_holds", lambda self, summary: True)


def _unsealed(raw: bytes, offset: int) -> bool:
    return True


@_canary("checksum of the summary")
def _summary(patch: Patch) -> None:
    patch(ondisk_summary, "seal_holds", _unsealed)


@_canary("checksum of the checkpoint region")
def _region(patch: Patch) -> None:
    patch(ondisk_checkpoint, "seal_holds", _unsealed)


@_canary("checksum of the superblock")
def _superblock(patch: Patch) -> None:
    patch(ondisk_superblock, "seal_holds", _unsealed)


@_canary("checksums of data")
def _data(patch: Patch) -> None:
    def read_data(self: Volume, address: int, checksums: Sequence[int]) -> bytes:
        return self.device.read(address * self.block_bytes, len(checksums) * self.block_bytes)

    patch(Volume, "read_data", read_data)


@_canary("checksums of nodes and usage pages")
def _nodes(patch: Patch) -> None:
    def read_block(self: Volume, pointer: Pointer) -> bytes:
        return self.device.read(pointer.address * self.block_bytes, self.block_bytes)

    patch(Volume, "read_block", read_block)


# -------------------------------------------------------------------- roll-forward


def _follow_without(patch: Patch, ignored: str) -> None:
    def follow(
        self: LogReader, address: int, sequence: int, previous_checksum: int
    ) -> Iterator[Summary]:
        while True:
            try:
                summary = self.read_summary(address)
            except DamageError:
                return
            if ignored != "sequence" and summary.sequence != sequence:
                return
            if ignored != "previous" and summary.previous_checksum != previous_checksum:
                return
            yield summary
            address, sequence = summary.next_address, summary.sequence + 1
            previous_checksum = summary.checksum

    patch(LogReader, "follow", follow)


@_canary("sequence in the chain")
def _sequence(patch: Patch) -> None:
    _follow_without(patch, "sequence")


@_canary("previous_checksum in the chain")
def _previous(patch: Patch) -> None:
    _follow_without(patch, "previous")


@_canary("commit flag")
def _commit_flag(patch: Patch) -> None:
    whole = LogEnd.whole_log_writes

    def log_writes(self: LogEnd) -> list[Summary]:
        return [replace(one, flags=one.flags | SUMMARY_COMMIT) for one in whole(self)]

    patch(LogEnd, "whole_log_writes", log_writes)


@_canary("records before data")
def _records_first(patch: Patch) -> None:
    whole = RollForward.apply

    def apply(self: RollForward, committed: list[Summary], needed: list[Summary]) -> None:
        parts = [
            part
            for one in committed
            for part in (replace(one, records=()), replace(one, entries=()))
        ]
        whole(self, parts, needed)

    patch(RollForward, "apply", apply)


@_canary("flushed_sequence tells damage from the end")
def _damage(patch: Patch) -> None:
    patch(LogEnd, "check", lambda self, *arguments: None)


# -------------------------------------------------------------------- reservations


@_canary("reservation of dirty data")
def _dirty(patch: Patch) -> None:
    patch(DirtyData, "block_count", 0)


@_canary("reservation of changed metadata")
def _metadata(patch: Patch) -> None:
    patch(Ledger, "metadata_blocks", 0)


@_canary("reservation of commit and checkpoint")
def _pending(patch: Patch) -> None:
    patch(Ledger, "pending_blocks", lambda self, *moved: self.dirty_blocks)


@_canary("slack that user data may not use")
def _slack(patch: Patch) -> None:
    patch(margins_module, "slack_segments", lambda segment_count: 0)
    patch(ledger_module, "slack_segments", lambda segment_count: 0)


@_canary("slack beyond the segments that only the cleaner may use")
def _slack_beyond(patch: Patch) -> None:
    patch(ledger_module, "slack_segments", cleaner_segments)


@_canary("segments that only the cleaner may use")
def _cleaner(patch: Patch) -> None:
    patch(ledger_module, "cleaner_segments", lambda segment_count: 0)


@_canary("making room before a request")
def _cover(patch: Patch) -> None:
    patch(Ledger, "covers", lambda self, blocks: True)


@_canary("room for what is pending while the cleaner moves")
def _room(patch: Patch) -> None:
    patch(Rounds, "_have_room", lambda self, found, more: True)
