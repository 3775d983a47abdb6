"""A round of cleaning: moving what lives in victims, in steps, until all of it is durable.

Theory.  Each victim is surveyed, and as many are moved together as there is room for, in
file order.  What lies amid data written lately goes to the main head, the rest to the
cold one.  Each step looks up anew what is live, because requests come in between.

A block that can't be verified stays where it is, under the checksum that convicts it, and
so does what else lives in its run, which is left alone for a while.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import chain

from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.pending import Moving
from lfs.alloc.delayed.write_out import UnplacedExtent
from lfs.alloc.margins import MARGIN_SEGMENTS
from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import FilesystemError
from lfs.common.turns import Flush
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import HEAD_COLD, HEAD_MAIN
from lfs.segments.cleaning import moving
from lfs.segments.cleaning.moving import Failure, Mover, Piece, batches
from lfs.segments.cleaning.survey import Found, Surveyor
from lfs.volume.volume import Volume

_TOGETHER_BLOCKS_MAX = 65_536
"""So many are moved together at most: where each of them is has to be kept in memory."""
_SUSPICIOUS_ROUNDS = 16
"""So many rounds after data could not be read, what is to be moved is read before."""


class Rounds:
    """Makes rounds of cleaning on one volume, one at a time."""

    def __init__(
        self,
        volume: Volume,
        inodes: InodeTable,
        ledger: Ledger,
        mover: Mover,
        checkpointer: Checkpointer,
    ) -> None:
        """Clean when told what; nothing runs by itself."""
        self._volume = volume
        self._inodes = inodes
        self._ledger = ledger
        self._mover = mover
        self.surveyor = Surveyor(volume, inodes)
        self._checkpointer = checkpointer
        self._margin_blocks = MARGIN_SEGMENTS * volume.superblock.segment_blocks
        self._touched_pages = False
        self._suspicious_rounds = 0
        """In so many rounds to come, data is read before it is moved."""
        self.failure_count = 0
        """How often something of a victim could not be read."""
        self.moved_blocks = 0
        self.cleaned_runs = 0

    def clean(
        self, victims: list[int], now_ns: int, at_once: bool
    ) -> Generator[Flush | None, None, bool]:
        """Move what lives in ``victims``; yields between steps, or the flush that it needs.

        It ends with all of it durable; returns whether anything has come of it.  ``at_once``
        says that no request comes between.

        As many are moved together as there is room for.  Once that is durable, what they
        leave is room for more, without a checkpoint, which costs as much for one as for
        many.  A victim that has no room by itself is left out.
        """
        moved_before = self.moved_blocks
        failures_before = self.failure_count
        usage = self._volume.usage
        moved_runs: dict[int, int] = {}
        together = Found()
        for run, sequence in [(run, usage.last_sequence(run)) for run in victims]:
            found = yield from self._survey(run, sequence)
            if found is None:
                continue
            if run in usage.out_of_use.immovable:
                if not (yield from self._can_be_read(run, found)):
                    continue
                usage.note_movable(run)
                is_checked = True
            else:
                is_checked = not self._suspicious_rounds
            is_enough = together.block_count + found.block_count > _TOGETHER_BLOCKS_MAX
            if is_enough or not self._have_room(together, found, at_once):
                moved = yield from self._move_together(together, now_ns, at_once)
                together = Found()
                if moved is None:
                    break
                moved_runs |= moved
                if not self._have_room(together, found, at_once):
                    continue
            if not is_checked and not (yield from self._can_be_read(run, found)):
                continue
            together.add(found)
            self._volume.imap.touched_keys.update(found.keys)
            usage.dirty_pages.update(found.pages)
            self._touched_pages |= bool(found.pages)
            yield None
        moved_runs |= (yield from self._move_together(together, now_ns, at_once)) or {}
        is_fruitful = self.moved_blocks != moved_before
        is_done = True
        if self._volume.imap.touched_keys or self._touched_pages:
            is_fruitful, self._touched_pages = True, False
            number = self._volume.state.checkpoint_number
            yield from self._checkpointer.steps(now_ns)
            # Another one may have been begun meanwhile, and not be finished yet.
            is_done = self._volume.state.checkpoint_number != number
        self._note_moved(moved_runs, is_done)
        # A run with one bad block in many is met late, when most of it has been moved in vain.
        if self.failure_count > failures_before:
            self._suspicious_rounds = _SUSPICIOUS_ROUNDS
        elif self._suspicious_rounds:
            self._suspicious_rounds -= 1
        return is_fruitful

    def _can_be_read(self, run: int, found: Found) -> Generator[None, None, bool]:
        """Read all that was found in ``run``, in steps; tell whether it can be moved.

        To move the rest of what has a bad block would take room and gain none.
        """
        for pieces in batches(sorted(found.pieces), moving.STEP_BLOCKS):
            try:
                self._mover.check(pieces)
            except FilesystemError as error:
                self._leave(run, error)
                return False
            yield None
        return True

    def _leave(self, run: int, error: FilesystemError) -> None:
        """Leave a run alone for a while."""
        self.failure_count += 1
        usage = self._volume.usage
        self._volume.report(f"cleaner: leaving the run at {usage.address_of(run)}: {error}")
        usage.note_immovable(run, self._volume.elapsed.ns)

    def _have_room(self, found: Found, more: Found, at_once: bool) -> bool:
        """Tell whether what was found can be moved now, together with ``more``.

        Unless that is done ``at_once``, several are moved together only as far as requests
        may come between.
        """
        needed_blocks = self._needed_blocks(found, more)
        if needed_blocks + self._margin_blocks > self._volume.usage.clean_blocks:
            return False
        return at_once or not found.runs or self._may_pause(needed_blocks)

    def _may_pause(self, needed_blocks: int) -> bool:
        """Tell whether requests may come between while ``needed_blocks`` are moved.

        They leave what is kept for the cleaner, less what it has used of that; but the last
        of them may take what is left for one request.  So no more may be needed than that.
        """
        ledger = self._ledger
        kept_blocks = ledger.kept_blocks - ledger.last_blocks
        return needed_blocks - ledger.pending_blocks() <= kept_blocks

    def _needed_blocks(self, found: Found, more: Found) -> int:
        """Return what is pending once what was found is to be moved, together with ``more``.

        The nodes and usage pages of ``found`` are pending already.
        """
        windows = found.windows | more.windows
        return self._ledger.pending_blocks(
            Moving(
                found.block_count + more.block_count,
                len({ino for ino, _ in windows}),
                len(windows),
                len(found.divisible | more.divisible),
                len(more.keys),
                len(more.pages),
            )
        )

    def _move_together(
        self, found: Found, now_ns: int, at_once: bool
    ) -> Generator[Flush | None, None, dict[int, int] | None]:
        """Move what was found and commit it; returns the runs that have been done with.

        Pieces are moved in file order, so stopping halfway would empty hardly any run, take
        room and give none.  So requests come between only as long as there is room for all
        the rest besides.  Only writes that fail may take that away; then it returns None.
        """
        if not found.pieces:
            return found.runs
        usage, ledger = self._volume.usage, self._ledger
        may_pause = not at_once and self._may_pause(self._needed_blocks(found, Found()))
        withheld_count = len(usage.out_of_use.withheld)
        complete = True
        try:
            for number, pieces in enumerate(batches(sorted(found.pieces), moving.STEP_BLOCKS)):
                if number and may_pause and ledger.shortage_blocks(0) <= 0:
                    yield None
                if len(usage.out_of_use.withheld) != withheld_count:
                    batch = Found()
                    self.surveyor.add_pieces(batch, pieces)
                    complete = self._needed_blocks(Found(), batch) <= usage.clean_blocks
                    if not complete:
                        break
                before_blocks = usage.clean_blocks
                self._move(pieces, now_ns)
                if may_pause:
                    ledger.note_moving(before_blocks - usage.clean_blocks)
            yield from self._checkpointer.write_ahead(now_ns)
            flush = Flush(self._checkpointer.commit(now_ns))
            yield flush
            self._volume.await_flush(flush)
        finally:
            ledger.note_moved()
        return found.runs if complete else None

    def _note_moved(self, runs: dict[int, int], is_done: bool) -> None:
        """Count the runs that have become empty, and clean the others no more if all is done."""
        usage = self._volume.usage
        for run, sequence in runs.items():
            if not usage.live_blocks(run) or usage.last_sequence(run) != sequence:
                self.cleaned_runs += 1
            elif is_done and self._inodes.cuts.count == self._inodes.cuts.stuck_count:
                # What was cut off is not moved, and soon gone.
                usage.note_immovable(run, self._volume.elapsed.ns)

    def _survey(self, run: int, sequence: int) -> Generator[None, None, Found | None]:
        """Find what lives in ``run``, in steps; None when that can't be told, or not all be moved.

        And when its last log write is not ``sequence`` any more: it has been emptied and used
        again since it was chosen.  Where an owner can't be read, nothing of it lives here if
        all that lives is known.
        """
        usage = self._volume.usage
        if usage.last_sequence(run) != sequence:
            return None
        found = Found()
        found.runs[run] = sequence
        # What dies between steps has been counted, or not: only what lived before tells.
        live_blocks = usage.live_blocks(run)
        try:
            for part in self.surveyor.parts(run):
                found.add(part)
                yield None
                if usage.last_sequence(run) != sequence:
                    return None
            if found.failures and found.live_count < live_blocks:
                raise found.failures[0]
        except FilesystemError as error:
            self._leave(run, error)
            return None
        return found

    # --------------------------------------------------------------------- moving

    def _move(self, pieces: list[Piece], now_ns: int) -> None:
        """Write pieces elsewhere, as far as they are still live.

        Where one of a run can't be read, the others stay too: moving them gains nothing.
        """
        failures: list[Failure] = []
        by_run: dict[int, list[UnplacedExtent]] = {}
        bad_runs: set[int] = set()
        for piece in pieces:
            failure_count = len(failures)
            run = self._volume.usage.run_of(piece[2])
            by_run.setdefault(run, []).extend(self._mover.load([piece], failures))
            if len(failures) > failure_count:
                bad_runs.add(run)
        for ino, error in failures:
            self.failure_count += 1
            self._volume.report(f"cleaner: inode {ino}: {error}")
        staying = [extent for run in bad_runs for extent in by_run.pop(run)]
        extents = sorted(
            chain.from_iterable(by_run.values()), key=lambda one: (one.inode.ino, one.first)
        )
        size = self._volume.window_blocks
        is_hot: dict[tuple[int, int], bool] = {}
        for extent in extents:
            place = extent.inode.ino, extent.first // size
            if place not in is_hot:
                is_hot[place] = self._is_hot(extent.inode, place[1])
        for hot, head in ((False, HEAD_COLD), (True, HEAD_MAIN)):
            chosen = [one for one in extents if is_hot[one.inode.ino, one.first // size] is hot]
            self.moved_blocks += self._mover.place(chosen, head, now_ns)
        # Only now: they may lie in the same windows.
        self._mover.drop(staying)

    def _is_hot(self, inode: Inode, index: int) -> bool:
        """Tell whether most of a window was written lately: after the older checkpoint.

        It will probably be written again soon, and would leave holes among cold data.
        """
        window = self._inodes.window(inode, index)
        if window is None:
            return False
        usage = self._volume.usage
        since = self._volume.state.sequences[0]
        young = sum(
            count
            for _, count, address in window.extents
            if usage.last_sequence(usage.run_of(address)) >= since
        )
        return 2 * young > window.mapped
