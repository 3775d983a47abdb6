"""What a workload is: the folder that it is given, how much it does, and how it is timed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench.systems.base import System

KIB = 1024
MIB = 1024 * 1024
BLOCK = os.urandom(4 * KIB)


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    files: int
    syncs: int
    stream_bytes: int
    overwrites: int


FULL = Scale(files=2000, syncs=300, stream_bytes=256 * MIB, overwrites=5000)
QUICK = Scale(files=300, syncs=40, stream_bytes=48 * MIB, overwrites=800)

Watch = Callable[[float], AbstractContextManager[None]]


def _unwatched(count: float) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Context:
    """A system, a new folder on it, the scale, and who watches the timed part.

    ``watch`` is given the number of operations, and entered and left around them.
    """

    system: System
    folder: Path
    scale: Scale
    watch: Watch = _unwatched

    def rate(self, count: float, work: Callable[[], object], cold: bool = False) -> float:
        """Settle and return how many of ``count`` operations ``work`` does a second.

        ``cold`` begins with no cache of the filesystem filled.
        """
        return self.rate_by(count, lambda: seconds_of(work), cold)

    def rate_by(self, count: float, take: Callable[[], float], cold: bool = False) -> float:
        """Do the same with ``take``, which measures the seconds itself."""
        if cold:
            self.system.remount()
        self.system.settle()
        with self.watch(count):
            seconds = take()
        return count / seconds


@dataclass(frozen=True)
class Workload:
    """A measurement: what it is called, what it means, how it is taken."""

    name: str
    group: str
    unit: str
    meaning: str
    run: Callable[[Context], float]
    more_is_better: bool = True
    applies_to: Callable[[System], bool] = lambda system: True


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(workload: Workload, system: System, scale: Scale, watch: Watch = _unwatched) -> float:
    """Run ``workload`` in a new folder of ``system`` and leave nothing of it, nor to be written."""
    folder = system.place / "bench"
    folder.mkdir()
    try:
        return workload.run(Context(system, folder, scale, watch))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        system.settle()
