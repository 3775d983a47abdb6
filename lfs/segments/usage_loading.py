"""The usage table as a mount finds it: from pages of a checkpoint, and from the log after it.

Order: the pages, one by one; where they lie themselves; what the log unmapped; the runs
that it went to (``claim_run``); then ``finish_loading``, which offers what is clean.
What comes from the disk is held against its bounds before anything is counted by it.

Held by ``tests/segments/test_usage_pages.py``.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence

from lfs.common.errors import DamageError
from lfs.ondisk import SEGMENT_RUN, SEQUENCE_MAX, USAGE_OLD_METADATA, Usage, UsagePage
from lfs.segments.usage import UsageTable


def load_page(
    usage: UsageTable, index: int, entries: Sequence[Usage], checkpoint_number: int
) -> None:
    """Take over usage page ``index`` of a checkpoint; raises DamageError when absurd."""
    segments = usage.segments
    base = index * usage.per_page
    if base + len(entries) > usage.segment_count:
        raise DamageError(f"usage page {index} describes segments past the last one")
    for segment, entry in enumerate(entries, base):
        if entry.state != SEGMENT_RUN:
            continue
        _check_run(usage, segment, entry)
        if segments.first[segment] >= 0:
            raise DamageError(f"segment {segment} begins a run within another one")
        usage.set_run(segment, entry.order, entry.last_sequence)
        segments.live[segment] = entry.live_blocks
        if entry.flags & USAGE_OLD_METADATA:
            segments.metadata_until[segment] = checkpoint_number + 1
        usage.live_total += entry.live_blocks


def load_place(usage: UsageTable, address: int, page: UsagePage) -> None:
    """Take over where a usage page of the checkpoint lies; after all were loaded.

    It may be a run that was opened when the page that describes it had been written.
    Raises DamageError when that can't be.
    """
    claim_run(usage, page.run_address, page.run_blocks, page.sequence)
    usage.add_pages(address, 1)


def keep_older_page(usage: UsageTable, address: int, needed_until: int) -> None:
    """Keep the run with a usage page of the older checkpoint until one is durable."""
    run = usage.run_of(address)
    if run >= 0:
        until = usage.segments.metadata_until
        until[run] = max(until[run], needed_until)


def lose(usage: UsageTable, live_total: int) -> None:
    """Note that what is in use is not known: from now on everything counts as if it were.

    Enough to read by, not to write by.
    """
    usage.is_lost = True
    usage.live_total = live_total
    usage.segments.first[:] = array("i", [0]) * usage.segment_count


def claim_run(usage: UsageTable, address: int, blocks: int, sequence: int) -> None:
    """Take the run at ``address``, where a log write or usage page was found, as in use.

    Runs that the checkpoint still lists there have lost all live blocks to the
    log; what the new run leaves of them stays empty.  Called after what the
    log unmapped has been dropped, and before ``finish_loading``.
    """
    segments = usage.segments
    run = usage.segment_of(address)
    order = (blocks // usage.segment_blocks).bit_length() - 1
    entry = Usage(0, order, SEGMENT_RUN, 0, sequence)
    if order < 0 or usage.address_of(run) != address or run < 0:
        raise DamageError(f"log write in an impossible run at {address}")
    _check_run(usage, run, entry)
    if segments.first[run] == run and segments.order[run] == order:
        usage.touch_run(run, max(sequence, segments.last_sequence[run]))
        return
    for segment in range(run, run + (1 << order)):
        if segments.first[segment] >= 0:
            _dissolve(usage, segments.first[segment])
    usage.set_run(run, order, sequence)


def _dissolve(usage: UsageTable, run: int) -> None:
    segments = usage.segments
    if segments.live[run]:
        raise DamageError(f"run at {usage.address_of(run)} was reused while it had live blocks")
    last = segments.last_sequence[run]
    for segment in range(run, run + (1 << segments.order[run])):
        usage.set_run(segment, 0, last)


def _check_run(usage: UsageTable, segment: int, entry: Usage) -> None:
    count = 1 << entry.order
    fits = segment % count == 0 and segment + count <= usage.segment_count
    fits = fits and entry.last_sequence <= SEQUENCE_MAX
    if not fits or entry.live_blocks > count * usage.segment_blocks:
        raise DamageError(f"usage of segment {segment} is impossible: {entry}")


def finish_loading(usage: UsageTable, open_runs: Collection[int]) -> None:
    """Find the empty runs and offer all clean segments to the allocator.

    ``open_runs`` will be written further.
    """
    segments = usage.segments
    if usage.is_lost:
        return
    empty = {run for run in usage.runs() if segments.live[run] == 0}
    usage.reuse.begin(empty, open_runs)
    for clean in segments.clean_ranges():
        usage.buddy.free_range(clean.start, len(clean))
