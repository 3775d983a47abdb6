from __future__ import annotations

import random

import numpy as np
import pytest

from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.timing import Timing
from lfs.device.fault.when import Request

MS = 1_000_000
SIZE_BYTES = 1 << 30


def _timing(text: str) -> Timing:
    return Timing(parse_plan(text), SIZE_BYTES, lambda rule: random.Random(1))


def _complete(
    text: str, *requests: tuple[str, int, int, float], overtaking: tuple[int, ...] = ()
) -> list[float]:
    """Return when requests of operation, offset, length and arrival in ms are complete."""
    timing = _timing(text)
    return [
        timing.complete_ns(Request(operation, offset, length, round(at * MS)), number in overtaking)
        / MS
        for number, (operation, offset, length, at) in enumerate(requests, 1)
    ]


def _read(at: float = 0.0, length: int = 4096, offset: int = 0) -> tuple[str, int, int, float]:
    return "read", offset, length, at


def test_timing_without_rules_is_instant() -> None:
    assert _complete("loss 1%", _read(0), _read(5)) == [0, 5]


def test_timing_delays_run_side_by_side_and_add_up() -> None:
    assert _complete("delay 10ms", _read(0), _read(0), _read(1)) == [10, 10, 11]
    assert _complete("delay 10ms; delay 5ms", _read(0)) == [15]


def test_timing_delays_apart_for_each_operation() -> None:
    text = "delay 1ms on read; delay 2ms on write; delay 4ms on flush"
    requests = [_read(), ("write", 0, 512, 0.0), ("flush", 0, 0, 0.0), ("discard", 0, 512, 0.0)]
    assert _complete(text, *requests) == [1, 2, 4, 0]


def test_timing_delay_has_a_budget() -> None:
    assert _complete("delay 10ms times 2", *[_read()] * 4) == [10, 10, 0, 0]
    assert _complete("delay 10ms nth 2", *[_read()] * 4) == [0, 10, 0, 0]


def test_timing_jitter_is_that_of_the_distribution() -> None:
    timing = _timing("delay 10ms 2ms distribution normal")
    request = Request("read", 0, 512, 0)
    drawn = np.array([timing.complete_ns(request) for _ in range(20_000)]) / MS
    assert abs(drawn.mean() - 10) < 5 * 2 / np.sqrt(len(drawn))
    assert abs(drawn.std() - 2) < 5 * 2 / np.sqrt(2 * len(drawn))


def test_timing_overtaking_requests_are_not_delayed() -> None:
    requests = [_read(0), _read(1), _read(2)]
    assert _complete("delay 10ms", *requests, overtaking=(2,)) == [10, 1, 12]


# ---------------------------------------------------------------------------- rate


def test_timing_rate_takes_requests_one_after_the_other() -> None:
    # 8 mbit/s are 1000 bytes in a millisecond.
    requests = [_read(0, 1000), _read(0, 2000), _read(10, 500)]
    assert _complete("rate 8mbit", *requests) == [1, 3, 10.5]


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("rate 8mbit 100", 1000, 1.1),
        ("rate 8mbit 0 512", 1000, 1.024),
        ("rate 8mbit 0 512", 1024, 1.024),
        ("rate 8mbit 0 512 88", 1000, 1.2),
        ("rate 8mbit 100 512 88", 1000, 1.8),
        ("rate 8mbit 0 512", 0, 0),
    ],
)
def test_timing_rate_counts_overhead_and_cells(text: str, length: int, expected: float) -> None:
    assert _complete(text, _read(0, length)) == [expected]


def test_timing_rate_and_delay_add_up_once() -> None:
    # As in netem: the queue's throughput is the rate's, each request waits the delay besides.
    assert _complete("rate 8mbit; delay 10ms", *[_read(0, 1000)] * 3) == [11, 12, 13]


def test_timing_rate_is_of_data_alone() -> None:
    requests = [("flush", 0, 0, 0.0), ("discard", 0, 1 << 30, 0.0), ("write", 0, 1000, 0.0)]
    assert _complete("rate 8mbit", *requests) == [0, 0, 1]


# --------------------------------------------------------------------------- slots


def test_timing_slot_collects_what_is_ready_during_a_pause() -> None:
    # The first finds no slot and opens one 20 ms later; what comes before that goes with it.
    requests = [_read(1), _read(5), _read(21), _read(22)]
    assert _complete("slot 20ms", *requests) == [21, 21, 21, 42]


