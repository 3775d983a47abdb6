"""How long single operations take, and how long the device takes beside them.

A rate hides a wait: a program that is kept for a second once a minute has lost little
of its rate.  So beside rates stand the median, the 99th percentile and the longest of the
single operations.  On a disk that others share, such waits are often the disk's own.
``Probe`` tells: between two parts of the work it writes and flushes straight on a file of
the same storage, for as long as the part took, so that a disk that stalls now and then
stalls the one as likely as the other.  What the work has left to be written falls on the
probe too; that is to the credit of who writes behind.

Waits of one run are taken less the device's waits in the same run; what counts is the
median of the runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.systems.host import fill

PROBE_BYTES = 8 << 10
"""What a log-structured filesystem writes for a small change with an fsync."""
_PROBE_FILE_BYTES = 16 << 20


@dataclass(frozen=True)
class Waits:
    """The median, the 99th percentile and the longest of many waits."""

    p50_ms: float
    p99_ms: float
    longest_ms: float
    device: Waits | None = None
    """The same of the device itself, where it was probed."""

    @classmethod
    def of(cls, seconds: Iterable[float], device: Waits | None = None) -> Waits:
        """Return those of single waits, of which there is at least one."""
        waits_ms = [1000 * one for one in sorted(seconds)]
        count = len(waits_ms)
        return cls(waits_ms[count // 2], waits_ms[count * 99 // 100], waits_ms[-1], device)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Waits:
        """Return what ``as_json`` has kept."""
        device = found["device"]
        return cls(**{**found, "device": device and cls.from_json(device)})

    def as_json(self) -> dict[str, object]:
        """Return all of it."""
        return asdict(self)

    @property
    def longest_beyond_device_ms(self) -> float:
        """Return the longest wait less the longest of the device."""
        return max(0.0, self.longest_ms - (self.device.longest_ms if self.device else 0.0))

    @property
    def p99_to_p50(self) -> float:
        """Return the 99th percentile beside the median, less what the device's own differ by.

        The median keeps the device's part: without it a filesystem would be held to more
        the less it adds to its device.
        """
        spread_ms = self.device.p99_ms - self.device.p50_ms if self.device else 0.0
        return max(1.0, (self.p99_ms - spread_ms) / self.p50_ms)


@dataclass(frozen=True)
class Measured:
    """What a workload came to: a rate or a time, and the waits of its single operations."""

    value: float
    waits: Waits | None = None


def clocked(operation: Callable[[Any], object], arguments: Sequence[Any]) -> list[float]:
    """Do ``operation`` with each of ``arguments`` and return how many seconds each took."""
    clock = time.perf_counter
    times = [clock()]
    for argument in arguments:
        operation(argument)
        times.append(clock())
    return [end - start for start, end in pairwise(times)]


class Probe:
    """Writes and flushes on a file of its own, of the storage that is measured."""

    def __init__(self, folder: Path) -> None:
        """Make the file in ``folder``, all of it written, so that no write allocates."""
        path = folder / "probe"
        path.touch()
        fill(path, _PROBE_FILE_BYTES)
        self._descriptor = os.open(path, os.O_WRONLY)
        self._data = os.urandom(PROBE_BYTES)
        self._offset = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def seconds(self, duration_seconds: float) -> list[float]:
        """Return how long each write with its flush takes, for so long and at least one."""
        taken: list[float] = []
        while not taken or sum(taken) < duration_seconds:
            taken += clocked(self._write, [self._offset])
            self._offset = (self._offset + PROBE_BYTES) % _PROBE_FILE_BYTES
        return taken

    def _write(self, offset: int) -> None:
        os.pwrite(self._descriptor, self._data, offset)
        os.fdatasync(self._descriptor)
