from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.device.fault.plan import units


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (units.read_probability, "1%", 0.01),
        (units.read_probability, "1", 0.01),
        (units.read_probability, ".5", 0.005),
        (units.read_probability, "100", 1.0),
        (units.read_probability, "0%", 0.0),
        (units.read_probability, "1:1000", 0.001),
        (units.read_probability, "2.5:10", 0.25),
        (units.read_time_ns, "300", 300_000),
        (units.read_time_ns, "300us", 300_000),
        (units.read_time_ns, "300usecs", 300_000),
        (units.read_time_ns, "7ns", 7),
        (units.read_time_ns, "10ms", 10_000_000),
        (units.read_time_ns, "10msec", 10_000_000),
        (units.read_time_ns, "1.5s", 1_500_000_000),
        (units.read_time_ns, "2secs", 2_000_000_000),
        (units.read_time_ns, "2m", 120 * 10**9),
        (units.read_time_ns, "1h", 3600 * 10**9),
        (units.read_rate, "8000", 1000.0),
        (units.read_rate, "8kbit", 1000.0),
        (units.read_rate, "1kibit", 128.0),
        (units.read_rate, "1Mbit", 125_000.0),
        (units.read_rate, "20mbps", 20e6),
        (units.read_rate, "1gibps", float(1 << 30)),
        (units.read_size_bytes, "512", 512),
        (units.read_size_bytes, "4K", 4096),
        (units.read_size_bytes, "4KiB", 4096),
        (units.read_size_bytes, "1.5m", 3 << 19),
        (units.read_size_bytes, "2G", 2 << 30),
        (units.read_size_bytes, "1T", 1 << 40),
        (units.read_range, "1M-2M", (1 << 20, 2 << 20)),
        (units.read_range, "1M+4K", (1 << 20, (1 << 20) + 4096)),
        (units.read_range, "1M-", (1 << 20, 2**62)),
        (units.read_count, "3", 3),
        (units.read_whole, "0", 0),
    ],
)
def test_units_number_is_read_as_netem_reads_it(
    read: Callable[[str], Any], text: str, value: object
) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (units.read_probability, ["", "x", "101%", "-1%", "1:0", "2:1", "1:2:3", "1ms", "1:2%"]),
        (units.read_time_ns, ["", "x", "-1ms", "1x", "1%", "9999999999h", "1 ms", "1e3"]),
        (units.read_rate, ["", "0", "0mbit", "1mb", "1x", "9" * 400]),
        (units.read_size_bytes, ["", "K", "1X", "-1", "9999999T"]),
        (units.read_range, ["", "1M", "2M-1M", "1M-1M", "1M+0", "1M+", "-1M", "1-x", "x-1"]),
        (units.read_count, ["", "0", "-1", "1.5", "x"]),
        (units.read_whole, ["", "-1", "1.5"]),
    ],
)
def test_units_impossible_number_is_refused(read: Callable[[str], Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"^a[n]? (probability|time|rate|size|range|whole)"):
            read(text)


@given(st.floats(0, 1))
def test_units_probability_is_written_exactly(value: float) -> None:
    text = units.show_probability(value)
    assert text.endswith("%")
    assert units.read_probability(text) == value


@given(st.integers(1, 10**18))
def test_units_ratio_is_written_exactly(divisor: int) -> None:
    value = units.read_probability(f"1:{divisor}")
    assert units.read_probability(units.show_probability(value)) == value


@given(st.floats(1e-300, 1e300))
def test_units_rate_is_written_exactly(bits: float) -> None:
    assert units.read_rate(units.show_rate(bits / 8)) == bits / 8


@given(st.integers(0, 2**53))
def test_units_times_and_sizes_are_written_exactly(value: int) -> None:
    assert units.read_time_ns(units.show_time(value)) == value
    assert units.read_size_bytes(units.show_size(value)) == value


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (units.show_probability(0.001), "0.1%"),
        (units.show_probability(1.0), "100%"),
        (units.show_probability(0.07), "7%"),
        (units.show_time(1_500_000), "1500us"),
        (units.show_time(2_000_000_000), "2s"),
        (units.show_time(0), "0ns"),
        (units.show_rate(12.5e6), "100mbit"),
        (units.show_rate(0.3), "2.4bit"),
        (units.show_size(1536), "1536"),
        (units.show_size(64 << 20), "64M"),
        (units.show_range((4096, 2**62)), "4K-"),
        (units.show_range((0, 512)), "0-512"),
    ],
)
def test_units_number_is_written_in_its_largest_whole_unit(shown: str, text: str) -> None:
    assert shown == text
