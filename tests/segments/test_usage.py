from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.alloc.margins import cleaner_segments
from lfs.common.errors import DamageError
from lfs.ondisk import (
    SEGMENT_CLEAN,
    SEGMENT_CONTINUED,
    SEGMENT_RUN,
    USAGE_OLD_METADATA,
    Usage,
    UsagePage,
)
from lfs.segments import usage_loading
from lfs.segments.usage import UsageTable
from tests.segments.logs import SEGMENT_BLOCKS, usage_table

LATE = 1000
"""A sequence or checkpoint number that holds nothing back."""


def clean_table() -> UsageTable:
    usage = usage_table()
    usage_loading.finish_loading(usage, ())
    return usage


def open_run(usage: UsageTable, order: int = 0, sequence: int = 1) -> int:
    run = usage.open_run(order, sequence)
    assert run is not None
    return run


def states(usage: UsageTable) -> list[int]:
    return [
        entry.state for page in range(usage.page_count) for entry in usage.page_entries(page, 0)
    ]


def test_usage_counts_live_blocks_by_run() -> None:
    usage = clean_table()
    one, other = open_run(usage, 2), open_run(usage)
    # The last segment of the run counts for its first.
    usage.add_live(usage.address_of(one + 3), SEGMENT_BLOCKS)
    usage.add_live(usage.address_of(other), 3)
    usage.drop_live(usage.address_of(one + 3) + 1, 2)
    assert usage.live_blocks(one) == SEGMENT_BLOCKS - 2
    assert usage.live_blocks(other) == 3
    assert usage.live_total == SEGMENT_BLOCKS + 1
    assert usage.has_live(usage.address_of(one))
    assert not usage.has_live(usage.address_of(500))


def test_usage_dropping_more_than_lives_is_told_and_leaves_no_count_below_zero() -> None:
    usage = clean_table()
    run = open_run(usage)
    usage.add_live(usage.address_of(run), 2)
    with pytest.raises(DamageError):
        usage.drop_live(usage.address_of(run), 3)
    told: list[DamageError] = []
    usage.on_damage = told.append
    usage.drop_live(usage.address_of(run), 4)
    assert len(told) == 1
    assert (usage.live_blocks(run), usage.live_total) == (0, 0)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_usage_run_of_any_order_is_aligned_and_counted(order: int) -> None:
    usage = clean_table()
    clean_blocks = usage.clean_blocks
    # Something small first, so that alignment is not for free.
    open_run(usage)
    run = open_run(usage, order, 5)
    assert run % (1 << order) == 0
    assert usage.run_blocks(run) == SEGMENT_BLOCKS << order
    assert usage.last_sequence(run) == 5
    assert usage.clean_blocks == clean_blocks - SEGMENT_BLOCKS * (1 + (1 << order))
    assert states(usage)[run : run + (1 << order)] == (
        [SEGMENT_RUN] + [SEGMENT_CONTINUED] * ((1 << order) - 1)
    )


def test_usage_run_is_no_larger_than_the_cleaner_can_move() -> None:
    usage = clean_table()
    largest = open_run(usage, 10)
    assert usage.run_blocks(largest) == SEGMENT_BLOCKS << usage.order_max
    assert usage.run_blocks(largest) < cleaner_segments(usage.segment_count) * SEGMENT_BLOCKS


def test_usage_run_that_could_not_be_moved_is_left_alone_for_ever_longer() -> None:
    usage = clean_table()
    run = open_run(usage)
    usage.add_live(usage.address_of(run), 5)
    now_ns, waits_ns = 0, []
    for _ in range(20):
        usage.note_immovable(run, now_ns)
        begun_ns = now_ns
        while [*usage.immovable_runs(now_ns)] == [run]:
            now_ns += 10**9
        waits_ns.append(now_ns - begun_ns)
        # All that lives in it can be read, and one block, it turns out, can't.
        usage.note_movable(run)
        assert not usage.out_of_use.immovable
    assert waits_ns[:3] == [10 * 10**9, 20 * 10**9, 40 * 10**9]
    assert waits_ns[-1] == 3600 * 10**9
    usage.note_immovable(run, now_ns)
    usage.drop_live(usage.address_of(run), 1)
    assert not [*usage.immovable_runs(now_ns)]


