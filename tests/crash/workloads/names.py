"""Workloads by name: lists of requests, each with the disk it runs on.

A name is ``KIND-NUMBER`` or, of a recorded program, ``trace-PROGRAM``; with
``!PLAN`` after it the disk has the faults of a plan (FAULTS.md).  The same name is
the same workload for ever.  ``find`` makes it.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lfs.device.memory import MemoryDevice
from lfs.volume.options import Options
from tests.crash.workloads import ace, floods, pressure
from tests.crash.workloads.traces import read_trace
from tests.support.client import Request
from tests.support.volumes import FIRST_SEGMENT_BYTES, format_small
from tests.support.workload import workload as scripted_workload

TRACE_DIRECTORY = Path(__file__).with_name("traces")
_KIB = 1024


class Geometry(NamedTuple):
    """The shape of a disk."""

    block_bytes: int
    segment_blocks: int
    segment_count: int

    @property
    def device_bytes(self) -> int:
        """Return the size of the smallest device with these segments."""
        segments_bytes = self.segment_count * self.segment_blocks * self.block_bytes
        return FIRST_SEGMENT_BYTES + segments_bytes + 4096


SMALLEST = Geometry(1024, 64, 32)
"""The smallest that mkfs makes."""
CLEANED = Geometry(1024, 64, 128)
"""So many segments that the cleaner works in the background, too."""
SCATTERED = Geometry(1024, 64, 256)
"""So many segments that a file gets a run that the cleaner could not always empty."""
CROWDED = Geometry(1024, 64, 56)
"""Soon full of metadata, and with less of it in the slack than the smallest."""
ROOMY = Geometry(4096, 64, 64)
WIDE = Geometry(1024, 64, 1600)
"""So many usage pages that a checkpoint region has more than one sector."""
SCRIPTED = (Geometry(4096, 64, 48), Geometry(1024, 64, 187))

_EARLY = Options(dirty_bytes_max=48 * _KIB)
"""Writes out early, so that small workloads do."""


class Workload(NamedTuple):
    """``requests`` on a disk; crashes in the first ``prologue_count`` are of no interest."""

    name: str
    geometry: Geometry
    requests: list[Request]
    options: Options = Options()
    prologue_count: int = 0
    plan: str = ""
    """The faults of the disk while the workload runs."""

    @property
    def kind(self) -> str:
        """Return the part of the name before the number."""
        return kind_of(self.name)


def kind_of(name: str) -> str:
    """Return the kind of the workload called ``name``."""
    return name.partition("-")[0]


@lru_cache(maxsize=8)
def find(name: str) -> Workload:
    """Return the workload called ``name``; raises ValueError when there is none."""
    good, _, plan = name.partition("!")
    if plan:
        return find(good)._replace(name=name, plan=plan)
    kind, _, rest = name.partition("-")
    if kind == "trace":
        path = TRACE_DIRECTORY / f"{rest}.txt"
        if not path.exists():
            raise ValueError(f"no workload is called {name!r}")
        return Workload(name, ROOMY, read_trace(path), Options(dirty_bytes_max=256 * _KIB))
    if not rest.isdigit() or kind not in _MAKERS:
        raise ValueError(f"no workload is called {name!r}")
    return _MAKERS[kind](name, int(rest))


def trace_names() -> list[str]:
    """Return the names of the recorded workloads."""
    return sorted(f"trace-{path.stem}" for path in TRACE_DIRECTORY.glob("*.txt"))


def _ace(name: str, number: int) -> Workload:
    length = int(kind_of(name).removeprefix("seq"))
    requests, prologue_count = ace.workload(length, number)
    geometry = WIDE if number % 64 == 7 else SMALLEST
    return Workload(name, geometry, requests, _EARLY, prologue_count)


def _cleaning(name: str, seed: int) -> Workload:
    if seed % 2:
        return Workload(name, CLEANED, pressure.cleaning(seed, 6800 * _KIB), _EARLY)
    return Workload(name, SMALLEST, pressure.cleaning(seed, pressure.LIMIT_BYTES), _EARLY)


def _reusing(name: str, seed: int) -> Workload:
    return Workload(name, SMALLEST, pressure.reusing(seed), _EARLY)


def _crowded(name: str, seed: int) -> Workload:
    return Workload(name, CROWDED, pressure.crowded(seed))


def _brimming(name: str, seed: int) -> Workload:
    geometry = SMALLEST if seed % 2 else CROWDED
    return Workload(name, geometry, floods.brimming(seed, geometry.device_bytes))


def _bursting(name: str, seed: int) -> Workload:
    geometry = SMALLEST if seed % 2 else CROWDED
    return Workload(name, geometry, floods.bursting(seed, geometry.device_bytes))


def _surging(name: str, seed: int) -> Workload:
    return Workload(name, CLEANED, floods.surging(seed, CLEANED.device_bytes), _EARLY)


def _worn(name: str, seed: int) -> Workload:
    return Workload(name, CROWDED, pressure.worn(seed))


def _turning(name: str, seed: int) -> Workload:
    return Workload(name, CLEANED, pressure.turning(seed, 6800 * _KIB), _EARLY)


def _merging(name: str, seed: int) -> Workload:
    few = replace(_EARLY, merged_items_max=1 + seed % 5)
    return Workload(name, ROOMY, pressure.merging(seed), few)


def _full(name: str, seed: int) -> Workload:
    return Workload(name, SMALLEST, pressure.full(seed), _EARLY)


def _scattering(name: str, seed: int) -> Workload:
    return Workload(name, SCATTERED, pressure.scattering(seed), Options(dirty_bytes_max=256 * _KIB))


def _random(name: str, seed: int) -> Workload:
    return Workload(name, ROOMY, scripted_workload(seed, 120, 3 << 20))


def _script(name: str, seed: int) -> Workload:
    """Make one of the two long ones: everything there is, at both extremes of block size."""
    return Workload(name, SCRIPTED[(seed + 1) % 2], scripted_workload(seed, 260, 4 << 20))


_MAKERS = {
    "seq1": _ace,
    "seq2": _ace,
    "seq3": _ace,
    "clean": _cleaning,
    "full": _full,
    "crowd": _crowded,
    "brim": _brimming,
    "burst": _bursting,
    "surge": _surging,
    "worn": _worn,
    "turn": _turning,
    "merge": _merging,
    "reuse": _reusing,
    "scatter": _scattering,
    "random": _random,
    "script": _script,
}


def empty_medium(geometry: Geometry) -> MemoryDevice:
    """Return a medium with an empty filesystem, the caller's to change."""
    return _formatted(geometry).copy()


@lru_cache(maxsize=8)
def _formatted(geometry: Geometry) -> MemoryDevice:
    medium = MemoryDevice(geometry.device_bytes)
    format_small(medium, geometry.block_bytes, geometry.segment_blocks)
    return medium


def sample(kind: str, count: int, choose: random.Random) -> list[str]:
    """Return ``count`` different names of an enumerated kind."""
    return [f"{kind}-{n}" for n in choose.sample(range(ace.workload_count(int(kind[3:]))), count)]
