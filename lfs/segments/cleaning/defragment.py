"""Rewriting scattered files while nothing else is to be done.

Theory.  Overwritten blocks go to where the log is, so a file that is overwritten
here and there ends in many fragments.  Write-out notes such files
(``lfs.alloc.delayed.scattered``).  Once a file has been left alone for a while, it is read in
file order and written to runs of its own, as large as the disk allows, a few MiB at
each step.  Nothing about the file changes but where it lies (``lfs.segments.cleaning.moving``).

What it costs is bounded.  A file is rewritten only after an eighth of it was
scattered, so at most eight blocks are written for each; a stretch of it that is in
few fragments stays.  Large runs are opened only in what is beyond the share of the disk that
the cleaner makes clean (``Ledger.spare_blocks``), usual ones as long as clean space does not
become scarce (``Ledger.idle_spare_blocks``).  What a file leaves elsewhere is then cleaned in
the same idle turns; a stretch that has found no room is tried again once that has changed
something.

A file that is written meanwhile is left until it is quiet again; one that can't be
read is left alone and reported.  What has been moved by then stays moved.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import pairwise

from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.scattered import ScatteredFiles
from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import DamageError, FilesystemError
from lfs.common.turns import Flush, Turn
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import HEAD_BULK, HEAD_COLD
from lfs.segments.cleaning.moving import Failure, Mover, Piece, batches
from lfs.segments.placement import BULK_BLOCKS
from lfs.volume.options import SECOND_NS
from lfs.volume.volume import Volume

QUIET_NS = 5 * SECOND_NS
"""So long a file must not have been written."""
_STEP_BLOCKS = 512
_SHARE_WORTH = 8
_FRAGMENTS_MIN = 4
_FRAGMENT_BLOCKS_WORTH = 128
_CHANGED_BLOCKS = 2
"""What a piece that is moved may cost the next checkpoint, at most."""


class Defragmenter:
    """Rewrites the scattered files of one volume."""

    def __init__(
        self,
        volume: Volume,
        inodes: InodeTable,
        ledger: Ledger,
        mover: Mover,
        checkpointer: Checkpointer,
        scattered: ScatteredFiles,
    ) -> None:
        """Rewrite files among ``scattered`` when asked to; nothing runs by itself."""
        self._volume = volume
        self._inodes = inodes
        self._ledger = ledger
        self._mover = mover
        self._checkpointer = checkpointer
        self._scattered = scattered
        self._work: Iterator[Flush | None] | None = None
        self._now_ns = 0
        self._ctime_ns = 0
        self._stalled: tuple[int, int] | None = None
        """What the last stretch found that could not be finished: it is no use to try again."""
        self.moved_blocks = 0

    def step(self, now_ns: int) -> Turn:
        """Do a bounded piece of rewriting, up to a flush.

        Raises DeviceError when the log can't be written.
        """
        if self._volume.failed or self._volume.read_only:
            return Turn(more=False)
        self._now_ns = now_ns
        if self._work is None:
            ino = None if self._stalled == self._state() else self._candidate()
            if ino is None:
                return Turn(more=False)
            self._work = self._rewrite(ino)
        try:
            return Turn(True, next(self._work))
        except StopIteration:
            self._work = None
        return Turn(more=True)

    def _state(self) -> tuple[int, int]:
        """Return what the room for a stretch depends on."""
        return self._volume.usage.clean_blocks, self._volume.usage.live_total

    # ------------------------------------------------------------------ candidates

    def _candidate(self) -> int | None:
        """Return the file to rewrite next, or None."""
        for ino in self._scattered.worst_first():
            try:
                inode = self._inodes.find(ino)
            except (DamageError, FilesystemError):
                inode = None
            if inode is None:
                self._scattered.forget(ino)
            elif self._is_due(inode) and self._order(inode.blocks) is not None:
                return ino
        return None

    def _is_due(self, inode: Inode) -> bool:
        """Tell whether enough of a file is scattered, and it is left alone."""
        scattered_blocks = self._scattered.blocks(inode.ino)
        since_ns = self._volume.elapsed.ns - self._scattered.written_ns(inode.ino)
        return (
            scattered_blocks * _SHARE_WORTH >= inode.blocks > 0
            and not inode.dirty
            and since_ns >= QUIET_NS
        )

    def _is_left_alone(self, inode: Inode) -> bool:
        """Tell whether the file that is being rewritten has not been changed since that began."""
        return not inode.dirty and inode.ctime_ns == self._ctime_ns

    def _order(self, blocks: int) -> int | None:
        """Return the order of the run for the next ``blocks`` blocks of a file.

        The smallest that holds all of them; if there is none, the largest there is.
        None when spare space has no run at all.
        """
        volume = self._volume
        usage = volume.usage
        best = None
        large_blocks = self._ledger.spare_blocks()
        small_blocks = max(large_blocks, self._ledger.idle_spare_blocks())
        for order in range(min(usage.order_most, usage.buddy.largest_order()) + 1):
            spare_blocks = large_blocks if order > usage.order_max else small_blocks
            if usage.large_runs.opening_blocks(order) > spare_blocks:
                break
            best = order
            if volume.log.front_payload_blocks(order) >= blocks:
                break
        return best

    # ------------------------------------------------------------------- rewriting

    def _rewrite(self, ino: int) -> Iterator[Flush | None]:
        """Rewrite a file run by run; yields between steps."""
        written_ns = self._scattered.written_ns(ino)
        noted_blocks = self._scattered.forget(ino)
        begun = self._inodes.find(ino)
        self._ctime_ns = 0 if begun is None else begun.ctime_ns
        position = 0
        try:
            while (inode := self._inodes.find(ino)) is not None:
                order = self._order(inode.blocks)
                if not self._is_left_alone(inode):
                    self._scattered.note(ino, noted_blocks, self._volume.elapsed.ns)
                    return
                if order is None:
                    self._scattered.note(ino, noted_blocks, written_ns)
                    return
                pieces = self._pieces(inode, position, order)
                if not pieces:
                    return
                position = pieces[-1][1] + pieces[-1][3]
                if self._is_worth(pieces):
                    is_complete = yield from self._rewrite_run(pieces)
                    if not is_complete:
                        self._scattered.note(ino, noted_blocks, written_ns)
                        self._stalled = self._state()
                        return
                yield None
        except DamageError as error:
            self._leave(ino, error)

    def _pieces(self, inode: Inode, position: int, order: int) -> list[Piece]:
        """Return what a file has from block ``position`` on, as much as a run holds."""
        volume = self._volume
        size = volume.window_blocks
        room_blocks = volume.log.front_payload_blocks(order)
        pieces: list[Piece] = []
        for index, window in self._inodes.windows(inode, position // size):
            base = index * size
            for first, count, address in window.extents:
                skipped = max(0, position - base - first)
                taken = min(count - skipped, room_blocks)
                if taken > 0:
                    piece = inode.ino, base + first + skipped, address + skipped, taken
                    pieces.append(piece)
                    room_blocks -= taken
            if not room_blocks:
                break
        return pieces

    def _is_worth(self, pieces: list[Piece]) -> bool:
        """Tell whether rewriting leaves far fewer fragments, and they are short now.

        A hole in the file parts nothing: what is before and behind it can lie together.
        """
        blocks = sum(count for *_, count in pieces)
        fragments = 1 + sum(one[2] + one[3] != other[2] for one, other in pairwise(pieces))
        return fragments >= _FRAGMENTS_MIN and blocks < _FRAGMENT_BLOCKS_WORTH * fragments

    def _rewrite_run(self, pieces: list[Piece]) -> Generator[Flush | None, None, bool]:
        """Write pieces of one file together; yields between steps, and tells if there was room.

        Many get a run of their own, few are enough together in one of the cleaner's.
        """
        ino = pieces[0][0]
        blocks = sum(count for *_, count in pieces)
        order = self._order(blocks)
        if order is None:
            return False
        is_complete = True
        head = HEAD_COLD
        run_address = 0
        if blocks >= BULK_BLOCKS:
            head = HEAD_BULK
            run_address = self._volume.log.open_front(order)
        for number, batch in enumerate(batches(pieces, _STEP_BLOCKS)):
            if number:
                yield None
                inode = self._inodes.find(ino)
                if inode is None or not self._is_left_alone(inode):
                    # It has been written just now: ``_rewrite`` lets it become quiet again.
                    break
            if run_address and not self._has_room(run_address, batch):
                is_complete = False
                break
            failures: list[Failure] = []
            extents = self._mover.load(batch, failures)
            self.moved_blocks += self._mover.place(extents, head, self._now_ns)
            if failures:
                raise DamageError(str(failures[0][1]))
        # What was there before can be reused after this.
        flush = Flush(self._checkpointer.commit(self._now_ns))
        yield flush
        self._volume.await_flush(flush)
        return is_complete

    def _has_room(self, run_address: int, batch: list[Piece]) -> bool:
        """Tell whether the run that was opened for them still takes a batch.

        Requests that came between may have filled it, had it closed, or used up what
        was spare: then nothing may be written that others would need room for.
        """
        blocks = sum(count for *_, count in batch)
        extent_count = 1 + sum(one[1] + one[3] != other[1] for one, other in pairwise(batch))
        return (
            self._volume.log.has_front_room(run_address, blocks, extent_count)
            and self._ledger.shortage_blocks(_CHANGED_BLOCKS * len(batch)) <= 0
        )

    def _leave(self, ino: int, error: Exception) -> None:
        """Say why a file is not rewritten."""
        self._volume.report(f"defragmentation: leaving inode {ino} as it is: {error}")