def test_usage_large_run_keeps_what_it_takes_once_it_is_movable_again() -> None:
    usage = UsageTable(0, SEGMENT_BLOCKS, 2000, 4096)
    usage_loading.finish_loading(usage, ())
    run = usage.open_large_run(usage.order_most, 1)
    assert run is not None
    kept_blocks = usage.large_runs.breakup_blocks
    assert kept_blocks
    usage.note_immovable(run, 0)
    assert (usage.large_runs.runs, usage.large_runs.breakup_blocks) == (set(), 0)
    usage.note_movable(run)
    assert (usage.large_runs.runs, usage.large_runs.breakup_blocks) == ({run}, kept_blocks)


def test_usage_run_is_smaller_when_free_space_is_in_pieces() -> None:
    usage = clean_table()
    runs = [open_run(usage) for _ in range(usage.segment_count)]
    assert usage.open_run(0, 1) is None
    for run in runs[8:10] + runs[20:21]:
        usage.add_live(usage.address_of(run), 1)
        usage.drop_live(usage.address_of(run), 1)
    usage.note_commit(2, set(runs) - {8, 9, 20})
    usage.release(2, LATE, LATE)
    assert usage.open_run(3, 3) == 8
    assert usage.run_blocks(8) == 2 * SEGMENT_BLOCKS
    assert usage.open_run(3, 3) == 20
    assert usage.open_run(3, 3) is None


def test_usage_holds_only_what_lies_in_one_run() -> None:
    usage = clean_table()
    run, following = open_run(usage, 1), open_run(usage, 1)
    assert following == run + 2
    start = usage.address_of(run)
    assert usage.holds(start, 2 * SEGMENT_BLOCKS)
    assert not usage.holds(start, 2 * SEGMENT_BLOCKS + 1)
    assert not usage.holds(usage.first_segment_block - 1, 1)
    assert not usage.holds(usage.address_of(usage.segment_count), 1)
    assert not usage.holds(usage.address_of(following + 2), 1)
    assert usage.run_of(start + 2 * SEGMENT_BLOCKS - 1) == run
    assert usage.run_of(usage.address_of(following + 2)) == -1
    assert usage.run_of(usage.address_of(usage.segment_count)) == -1


def emptied_run(usage: UsageTable) -> int:
    """Return a run whose last block, a node of checkpoint 5, died before commit 20."""
    run = open_run(usage, 1, 10)
    address = usage.address_of(run)
    usage.add_live(address, 1)
    usage.touch_run(run, 12)
    usage.drop_metadata(address, 7)
    usage.note_commit(20, ())
    return run


@pytest.mark.parametrize(
    ("flushed_sequence", "log_start", "checkpoint_number"),
    [(19, LATE, LATE), (LATE, 12, LATE), (LATE, LATE, 6)],
    ids=["not flushed", "log needed", "metadata needed"],
)
def test_usage_run_is_held_back_by_one_condition_alone(
    flushed_sequence: int, log_start: int, checkpoint_number: int
) -> None:
    usage = clean_table()
    clean_blocks = usage.clean_blocks
    run = emptied_run(usage)
    usage.release(flushed_sequence, log_start, checkpoint_number)
    assert states(usage)[run] == SEGMENT_RUN
    assert usage.unreleased_segments == 2
    usage.release(20, 13, 7)
    assert states(usage)[run : run + 2] == [SEGMENT_CLEAN] * 2
    assert usage.clean_blocks == clean_blocks
    assert usage.unreleased_segments == 0


def test_usage_run_is_released_while_others_are_held_back() -> None:
    usage = clean_table()
    held = open_run(usage, sequence=30)
    usage.note_commit(30, ())
    usage.release(30, 13, 7)
    run = emptied_run(usage)
    usage.release(30, 13, 7)
    assert states(usage)[held] == SEGMENT_RUN
    assert states(usage)[run] == SEGMENT_CLEAN
    usage.release(30, 31, 7)
    assert states(usage)[held] == SEGMENT_CLEAN


