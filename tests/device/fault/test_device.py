from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from lfs.common.errors import DeviceError
from lfs.device.fault.clock import RealClock
from lfs.device.fault.device import FAULTS_KEPT, CutReport, FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.power import Survival
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Flush, Mark, RecordingDevice, Write
from tests.device.fault.disks import BLOCK, SECTOR, SIZE_BYTES, Disk, fails
from tests.support.patience import HANG_SECONDS

MS = 1_000_000


def test_device_without_a_plan_is_transparent() -> None:
    inner = RecordingDevice(MemoryDevice(SIZE_BYTES))
    disk = FaultDevice(inner)
    disk.write(0, [b"a" * SECTOR, b"b" * SECTOR])
    disk.flush()
    disk.discard(0, BLOCK)
    assert disk.read(SECTOR, SECTOR) == inner.read(SECTOR, SECTOR)
    assert inner.events[:2] == [Write(0, b"a" * SECTOR + b"b" * SECTOR), Flush()]
    assert len(inner.events) == 3
    assert (disk.size_bytes, disk.align_bytes, disk.read_only) == (SIZE_BYTES, SECTOR, False)
    assert disk.plan == FaultPlan()
    assert not disk.faults


def test_device_forced_write_is_flushed_below() -> None:
    inner = RecordingDevice(MemoryDevice(SIZE_BYTES))
    FaultDevice(inner).write(0, [b"a" * SECTOR], force_unit_access=True)
    assert inner.events == [Write(0, b"a" * SECTOR), Flush()]


def test_device_errors_from_below_pass_through() -> None:
    inner = Disk("error EIO on read")
    outer = FaultDevice(inner)
    fails(errno.EIO, lambda: outer.read(0, SECTOR), "read failed by plan")
    assert outer.report()["operations"]["read"]["errors"] == 1
    assert not outer.faults


def test_device_bad_requests_are_refused_before_they_count() -> None:
    disk = Disk("vanish nth 1; cut at 1")
    fails(errno.EINVAL, lambda: disk.read(SIZE_BYTES, SECTOR), "outside")
    fails(errno.EINVAL, lambda: disk.write(100, [b"a" * SECTOR]), "outside")
    assert disk.report()["operations"]["write"]["count"] == 0
    assert disk.powered


def test_device_keeps_the_newest_faults_and_counts_all() -> None:
    disk = Disk("corrupt 100% on read")
    for _ in range(FAULTS_KEPT + 10):
        disk.read(0, SECTOR)
    assert len(disk.faults) == FAULTS_KEPT
    assert disk.faults[0].number == 11
    assert disk.fault_counts["corrupt"] == FAULTS_KEPT + 10
    assert len(disk.lines) == FAULTS_KEPT + 10


# ---------------------------------------------------------------------- another plan


def test_set_plan_begins_at_its_start() -> None:
    disk = Disk("error EIO nth 2 from 1ms on read; delay 1ms")
    disk.get(0)
    disk.set_plan(disk.plan)
    disk.get(0)
    disk.get(0)
    fails(errno.EIO, lambda: disk.get(0), "read failed")
    disk.set_plan(parse_plan("delay 5ms"))
    before = disk.clock.now_ns()
    disk.get(0)
    assert disk.clock.now_ns() - before == 5 * MS
    assert disk.report()["plan"] == "seed 0; delay 5ms"


def test_set_plan_shrinks_the_cache_to_its_new_size() -> None:
    disk = Disk("cache 1M")
    for block, letter in enumerate("abc"):
        disk.put(block, letter)
    disk.set_plan(parse_plan("cache 8K"))
    assert (disk.stored(3), disk.cached_count) == ("a..", 2)
    disk.set_plan(FaultPlan())
    assert (disk.stored(3), disk.cached_count) == ("abc", 0)
    disk.put(3, "d")
    assert disk.stored(4) == "abcd"


def test_set_plan_of_a_disk_without_power_leaves_it_off() -> None:
    disk = Disk("cache 1M")
    disk.cut()
    disk.set_plan(FaultPlan())
    fails(errno.EIO, lambda: disk.get(0), "the power is off")
    disk.restart()
    assert disk.get(0) == "."


# ----------------------------------------------------------------------------- power


