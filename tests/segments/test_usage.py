"""Which runs there are and what lives in them, as the usage table counts it."""

from __future__ import annotations

import pytest

from lfs.alloc.margins import cleaner_segments
from lfs.common.errors import DamageError
from lfs.ondisk import SEGMENT_CLEAN, SEGMENT_CONTINUED, SEGMENT_RUN
from lfs.segments import usage_loading
from lfs.segments.usage import UsageTable
from tests.segments.logs import SEGMENT_BLOCKS, usage_table
from tests.segments.tables import LATE, clean_table, load, old_run, open_run, states


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
