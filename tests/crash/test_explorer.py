"""The short run of the crash explorer: fixed seeds, and every kind of crash."""

from __future__ import annotations

import os
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, Flush, Mark, Write
from tests.crash import states
from tests.crash.explorer import Task, Totals, explore, explore_all, replay_state
from tests.crash.plans import long_plan, short_plan
from tests.crash.recording import ACTIVITIES, Activity, record
from tests.crash.workloads import ace
from tests.crash.workloads import names as workloads

STATES_MIN = 20_000
REPLAYED = os.environ.get("LFS_CRASH")


def test_crash_states_keep_the_promises(capsys: pytest.CaptureFixture[str]) -> None:
    if REPLAYED:
        violation = replay_state(REPLAYED)
        assert not violation, violation
        return
    totals = Totals()
    for outcome in explore_all(short_plan(1)):
        totals.add(outcome)
    with capsys.disabled():
        print("", *totals.lines(), sep="\n")
    assert not totals.violations, "\n".join(totals.violations)
    assert len(totals.digests) >= STATES_MIN
    wanted = {Activity(name, full) for name in ACTIVITIES for full in (False, True)}
    assert wanted <= totals.counts.keys()


@given(
    st.integers(1, 3).flatmap(
        lambda length: st.tuples(st.just(length), st.integers(0, ace.workload_count(length) - 1))
    )
)
@example((2, 4711))
@settings(max_examples=60, derandomize=True)
def test_crash_any_sequence_of_operations(case: tuple[int, int]) -> None:
    length, number = case
    outcome = explore(Task(f"seq{length}-{number}"))
    assert not outcome.violations, "\n".join(outcome.violations)


# -------------------------------------------------------------------- the explorer itself


def two_writes() -> states.Point:
    start = MemoryDevice(16384)
    events: list[Event] = [
        Write(0, b"a" * 512),
        Flush(),
        Write(4096, b"b" * 1024),
        Write(8192, b"c" * 2048),
        Mark("promised 1"),
    ]
    return states.point_at("key", start, events, 4)


def test_states_are_every_subset_of_few_writes() -> None:
    point = two_writes()
    contents = {
        variant: medium.read(4096, 512)[:1] + medium.read(8192, 512)[:1]
        for variant in states.variants(point)
        if "torn" not in variant
        for medium in [states.medium_of(point, variant)]
    }
    assert contents == {"all": b"bc", "killed": b"bc", "set-2": b"\0c"}


def test_states_of_a_torn_write_hold_some_of_its_sectors() -> None:
    point = two_writes()
    expected = {
        "torn-512-first@1": b"c...",
        "torn-512-half@1": b"cc..",
        "torn-512-not-first@1": b".ccc",
        "torn-512-not-last@1": b"ccc.",
        "torn-512-odd@1": b".c.c",
    }
    for variant, sectors in expected.items():
        assert variant in states.variants(point)
        raw = states.medium_of(point, variant).read(8192, 2048)
        found = bytes(raw[start] or ord(".") for start in range(0, 2048, 512))
        assert found == sectors, variant


@pytest.mark.parametrize("name", ["seq2-4711", "clean-1", "full-1"])
def test_states_are_the_same_every_time(name: str) -> None:
    task = Task(name, 40)
    first = explore(task)
    record.cache_clear()
    assert explore(task).digests == first.digests


def test_canary_formats_nothing() -> None:
    geometry = workloads.SMALLEST
    whole = workloads.empty_medium(geometry).read(0, geometry.device_bytes)
    workloads._formatted.cache_clear()
    explore(Task("seq1-185", 1, canary="checkpoint regions in turn"))
    assert workloads.empty_medium(geometry).read(0, geometry.device_bytes) == whole


def test_workloads_of_one_operation_are_all_different() -> None:
    scripts = {
        tuple((one.call, one.arguments) for one in ace.workload(1, number)[0])
        for number in range(ace.workload_count(1))
    }
    assert len(scripts) == ace.workload_count(1)


def test_workload_that_does_not_exist_is_refused() -> None:
    for name in ("seq1-99999999", "seq9-1", "nothing", "trace-nothing"):
        with pytest.raises(ValueError, match="workload"):
            workloads.find(name)


def test_plan_walks_every_sequence_once() -> None:
    plan = (task.workload for task in long_plan(5, "seq1-*") if not task.damaged)
    count = ace.workload_count(1)
    assert len(set(islice(plan, count))) == count
