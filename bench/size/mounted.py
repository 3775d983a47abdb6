"""A mounted image with many files on it, and what is measured there."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.library import KIB, MIB
from bench.size.images import count_first, fill, image_bytes_for, path_of
from bench.size.series import CLEAN, CRASHED, SizeResults
from bench.systems.host import drop_kernel_caches, run
from bench.systems.ours import Lfs
from bench.workloads.workload import BLOCK, seconds_of


@dataclass(frozen=True)
class SizeScale:
    """Which sizes, and how many operations at each."""

    files: tuple[int, ...]
    disk_bytes: tuple[int, ...]
    operations: int
    syncs: int
    mounts: int
    firsts: int
    counted: int


class Mounted:
    """An image with many files on it, and what is measured there."""

    def __init__(self, work: Path, files: int, where: str, scale: SizeScale) -> None:
        """Choose the files that are asked for; nothing is made yet."""
        self.system = Lfs(work, image_bytes_for(files))
        self.files = files
        self.where = where
        self.scale = scale
        count = min(scale.operations + scale.firsts, files)
        chosen = random.Random(4).sample(range(files), count)
        paths = [f"{self.system.place}/{path_of(number, where)}" for number in chosen]
        self.first_paths, self.paths = paths[: scale.firsts], paths[scale.firsts :]

    def measure(self, results: SizeResults, walk: bool) -> None:
        """Fill, mount, and add one point to each series."""

        def add(what: str, unit: str, cost: float) -> None:
            results.add(what, self.where, unit, "files", self.files, cost)

        system = self.system
        system.place.mkdir()
        try:
            system.make()
            fill(system.image, self.files, self.where)
            add(CRASHED, "s", self._crashed_mount_seconds())
            add(CLEAN, "s", clean_mount_seconds(system, self.scale.mounts))
            add("lookup, cold", "µs", self._first_microseconds(os.stat))
            add("create, cold", "µs", self._first_microseconds(_create_beside))
            add("append+fsync, cold", "µs", self._first_microseconds(_append_sync))
            add("lookup, warm", "µs", self._warm_microseconds(os.stat))
            add("create, warm", "µs", self._warm_microseconds(_create_beside))
            add("append+fsync, warm", "µs", self._warm_microseconds(_append_sync, self.scale.syncs))
            if walk:
                subprocess.run(
                    ["find", system.place, "-size", "+1"], stdout=subprocess.DEVNULL, check=True
                )
                add("memory of the daemon", "MiB", _resident_bytes(system) / MIB)
            system.unmount()
            for what, counted in count_first(system.image, self._relative_paths()).items():
                add(what, "", counted)
        finally:
            system.stop()
            system.image.unlink(missing_ok=True)
            system.place.rmdir()

    def _crashed_mount_seconds(self) -> float:
        """Return the median time to mount what a crash left; it is mounted then."""
        system = self.system
        crashed = system.image.with_suffix(".crashed")
        run(["cp", "--sparse=always", system.image, crashed])
        taken = []
        for number in range(self.scale.mounts):
            if number:
                system.unmount()
                run(["cp", "--sparse=always", crashed, system.image])
            system.drop_caches()
            taken.append(seconds_of(system.mount))
        crashed.unlink()
        return statistics.median(taken)

    def _relative_paths(self) -> list[str]:
        start = len(str(self.system.place)) + 1
        return [path[start:] for path in self.paths[: self.scale.counted]]

    def _first_microseconds(self, do: Callable[[str], object]) -> float:
        """Return what ``do`` costs as the first operation after a mount, as a median."""
        taken = []
        for path in self.first_paths:
            self.system.remount()
            taken.append(seconds_of(partial(do, path)))
        return 1e6 * statistics.median(taken)

    def _warm_microseconds(self, do: Callable[[str], object], count: int | None = None) -> float:
        """Return what ``do`` costs for each path, as a mean, when all it needs has been read.

        The kernel has forgotten the files and asks again; it knows their directories.
        """
        paths = self.paths[:count]
        for path in paths:
            os.stat(path)
            os.path.exists(_beside(path))
        self.system.settle()
        drop_kernel_caches()
        for directory in {os.path.dirname(path) for path in paths}:
            os.stat(directory)

        def work() -> None:
            for path in paths:
                do(path)

        return 1e6 * seconds_of(work) / len(paths)


def _beside(path: str) -> str:
    """Return the path of a file that is yet to be made in the same directory."""
    return path + " new"


def _create_beside(path: str) -> None:
    os.close(os.open(_beside(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def _append_sync(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, BLOCK)
    os.fsync(descriptor)
    os.close(descriptor)


def _resident_bytes(system: Lfs) -> int:
    assert system.daemon is not None
    for line in Path(f"/proc/{system.daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    raise OSError(f"process {system.daemon.pid} has no memory")


def clean_mount_seconds(system: Lfs, times: int) -> float:
    """Return the median time of a mount after an unmount; ``system`` is and stays mounted."""
    taken = []
    for _ in range(times):
        system.unmount()
        system.drop_caches()
        taken.append(seconds_of(system.mount))
    return statistics.median(taken)
