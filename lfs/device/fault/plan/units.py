"""The numbers of a fault plan: how they are written, read, and written again.

The units are netem's: a bare probability is a percentage, a bare time is
microseconds, a bare rate is bits in a second.  Sizes are bytes, written as in
``lfs.common.sizes``.  ``show_*`` gives the shortest text that reads back as
the same value, so that a plan survives being printed.

A ``read_*`` raises ValueError with what was expected, in words that go into
``PlanError``.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from lfs.common.sizes import parse_size

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(.*)", re.DOTALL)
_TIME_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_TIME_WORDS = {"usec": "us", "usecs": "us", "msec": "ms", "msecs": "ms", "sec": "s", "secs": "s"}
_RATE_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_RATE_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_RATES_BITS = {
    prefix + unit: factor * bits
    for prefix, factor in (_RATE_PREFIXES | _RATE_BINARY).items()
    for unit, bits in (("bit", 1), ("bps", 8))
}
_TIME_NS_MAX = 2**62
_SIZE_BYTES_MAX = 2**62


def looks_like_number(text: str) -> bool:
    """Tell whether ``text`` begins as a number does."""
    return _NUMBER.match(text) is not None


def _split(text: str, expected: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(expected)
    return float(match[1]), match[2]


def read_count(text: str) -> int:
    """Return a whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number above 0")
    return int(text)


def read_whole(text: str) -> int:
    """Return a whole number, zero included."""
    if not text.isdecimal():
        raise ValueError("a whole number")
    return int(text)


def read_probability(text: str) -> float:
    """Return 0 to 1 from ``1%``, ``1`` (also a percentage, as in netem) or ``1:100``."""
    expected = "a probability from 0% to 100%, such as 0.1% or 1:1000"
    number, rest = _split(text, expected)
    if rest.startswith(":"):
        divisor, unit = _split(rest[1:], expected)
        if unit or not divisor:
            raise ValueError(expected)
        value = number / divisor
    elif rest in ("", "%"):
        # Decimal, because not every double is another one divided by 100.
        value = float(Decimal(text.removesuffix("%")) / 100)
    else:
        raise ValueError(expected)
    if not 0 <= value <= 1:
        raise ValueError(expected)
    return value


def read_time_ns(text: str) -> int:
    """Return nanoseconds from ``10ms``, ``1.5s``, or ``300`` (microseconds)."""
    expected = "a time such as 10ms, 1.5s or 300us"
    number, unit = _split(text, expected)
    factor = _TIME_NS.get(_TIME_WORDS.get(unit, unit or "us"))
    if factor is None or number * factor > _TIME_NS_MAX:
        raise ValueError(expected)
    return round(number * factor)


def read_size_bytes(text: str) -> int:
    """Return bytes from ``4096``, ``4K``, ``1.5MiB`` or ``10MB``."""
    expected = "a size such as 512, 4K or 1.5M"
    try:
        size_bytes = parse_size(text)
    except ValueError:
        raise ValueError(expected) from None
    if size_bytes > _SIZE_BYTES_MAX:
        raise ValueError(expected)
    return size_bytes


def read_rate(text: str) -> float:
    """Return bytes in a second from ``100mbit``, ``20mbps`` (bytes) or ``8000`` (bits)."""
    expected = "a rate above 0 such as 100mbit or 20mibps (bytes)"
    number, unit = _split(text, expected)
    bits = _RATES_BITS.get(unit.lower() or "bit")
    if bits is None or number == 0 or not math.isfinite(number * bits):
        raise ValueError(expected)
    return number * bits / 8


def read_range(text: str) -> tuple[int, int]:
    """Return ``(start, end)`` in bytes, end exclusive, from ``1M-2M``, ``1M+4K`` or ``1M-``."""
    expected = "a range such as 1M-2M (up to, not including, 2M), 1M+4K or 1M-"
    for sign in "-+":
        first, found, second = text.partition(sign)
        if not found:
            continue
        try:
            start = read_size_bytes(first)
            end = read_size_bytes(second) if second or sign == "+" else _SIZE_BYTES_MAX
        except ValueError:
            raise ValueError(expected) from None
        if sign == "+":
            end += start
        if start >= end:
            raise ValueError(expected)
        return start, end
    raise ValueError(expected)


def _shortest(value: float, units: list[tuple[str, float]]) -> str:
    """Return ``value`` in the largest unit that gives a whole number, else in the last unit."""
    for unit, factor in units:
        if value >= factor and value % factor == 0:
            return f"{int(value // factor)}{unit}"
    unit, factor = units[-1]
    return f"{int(value // factor)}{unit}"


def show_probability(value: float) -> str:
    """Write a probability as a percentage; raises nothing."""
    return _decimal(Decimal(repr(value)) * 100) + "%"


def _decimal(value: Decimal) -> str:
    """Write all digits of a number, without an exponent."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def show_time(value_ns: int) -> str:
    """Write a time."""
    return _shortest(value_ns, [("s", 10**9), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)])


def show_size(value_bytes: int) -> str:
    """Write a size."""
    return _shortest(value_bytes, [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)])


def show_rate(bytes_per_second: float) -> str:
    """Write a rate in bits in a second."""
    bits = bytes_per_second * 8
    if bits == int(bits):
        return _shortest(bits, [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1)])
    return _decimal(Decimal(repr(bits))) + "bit"


def show_range(extent: tuple[int, int]) -> str:
    """Write a range."""
    start, end = extent
    return f"{show_size(start)}-{'' if end == _SIZE_BYTES_MAX else show_size(end)}"