def test_cut_leaves_what_survives_and_refuses_everything() -> None:
    disk = Disk("cache 1M")
    for block, letter in enumerate("abc"):
        disk.put(block, letter)
    report = disk.cut(Survival("writes", (1, 3)))
    assert report == CutReport((1, 3), 3)
    assert str(report) == "2 of 3 cached writes arrived (1 3)"
    assert disk.events[-1] == Mark("power cut: 2 of 3 cached writes arrived (1 3)")
    assert disk.lines == ["power cut: 2 of 3 cached writes arrived (1 3)"]
    assert disk.stored(3) == "a.c"
    for request in (
        lambda: disk.get(0),
        lambda: disk.put(0, "x"),
        disk.flush,
        lambda: disk.discard(0, BLOCK),
    ):
        fails(errno.EIO, request, "the power is off")
    assert not disk.report()["powered"]
    assert disk.cut() == CutReport((), 0)
    disk.restart()
    disk.restart()
    assert disk.get(2) == "c"
    assert str(disk.cut()) == "0 of 0 cached writes arrived"


def test_cut_uses_the_plans_survival() -> None:
    disk = Disk("cut at 9 survive all")
    disk.put(0, "a")
    assert disk.cut().survivors == (1,)
    assert disk.stored(1) == "a"


def _cycle(disk: Disk) -> int:
    """Write until the power goes, let it come back, and return during which write it went."""
    for count in range(1, 100):
        try:
            disk.put(count, "a")
        except DeviceError:
            fails(errno.EIO, lambda: disk.get(0), "the power is off")
            disk.restart()
            return count
    return 0


def test_cut_at_writes_goes_through_its_power_cycles() -> None:
    disk = Disk("cut at 3 5 2 survive all")
    assert [_cycle(disk) for _ in range(4)] == [3, 5, 2, 0]


@pytest.mark.parametrize(
    ("survival", "stored"), [("all", "ab"), ("none", ".."), ("writes 2", ".b")]
)
def test_cut_write_in_flight_is_among_those_that_may_arrive(survival: str, stored: str) -> None:
    disk = Disk(f"cut at 2 survive {survival}")
    disk.put(0, "a")
    fails(errno.EIO, lambda: disk.put(1, "b"), "the power went during the write at byte 4096")
    assert disk.stored(2) == stored
    assert disk.events[-2] == Write(BLOCK, b"b" * BLOCK)


def test_cut_keeps_what_was_flushed() -> None:
    disk = Disk("cut at 3 survive none")
    disk.put(0, "a")
    disk.flush()
    disk.put(1, "b")
    fails(errno.EIO, lambda: disk.put(2, "c"), "the power went")
    assert disk.stored(3) == "a.."


def test_cut_after_a_time_strikes_the_next_request() -> None:
    disk = Disk("cut after 10ms")
    disk.put(0, "a")
    disk.clock.advance_ns(10 * MS)
    fails(errno.EIO, lambda: disk.get(0), "the power is off")
    disk.restart()
    disk.get(0)
    disk.clock.advance_ns(10 * MS)
    fails(errno.EIO, lambda: disk.get(0), "the power is off")


def test_cut_at_a_mark() -> None:
    disk = Disk('cut mark "half way" survive none')
    disk.put(0, "a")
    disk.mark("start")
    assert disk.get(0) == "a"
    disk.mark("half way")
    fails(errno.EIO, lambda: disk.get(0), "the power is off")
    assert disk.stored(1) == "."
    assert disk.events == [
        Write(0, b"a" * BLOCK),
        Mark("start"),
        Mark("half way"),
        Mark("power cut: 0 of 1 cached writes arrived"),
    ]


def test_cut_linear_loses_power_at_every_write_in_turn() -> None:
    disk = Disk("cut linear survive all")
    assert [_cycle(disk) for _ in range(6)] == [1, 2, 3, 4, 5, 6]


# ------------------------------------------------------------------------- statistics


def test_statistics_count_requests_bytes_and_seeks() -> None:
    disk = Disk("delay 2ms on read; delay 1ms on write; error EIO nth 3 on read")
    disk.put(0, "a")
    disk.put(1, "b")
    disk.get(0)
    disk.get(1)
    fails(errno.EIO, lambda: disk.get(9), "read failed")
    disk.flush()
    operations = disk.report()["operations"]
    assert {name: each["count"] for name, each in operations.items()} == {
        "read": 3,
        "write": 2,
        "flush": 1,
        "discard": 0,
    }
    assert (operations["read"]["bytes"], operations["write"]["bytes"]) == (2 * BLOCK, 2 * BLOCK)
    assert (operations["read"]["errors"], operations["write"]["errors"]) == (1, 0)
    # The first read goes back to the start, and the third leaves a hole.
    assert (operations["read"]["seeks"], operations["write"]["seeks"]) == (2, 0)
    assert operations["read"]["latency_ns"]["max"] == 2 * MS
    assert operations["write"]["latency_ns"]["p50"] == pytest.approx(MS, rel=1 / 8)
    assert operations["flush"]["latency_ns"]["max"] == 0
    assert operations["discard"]["latency_ns"]["p99"] == 0