def test_usage_open_run_is_not_released_while_empty() -> None:
    usage = clean_table()
    run = open_run(usage)
    usage.note_commit(5, (run,))
    usage.release(LATE, LATE, LATE)
    assert states(usage)[run] == SEGMENT_RUN
    usage.note_commit(6, ())
    usage.release(LATE, LATE, LATE)
    assert states(usage)[run] == SEGMENT_CLEAN


def test_usage_run_with_live_blocks_is_never_released() -> None:
    usage = clean_table()
    run = open_run(usage)
    usage.add_live(usage.address_of(run), 2)
    usage.drop_live(usage.address_of(run), 1)
    usage.note_commit(5, ())
    usage.release(LATE, LATE, LATE)
    assert states(usage)[run] == SEGMENT_RUN


def load(usage: UsageTable, entries: dict[int, Usage]) -> None:
    """Load a table of checkpoint 5 that is clean but for ``entries``."""
    end = max(entries) + 1
    clean = Usage(0, 0, SEGMENT_CLEAN, 0, 0)
    usage_loading.load_page(usage, 0, [entries.get(segment, clean) for segment in range(end)], 5)


def old_run(order: int, live_blocks: int = 0) -> Usage:
    return Usage(live_blocks, order, SEGMENT_RUN, 0, 30)


def test_usage_claim_of_the_same_run_keeps_its_counts() -> None:
    usage = usage_table()
    load(usage, {4: old_run(1, 9)})
    usage_loading.claim_run(usage, usage.address_of(4), 2 * SEGMENT_BLOCKS, 40)
    assert usage.live_blocks(4) == 9
    assert usage.last_sequence(4) == 40


def test_usage_claim_over_smaller_runs_replaces_them() -> None:
    usage = usage_table()
    load(usage, {4: old_run(0), 6: old_run(1)})
    usage_loading.claim_run(usage, usage.address_of(4), 4 * SEGMENT_BLOCKS, 40)
    assert [usage.run_of(usage.address_of(segment)) for segment in range(3, 9)] == [
        *(-1, 4, 4, 4, 4, -1)
    ]
    usage.add_live(usage.address_of(7), 3)
    assert usage.live_blocks(4) == 3


def test_usage_claim_inside_a_larger_run_leaves_the_rest_empty() -> None:
    usage = usage_table()
    load(usage, {4: old_run(2)})
    usage_loading.claim_run(usage, usage.address_of(6), SEGMENT_BLOCKS, 40)
    assert [usage.run_of(usage.address_of(segment)) for segment in range(4, 8)] == [4, 5, 6, 7]
    usage.add_live(usage.address_of(6), 1)
    usage_loading.finish_loading(usage, ())
    # What is left of it is free as soon as its log is no longer needed.
    usage.release(LATE, 30, LATE)
    assert states(usage)[4:8] == [SEGMENT_RUN] * 4
    usage.release(LATE, 31, LATE)
    assert states(usage)[4:8] == [SEGMENT_CLEAN, SEGMENT_CLEAN, SEGMENT_RUN, SEGMENT_CLEAN]


def test_usage_claim_over_live_blocks_is_damage() -> None:
    usage = usage_table()
    load(usage, {4: old_run(1, 1)})
    with pytest.raises(DamageError, match="live blocks"):
        usage_loading.claim_run(usage, usage.address_of(5), SEGMENT_BLOCKS, 40)


