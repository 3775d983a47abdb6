"""The segment usage table in memory: live blocks, runs, and when a run is free again.

Theory.  A run dies when its last live block does, but it is not free then: a
checkpoint on disk, or the log after it, may still need what is in it.  Both
checkpoint regions must stay usable, because a torn newer one sends recovery to
the older.  So a run goes through three states:

* in use: it is open, or has live blocks, or was written since the checkpoint;
* dead: at checkpoint ``n`` it had no live block and no log write that follows
  that checkpoint (``begin_checkpoint`` finds these);
* clean: checkpoint ``n + 1`` is durable too (``checkpoint_durable``).

Invariants: ``live_total`` is the sum of all live counts; the buddy allocator's
free units are exactly the clean segments that are not withheld; only the first
segment of a run carries counts.  Memory: 22 bytes a segment.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from lfs.alloc.buddy import BuddyAllocator
from lfs.errors import DamageError
from lfs.ondisk import SEGMENT_CLEAN, SEGMENT_CONTINUED, SEGMENT_RUN, Usage, usage_per_page

_SLACK_SEGMENTS_MIN = 8
_SLACK_SHARE = 20
_RUN_BYTES_MAX = 128 << 20


def slack_segments(segment_count: int) -> int:
    """Return how many segments stay free of user data, so that cleaning always gains."""
    return max(_SLACK_SEGMENTS_MIN, segment_count // _SLACK_SHARE)


def _order_max(segment_count: int, segment_bytes: int) -> int:
    """Return the order of the largest run: the cleaner must be able to move it whole."""
    by_slack = (slack_segments(segment_count) // 4).bit_length() - 1
    by_size = (_RUN_BYTES_MAX // segment_bytes).bit_length() - 1
    return max(0, min(by_slack, by_size))


class UsageTable:
    """Live blocks and state of every segment of a filesystem."""

    def __init__(
        self, first_segment_block: int, segment_blocks: int, segment_count: int, block_bytes: int
    ) -> None:
        """Describe ``segment_count`` segments; all start clean and withheld from allocation."""
        self.first_segment_block = first_segment_block
        self.segment_blocks = segment_blocks
        self.segment_count = segment_count
        self.per_page = usage_per_page(block_bytes)
        self.page_count = -(-segment_count // self.per_page)
        self.live_total = 0
        self.dirty_pages: set[int] = set()
        self.order_max = _order_max(segment_count, segment_blocks * block_bytes)
        self.buddy = BuddyAllocator(segment_count, segment_count.bit_length())
        self._live = array("q", bytes(8 * segment_count))
        self._last_sequence = array("q", bytes(8 * segment_count))
        self._first = array("i", [-1]) * segment_count
        self._order = bytearray(segment_count)
        self._state = bytearray(segment_count)
        self._dead: list[int] = []
        self._dead_before: list[int] = []

    # ------------------------------------------------------------ loading and storing

    def load_page(self, index: int, entries: list[Usage]) -> None:
        """Take over usage page ``index`` as read from disk; raises DamageError when absurd."""
        base = index * self.per_page
        if base + len(entries) > self.segment_count:
            raise DamageError(f"usage page {index} describes segments past the last one")
        for segment, entry in enumerate(entries, base):
            if entry.state != SEGMENT_RUN:
                continue
            self._check_run(segment, entry)
            self._set_run(segment, entry.order, entry.last_sequence)
            self._live[segment] = entry.live_blocks
            self.live_total += entry.live_blocks

    def _check_run(self, segment: int, entry: Usage) -> None:
        count = 1 << entry.order
        fits = segment % count == 0 and segment + count <= self.segment_count
        if not fits or entry.live_blocks > count * self.segment_blocks:
            raise DamageError(f"usage of segment {segment} is impossible: {entry}")

    def finish_loading(self, open_runs: Collection[int]) -> None:
        """Find the dead runs and offer all clean segments to the allocator.

        ``open_runs`` will be written further and are not dead.
        """
        self._dead_before = [
            run for run in self.runs() if self._live[run] == 0 and run not in open_runs
        ]
        self.dirty_pages.clear()
        state = np.frombuffer(self._state, dtype=np.uint8)
        edges = np.flatnonzero(np.diff(state == SEGMENT_CLEAN, prepend=False, append=False))
        for start, end in edges.reshape(-1, 2).tolist():
            self.buddy.free_range(start, end - start)

    def page_entries(self, index: int) -> list[Usage]:
        """Return the entries of usage page ``index`` as they go to disk."""
        base = index * self.per_page
        end = min(base + self.per_page, self.segment_count)
        return [
            Usage(self._live[s], self._order[s], self._state[s], self._last_sequence[s])
            for s in range(base, end)
        ]

    # -------------------------------------------------------------------- addresses

    def segment_of(self, address: int) -> int:
        """Return the segment that holds block ``address``."""
        return (address - self.first_segment_block) // self.segment_blocks

    def address_of(self, segment: int) -> int:
        """Return the first block of ``segment``."""
        return self.first_segment_block + segment * self.segment_blocks

    def holds(self, address: int, count: int) -> bool:
        """Tell whether blocks ``address`` to ``address + count`` lie in one run in use."""
        first, last = self.segment_of(address), self.segment_of(address + count - 1)
        if not 0 <= first <= last < self.segment_count:
            return False
        return self._first[first] >= 0 and self._first[first] == self._first[last]

    def run_of(self, address: int) -> int:
        """Return the first segment of the run that holds ``address``, or -1."""
        segment = self.segment_of(address)
        return self._first[segment] if 0 <= segment < self.segment_count else -1

    # ------------------------------------------------------------------ live blocks

    def add_live(self, address: int, count: int) -> None:
        """Count ``count`` blocks at ``address``, all in one run, as live."""
        run = self._first[self.segment_of(address)]
        assert run >= 0, address
        self._live[run] += count
        self.live_total += count
        self.dirty_pages.add(run // self.per_page)

    def drop_live(self, address: int, count: int) -> None:
        """Count ``count`` blocks at ``address``, all in one run, as dead."""
        run = self._first[self.segment_of(address)]
        assert run >= 0, address
        self._live[run] -= count
        assert self._live[run] >= 0, (address, count)
        self.live_total -= count
        self.dirty_pages.add(run // self.per_page)

    def live_blocks(self, run: int) -> int:
        """Return the live blocks of the run that starts at segment ``run``."""
        return self._live[run]

    # ------------------------------------------------------------------------- runs

    def runs(self) -> Iterator[int]:
        """Yield the first segment of every run in use."""
        state = np.frombuffer(self._state, dtype=np.uint8)
        yield from np.flatnonzero(state == SEGMENT_RUN).tolist()

    def run_blocks(self, run: int) -> int:
        """Return the size of a run in blocks."""
        return self.segment_blocks << self._order[run]

    def last_sequence(self, run: int) -> int:
        """Return the sequence number of the youngest log write in a run."""
        return self._last_sequence[run]

    def columns(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Return arrays of run (first segment), live blocks, size in blocks, last sequence."""
        runs = np.flatnonzero(np.frombuffer(self._state, dtype=np.uint8) == SEGMENT_RUN)
        live = np.frombuffer(self._live, dtype=np.int64)[runs]
        order = np.frombuffer(self._order, dtype=np.uint8)[runs].astype(np.int64)
        last = np.frombuffer(self._last_sequence, dtype=np.int64)[runs]
        return runs, live, self.segment_blocks << order, last

    @property
    def clean_blocks(self) -> int:
        """Return the blocks in segments that can be allocated now."""
        return self.buddy.free_units * self.segment_blocks

    def open_run(self, order: int, sequence: int) -> int | None:
        """Allocate a run of 2**order segments, or a smaller one when there is none.

        Returns its first segment, or None when no segment is clean.
        """
        for smaller in range(min(order, self.order_max), -1, -1):
            run = self.buddy.allocate(smaller)
            if run is not None:
                self._set_run(run, smaller, sequence)
                return run
        return None

    def open_run_at(self, run: int, order: int, sequence: int) -> None:
        """Allocate exactly the run at segment ``run``; its segments must be clean."""
        self.buddy.reserve(run, order)
        self._set_run(run, order, sequence)

    def touch_run(self, run: int, sequence: int) -> None:
        """Note that log write ``sequence`` went into ``run``."""
        self._last_sequence[run] = sequence
        self.dirty_pages.add(run // self.per_page)

    def claim_run(self, address: int, blocks: int, sequence: int) -> None:
        """Roll-forward found a log write in the run at ``address``: the run is in use.

        Runs that the checkpoint still lists there were dead; what the new run
        leaves of them stays dead.  Called before ``finish_loading``.
        """
        run = self.segment_of(address)
        order = (blocks // self.segment_blocks).bit_length() - 1
        entry = Usage(0, order, SEGMENT_RUN, sequence)
        if order < 0 or self.address_of(run) != address or run < 0:
            raise DamageError(f"log write in an impossible run at {address}")
        self._check_run(run, entry)
        if self._first[run] == run and self._order[run] == order:
            self.touch_run(run, sequence)
            return
        for segment in range(run, run + (1 << order)):
            if self._first[segment] >= 0:
                self._dissolve(self._first[segment])
        self._set_run(run, order, sequence)

    def _dissolve(self, run: int) -> None:
        if self._live[run]:
            raise DamageError(f"run at {self.address_of(run)} was reused while it had live blocks")
        last = self._last_sequence[run]
        for segment in range(run, run + (1 << self._order[run])):
            self._set_run(segment, 0, last)

    def _set_run(self, run: int, order: int, sequence: int) -> None:
        for segment in range(run, run + (1 << order)):
            self._state[segment] = SEGMENT_CONTINUED
            self._order[segment] = 0
            self._first[segment] = run
            self._live[segment] = 0
            self._last_sequence[segment] = 0
            self.dirty_pages.add(segment // self.per_page)
        self._state[run] = SEGMENT_RUN
        self._order[run] = order
        self._last_sequence[run] = sequence

    def _clear_run(self, run: int) -> None:
        order = self._order[run]
        for segment in range(run, run + (1 << order)):
            self._state[segment] = SEGMENT_CLEAN
            self._order[segment] = 0
            self._first[segment] = -1
            self._last_sequence[segment] = 0
            self.dirty_pages.add(segment // self.per_page)
        self.buddy.free(run, order)

    # ------------------------------------------------------------------------ reuse

    def begin_checkpoint(self, open_runs: Iterable[int], next_sequence: int) -> None:
        """Note the runs that are dead at the checkpoint whose counts now stand."""
        excluded = set(open_runs)
        self._dead = [
            run
            for run, live, _, last in zip(*(c.tolist() for c in self.columns()), strict=True)
            if live == 0 and last < next_sequence and run not in excluded
        ]

    def checkpoint_durable(self) -> int:
        """Free what was dead at the checkpoint before this one; return the segments freed."""
        freed = 0
        still_dead = set(self._dead)
        for run in self._dead_before:
            assert run in still_dead, run
            freed += 1 << self._order[run]
            self._clear_run(run)
        gone = set(self._dead_before)
        self._dead_before = [run for run in self._dead if run not in gone]
        self._dead = []
        return freed

    @property
    def dead_segments(self) -> int:
        """Return how many segments the next checkpoint will make clean."""
        return sum(1 << self._order[run] for run in self._dead_before)
