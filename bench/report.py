"""Medians, ratios and the verdicts on the budgets, for the terminal and the page.

A ratio compares a median of lfs with that of others and is above 1 where lfs is
better, whether more or less of the unit is better.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.counters import CounterTable
from bench.library import Figure
from bench.runner import Results
from bench.systems.ours import Ceiling, LeanCeiling, Lfs, LfsWriteback
from bench.systems.peers import Ext4, Fuse2fs
from bench.systems.systems import SYSTEMS
from bench.waits import Waits
from bench.workloads.workload import Workload
from bench.workloads.workloads import WORKLOADS

LFS = Lfs.name
CEILING = Ceiling.name
LEAN = LeanCeiling.name
FUSE_PEERS = tuple(system.name for system in SYSTEMS if system.kind == "fuse")
KERNEL_PEERS = tuple(system.name for system in SYSTEMS if system.kind == "kernel")
OTHERS = (*FUSE_PEERS, *KERNEL_PEERS, CEILING, LEAN)
STAT_P99_MS_MAX = 2.0


def ratio_to_best(
    results: Results, workload: Workload, peers: Sequence[str], own: str = LFS
) -> float | None:
    """Return how ``own`` compares with the best of ``peers``, or None without figures."""
    medians = results.medians(workload.name)
    others = [medians[name] for name in peers if medians.get(name)]
    value = medians.get(own)
    if not others or not value:
        return None
    return value / max(others) if workload.more_is_better else min(others) / value


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the mean that treats 2 and 1/2 alike."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def ratios_to_each(results: Results, group: str, own: str = LFS) -> dict[str, float]:
    """Return how ``own`` compares with each other system in a group, as a geometric mean."""
    found = {}
    for peer in OTHERS:
        ratios = ratios_by_workload(results, (group,), (peer,), own)
        if ratios:
            found[peer] = geometric_mean(list(ratios.values()))
    return found


def ratios_by_workload(
    results: Results, groups: Sequence[str], peers: Sequence[str], own: str = LFS
) -> dict[str, float]:
    """Return how ``own`` compares with the best of ``peers`` in each workload of ``groups``."""
    return {
        workload.name: ratio
        for workload in WORKLOADS
        if workload.group in groups
        and (ratio := ratio_to_best(results, workload, peers, own)) is not None
    }


# ----------------------------------------------------------------------------- the budgets


@dataclass(frozen=True)
class Budget:
    """What a group of workloads must reach: ``summary`` of its ratios at least ``least``."""

    key: str
    work: str
    group: str
    peers: tuple[str, ...]
    peers_text: str
    least: float
    summary: Callable[[Sequence[float]], float]
    own: str = LFS

    @property
    def target(self) -> str:
        """Return what is asked, in words."""
        how = "as the lowest" if self.summary is min else "as a geometric mean"
        return f"at least {self.least:g} x {self.peers_text}, {how}"


_BEST_FUSE = "the best C FUSE peer"
_BEST_KERNEL = "the best kernel peer"
_METADATA = "metadata and small files"
_FSYNC = "work bound by fsync"
_WRITE = "sequential write"
_RANDOM = "random 4 KiB overwrites"
BUDGETS = [
    Budget(
        "metadata", _METADATA, "metadata", FUSE_PEERS, _BEST_FUSE + " of each", 1.0, geometric_mean
    ),
    Budget(
        "metadata, lowest", _METADATA, "metadata", FUSE_PEERS, _BEST_FUSE + " of each", 0.6, min
    ),
    Budget(
        "metadata, fuse2fs", _METADATA, "metadata", (Fuse2fs.name,), "fuse2fs", 3.0, geometric_mean
    ),
    Budget(
        "four processes",
        "the same from four processes at once",
        "metadata x4",
        FUSE_PEERS,
        _BEST_FUSE + " of each",
        1.3,
        geometric_mean,
    ),
    Budget("ceiling", _METADATA, "metadata", (CEILING,), "the ceiling", 0.8, geometric_mean),
    Budget("fsync, C FUSE", _FSYNC, "fsync", FUSE_PEERS, _BEST_FUSE, 1.5, min),
    Budget("fsync, kernel", _FSYNC, "fsync", KERNEL_PEERS, _BEST_KERNEL, 1.0, min),
    Budget("write, C FUSE", _WRITE, "write", FUSE_PEERS, _BEST_FUSE, 2.0, min),
    Budget("write, ext4", _WRITE, "write", (Ext4.name,), "ext4", 1.0, min),
    Budget("read", "sequential read, cold and warm", "read", FUSE_PEERS, _BEST_FUSE, 1.0, min),
    Budget("random, C FUSE", _RANDOM, "random", FUSE_PEERS, _BEST_FUSE, 1.0, min),
    Budget(
        "random, ext4",
        f"{_RANDOM} with writeback_cache",
        "random",
        (Ext4.name,),
        "ext4",
        1.0,
        min,
        LfsWriteback.name,
    ),
]


@dataclass(frozen=True)
class Verdict:
    """One row of the budgets and what was reached."""

    key: str
    work: str
    target: str
    measured: str
    met: bool
    ratios: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the line for the terminal."""
        word = "kept  " if self.met else "missed"
        return f"  {word}  {self.key}: {self.measured}, {self.target} ({self.work})"


