"""Rounds: every workload on every system in turn, again and again.

All systems are mounted the whole time and take turns workload by workload, so
that what else the machine does falls on all alike; each round begins with
another system.  Between two turns is a rest, in which what lfs wished for in its own,
processors that stay awake, comes to an end.  A workload that fails on a system is noted
and left out there.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.systems.base import System
from bench.systems.host import SetupError
from bench.systems.ours import Lfs
from bench.waits import Measured, Probe, Waits
from bench.workloads.workload import Scale, Workload, measure

Progress = Callable[[str], None]
_REST_SECONDS = 0.15


@dataclass
class Results:
    """Every sample of every workload on every system, their waits, and what went wrong."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    waits: dict[str, dict[str, list[Waits]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    lfs_failed: bool = False

    def note(self, problem: str, system: str) -> None:
        """Keep a problem, once, and whether it is one of lfs."""
        self.lfs_failed |= system == Lfs.name
        if problem not in self.problems:
            self.problems.append(problem)

    def add(self, workload: str, system: str, found: Measured) -> None:
        """Keep one sample."""
        self.samples.setdefault(workload, {}).setdefault(system, []).append(found.value)
        if found.waits is not None:
            self.waits.setdefault(workload, {}).setdefault(system, []).append(found.waits)

    def medians(self, workload: str) -> dict[str, float]:
        """Return the median by system."""
        return {
            system: statistics.median(values)
            for system, values in self.samples.get(workload, {}).items()
        }


def show_on_terminal(text: str) -> None:
    """Keep one line of progress on a terminal's standard error."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def run_rounds(
    systems: Sequence[type[System]],
    workloads: Sequence[Workload],
    scale: Scale,
    rounds: int,
    work: Path,
    image_bytes: int,
    progress: Progress = show_on_terminal,
) -> Results:
    """Measure; everything is unmounted when this returns or raises."""
    results = Results()
    with ExitStack() as cleaning:
        probe = Probe(work)
        cleaning.callback(probe.close)
        ready = start_all(systems, work, image_bytes, results, cleaning, filled=True)
        for number in range(rounds):
            for workload in workloads:
                turn = number % max(1, len(ready))
                for system in filter(workload.applies_to, ready[turn:] + ready[:turn]):
                    progress(f"round {number + 1} of {rounds}: {workload.name} on {system.name}")
                    _take(results, workload, system, scale, probe)
                    time.sleep(_REST_SECONDS)
    progress("")
    return results


def start_all(
    systems: Sequence[type[System]],
    work: Path,
    image_bytes: int,
    results: Results,
    cleaning: ExitStack,
    on_loop: bool = False,
    filled: bool = False,
) -> list[System]:
    """Make and mount what can be had; the rest is noted."""
    ready = []
    for kind in systems:
        missing = kind.missing()
        if missing is not None:
            results.note(f"{kind.name} left out: {missing}", kind.name)
            continue
        system = kind(work, image_bytes, on_loop, filled)
        cleaning.callback(system.stop)
        try:
            system.start()
        except SetupError as error:
            results.note(f"{kind.name} left out: {error}", kind.name)
            continue
        ready.append(system)
    return ready


def _take(results: Results, workload: Workload, system: System, scale: Scale, probe: Probe) -> None:
    try:
        if not os.path.ismount(system.place):
            # What is there now is the host's.
            raise SetupError("it is not mounted any more")
        results.add(workload.name, system.name, measure(workload, system, scale, probe=probe))
    except (OSError, SetupError, AssertionError) as error:
        results.note(f"{workload.name} fails on {system.name}: {error}", system.name)
