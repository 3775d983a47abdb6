"""The cost of one thing at several sizes, how it grows, and what is shown of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from bench.library import MIB, Figure

GIB = 1024 * MIB
SPREAD = "spread over directories"
ONE = "in one directory"
CLEAN = "mount, clean"
CRASHED = "mount, after a crash"
MOUNT_READS = "device reads of a clean mount"
STATES = ("cold", "warm")
FIRST = (
    "device reads of the first lookup",
    "device reads of a create after it",
    "KiB written by it and an fsync",
)
_GROWTH_MIN = 2.0
_STEP_FACTOR = 1.5


@dataclass
class Series:
    """The cost of one thing at several sizes."""

    what: str
    where: str
    unit: str
    against: str
    """``files`` or ``bytes``."""
    sizes: list[int] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Return how much dearer the largest size is than the smallest."""
        return self.costs[-1] / self.costs[0]

    @property
    def steps(self) -> list[float]:
        """Return what each tenfold adds, from one size to the next."""
        points = list(zip(self.sizes, self.costs, strict=True))
        return [
            (cost - cost_before) / math.log10(size / size_before)
            for (size_before, cost_before), (size, cost) in pairwise(points)
        ]

    @property
    def outgrows_logarithm(self) -> bool:
        """Tell whether it grows faster than a logarithm: its last step is larger than the mean.

        By half and more, because the height of a tree grows in steps of its own.  What has not
        even doubled is no growth that could be told from noise, and one step tells nothing.
        """
        if len(self.steps) < 2 or self.growth < _GROWTH_MIN:
            return False
        *earlier, last = self.steps
        return last > _STEP_FACTOR * statistics.mean(earlier)


class SizeResults:
    """All series by what was done and where."""

    def __init__(self) -> None:
        """Begin without any."""
        self._series: dict[tuple[str, str], Series] = {}

    def add(self, what: str, where: str, unit: str, against: str, size: int, cost: float) -> None:
        """Add a point to a series."""
        series = self._series.setdefault((what, where), Series(what, where, unit, against))
        series.sizes.append(size)
        series.costs.append(cost)

    @property
    def series(self) -> list[Series]:
        """Return all series in the order in which they began."""
        return list(self._series.values())

    def find(self, what: str, where: str) -> Series | None:
        """Return one series."""
        return self._series.get((what, where))

    def as_json(self) -> list[dict[str, object]]:
        """Return all points."""
        return [asdict(series) for series in self.series]


def series_from_json(items: Sequence[dict[str, object]]) -> list[Series]:
    """Return what ``as_json`` made."""
    # The fields come from a file: their types are known only now.
    return [Series(**item) for item in items]  # type: ignore[arg-type]


def figures_of(results: SizeResults) -> list[Figure]:
    """Return what has a budget of its own."""
    figures = []
    crashed = results.find(CRASHED, SPREAD)
    empty = results.find(CRASHED, "of an empty disk")
    if crashed is not None and empty is not None:
        # The budget speaks of 100,000 files; a quick run has what it has.
        position = next(
            (place for place, size in enumerate(crashed.sizes) if size >= 100_000),
            len(crashed.sizes) - 1,
        )
        figures.append(
            Figure(
                "mount after crash",
                crashed.costs[position] - empty.costs[0],
                "s",
                1.0,
                f"with {crashed.sizes[position]:,} files, beyond the {empty.costs[0]:.2f} s "
                "of an empty image",
            )
        )
    memory = results.find("memory of the daemon", SPREAD)
    if memory is not None:
        figures.append(
            Figure(
                "memory",
                memory.costs[-1],
                "MiB",
                150.0,
                f"of the daemon, after a walk over {memory.sizes[-1]:,} files",
            )
        )
    return figures


AGAINST = ("files", "bytes")


def size_table(series: Sequence[Series], against: str) -> list[list[str]]:
    """Return rows of text: a head, then one for each series with its growth and its steps.

    A star marks what grows faster than a logarithm.
    """
    some = [one for one in series if one.against == against]
    sizes = sorted({size for one in some for size in one.sizes})
    names = [size_name(size, against) for size in sizes]
    rows = [["", "", "", *names, "growth", "added by each tenfold"]]
    for one in some:
        costs = dict(zip(one.sizes, one.costs, strict=True))
        shown = [f"{costs[size]:.3g}" if size in costs else "-" for size in sizes]
        mark = " *" if one.outgrows_logarithm else ""
        steps = " ".join(f"{step:+.2g}" for step in one.steps)
        rows.append([one.what, one.where, one.unit, *shown, f"x{one.growth:.2f}{mark}", steps])
    return rows


def size_name(size: int, against: str) -> str:
    """Return a size as it is shown."""
    return f"{size:,} files" if against == "files" else f"{size // GIB:,} GiB"
