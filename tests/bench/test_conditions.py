"""What the filesystem is judged by, from figures that are given here."""

from __future__ import annotations

import pytest

from bench.conditions import CONDITIONS, condition_table, findings
from bench.runner import Results
from bench.systems.systems import SYSTEMS
from bench.waits import Waits
from bench.workloads.workloads import WORKLOADS

PEERS = [system.name for system in SYSTEMS if system.name != "lfs"]


def results_with(own: float, waits: Waits) -> Results:
    """Return what there is when lfs has ``own`` everywhere and all others have 1."""
    samples = {
        workload.name: {name: [1.0] for name in PEERS}
        | {"lfs": [own if workload.more_is_better else 1 / own]}
        for workload in WORKLOADS
    }
    waited = {workload.name: {"lfs": [waits]} for workload in WORKLOADS}
    return Results(samples=samples, waits=waited)


@pytest.mark.parametrize("place", range(len(CONDITIONS)))
def test_condition_holds_at_its_limit_and_not_beyond(place: int) -> None:
    condition = CONDITIONS[place]
    for factor in (0.99, 1.01):
        reached = condition.limit * factor
        finding = findings(results_with(reached, Waits(1.0, reached, reached)))[place]
        assert finding.figure == pytest.approx(reached)
        assert finding.holds is (factor < 1 if condition.at_most else factor > 1)
        assert finding.cells[3] == ("holds" if finding.holds else "**missed**")


def test_conditions_say_their_limits() -> None:
    assert [condition.limit for condition in CONDITIONS] == [
        *(1.0, 0.6, 1.0, 0.7),
        *(1.0, 3.0),
        *(20.0, 0.8, 0.7),
        *(1.0, 1.0),
    ]
    for condition in CONDITIONS:
        assert f"{condition.limit:g} {'ms' if condition.unit else 'x'}" in condition.target
        assert ("at most" in condition.target) is condition.at_most


def test_nothing_holds_that_was_not_measured() -> None:
    head, *rows = condition_table(Results())
    assert head == ["work", "target", "measured", ""]
    assert [row[2:] for row in rows] == [["-", "not measured"]] * len(CONDITIONS)
    assert not any(finding.holds for finding in findings(Results()))


def test_one_bad_workload_is_enough_where_each_counts() -> None:
    results = results_with(2.0, Waits(1.0, 1.0, 1.0))
    for workload, value in (("list cold", 0.5), ("sqlite", 0.9), ("overwrite 90%", 0.6)):
        results.samples[workload]["lfs"] = [value]
    results.samples["read aged 75%"]["lfs"] = [0.7]
    results.waits["replace+fsync"]["lfs"] = [Waits(1.0, 4.0, 4.0)]
    results.waits["overwrite 75%"]["lfs"] = [Waits(1.0, 1.0, 21.0)]
    missed = [finding.cells[2] for finding in findings(results) if not finding.holds]
    assert missed == [
        "0.50 (list cold)",
        "0.90 (sqlite)",
        "4.00 (replace+fsync)",
        "21.0 ms (overwrite 75%)",
        "0.70 (read aged 75%)",
        "0.60 (overwrite 90%)",
    ]


def test_waits_are_the_median_of_the_runs_less_what_the_device_took_in_each() -> None:
    results = results_with(2.0, Waits(1.0, 1.0, 1.0))
    results.waits["overwrite 75%"]["lfs"] = [
        Waits(1.0, 1.0, own, device=Waits(1.0, 1.0, device))
        for own, device in ((500.0, 1.0), (60.0, 50.0), (30.0, 15.0), (8.0, 4.0), (90.0, 10.0))
    ]
    [finding] = [one for one in findings(results) if one.condition.unit == " ms"]
    # 499, 10, 15, 4, 80
    assert finding.cells[2] == "15.0 ms (overwrite 75%)"


def test_best_peer_is_one_in_c_through_fuse() -> None:
    results = results_with(1.5, Waits(1.0, 1.0, 1.0))
    for by_system in results.samples.values():
        by_system |= {"ext4": [9.0], "ceiling": [9.0], "lfs-awake": [9.0]}
    assert all(finding.holds for finding in findings(results) if "C FUSE" in finding.cells[1])
    for by_system in results.samples.values():
        by_system["bindfs"] = [9.0]
    assert not any(finding.holds for finding in findings(results) if "C FUSE" in finding.cells[1])
