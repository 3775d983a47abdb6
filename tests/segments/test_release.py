"""When a run that is empty may be written again (FORMAT.md, the rule of reuse)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.ondisk import SEGMENT_CLEAN, SEGMENT_RUN
from lfs.segments.usage import UsageTable
from tests.segments.logs import SEGMENT_BLOCKS
from tests.segments.tables import LATE, clean_table, open_run, states


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
