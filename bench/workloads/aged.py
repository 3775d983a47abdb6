"""Disks that are nearly full and have been written to at random for some time.

Each begins as a new disk of its own, filled with files to a share of its size.  As many
single blocks as a quarter of the disk has are then overwritten at random, so that what has
been free was written once at 75 % and more than twice at 90 %: who writes to other places
must clean.  Then it is left alone, and files are read in order beside a fresh one of the same
size, cold and in turns.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.systems.base import System
from bench.waits import Measured
from bench.workloads.contents import read_through, write_file
from bench.workloads.workload import BLOCK, KIB, Context, Workload, seconds_of

PERCENTS = (75, 90)
_FILES_PER_DISK = 16
_READ_COUNT = 3


def _fill(context: Context, percent: int) -> list[Path]:
    """Write files until ``percent`` of the disk is full; return those of full size."""
    # bindfs shows the host's disk, which is another size.
    space = os.statvfs(context.folder)
    disk_bytes = min(space.f_blocks * space.f_frsize, context.scale.disk_bytes)
    file_bytes = _file_bytes(context)
    count, rest_bytes = divmod(disk_bytes * percent // 100, file_bytes)
    files = [context.folder / str(number) for number in range(count)]
    for file in files:
        write_file(file, file_bytes)
    write_file(context.folder / "rest", rest_bytes)
    return files


def _file_bytes(context: Context) -> int:
    return context.scale.disk_bytes // _FILES_PER_DISK


def _overwrite(context: Context, files: list[Path]) -> Measured:
    """Overwrite blocks at random, each in a write of its own; one fsync at the end."""
    choose = random.Random(3)
    blocks = _file_bytes(context) // len(BLOCK)
    with ExitStack() as closing:
        opened = [closing.enter_context(file.open("r+b", buffering=0)) for file in files]
        descriptors = [file.fileno() for file in opened]
        places = [
            (choose.choice(descriptors), choose.randrange(blocks) * 4 * KIB)
            for _ in range(context.scale.disk_bytes // 4 // len(BLOCK))
        ]

        def write(place: tuple[int, int]) -> None:
            os.pwrite(place[0], BLOCK, place[1])

        def finish() -> None:
            for descriptor in descriptors:
                os.fsync(descriptor)

        return context.each(write, places, finish, probed=True)


def _read_beside_fresh(context: Context, files: list[Path]) -> float:
    """Return the rate of reading old files beside that of a fresh one."""
    time.sleep(context.scale.idle_seconds)
    files.pop().unlink()
    fresh = context.folder / "fresh"
    write_file(fresh, _file_bytes(context))
    ratios = []
    for old in files[:_READ_COUNT]:
        taken = []
        for file in (old, fresh):
            context.system.remount()
            taken.append(seconds_of(partial(read_through, file)))
        ratios.append(taken[1] / taken[0])
    return statistics.median(ratios)


def _on_own_disk(run: Callable[[Context], float | Measured]) -> Callable[[Context], Measured]:
    """Return ``run`` on a new disk."""

    def run_there(context: Context) -> Measured:
        with context.system.another(context.scale.disk_bytes) as system:
            folder = system.place / "aged"
            folder.mkdir()
            found = run(replace(context, system=system, folder=folder))
        return found if isinstance(found, Measured) else Measured(found)

    return run_there


def _overwriting(percent: int) -> Callable[[Context], Measured]:
    return _on_own_disk(lambda context: _overwrite(context, _fill(context, percent)))


def _reading(percent: int) -> Callable[[Context], Measured]:
    def run(context: Context) -> float:
        files = _fill(context, percent)
        _overwrite(replace(context, probe=None), files)
        return _read_beside_fresh(context, files)

    return _on_own_disk(run)


def _has_a_disk(system: System) -> bool:
    return system.kind in ("lfs", "fuse", "kernel")


AGED: list[Workload] = [
    *(
        Workload(
            f"overwrite {percent}%",
            "aged",
            "/s",
            f"overwrite 4 KiB blocks at random on a disk that is {percent} % full, one fsync",
            _overwriting(percent),
            applies_to=_has_a_disk,
        )
        for percent in PERCENTS
    ),
    *(
        Workload(
            f"read aged {percent}%",
            "aged reading",
            "of fresh",
            f"read in order after that and some idle time, beside a fresh file, {percent} % full "
            "(systems that overwrite in another place)",
            _reading(percent),
            applies_to=lambda system: _has_a_disk(system) and system.relocates,
        )
        for percent in PERCENTS
    ),
]
