"""Usage tables without a log, for the tests beside this file."""

from __future__ import annotations

from lfs.ondisk import SEGMENT_CLEAN, SEGMENT_RUN, Usage
from lfs.segments import usage_loading
from lfs.segments.usage import UsageTable
from tests.segments.logs import usage_table

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


def load(usage: UsageTable, entries: dict[int, Usage]) -> None:
    """Load a table of checkpoint 5 that is clean but for ``entries``."""
    end = max(entries) + 1
    clean = Usage(0, 0, SEGMENT_CLEAN, 0, 0)
    usage_loading.load_page(usage, 0, [entries.get(segment, clean) for segment in range(end)], 5)


def old_run(order: int, live_blocks: int = 0) -> Usage:
    return Usage(live_blocks, order, SEGMENT_RUN, 0, 30)
