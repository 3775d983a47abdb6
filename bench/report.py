"""The table, the budgets, and the JSON file.

A ratio compares a median of lfs with that of others and is above 1 where lfs is
better, whether more or less of the unit is better.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.library import Figure
from bench.runner import Results
from bench.systems import SYSTEMS
from bench.workloads import WORKLOADS, Workload

LFS = "lfs"
CEILING = "ceiling"
_NAMES_OF_KIND = {
    kind: [system.name for system in SYSTEMS if system.kind == kind] for kind in ("fuse", "kernel")
}


def ratio_to_best(results: Results, workload: Workload, peers: Sequence[str]) -> float | None:
    """Return how lfs compares with the best of ``peers``, or None without figures."""
    medians = results.medians(workload.name)
    others = [medians[name] for name in peers if medians.get(name)]
    own = medians.get(LFS)
    if not others or not own:
        return None
    return own / max(others) if workload.more_is_better else min(others) / own


def _geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


@dataclass(frozen=True)
class Budget:
    """What a group of workloads must reach: ``summary`` of its ratios at least ``least``."""

    group: str
    peers: tuple[str, ...]
    peers_text: str
    least: float
    summary: Callable[[Sequence[float]], float]
    summary_text: str


_FUSE = tuple(_NAMES_OF_KIND["fuse"])
_KERNEL = tuple(_NAMES_OF_KIND["kernel"])
BUDGETS = [
    Budget("metadata", _FUSE, "best C FUSE peer of each", 1.0, _geometric_mean, "geometric mean"),
    Budget("metadata", _FUSE, "best C FUSE peer of each", 0.6, min, "lowest"),
    Budget("metadata", ("fuse2fs",), "fuse2fs", 3.0, _geometric_mean, "geometric mean"),
    Budget("metadata", (CEILING,), "ceiling", 0.8, _geometric_mean, "geometric mean"),
    Budget("metadata x4", _FUSE, "best C FUSE peer", 1.3, _geometric_mean, "geometric mean"),
    Budget("fsync", _FUSE, "best C FUSE peer", 1.5, min, "lowest"),
    Budget("fsync", _KERNEL, "best kernel peer", 1.0, min, "lowest"),
    Budget("write", _FUSE, "best C FUSE peer", 2.0, min, "lowest"),
    Budget("write", ("ext4",), "ext4", 1.0, min, "lowest"),
    Budget("read", _FUSE, "best C FUSE peer", 1.0, min, "lowest"),
    Budget("random", _FUSE, "best C FUSE peer", 1.0, min, "lowest"),
]
STAT_P99_MS_MAX = 2.0


# ------------------------------------------------------------------------------- the table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results: Results, workloads: Sequence[Workload]) -> str:
    """Return the medians of every system and the ratios to the best peers, line by line."""
    measured = {system for by_system in results.samples.values() for system in by_system}
    systems = [system.name for system in SYSTEMS if system.name in measured]
    header = ["", "", *systems, "/C FUSE", "/kernel", "/ceiling"]
    rows = [header]
    for workload in workloads:
        medians = results.medians(workload.name)
        if medians:
            ratios = [
                ratio_to_best(results, workload, peers) for peers in (_FUSE, _KERNEL, [CEILING])
            ]
            figures = [medians.get(system) for system in systems]
            rows.append([workload.name, workload.unit, *map(_number, [*figures, *ratios])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:<{widths[0]}} {row[1]:<{widths[1]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True))
        for row in rows
    )


def legend(workloads: Sequence[Workload]) -> str:
    """Return what each workload means, one a line, without the variants by four processes."""
    shown = [workload for workload in workloads if workload.group != "metadata x4"]
    width = max((len(workload.name) for workload in shown), default=0)
    return "\n".join(f"  {workload.name:<{width}}  {workload.meaning}" for workload in shown)


# ------------------------------------------------------------------------------ the budgets


@dataclass(frozen=True)
class Verdict:
    """One budget and what was reached."""

    text: str
    met: bool

    def __str__(self) -> str:
        """Return the line for the terminal."""
        return f"  {'kept  ' if self.met else 'missed'}  {self.text}"


def verdicts(results: Results, figures: Sequence[Figure]) -> list[Verdict]:
    """Hold everything that was measured against its budget."""
    found = []
    for budget in BUDGETS:
        ratios = [
            ratio
            for workload in WORKLOADS
            if workload.group == budget.group
            and (ratio := ratio_to_best(results, workload, budget.peers)) is not None
        ]
        if ratios:
            reached = budget.summary(ratios)
            text = (
                f"{budget.group}: {reached:.2f} of {budget.peers_text}, {budget.summary_text} "
                f"of {len(ratios)} (at least {budget.least})"
            )
            found.append(Verdict(text, reached >= budget.least))
    latency = results.medians("stat p99").get(LFS)
    if latency is not None:
        text = f"stat p99: {latency:.2f} ms (at most {STAT_P99_MS_MAX})"
        found.append(Verdict(text, latency <= STAT_P99_MS_MAX))
    for figure in figures:
        text = (
            f"{figure.name}: {figure.value:.2f} {figure.unit} (at most {figure.budget:g}), "
            f"{figure.meaning}"
        )
        found.append(Verdict(text, figure.met))
    return found


# --------------------------------------------------------------------------------- the file


def write_json(path: Path, results: Results, figures: Sequence[Figure], rounds: int) -> None:
    """Write every sample, so that other ratios can be taken later."""
    content = {
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        },
        "rounds": rounds,
        "workloads": {
            workload.name: {
                "unit": workload.unit,
                "meaning": workload.meaning,
                "samples": results.samples[workload.name],
            }
            for workload in WORKLOADS
            if workload.name in results.samples
        },
        "figures": {
            figure.name: {
                "value": figure.value,
                "unit": figure.unit,
                "budget": figure.budget,
                "meaning": figure.meaning,
            }
            for figure in figures
        },
        "problems": results.problems,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
