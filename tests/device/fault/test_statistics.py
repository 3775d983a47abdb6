from __future__ import annotations

import random

import numpy as np
import pytest

from lfs.device.fault.statistics import PERCENTILES, Latencies, OperationStatistics


def test_latencies_percentiles_are_right_within_an_eighth() -> None:
    generator = random.Random(1)
    times = [round(generator.lognormvariate(12, 2)) for _ in range(10_000)]
    latencies = Latencies()
    for time_ns in times:
        latencies.add(time_ns)
    for percent in PERCENTILES:
        exact = np.percentile(times, percent)
        assert latencies.percentile_ns(percent) == pytest.approx(exact, rel=1 / 8)
    assert latencies.max_ns == max(times)


def test_latencies_of_nothing_are_zero() -> None:
    assert Latencies().percentile_ns(50) == 0


def test_latencies_of_no_time_at_all_are_zero() -> None:
    latencies = Latencies()
    latencies.add(0)
    assert (latencies.percentile_ns(99), latencies.max_ns, latencies.count) == (0, 0, 1)


def test_latencies_percentile_is_never_above_the_longest() -> None:
    latencies = Latencies()
    for _ in range(10):
        latencies.add(1_060_000)
    assert latencies.percentile_ns(99.9) <= 1_060_000


def test_statistics_count_bytes_of_what_did_not_fail() -> None:
    statistics = OperationStatistics()
    statistics.note(4096, 1000, failed=False)
    statistics.note(512, 3000, failed=True)
    report = statistics.report()
    assert {name: report[name] for name in ("count", "bytes", "errors", "seeks")} == {
        "count": 2,
        "bytes": 4096,
        "errors": 1,
        "seeks": 0,
    }
    latency_ns = report["latency_ns"]
    assert isinstance(latency_ns, dict)
    assert list(latency_ns) == ["p50", "p90", "p99", "p99.9", "max"]
    assert latency_ns["max"] == 3000
