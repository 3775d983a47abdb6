"""What a workload is: the folder that it is given, how much it does, and how it is timed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.systems.base import System
from bench.waits import Measured, Probe, Waits, clocked

KIB = 1024
MIB = 1024 * 1024
BLOCK = os.urandom(4 * KIB)
_PART_COUNT = 20
_PROBE_SECONDS_MAX = 0.1


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    files: int
    syncs: int
    stream_bytes: int
    overwrites: int
    many_files: int
    """So many of 4 KiB that they do not fit into the memory for what is dirty."""
    disk_bytes: int
    """The size of a disk that is filled and aged."""
    idle_seconds: float
    """How long it is left alone then."""


FULL = Scale(
    files=2000,
    syncs=1000,
    stream_bytes=256 * MIB,
    overwrites=5000,
    many_files=20_000,
    disk_bytes=1024 * MIB,
    idle_seconds=30,
)
QUICK = Scale(
    files=300,
    syncs=100,
    stream_bytes=48 * MIB,
    overwrites=800,
    many_files=10_000,
    disk_bytes=256 * MIB,
    idle_seconds=5,
)

Watch = Callable[[float], AbstractContextManager[None]]


def _unwatched(count: float) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Context:
    """A system, a new folder on it, the scale, and who watches the timed part.

    ``watch`` is given the number of operations, and entered and left around them.
    ``probe`` tells what the device takes, where that is asked.
    """

    system: System
    folder: Path
    scale: Scale
    watch: Watch = _unwatched
    probe: Probe | None = None

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

    def each(
        self,
        operation: Callable[[Any], object],
        arguments: Sequence[Any],
        finish: Callable[[], object] = lambda: None,
        cold: bool = False,
        probed: bool = False,
    ) -> Measured:
        """Settle; return the rate of ``operation`` with each of ``arguments``, and its waits.

        ``finish`` belongs to the rate and not to the waits.  ``probed`` asks in between
        what the device takes.
        """
        probe = self.probe if probed else None
        waits: list[float] = []
        device: list[float] = []

        def take() -> float:
            seconds = 0.0
            for part in _parts(arguments) if probe else [arguments]:
                taken = clocked(operation, part)
                waits.extend(taken)
                seconds += sum(taken)
                if probe:
                    device.extend(probe.seconds(min(sum(taken), _PROBE_SECONDS_MAX)))
            return seconds + seconds_of(finish)

        rate = self.rate_by(len(arguments), take, cold)
        return Measured(rate, Waits.of(waits, Waits.of(device) if device else None))


def _parts(arguments: Sequence[Any]) -> Iterator[Sequence[Any]]:
    size = -(-len(arguments) // _PART_COUNT)
    for start in range(0, len(arguments), size):
        yield arguments[start : start + size]


@dataclass(frozen=True)
class Workload:
    """A measurement: what it is called, what it means, how it is taken."""

    name: str
    group: str
    unit: str
    meaning: str
    run: Callable[[Context], float | Measured]
    more_is_better: bool = True
    applies_to: Callable[[System], bool] = lambda system: True


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(
    workload: Workload,
    system: System,
    scale: Scale,
    watch: Watch = _unwatched,
    probe: Probe | None = None,
) -> Measured:
    """Run ``workload`` in a new folder of ``system`` and leave nothing of it, nor to be written."""
    folder = system.place / "bench"
    folder.mkdir()
    try:
        found = workload.run(Context(system, folder, scale, watch, probe))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        system.settle()
    return found if isinstance(found, Measured) else Measured(found)