@pytest.mark.parametrize(
    ("segment", "offset", "blocks"),
    [
        (4, 1, SEGMENT_BLOCKS),
        (5, 0, 2 * SEGMENT_BLOCKS),
        (4, 0, SEGMENT_BLOCKS // 2),
        (-1, 0, SEGMENT_BLOCKS),
        (1 << 20, 0, SEGMENT_BLOCKS),
    ],
    ids=["inside", "unaligned", "too small", "before", "past the end"],
)
def test_usage_claim_of_an_impossible_run_is_damage(segment: int, offset: int, blocks: int) -> None:
    usage = usage_table()
    with pytest.raises(DamageError):
        usage_loading.claim_run(usage, usage.address_of(segment) + offset, blocks, 40)


def test_usage_pages_come_back() -> None:
    usage = clean_table()
    for order in (0, 3, 1, 2, 0):
        run = open_run(usage, order, 10 + order)
        usage.add_live(usage.address_of(run), order + 2)
        usage.drop_metadata(usage.address_of(run), 5 + order)
    loaded = usage_table()
    for page in range(usage.page_count):
        usage_loading.load_page(loaded, page, usage.page_entries(page, 6), 6)
    usage_loading.finish_loading(loaded, ())
    assert list(loaded.partly_live(1.0)) == list(usage.partly_live(1.0)) != []
    assert loaded.live_total == usage.live_total
    assert loaded.clean_blocks == usage.clean_blocks
    assert [loaded.run_of(loaded.address_of(s)) for s in range(32)] == [
        usage.run_of(usage.address_of(s)) for s in range(32)
    ]


def test_usage_page_flags_metadata_of_the_checkpoint_before() -> None:
    usage = clean_table()
    run = open_run(usage)
    usage.add_live(usage.address_of(run), 1)
    usage.drop_metadata(usage.address_of(run), 7)
    assert usage.page_entries(0, 6)[run].flags == USAGE_OLD_METADATA
    assert usage.page_entries(0, 7)[run].flags == 0
    loaded = usage_table()
    usage_loading.load_page(loaded, 0, usage.page_entries(0, 6), 6)
    usage_loading.finish_loading(loaded, ())
    loaded.release(LATE, LATE, 6)
    assert states(loaded)[run] == SEGMENT_RUN
    loaded.release(LATE, LATE, 7)
    assert states(loaded)[run] == SEGMENT_CLEAN


@pytest.mark.parametrize(
    "entries",
    [
        {1: old_run(1)},
        {0: old_run(0, SEGMENT_BLOCKS + 1)},
        {0: old_run(12)},
    ],
    ids=["unaligned", "too many live blocks", "past the end"],
)
def test_usage_page_with_an_impossible_run_is_damage(entries: dict[int, Usage]) -> None:
    with pytest.raises(DamageError):
        load(usage_table(), entries)


def test_usage_page_past_the_last_segment_is_damage() -> None:
    usage = usage_table()
    last = usage.page_count - 1
    with pytest.raises(DamageError, match="past the last"):
        usage_loading.load_page(usage, last, [old_run(0)] * usage.per_page, 5)


def test_usage_dirty_pages_are_those_that_changed() -> None:
    usage = clean_table()
    run = open_run(usage)
    usage.dirty_pages.clear()
    usage.add_live(usage.address_of(run), 1)
    assert usage.dirty_pages == {run // usage.per_page}


def test_usage_page_that_moves_changes_no_page() -> None:
    """Where pages lie is told by their pointers, so that any of them may be written first."""
    usage = clean_table()
    run, other = open_run(usage, 0, 10), open_run(usage, 0, 11)
    usage.add_live(usage.address_of(run), 2)
    before = usage.page_entries(0, 5)
    usage.dirty_pages.clear()
    usage.add_pages(usage.address_of(run) + 2, 3)
    usage.add_pages(usage.address_of(other), 1)
    usage.drop_page(usage.address_of(run) + 2, 6)
    assert usage.live_blocks(run) == 4
    assert usage.live_total == 5
    assert usage.dirty_pages == set()
    assert [entry._replace(flags=0) for entry in usage.page_entries(0, 5)] == before


def test_usage_page_in_a_run_that_its_own_page_has_as_clean_is_found() -> None:
    usage = clean_table()
    entries = usage.page_entries(0, 5)
    run = open_run(usage, 1, 20)
    address = usage.address_of(run) + 3
    loaded = usage_table()
    usage_loading.load_page(loaded, 0, entries, 5)
    loaded.dirty_pages.clear()
    usage_loading.load_place(
        loaded, address, UsagePage((), 20, usage.address_of(run), 2 * SEGMENT_BLOCKS)
    )
    usage_loading.finish_loading(loaded, ())
    assert loaded.live_blocks(run) == loaded.live_total == 1
    assert loaded.run_blocks(run) == 2 * SEGMENT_BLOCKS
    assert loaded.last_sequence(run) == 20
    assert loaded.clean_blocks == usage.clean_blocks
    # The table on disk lacks it, so the next checkpoint writes that page.
    assert 0 in loaded.dirty_pages


def test_usage_page_of_the_older_checkpoint_keeps_its_run() -> None:
    usage = clean_table()
    run = open_run(usage)
    usage.add_pages(usage.address_of(run), 1)
    usage.drop_page(usage.address_of(run), 0)
    loaded = usage_table()
    usage_loading.load_page(loaded, 0, usage.page_entries(0, 6), 6)
    usage_loading.keep_older_page(loaded, usage.address_of(run), 7)
    usage_loading.finish_loading(loaded, ())
    loaded.release(LATE, LATE, 6)
    assert states(loaded)[run] == SEGMENT_RUN
    loaded.release(LATE, LATE, 7)
    assert states(loaded)[run] == SEGMENT_CLEAN


class Model:
    """The rule of reuse, run by run, as FORMAT.md states it."""

    def __init__(self, usage: UsageTable) -> None:
        """Start with no run."""
        self.usage = usage
        self.live: dict[int, int] = {}
        self.closed: set[int] = set()
        self.emptied_at: dict[int, int] = {}
        self.sequence = 0
        self.flushed = 0
        self.starts = [0, 0]

    def free(self) -> None:
        """Forget the runs that nothing needs any more."""
        for run in [*self.emptied_at]:
            flushed = self.emptied_at[run] <= self.flushed
            if flushed and self.usage.last_sequence(run) < self.starts[0]:
                del self.live[run], self.emptied_at[run]
                self.closed.discard(run)

    def check(self) -> None:
        """Hold the table against this and against its own invariants."""
        usage = self.usage
        assert list(usage.runs()) == sorted(self.live)
        assert {run: usage.live_blocks(run) for run in usage.runs()} == self.live
        assert usage.live_total == sum(self.live.values())
        clean = states(usage).count(SEGMENT_CLEAN)
        assert usage.buddy.free_units == clean
        assert usage.clean_blocks == clean * SEGMENT_BLOCKS


CHANGES = st.tuples(
    st.sampled_from(["open", "close", "map", "unmap", "unmap", "commit", "flush", "checkpoint"]),
    st.integers(0, 1 << 16),
)


@given(st.lists(CHANGES, max_size=80))
def test_usage_invariants_hold_through_any_changes(changes: list[tuple[str, int]]) -> None:
    usage = clean_table()
    model = Model(usage)
    for change, number in changes:
        model.sequence += 1
        opened = sorted(model.live.keys() - model.closed)
        living = [run for run in sorted(model.live) if model.live[run]]
        if change == "open":
            model.live[open_run(usage, number % 5, model.sequence)] = 0
        elif change == "close" and opened:
            model.closed.add(opened[number % len(opened)])
        elif change == "map" and opened:
            run = opened[number % len(opened)]
            count = 1 + number % SEGMENT_BLOCKS
            if model.live[run] + count <= usage.run_blocks(run):
                usage.touch_run(run, model.sequence)
                usage.add_live(usage.address_of(run), count)
                model.live[run] += count
        elif change == "unmap" and living:
            run = living[number % len(living)]
            count = 1 + number % model.live[run]
            usage.drop_live(usage.address_of(run), count)
            model.live[run] -= count
        elif change in ("commit", "checkpoint"):
            usage.note_commit(model.sequence, opened)
            for run in model.closed:
                if not model.live[run]:
                    model.emptied_at.setdefault(run, model.sequence)
        if change in ("flush", "checkpoint"):
            model.flushed = model.sequence
            if change == "checkpoint":
                model.starts = [model.starts[1], model.sequence + 1]
            usage.release(model.flushed, model.starts[0], 0)
            model.free()
        model.check()
