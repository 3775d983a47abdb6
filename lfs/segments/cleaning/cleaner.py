"""The cleaner: decides when runs with few live blocks are turned into clean segments, and which.

Theory.  A victim's summaries tell who owned its blocks; the inode map tells which of them
still do.  Live data is moved (``rounds``); live nodes and usage pages are left to a
checkpoint, which writes them anew.  A victim without them is clean once the commit that
follows has been flushed (``lfs.segments.usage``).

What can't be cleaned is no victim: a run in which something can't be read, for a while,
and a run where a write failed, which would not be written again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress

from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.pending import Moving
from lfs.alloc.margins import CLEAN_SHARE_LOW, MARGIN_SEGMENTS
from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import DamageError
from lfs.common.turns import Flush, Turn, finished
from lfs.segments.cleaning.rounds import Rounds
from lfs.segments.policy import choosing_victims
from lfs.volume.volume import Volume

_UTILISATION_AHEAD = 0.8
_UTILISATION_WORTH = 0.85
_UTILISATION_HELPING = 0.97
"""Up to so much used a run is cleaned: ahead of need, once clean space is scarce, by requests."""
_GAIN_SEGMENTS_MIN = 4
_GAIN_SHARE = 256
_IDLE_ROUNDS_MAX = 8
_LARGE_ROUNDS = 2
"""So many rounds try a large run first: one that has no room after all must not be all."""
_HURRY_SHARE = 4
"""Requests wait for a flush once no more than one in so many of the spare blocks is left."""
_WAITING_SHARE = 4
"""A checkpoint is due when one in so many of the blocks that are to be spare wait for it."""
_ROUND_GAINS = 8
"""A round moves at most as much as so many times what it is to gain."""
_DAMAGED_SHARE = 3
"""One segment in so many begins a run that can't be moved: there is hardly room to be found."""
_SEARCH_GAINS = 16
"""A search beside damage moves about as much as so many times what a round is to gain."""
_WAIT_NS = 1_000_000_000
_WAIT_NS_MAX = 64_000_000_000
_RETRIES_AT_ONCE = 4
_RETRY_LOG_WRITES = 256
"""After so many log writes there may be something to gain although nothing has died."""


