"""The segment usage table in memory: live blocks and runs.

Theory.  A segment is clean, or begins a run, or goes on with one.  What is live in a run
is counted; when that is nothing, it is on its way to be clean (``lfs.segments.reuse``).
Errors take runs and segments out of use (``lfs.segments.out_of_use``).

Usage pages.  What the pages of the table occupy is live here, but no page counts it: a
checkpoint's pointers tell.  So a page that moves changes no other page, and what is
packed first need not know where the rest will be (FORMAT.md, "Usage page").  A page is
*dirty* when it differs from what the last checkpoint has of it.

Invariants: ``live_total`` is the sum of all live counts; the buddy allocator's
free units are exactly the clean segments that are not withheld; only the first
segment of a run carries counts; an empty run that is not open never gains live
blocks; a run without a log write (last sequence 0) has been given up, and is clean
as soon as it is empty.
Memory: that of ``SegmentTable``, and a number for each run with a usage page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from lfs.alloc import margins
from lfs.alloc.buddy import BuddyAllocator
from lfs.common.errors import DamageError
from lfs.ondisk import (
    SEGMENT_RUN,
    USAGE_OLD_METADATA,
    Usage,
    usage_per_page,
)
from lfs.segments.large_runs import LargeRuns
from lfs.segments.out_of_use import OutOfUse
from lfs.segments.reuse import Reuse
from lfs.segments.segment_table import SegmentTable


def _raise(error: DamageError) -> None:
    raise error


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
        self.order_max = margins.order_max(segment_count, segment_blocks * block_bytes)
        self.order_most = margins.order_most(segment_count, segment_blocks * block_bytes)
        self.large_runs = LargeRuns(self.order_max, segment_blocks)
        self.buddy = BuddyAllocator(segment_count, segment_count.bit_length())
        self.segments = segments = SegmentTable(segment_count)
        self._live, self._last_sequence = segments.live, segments.last_sequence
        self._first, self._order = segments.first, segments.order
        self._state, self._metadata_until = segments.state, segments.metadata_until
        self._pages: dict[int, int] = {}
        """How many usage pages lie in a run, of those that have any."""
        self.reuse = Reuse()
        self.out_of_use = OutOfUse()
        self.is_lost = False
        self.on_damage: Callable[[DamageError], None] = _raise
        """Told once the table is found to be wrong: what is clean can't be trusted then."""

    def page_entries(self, index: int, checkpoint_number: int) -> list[Usage]:
        """Return the entries of usage page ``index`` for a checkpoint.

        It is no longer dirty: whatever changes later makes it so again.
        """
        self.dirty_pages.discard(index)
        pages = self._pages
        base = index * self.per_page
        end = min(base + self.per_page, self.segment_count)
        return [
            Usage(
                self._live[s] - pages.get(s, 0),
                self._order[s],
                self._state[s],
                USAGE_OLD_METADATA if self._metadata_until[s] > checkpoint_number else 0,
                self._last_sequence[s],
            )
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
        offset = address - self.first_segment_block
        first, last = offset // self.segment_blocks, (offset + count - 1) // self.segment_blocks
        if not 0 <= first <= last < self.segment_count:
            return False
        run = self._first[first]
        return run >= 0 and (first == last or run == self._first[last])

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
        self.reuse.empty.discard(run)

    def drop_live(self, address: int, count: int) -> None:
        """Count ``count`` blocks at ``address``, all in one run, as dead."""
        run = self._first[(address - self.first_segment_block) // self.segment_blocks]
        assert run >= 0, address
        pages = self._pages
        left = self._live[run] - count
        spare = left - pages.get(run, 0) if pages else left
        if spare < 0:
            self._note_wrong_count(run, count, -spare)
            left = self._live[run] - count
        self._live[run] = left
        self.live_total -= count
        self.dirty_pages.add(run // self.per_page)
        if left == 0:
            self._note_empty(run)

    def _note_wrong_count(self, run: int, count: int, missing: int) -> None:
        """Tell that ``run`` counts fewer live blocks than die; it counts as many from now on."""
        live = self._live[run]
        self._live[run] += missing
        self.live_total += missing
        self.on_damage(
            DamageError(
                f"run at {self.address_of(run)}: {count} blocks of {live} live ones have died"
            )
        )

    def _note_empty(self, run: int) -> None:
        if self._last_sequence[run]:
            self.reuse.empty.add(run)
        else:
            self.reuse.empty.discard(run)
            self._clear_run(run)

    def drop_metadata(self, address: int, needed_until: int) -> None:
        """Count a node or usage page as dead, which a checkpoint refers to.

        Its run stays as it is until checkpoint ``needed_until`` is durable.
        """
        run = self._first[self.segment_of(address)]
        self.drop_live(address, 1)
        if self._state[run] == SEGMENT_RUN:
            self._metadata_until[run] = max(self._metadata_until[run], needed_until)

    def add_pages(self, address: int, count: int) -> None:
        """Count ``count`` usage pages at ``address``, all in one run, as live."""
        run = self._first[self.segment_of(address)]
        assert run >= 0, address
        self._live[run] += count
        self._pages[run] = self._pages.get(run, 0) + count
        self.live_total += count
        self.reuse.empty.discard(run)

    def drop_page(self, address: int, needed_until: int) -> None:
        """Count a usage page as dead; its run stays until a checkpoint is durable."""
        run = self._first[self.segment_of(address)]
        self._live[run] -= 1
        self._pages[run] -= 1
        assert self._pages[run] >= 0, address
        if not self._pages[run]:
            del self._pages[run]
        self.live_total -= 1
        self._metadata_until[run] = max(self._metadata_until[run], needed_until)
        if self._live[run] == 0:
            self._note_empty(run)

    def has_live(self, address: int) -> bool:
        """Tell whether the run that holds ``address``, if any, has live blocks."""
        run = self.run_of(address)
        return run >= 0 and self._live[run] > 0

    def live_blocks(self, run: int) -> int:
        """Return the live blocks of the run that starts at segment ``run``."""
        return self._live[run]

    # ------------------------------------------------------------------------- runs

    def runs(self) -> Iterator[int]:
        """Yield the first segment of every run in use."""
        return self.segments.runs(0, self.segment_count)

    def run_blocks(self, run: int) -> int:
        """Return the size of a run in blocks."""
        return self.segment_blocks << self._order[run]

    def last_sequence(self, run: int) -> int:
        """Return the sequence number of the youngest log write in a run."""
        return self._last_sequence[run]

    def partly_live(
        self, utilisation_max: float, start: int = 0, count: int | None = None
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield the runs with live blocks, as a share of their size at most ``utilisation_max``.

        Each with its live blocks, its size in blocks and its last sequence number.  Those that
        begin in ``count`` segments from ``start`` on.
        """
        live, order, last = self._live, self._order, self._last_sequence
        for run in self.segments.runs(start, self.segment_count if count is None else count):
            blocks = self.segment_blocks << order[run]
            if live[run] and live[run] / blocks <= utilisation_max:
                yield run, live[run], blocks, last[run]

    @property
    def clean_blocks(self) -> int:
        """Return the blocks in segments that can be allocated now."""
        return self.buddy.free_units * self.segment_blocks

    def open_run(self, order: int, sequence: int) -> int | None:
        """Allocate a run of 2**order segments, or a smaller one when there is none.

        Returns its first segment, or None when no segment is clean.  None is larger
        than what the cleaner can always empty.
        """
        return self._open_run(min(order, self.order_max), sequence)

    def open_large_run(self, order: int, sequence: int) -> int | None:
        """Allocate one that may be larger; the caller has seen that there is space for it."""
        return self._open_run(min(order, self.order_most), sequence)

    def _open_run(self, order: int, sequence: int) -> int | None:
        for smaller in range(order, -1, -1):
            run = self.buddy.allocate(smaller)
            if run is not None:
                self.set_run(run, smaller, sequence)
                self.reuse.empty.add(run)
                return run
        return None

    def touch_run(self, run: int, sequence: int) -> None:
        """Note that log write ``sequence`` went into ``run``."""
        if self._last_sequence[run] != sequence:
            self._last_sequence[run] = sequence
            self.dirty_pages.add(run // self.per_page)

    def set_run(self, run: int, order: int, sequence: int) -> None:
        """Take segments into a run of its own, without live blocks; all pages of it are dirty."""
        for segment in self.segments.set_run(run, order, sequence):
            self.dirty_pages.add(segment // self.per_page)
            self.large_runs.discard(segment)
        self.large_runs.add(run, order)

    def _clear_run(self, run: int) -> None:
        order = self._order[run]
        segments = self.segments.clear_run(run)
        self.dirty_pages.update(segment // self.per_page for segment in segments)
        self.out_of_use.forget(run)
        self.large_runs.discard(run)
        if self.out_of_use.withheld.isdisjoint(segments):
            self.buddy.free(run, order)
            return
        for segment in segments:
            if segment not in self.out_of_use.withheld:
                self.buddy.free(segment, 0)

    # ----------------------------------------------------------------------- errors

    def give_up(self, run: int, segments: Collection[int], last_sequence: int) -> None:
        """Take a run out of use because a write to some of its segments failed.

        ``last_sequence`` is the last log write in it that did not fail, 0 if none.
        """
        self.out_of_use.given_up.add(run)
        self.large_runs.discard(run)
        self.out_of_use.withheld.update(segments)
        self.touch_run(run, last_sequence)
        if self._live[run] == 0:
            self._note_empty(run)

    def note_immovable(self, run: int, elapsed_ns: int) -> None:
        """Note that something in a run can't be moved: no use to clean it for a while."""
        self.out_of_use.note_immovable(run, self._live[run], elapsed_ns)
        self.large_runs.discard(run)

    def note_movable(self, run: int) -> None:
        """Note that all that lives in a run can be read: it is like others."""
        if self.out_of_use.immovable.pop(run, None) is not None:
            self.large_runs.add(run, self._order[run])

    def immovable_runs(self, elapsed_ns: int) -> Iterator[int]:
        """Yield the runs that it is no use to clean now."""
        return self.out_of_use.immovable_runs(self._live.__getitem__, elapsed_ns)

    def withhold(self, is_usable: Callable[[int], bool], open_runs: Collection[int]) -> None:
        """Take segments that are not usable out of use, until the next mount.

        Those of runs in use go with these, but for the open ones: to clean them would gain
        nothing.
        """
        for run in self.runs():
            segments = range(run, run + (1 << self._order[run]))
            unusable = [segment for segment in segments if not is_usable(segment)]
            if unusable and run not in open_runs:
                self.give_up(run, unusable, self._last_sequence[run])
        for clean in self.segments.clean_ranges():
            for segment in clean:
                if segment not in self.out_of_use.withheld and not is_usable(segment):
                    self.buddy.reserve(segment, 0)
                    self.out_of_use.withheld.add(segment)

    @property
    def lost_blocks(self) -> int:
        """Return the blocks without live ones that errors have taken out of use."""
        out_of_use = self.out_of_use
        if not (out_of_use.withheld or out_of_use.given_up or out_of_use.immovable):
            return 0
        withheld = sum(1 for segment in out_of_use.withheld if self._first[segment] < 0)
        runs = out_of_use.given_up.union(out_of_use.immovable)
        in_use = sum(self.run_blocks(run) - self._live[run] for run in runs)
        return withheld * self.segment_blocks + in_use

    # ------------------------------------------------------------------------ reuse

    @property
    def has_emptied(self) -> bool:
        """Tell whether ``note_commit`` has runs to look at."""
        return bool(self.reuse.empty)

    def note_commit(self, sequence: int, open_runs: Collection[int]) -> None:
        """Collect the runs that are empty in the commit that ended with ``sequence``."""
        self.reuse.note_commit(sequence, open_runs, self._is_empty)

    def _is_empty(self, run: int) -> bool:
        return self._state[run] == SEGMENT_RUN and self._live[run] == 0

    def release(self, flushed_sequence: int, log_start: int, checkpoint_number: int) -> None:
        """Free the empty runs that nothing needs any more.

        The log was flushed up to ``flushed_sequence``; ``log_start`` is the first
        log write that the older checkpoint's roll-forward needs, and
        ``checkpoint_number`` the newest durable checkpoint.
        """

        def is_needed(run: int) -> bool:
            return (
                self._last_sequence[run] >= log_start
                or self._metadata_until[run] > checkpoint_number
            )

        needs = log_start, checkpoint_number
        for run in self.reuse.release(flushed_sequence, needs, is_needed):
            self._clear_run(run)

    @property
    def unreleased_segments(self) -> int:
        """Return how many empty segments wait for a flush or a checkpoint."""
        return sum(1 << self._order[run] for run in self.reuse.runs())
