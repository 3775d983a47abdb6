"""Workloads that lose power at planned writes and go on reach the same tree."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.crash.power import positions, run_schedule


@pytest.mark.parametrize("schedule", ["none", "linear", "log", "3,5,2", "0,0,0,1,1,1,7"])
@pytest.mark.parametrize("name", ["seq2-4711", "seq3-98765", "random-3", "clean-2", "full-3"])
def test_power_goes_as_scheduled(name: str, schedule: str) -> None:
    runs = list(run_schedule(name, schedule))
    assert len(runs) == 1
    assert "replays" not in runs[0], runs[0]


@pytest.mark.parametrize("name", ["seq1-155", "seq2-4711", "seq2-31415"])
def test_power_goes_at_every_write_two_cuts_deep(name: str) -> None:
    runs = list(run_schedule(name, "exhaustive-2"))
    broken = [run for run in runs if "replays" in run]
    assert not broken, "\n".join(broken)
    assert len(runs) == len(set(runs)) > 50


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [1, 2, 3, 4]), ("log", [1, 2, 4, 8]), ("3,5", [3, 5, 1 << 62, 1 << 62])],
)
def test_positions_of_a_schedule(schedule: str, expected: list[int]) -> None:
    assert list(islice(positions(schedule), 4)) == expected
