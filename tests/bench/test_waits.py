"""Waits from times that are given here."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from bench import waits
from bench.systems.ours import Lfs
from bench.waits import Probe, Waits, clocked
from bench.workloads.workload import QUICK, Context


def test_waits_are_median_99th_percentile_and_longest() -> None:
    seconds = [number / 1000 for number in range(200, 0, -1)]
    found = Waits.of(seconds)
    assert (found.p50_ms, found.p99_ms, found.longest_ms) == pytest.approx((101, 199, 200))
    assert Waits.of([0.5]) == Waits(500, 500, 500)


def test_waits_less_what_the_device_took() -> None:
    alone = Waits(0.25, 1.0, 30.0)
    probed = Waits(0.25, 1.0, 30.0, device=Waits(0.1, 0.6, 12.0))
    assert alone.longest_beyond_device_ms == 30
    assert probed.longest_beyond_device_ms == 18
    assert alone.p99_to_p50 == 4
    # The device's own 99th percentile is half a millisecond above its median.
    assert probed.p99_to_p50 == pytest.approx(2)
    slower = Waits(0.25, 1.0, 30.0, device=Waits(1.0, 9.0, 40.0))
    assert (slower.longest_beyond_device_ms, slower.p99_to_p50) == (0, 1)


@pytest.mark.parametrize("device", [None, Waits(1, 2, 3)])
def test_waits_come_back_from_json(device: Waits | None) -> None:
    found = Waits(4, 5, 6, device)
    assert Waits.from_json(found.as_json()) == found


def test_each_operation_is_clocked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def take(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert clocked(take, [1, 3, 2]) == [1, 3, 2]


class _Host:
    """A system of which only the order of calls counts."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def settle(self) -> None:
        self.steps.append("settle")

    def remount(self) -> None:
        self.steps.append("remount")


def test_probes_come_between_parts_of_the_work_and_count_to_no_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, host = [0.0], _Host()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class ProbeOfTwo(Probe):
        def seconds(self, duration_seconds: float) -> list[float]:
            host.steps.append("probe")
            assert duration_seconds == pytest.approx(0.02)
            now[0] += 100
            return [0.005, 0.015]

    def operation(number: int) -> None:
        host.steps.append(str(number))
        now[0] += 0.01

    def finish() -> None:
        host.steps.append("finish")
        now[0] += 0.6

    def watch(count: float) -> AbstractContextManager[None]:
        host.steps.append(f"watch {count:g}")
        return nullcontext()

    probe = ProbeOfTwo(tmp_path)
    context = Context(host, tmp_path, QUICK, watch, probe)  # type: ignore[arg-type]  # a stand-in
    found = context.each(operation, range(40), finish, cold=True, probed=True)
    probe.close()
    parts = [step for number in range(0, 40, 2) for step in (str(number), str(number + 1), "probe")]
    assert host.steps == ["remount", "settle", "watch 40", *parts, "finish"]
    assert found.value == pytest.approx(40)
    assert found.waits is not None
    assert found.waits.device == Waits(15, 15, 15)
    assert found.waits.longest_ms == pytest.approx(10)
    host.steps.clear()
    unprobed = context.each(operation, range(3))
    assert unprobed.waits is not None
    assert unprobed.waits.device is None
    assert host.steps == ["settle", "watch 3", "0", "1", "2"]


def test_probe_writes_on_its_own_file_as_long_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "_PROBE_FILE_BYTES", 4 * waits.PROBE_BYTES)
    probe = Probe(tmp_path)
    places: list[int] = []

    def clocked_as_a_quarter(write: object, offsets: list[int]) -> list[float]:
        places.extend(offsets)
        return [0.25]

    monkeypatch.setattr(waits, "clocked", clocked_as_a_quarter)
    assert probe.seconds(1.0) == [0.25] * 4
    assert len(probe.seconds(0.0)) == 1
    assert [place // waits.PROBE_BYTES for place in places] == [0, 1, 2, 3, 0]
    probe._write(places[1])
    probe.close()
    content = (tmp_path / "probe").read_bytes()
    assert len(content) == 4 * waits.PROBE_BYTES
    assert any(content[waits.PROBE_BYTES : 2 * waits.PROBE_BYTES])
    assert not any(content[2 * waits.PROBE_BYTES :])


def test_lfs_keeps_no_processor_awake_unless_it_is_told() -> None:
    assert Lfs.mount_options == "cpu_latency=any"
