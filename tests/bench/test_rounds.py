"""A whole run, so small that it measures nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.runner import run_rounds
from bench.systems.ours import Ceiling
from bench.workloads.workload import MIB, Context, Scale, Workload
from bench.workloads.workloads import WORKLOADS

TINY = Scale(
    files=20,
    syncs=5,
    stream_bytes=4 * MIB,
    overwrites=10,
    many_files=20,
    disk_bytes=MIB,
    idle_seconds=0,
)


class NotInstalled(Ceiling):
    name = "not-installed"
    programs = ("no-such-program",)


def fail(context: Context) -> float:
    raise OSError("this workload fails")


@pytest.mark.fuse
def test_rounds_measure_every_workload_and_leave_nothing_mounted(tmp_path: Path) -> None:
    failing = Workload("failing", "metadata", "/s", "", fail)
    results = run_rounds([Ceiling, NotInstalled], [*WORKLOADS, failing], TINY, 1, tmp_path, MIB)
    groups = {workload.name: workload.group for workload in WORKLOADS}
    assert results.samples.keys() == {
        name for name, group in groups.items() if group not in ("aged", "aged reading")
    }
    probed = {name for name, by_system in results.waits.items() if by_system["ceiling"][0].device}
    assert probed == {name for name, group in groups.items() if group == "fsync"}
    assert {"create", "unlink", "create many", "unlink cold", "random write"} < results.waits.keys()
    for by_system in results.samples.values():
        [value] = by_system["ceiling"]
        assert value > 0
    assert results.problems == [
        "not-installed left out: no-such-program is not installed",
        "failing fails on ceiling: this workload fails",
    ]
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
