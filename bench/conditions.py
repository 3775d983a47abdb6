"""What the filesystem is judged by: each condition, its figure, and whether it holds.

The first table of RESULTS.md.  Budgets (``bench.report``) are aims beside them.  Ratios
are above 1 where lfs is better.  Waits are medians of the runs, less what the device
took (``bench.waits``), and of several workloads the worst counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.report import (
    FUSE_PEERS,
    LEAN,
    LFS,
    geometric_mean,
    number,
    ratios_by_workload,
)
from bench.runner import Results
from bench.waits import Waits
from bench.workloads.workloads import WORKLOADS

LONGEST_MS_MAX = 20.0
P99_TO_P50_MAX = 3.0
_SMALL = ("metadata", "trees")

Figures = dict[str, float]
"""By workload."""


@dataclass(frozen=True)
class Condition:
    """``summary`` of the figures of some workloads must be at least, or at most, ``limit``."""

    work: str
    target: str
    limit: float
    figures: Callable[[Results], Figures]
    summary: Callable[[Sequence[float]], float] = min
    at_most: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Finding:
    """A condition and what was reached; ``figure`` is None where nothing was measured."""

    condition: Condition
    figure: float | None
    workload: str = ""

    @property
    def holds(self) -> bool:
        """Tell whether the condition is met."""
        if self.figure is None:
            return False
        limit = self.condition.limit
        return self.figure <= limit if self.condition.at_most else self.figure >= limit

    @property
    def cells(self) -> list[str]:
        """Return the row of a table: what, what is asked, what was found, and whether it holds."""
        condition = self.condition
        if self.figure is None:
            return [condition.work, condition.target, "-", "not measured"]
        where = f" ({self.workload})" if self.workload else ""
        shown = f"{number(self.figure)}{condition.unit}{where}"
        return [condition.work, condition.target, shown, "holds" if self.holds else "**missed**"]


def findings(results: Results) -> list[Finding]:
    """Return every condition with its figure."""
    return [_finding(condition, condition.figures(results)) for condition in CONDITIONS]


def condition_table(results: Results) -> list[list[str]]:
    """Return the conditions as rows of text."""
    return [["work", "target", "measured", ""], *(one.cells for one in findings(results))]


def _finding(condition: Condition, figures: Figures) -> Finding:
    if not figures:
        return Finding(condition, None)
    reached = condition.summary([*figures.values()])
    worst = next((name for name, figure in figures.items() if figure == reached), "")
    return Finding(condition, reached, worst if len(figures) > 1 else "")


def _to_best_fuse(*groups: str) -> Callable[[Results], Figures]:
    return lambda results: ratios_by_workload(results, groups, FUSE_PEERS)


def _to_lean(results: Results) -> Figures:
    return ratios_by_workload(results, _SMALL, (LEAN,))


def _waits(groups: Sequence[str], what: Callable[[Waits], float]) -> Callable[[Results], Figures]:
    """Return what picks a figure of the waits of lfs, as the median of the runs."""

    def figures(results: Results) -> Figures:
        return {
            workload.name: statistics.median(map(what, runs))
            for workload in WORKLOADS
            if workload.group in groups and (runs := results.waits.get(workload.name, {}).get(LFS))
        }

    return figures


def _read_aged(results: Results) -> Figures:
    return {
        workload.name: results.medians(workload.name)[LFS]
        for workload in WORKLOADS
        if workload.group == "aged reading" and LFS in results.medians(workload.name)
    }


_BEST = "the best C FUSE peer"
_METADATA = "metadata and small files"
_FSYNC = "bound by fsync"
_AGED = "aged disks, 75 and 90 % full"
CONDITIONS = [
    Condition(
        _METADATA,
        f"at least 1 x {_BEST} of each, as a geometric mean",
        1.0,
        _to_best_fuse(*_SMALL),
        geometric_mean,
    ),
    Condition(_METADATA, f"at least 0.6 x {_BEST}, each", 0.6, _to_best_fuse(*_SMALL)),
    Condition(
        "the same from four processes",
        f"at least 1 x {_BEST} of each, as a geometric mean",
        1.0,
        _to_best_fuse("metadata x4"),
        geometric_mean,
    ),
    Condition(
        _METADATA,
        "at least 0.7 x the lean ceiling, as a geometric mean",
        0.7,
        _to_lean,
        geometric_mean,
    ),
    Condition(_FSYNC, f"at least 1 x {_BEST}, each", 1.0, _to_best_fuse("fsync")),
    Condition(
        _FSYNC,
        f"99th percentile at most {P99_TO_P50_MAX:g} x the median, each",
        P99_TO_P50_MAX,
        _waits(("fsync",), lambda waits: waits.p99_to_p50),
        max,
        at_most=True,
    ),
    Condition(
        _AGED,
        f"longest wait of a write at most {LONGEST_MS_MAX:g} ms",
        LONGEST_MS_MAX,
        _waits(("aged",), lambda waits: waits.longest_beyond_device_ms),
        max,
        at_most=True,
        unit=" ms",
    ),
    Condition(_AGED, "reading in order at least 0.8 x a fresh file", 0.8, _read_aged),
    Condition(_AGED, f"overwrites at least 0.7 x {_BEST}, each", 0.7, _to_best_fuse("aged")),
    Condition(
        "random overwrites",
        f"at least 1 x {_BEST}, each",
        1.0,
        _to_best_fuse("random"),
    ),
    Condition(
        "sequential writing and reading",
        f"at least 1 x {_BEST}, each",
        1.0,
        _to_best_fuse("write", "read"),
    ),
]