class Cleaner:
    """Cleans one volume."""

    def __init__(
        self,
        volume: Volume,
        ledger: Ledger,
        checkpointer: Checkpointer,
        rounds: Rounds,
    ) -> None:
        """Clean when asked to; nothing runs by itself."""
        self._volume = volume
        self._ledger = ledger
        self._rounds = rounds
        self._checkpointer = checkpointer
        self._work: Generator[Flush | None, None, None] | None = None
        self._flush: Flush | None = None
        """What the round waits for that has been begun."""
        segments = volume.superblock.segment_count
        self._segment_blocks = volume.superblock.segment_blocks
        self._few_blocks = max(ledger.paced_blocks // 2, self._segment_blocks)
        """What a round moves that is to be over soon, in the room that is at hand."""
        self._margin_blocks = MARGIN_SEGMENTS * volume.superblock.segment_blocks
        self._gain_segments = max(_GAIN_SEGMENTS_MIN, segments // _GAIN_SHARE)
        self._exhausted: tuple[int, int, int, int] | None = None
        self._wait_ns = _WAIT_NS
        self._search_ns = 0
        """When the next search beside damage is due."""
        self._help_ns = 0
        """When requests may begin a round again after one could not be finished."""
        self._fruitless_state: tuple[int, int, int] | None = None

    # --------------------------------------------------------------- foreground

    def make_room(self, blocks: int, now_ns: int, is_urgent: bool = True) -> None:
        """Clean until ``blocks`` more can be accepted, or until nothing is gained.

        A round that was begun in the background is finished: it has been paid for.
        Once a round gains nothing, large runs are broken up, victims are chosen by what
        they yield, not by age, and each round aims at twice as much as the one before:
        what a round costs beside moving, its checkpoint above all, hardly grows with it.
        Unless it ``is_urgent``, there must be more to gain than since the last search that
        found nothing.  Beside runs that can't be moved a search ends before it is long, if
        what is clean will do for deleting.  Raises DeviceError when the log can't be written.
        """
        volume = self._volume
        if volume.failed or volume.read_only:
            return
        if self._work is not None:
            self._finish(self._work)
        if self._is_exhausted(is_urgent) and not (is_urgent and self.try_again(now_ns)):
            # What is pending must have room all the same; but a checkpoint takes some, too.
            if self._ledger.is_pressing and (self._checkpointer.dirty or volume.imap.changes):
                self._release(blocks, now_ns)
            return
        volume.log.close_large()
        self._release(blocks, now_ns)
        idle_rounds = 0
        least_shortage = self._ledger.shortage_blocks(blocks)
        moved_blocks = self._rounds.moved_blocks
        while idle_rounds < self._patience(blocks):
            if self._has_moved_enough(self._rounds.moved_blocks - moved_blocks):
                break
            gain_segments = self._gain_segments << idle_rounds
            victims = [] if idle_rounds else self._victims(volume.options.cleaner_policy, 0.999)
            if idle_rounds < _LARGE_ROUNDS:
                victims = victims or self._large_victim()
            victims = victims or self._victims("greedy", 0.999, gain_segments)
            if not victims:
                break
            large_count = len(volume.usage.large_runs)
            self._finish(self._clean(victims, now_ns, at_once=True))
            self._release(blocks, now_ns)
            # Against the least so far: what one round takes and the next gives is no gain.
            shortage = self._ledger.shortage_blocks(blocks)
            gained = least_shortage - shortage >= self._least_gain_blocks or (
                shortage <= 0 < least_shortage
            )
            gained |= len(volume.usage.large_runs) < large_count
            least_shortage = min(least_shortage, shortage)
            idle_rounds = 0 if gained else idle_rounds + 1
        self._note_search(self._ledger.shortage_blocks(blocks) <= 0)

    @property
    def _is_beside_damage(self) -> bool:
        """Tell whether searches take long and yield little, and need not find anything.

        Where many runs can't be read, room is made a block at a time, if at all, and whoever
        asks for it may be refused, as long as deleting can't be.
        """
        volume = self._volume
        immovable_count = len(volume.usage.out_of_use.immovable)
        return (
            self._rounds.failure_count > 0
            and _DAMAGED_SHARE * immovable_count > volume.superblock.segment_count
            and self._ledger.has_last_room
        )

    @property
    def _least_gain_blocks(self) -> int:
        """Return what a round must yield for others to follow."""
        return self._volume.superblock.segment_blocks if self._is_beside_damage else 1

    def _has_moved_enough(self, blocks: int) -> bool:
        """Tell whether a search that has moved so much ends without having found anything."""
        gain_blocks = self._gain_segments * self._volume.superblock.segment_blocks
        return self._is_beside_damage and blocks > _SEARCH_GAINS * gain_blocks

    def _note_search(self, has_succeeded: bool) -> None:
        """Let the next search wait, the longer the more of them have found nothing."""
        if has_succeeded:
            self._exhausted = None
            self._wait_ns = _WAIT_NS
            return
        self._exhausted = self._progress()
        self._search_ns = self._volume.elapsed.ns + self._wait_ns
        self._wait_ns = min(2 * self._wait_ns, _WAIT_NS_MAX)

    def _progress(self) -> tuple[int, int, int, int]:
        """Return what is live, clean and stuck, and a number that grows with the log."""
        usage = self._volume.usage
        retry = self._volume.log.next_sequence // _RETRY_LOG_WRITES
        return usage.live_total, usage.clean_blocks, len(self._immovable_runs()), retry

    def _is_exhausted(self, is_urgent: bool) -> bool:
        """Tell whether the last search for room found none, and little has happened since.

        While nobody asks for room, as when files are deleted, a search has to be worth it:
        each may take seconds where much can't be moved.
        """
        if self._exhausted is None:
            return False
        live_blocks, clean_blocks, stuck_count, retry = self._progress()
        before_live_blocks, before_clean_blocks, before_stuck_count, before_retry = self._exhausted
        died_blocks = before_live_blocks - live_blocks
        if self._is_beside_damage:
            has_waited = is_urgent and self._volume.elapsed.ns >= self._search_ns
            return died_blocks < self._volume.superblock.segment_blocks and not has_waited
        if retry != before_retry or clean_blocks < before_clean_blocks:
            return False
        if stuck_count < before_stuck_count:
            return False
        return died_blocks < (1 if is_urgent else self._volume.superblock.segment_blocks)

    def _large_victim(self) -> list[int]:
        """Choose the large run that is the easiest to empty, if there is room for that.

        It may be full: when there is none any more, no room is kept to empty one.
        """
        usage = self._volume.usage
        runs = usage.large_runs.runs.difference(self._volume.log.open_runs())
        live = [(usage.live_blocks(run), run) for run in runs if usage.live_blocks(run)]
        room_blocks = usage.clean_blocks - self._margin_blocks
        return [
            run
            for blocks, run in sorted(live)[:1]
            if self._ledger.pending_blocks(Moving(blocks)) <= room_blocks
        ]

    def _finish(self, work: Generator[Flush | None, None, None]) -> None:
        """Do the rest of a round at once."""
        self._work = self._flush = None
        for flush in work:
            if flush is not None:
                self._volume.await_flush(flush)

    def _patience(self, blocks: int) -> int:
        """Return how many rounds without gain are worth it.

        Some room beyond what is asked for is wanted, so that not every request
        has to make its own.
        """
        spare_blocks = -self._ledger.shortage_blocks(blocks)
        if spare_blocks < 0:
            return _IDLE_ROUNDS_MAX
        wanted_blocks = self._gain_segments * self._volume.superblock.segment_blocks // 2
        return 1 if spare_blocks < wanted_blocks else 0

    def _release(self, blocks: int, now_ns: int) -> None:
        """Make empty runs clean: a commit does it for most, two checkpoints for all."""
        volume = self._volume
        volume.flush(self._checkpointer.commit(now_ns))
        for _ in range(2):
            waits = volume.usage.unreleased_segments or volume.imap.changes
            if self._ledger.shortage_blocks(blocks) <= 0 or not waits:
                return
            self._checkpointer.checkpoint(now_ns)

    # --------------------------------------------------------------- background

    @property
    def busy(self) -> bool:
        """Tell whether a round has been begun and not finished."""
        return self._work is not None

    @property
    def is_waiting(self) -> bool:
        """Tell whether that round goes on only once a flush has been done."""
        return self._flush is not None and not self._flush.done

    @property
    def is_wanted(self) -> bool:
        """Tell whether little is clean, and a round may change that."""
        volume = self._volume
        clean = volume.usage.clean_blocks
        total = volume.superblock.segment_count * volume.superblock.segment_blocks
        return clean * CLEAN_SHARE_LOW <= total and self._state() != self._fruitless_state

    def step(self, now_ns: int) -> Turn:
        """Do a bounded piece of cleaning that nobody waits for, up to a flush.

        While there is no need, only what costs little is cleaned.  Raises DeviceError when
        the log can't be written, and DamageError when the checkpoint of a round can't be.
        """
        if self._work is None:
            if not self.is_wanted:
                return Turn(more=False)
            if self._ledger.is_scarce:
                self._work = self._round(_UTILISATION_WORTH, self._few_blocks, now_ns)
            else:
                many_blocks = _ROUND_GAINS * self._gain_segments * self._segment_blocks
                self._work = self._round(_UTILISATION_AHEAD, many_blocks, now_ns)
        return self._go_on()

    def help(self, now_ns: int) -> bool:
        """Do a bounded piece of cleaning within a request that finds little clean.

        Returns whether there was any to do; raises DeviceError.
        """
        self._volume.elapsed.advance(now_ns)
        if self._work is None:
            if self._state() == self._fruitless_state or self._volume.elapsed.ns < self._help_ns:
                return False
            self._work = self._round(_UTILISATION_HELPING, self._few_blocks, now_ns)
        on_work = self._volume.options.on_work
        # Much may have to be flushed: while there is room, requests go on meanwhile.
        has_time = self._ledger.shortage_blocks(self._ledger.paced_blocks // _HURRY_SHARE) <= 0
        try:
            turn = self._go_on()
        except DamageError:
            # The checkpoint of a round: it has been reported, and is tried again later.
            self._help_ns = self._volume.elapsed.ns + _WAIT_NS
            return False
        if turn.flush is not None:
            if on_work is not None and has_time:
                on_work()
                return False
            self._volume.await_flush(turn.flush)
        return turn.more

    def _go_on(self) -> Turn:
        """Do a step of the round that has been begun."""
        if self._work is None or self._volume.failed or self._volume.read_only:
            return Turn(more=False)
        if self.is_waiting:
            return Turn(True, self._flush)
        try:
            self._flush = next(self._work)
        except StopIteration:
            self._work = self._flush = None
        except BaseException:
            self._work = self._flush = None
            raise
        return Turn(True, self._flush)

    def _round(
        self, utilisation_max: float, blocks_max: int, now_ns: int
    ) -> Generator[Flush | None, None, None]:
        """Make a round ahead of need, which moves up to ``blocks_max`` blocks.

        While there is need, what is dirty goes out first: what it overwrites need not be moved;
        and a checkpoint lets go of runs that have become empty so lately that only it can.
        """
        if self._ledger.is_scarce:
            for _ in self._checkpointer.write_ahead(now_ns):
                yield None
        policy = self._volume.options.cleaner_policy
        victims = yield from self._choosing(policy, utilisation_max, 0, blocks_max)
        yield from self._clean(victims, now_ns)
        waiting_blocks = self._volume.usage.unreleased_segments * self._segment_blocks
        if self._ledger.is_scarce and _WAITING_SHARE * waiting_blocks > self._ledger.paced_blocks:
            yield from self._checkpointer.steps(now_ns)

    # -------------------------------------------------------------------- victims

    def _immovable_runs(self) -> list[int]:
        """Return the runs that it is no use to clean now."""
        return [*self._volume.usage.immovable_runs(self._volume.elapsed.ns)]

    def try_again(self, now_ns: int) -> bool:
        """Clean some runs where something could not be moved, if it is time to try that again.

        Those first with the most to gain.  Returns whether they can be moved now.
        """
        usage = self._volume.usage
        immovable = usage.out_of_use.immovable
        runs = immovable.keys() - self._immovable_runs()
        if not runs:
            return False
        if self._work is not None:
            self._finish(self._work)
        count = len(immovable)
        runs_by_gain = sorted(
            runs, key=lambda run: (usage.live_blocks(run) - usage.run_blocks(run), run)
        )
        with suppress(DamageError):
            self._finish(self._clean(runs_by_gain[:_RETRIES_AT_ONCE], now_ns, at_once=True))
        return len(immovable) < count

    def _victims(self, policy: str, utilisation_max: float, gain_segments: int = 0) -> list[int]:
        """Choose victims by what is to be gained, at once."""
        gain_blocks = (gain_segments or self._gain_segments) * self._segment_blocks
        choosing = self._choosing(
            policy, utilisation_max, gain_segments, _ROUND_GAINS * gain_blocks
        )
        return finished(choosing)

    def _choosing(
        self, policy: str, utilisation_max: float, gain_segments: int, blocks_max: int
    ) -> Generator[None, None, list[int]]:
        """Choose victims by what is to be gained, in steps; they have up to ``blocks_max``."""
        volume = self._volume
        return choosing_victims(
            volume.usage,
            policy,
            volume.log.next_sequence,
            self._excluded,
            blocks_max,
            utilisation_max,
            (gain_segments or self._gain_segments) * volume.superblock.segment_blocks,
        )

    def _excluded(self) -> set[int]:
        """Return the runs that are no victims."""
        volume = self._volume
        return {*volume.log.open_runs(), *volume.usage.out_of_use.given_up, *self._immovable_runs()}

    def _clean(
        self, victims: list[int], now_ns: int, at_once: bool = False
    ) -> Generator[Flush | None, None, None]:
        """Make a round, and note when it was for nothing."""
        is_fruitful = yield from self._rounds.clean(victims, now_ns, at_once)
        self._fruitless_state = None if is_fruitful else self._state()

    def _state(self) -> tuple[int, int, int]:
        """Return what a round depends on: while it is the same, so would be the next."""
        usage = self._volume.usage
        return usage.clean_blocks, usage.live_total, len(self._immovable_runs())
