"""What pages of the usage table say when a mount loads them, and where they lie."""

from __future__ import annotations

import pytest

from lfs.common.errors import DamageError
from lfs.ondisk import SEGMENT_CLEAN, SEGMENT_RUN, USAGE_OLD_METADATA, Usage, UsagePage
from lfs.segments import usage_loading
from tests.segments.logs import SEGMENT_BLOCKS, usage_table
from tests.segments.tables import LATE, clean_table, load, old_run, open_run, states


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
