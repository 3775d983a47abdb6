"""What the control socket answers, as lines for people.

Held by ``tests/faultdisk/test_serve.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_TIMES = ("p50", "p90", "p99", "p99.9", "max")


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> Iterator[str]:
    """Yield ``rows`` as lines; the first ``left`` columns begin together, the rest end so."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def show_duration(time_ns: int) -> str:
    """Write a time with three digits that count."""
    for unit, factor in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if time_ns >= factor:
            value = time_ns / factor
            return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"
    return f"{time_ns} ns"


def state_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the plan and what the disk is doing."""
    power = "on" if report["powered"] else "off"
    paused = ", paused" if report["paused"] else ""
    cached = f"{report['cached_writes']} writes, {report['cached_bytes']} bytes"
    counts = report["faults"]
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "none"
    yield f"plan    {report['plan']}"
    yield f"power   {power}{paused}"
    yield f"cached  {cached}"
    yield f"faults  {faults}"


def statistics_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield tables of requests, times and faults."""
    rows = [["requests", "count", "bytes", "errors", "seeks", *_TIMES]]
    for name, numbers in report["operations"].items():
        times = numbers["latency_ns"]
        counted = [str(numbers[key]) for key in ("count", "bytes", "errors", "seeks")]
        shown = [show_duration(times[key]) if numbers["count"] else "-" for key in _TIMES]
        rows.append([name, *counted, *shown])
    yield from aligned(rows)
    yield ""
    counts = sorted(report["faults"].items())
    if counts:
        yield from aligned([["faults", "count"], *([kind, str(count)] for kind, count in counts)])
    else:
        yield "no faults"
