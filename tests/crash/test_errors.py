"""Crashes of a disk that refuses a write, before, while and after that is made good.

The workloads are those of the explorer, on a disk where one write fails or
several do, wholly or in part.  The same must hold as on a good disk (P1, P2):
what was promised is there, whatever part of the writes since the last flush
arrived, and no request sees anything of it.
"""

from __future__ import annotations

import random

import pytest

from tests.crash.explorer import Task, Totals, explore_all
from tests.crash.recording import record, writes_of
from tests.crash.workloads import ace

STATES_MIN = 1_500


def tasks() -> list[Task]:
    """Return short workloads with an error at each of their writes, and some of the long ones.

    Of the shortest all states are looked at.
    """
    choose = random.Random("errors")
    chosen = []
    for length in (1, 2, 3):
        for number in choose.sample(range(ace.workload_count(length)), 4):
            name = f"seq{length}-{number}"
            write_count = sum(1 for _ in writes_of(record(name).events))
            for nth in range(1, write_count + 1):
                partial = choose.choice(["", " partial"])
                states_max = 24 if length == 3 else 0
                plan = f"error EIO{partial} on write nth {nth}"
                chosen.append(Task(f"{name}!{plan}", states_max, nth))
    for kind in ("clean", "full", "reuse", "random", "crowd"):
        for turn in range(2):
            number = choose.randrange(10**6)
            nth = choose.randrange(20, 140)
            chosen.append(Task(f"{kind}-{number}!error EIO on write nth {nth}", 40, turn))
            plan = f"error EIO partial on write every {nth} times 3"
            chosen.append(Task(f"{kind}-{number}!{plan}", 40, turn))
    return chosen


def test_crash_states_of_a_disk_with_write_errors(capsys: pytest.CaptureFixture[str]) -> None:
    totals = Totals()
    for outcome in explore_all(tasks()):
        totals.add(outcome)
    with capsys.disabled():
        print("", *totals.lines(), sep="\n")
    assert not totals.violations, "\n".join(totals.violations)
    assert len(totals.digests) >= STATES_MIN


def test_recording_tells_where_a_fault_struck() -> None:
    recording = record("seq2-84890!error EIO on write nth 4")
    first = recording.struck.index(True)
    assert recording.begun[first] > recording.begun[first - 1]
    assert len({recording.begun[count] for count, one in enumerate(recording.struck) if one}) == 1