def test_statistics_percentiles_show_the_slow_requests() -> None:
    disk = Disk("delay 1ms; delay 99ms every 20")
    for _ in range(1000):
        disk.get(0)
    latency_ns = disk.report()["operations"]["read"]["latency_ns"]
    assert latency_ns["p50"] == latency_ns["p90"] == pytest.approx(MS, rel=1 / 8)
    assert latency_ns["p99"] == pytest.approx(100 * MS, rel=1 / 8)
    assert latency_ns["max"] == 100 * MS


# ---------------------------------------------------------------------------- threads


def _in_threads(count: int, work: Callable[[int], None]) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads


def test_threads_are_delayed_side_by_side() -> None:
    disk = FaultDevice(MemoryDevice(SIZE_BYTES), parse_plan("delay 1s"), RealClock())
    start = time.monotonic()
    for thread in _in_threads(8, lambda number: disk.write(number * BLOCK, [b"a" * BLOCK])):
        thread.join()
    elapsed = time.monotonic() - start
    # One after the other they would take 8 s.
    assert 1 <= elapsed < 7
    assert disk.report()["operations"]["write"]["latency_ns"]["max"] >= 1000 * MS


def test_threads_share_a_rate() -> None:
    # 8 blocks at 400 KiB/s take 80 ms together.
    disk = FaultDevice(MemoryDevice(SIZE_BYTES), parse_plan("rate 400kibps"), RealClock())
    start = time.monotonic()
    for thread in _in_threads(8, lambda number: disk.write(number * BLOCK, [b"a" * BLOCK])):
        thread.join()
    assert time.monotonic() - start >= 0.08


def test_threads_at_once_lose_no_request_and_no_fault() -> None:
    plan = parse_plan("cache 64K; corrupt 100% every 10; reorder 20%; loss 10% ecn")
    disk = FaultDevice(MemoryDevice(SIZE_BYTES), plan, RealClock())

    def work(number: int) -> None:
        for _ in range(200):
            disk.write(number * BLOCK, [bytes([number + 1]) * BLOCK])
            disk.read(number * BLOCK, BLOCK)
            disk.flush()

    for thread in _in_threads(4, work):
        thread.join()
    operations = disk.report()["operations"]
    assert [operations[name]["count"] for name in ("read", "write", "flush")] == [800] * 3
    assert disk.fault_counts["corrupt"] == 160
    assert disk.fault_counts.total() == len(disk.faults)
    assert [fault.number for fault in disk.faults] == list(range(1, len(disk.faults) + 1))


def test_pause_holds_every_thread_until_resume() -> None:
    disk = FaultDevice(MemoryDevice(SIZE_BYTES), clock=RealClock())
    done: list[int] = []
    disk.pause()

    def work(number: int) -> None:
        disk.write(number * BLOCK, [b"a" * BLOCK])
        done.append(number)

    threads = _in_threads(3, work)
    time.sleep(0.3)
    assert not done
    assert disk.report()["paused"]
    assert disk.report()["operations"]["write"]["count"] == 0
    disk.resume()
    for thread in threads:
        thread.join(timeout=HANG_SECONDS)
    assert sorted(done) == [0, 1, 2]
    assert not disk.report()["paused"]
    # The wait is part of the latency.
    assert disk.report()["operations"]["write"]["latency_ns"]["p50"] >= 40 * MS


def test_pause_does_not_hold_back_plans_and_cuts() -> None:
    disk = FaultDevice(MemoryDevice(SIZE_BYTES), parse_plan("cache 1M"), RealClock())
    failures: list[int | None] = []
    disk.pause()

    def work(_: int) -> None:
        try:
            disk.read(0, BLOCK)
        except DeviceError as error:
            failures.append(error.errno)

    threads = _in_threads(2, work)
    disk.set_plan(parse_plan("cache 2M"))
    disk.cut()
    disk.resume()
    for thread in threads:
        thread.join(timeout=HANG_SECONDS)
    assert failures == [errno.EIO] * 2


def test_pause_is_over_when_the_device_is_closed() -> None:
    disk = FaultDevice(MemoryDevice(SIZE_BYTES), clock=RealClock())
    disk.pause()
    (thread,) = _in_threads(1, lambda _: disk.flush())
    disk.close()
    thread.join(timeout=HANG_SECONDS)
    assert not thread.is_alive()