def verdicts(
    results: Results, figures: Sequence[Figure], counters: CounterTable | None = None
) -> list[Verdict]:
    """Hold everything that was measured against its budget, in the order of the budgets."""
    found = [verdict for budget in BUDGETS if (verdict := _verdict(budget, results)) is not None]
    latency = results.medians("stat p99").get(LFS)
    if latency is not None:
        found.append(
            Verdict(
                "stat p99",
                "99th percentile of stat beside a writer that syncs all the time",
                f"at most {STAT_P99_MS_MAX:g} ms",
                f"{latency:.2f} ms",
                latency <= STAT_P99_MS_MAX,
                ratios_to_each(results, "latency"),
            )
        )
    for figure in figures:
        unit = f" {figure.unit}".rstrip()
        found.append(
            Verdict(
                figure.name,
                figure.meaning,
                f"at most {figure.budget:g}{unit}",
                f"{figure.value:.2f}{unit}",
                figure.met,
                _counter_ratios(figure.name, counters or {}),
            )
        )
    return found


def _verdict(budget: Budget, results: Results) -> Verdict | None:
    ratios = ratios_by_workload(results, (budget.group,), budget.peers, budget.own)
    if not ratios:
        return None
    reached = budget.summary(list(ratios.values()))
    worst = min(ratios, key=lambda name: ratios[name])
    shown = f"{reached:.2f} ({worst})" if budget.summary is min else f"{reached:.2f}"
    return Verdict(
        budget.key,
        budget.work,
        budget.target,
        shown,
        reached >= budget.least,
        ratios_to_each(results, budget.group, budget.own),
    )


def _counter_ratios(figure: str, counters: CounterTable) -> dict[str, float]:
    """Return how many times as much others need, for figures that devices count too."""
    counter = {"append bytes": "written_bytes", "append flushes": "flushes"}.get(figure)
    by_system = counters.get("append+fsync", {})
    own = by_system.get(LFS, {}).get(counter or "")
    if not own:
        return {}
    return {
        name: value / own
        for name in OTHERS
        if (value := by_system.get(name, {}).get(counter or "")) is not None
    }


# ------------------------------------------------------------------------------ the tables


def spread(results: Results) -> float | None:
    """Return how far the samples of one figure lie apart, beside their median, as a median."""
    spreads = [
        (max(values) - min(values)) / statistics.median(values)
        for by_system in results.samples.values()
        for values in by_system.values()
        if len(values) > 1
    ]
    return statistics.median(spreads) if spreads else None


def number(value: float | None) -> str:
    """Return a figure with three digits or so."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results: Results, workloads: Sequence[Workload]) -> list[list[str]]:
    """Return the medians of every system and the ratios to the best peers, as rows of text."""
    measured = {system for by_system in results.samples.values() for system in by_system}
    systems = [system.name for system in SYSTEMS if system.name in measured]
    rows = [["", "", *systems, "/C FUSE", "/kernel", "/ceiling", "/lean"]]
    for workload in workloads:
        medians = results.medians(workload.name)
        if medians:
            ratios = [
                ratio_to_best(results, workload, peers)
                for peers in (FUSE_PEERS, KERNEL_PEERS, [CEILING], [LEAN])
            ]
            figures = [medians.get(system) for system in systems]
            rows.append([workload.name, workload.unit, *map(number, [*figures, *ratios])])
    return rows


def waits_table(results: Results, workloads: Sequence[Workload]) -> list[list[str]]:
    """Return the waits of every system and those of the device, as rows of text.

    A cell has the median, the 99th percentile and the longest in milliseconds, each as the
    median of the runs; the device is as it was in the turns of lfs.
    """
    systems = [s.name for s in SYSTEMS if any(s.name in runs for runs in results.waits.values())]
    rows = [["", *systems, "device"]]
    for workload in workloads:
        by_system = results.waits.get(workload.name, {})
        if by_system:
            device = [waits.device for waits in by_system.get(LFS, []) if waits.device]
            runs = [*(by_system.get(name, []) for name in systems), device]
            rows.append([workload.name, *map(_waits_cell, runs)])
    return rows


def _waits_cell(runs: Sequence[Waits]) -> str:
    if not runs:
        return "-"
    columns = zip(*((one.p50_ms, one.p99_ms, one.longest_ms) for one in runs), strict=True)
    return " / ".join(_milliseconds(statistics.median(column)) for column in columns)


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def aligned(rows: Sequence[Sequence[str]], texts: int = 2) -> str:
    """Return rows as lines with columns; the first ``texts`` of them are words."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if place < texts else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def counter_table(counters: CounterTable) -> list[list[str]]:
    """Return KiB written, writes, flushes and seeks for each operation, as rows of text."""
    names = [s.name for s in SYSTEMS if any(s.name in row for row in counters.values())]
    rows = [["", *names]]
    for workload, by_system in counters.items():
        rows.append([workload, *(_counter_cell(by_system.get(name)) for name in names)])
    return rows


def _counter_cell(counters: dict[str, float | None] | None) -> str:
    if counters is None:
        return "-"
    written = counters["written_bytes"] or 0.0
    parts = [f"{written / 1024:.1f}"]
    for name in ("writes", "flushes", "seeks"):
        value = counters[name]
        parts.append("?" if value is None else f"{value:.2f}")
    return " / ".join(parts)


def legend(workloads: Sequence[Workload]) -> str:
    """Return what each workload means, one a line, without the variants by four processes."""
    shown = [workload for workload in workloads if workload.group != "metadata x4"]
    width = max((len(workload.name) for workload in shown), default=0)
    return "\n".join(f"  {workload.name:<{width}}  {workload.meaning}" for workload in shown)
