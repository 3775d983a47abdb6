from __future__ import annotations

import time

from lfs.device.fault.clock import RealClock, VirtualClock


def test_virtual_clock_moves_only_when_it_is_waited_on() -> None:
    clock = VirtualClock()
    assert clock.now_ns() == 0
    clock.sleep_until_ns(500)
    clock.sleep_until_ns(100)
    assert clock.now_ns() == 500
    clock.advance_ns(50)
    assert clock.now_ns() == 550


def test_real_clock_sleeps_until_its_time_and_no_less() -> None:
    clock = RealClock()
    start = time.monotonic_ns()
    clock.sleep_until_ns(clock.now_ns() + 20_000_000)
    assert time.monotonic_ns() - start >= 20_000_000
    clock.sleep_until_ns(start)