def test_timing_slot_takes_so_many_requests() -> None:
    assert _complete("slot 20ms requests 2", *[_read(1)] * 5) == [21, 21, 41, 41, 61]


def test_timing_slot_takes_so_many_bytes() -> None:
    requests = [_read(1, 4096), _read(1, 4096), _read(1, 4096)]
    assert _complete("slot 20ms bytes 4097", *requests) == [21, 21, 41]


def test_timing_slot_that_was_used_up_is_followed_by_one_pause() -> None:
    # As in netem, the next slot is 20 ms after the one that is full, not after the request.
    requests = [_read(1), _read(22), _read(50)]
    assert _complete("slot 20ms requests 1", *requests) == [21, 41, 61]
    assert _complete("slot 20ms requests 1", _read(1), _read(99)) == [21, 119]


def test_timing_slot_waits_for_what_is_delayed() -> None:
    assert _complete("delay 5ms; slot 20ms", _read(0), _read(1)) == [25, 25]


def test_timing_slot_pause_is_drawn_between_its_bounds() -> None:
    timing = _timing("slot 10ms 30ms requests 1")
    opened = [timing.complete_ns(Request("read", 0, 512, 0)) for _ in range(5001)]
    pauses = np.diff(np.array(opened)) / MS
    assert 10 <= pauses.min() < 10.1
    assert 29.9 < pauses.max() <= 30
    assert abs(pauses.mean() - 20) < 5 * (20 / np.sqrt(12)) / np.sqrt(5000)


def test_timing_slot_pause_follows_a_distribution() -> None:
    timing = _timing("slot distribution normal 50ms 5ms requests 1")
    opened = [timing.complete_ns(Request("read", 0, 512, 0)) for _ in range(5001)]
    pauses = np.diff(np.array(opened)) / MS
    assert abs(pauses.mean() - 50) < 5 * 5 / np.sqrt(5000)
    assert abs(pauses.std() - 5) < 5 * 5 / np.sqrt(2 * 5000)


# ---------------------------------------------------------------------------- seek


def test_timing_seek_sequential_is_free() -> None:
    requests = [_read(0, 4096, 0), _read(0, 4096, 4096), _read(0, 4096, 8192)]
    assert _complete("seek 1ms 9ms rotation 8ms", *requests) == [0, 0, 0]


def test_timing_seek_grows_with_the_root_of_the_distance() -> None:
    half, quarter = SIZE_BYTES // 2, SIZE_BYTES // 4
    assert _complete("seek 1ms 9ms", _read(0, 0, quarter)) == [1 + 8 * 0.5]
    assert _complete("seek 1ms 9ms", _read(0, 0, half)) == [
        pytest.approx(1 + 8 * 0.5**0.5, abs=1e-5)
    ]
    # Back again, and there: the arm is one, so the second waits for the first.
    there_and_back = _complete("seek 1ms 9ms", _read(0, 0, quarter), _read(0, 0, 0))
    assert there_and_back == [5, 10]


def test_timing_seek_heads_share_the_arm() -> None:
    # With 4 heads a quarter of the disk further is the same track under another head.
    assert _complete("seek 1ms 9ms heads 4", _read(0, 0, SIZE_BYTES // 4)) == [1]
    assert _complete("seek 1ms 9ms heads 4", _read(0, 0, SIZE_BYTES // 16)) == [5]


def test_timing_seek_waits_for_the_sector_to_come_round() -> None:
    timing = _timing("seek 1ms 1ms rotation 8ms")
    previous, waits = 0, []
    for number in range(5000):
        done = timing.complete_ns(Request("read", (number * 7919 % 997 + 1) * 4096, 512, 0))
        waits.append((done - previous) / MS - 1)
        previous = done
    assert min(waits) >= 0
    assert 7.9 < max(waits) <= 8
    assert abs(np.mean(waits) - 4) < 5 * (8 / np.sqrt(12)) / np.sqrt(5000)


def test_timing_seek_ignores_flushes() -> None:
    requests = [_read(0, 4096, 0), ("flush", 0, 0, 0.0), _read(0, 4096, 4096)]
    assert _complete("seek 5ms 5ms", *requests) == [0, 0, 0]


# --------------------------------------------------------------------------- limit


def test_timing_limit_lets_others_wait() -> None:
    assert _complete("delay 10ms; limit 2", *[_read(0)] * 5) == [10, 10, 20, 20, 30]


def test_timing_limit_is_free_again_when_requests_complete() -> None:
    assert _complete("delay 10ms; limit 1", _read(0), _read(4), _read(50)) == [10, 20, 60]
