"""All sizes in turn, of empty disks and of trees of files."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.size.images import mounted_reads
from bench.size.mounted import Mounted, SizeScale, clean_mount_seconds
from bench.size.series import CLEAN, CRASHED, GIB, MOUNT_READS, ONE, SPREAD, SizeResults
from bench.systems.host import SetupError
from bench.systems.ours import Lfs
from bench.workloads.workload import BLOCK, seconds_of

FULL = SizeScale(
    files=(1_000, 10_000, 100_000, 1_000_000),
    disk_bytes=(GIB, 8 * GIB, 64 * GIB, 256 * GIB, 1024 * GIB),
    operations=1000,
    syncs=300,
    mounts=3,
    firsts=11,
    counted=30,
)
QUICK = SizeScale(
    files=(500, 2_000, 8_000),
    disk_bytes=(GIB, 64 * GIB),
    operations=200,
    syncs=40,
    mounts=1,
    firsts=3,
    counted=3,
)


def _crashed_mount_seconds(system: Lfs, times: int) -> float:
    """Return the median time of a mount after a crash with a little in the log."""
    taken = []
    for number in range(times):
        for name in range(100):
            (system.place / f"{number} {name}").write_bytes(BLOCK)
        system.settle()
        system.crash()
        system.drop_caches()
        taken.append(seconds_of(system.mount))
    return statistics.median(taken)


def _measure_disk(work: Path, disk_bytes: int, scale: SizeScale, results: SizeResults) -> None:
    system = Lfs(work, disk_bytes)
    system.start()
    try:
        where = "of an empty disk"
        clean = clean_mount_seconds(system, scale.mounts)
        results.add(CLEAN, where, "s", "bytes", disk_bytes, clean)
        crashed = _crashed_mount_seconds(system, scale.mounts)
        results.add(CRASHED, where, "s", "bytes", disk_bytes, crashed)
        system.unmount()
        reads = float(mounted_reads(system.image))
        results.add(MOUNT_READS, where, "", "bytes", disk_bytes, reads)
    finally:
        system.stop()
        system.image.unlink(missing_ok=True)
        system.place.rmdir()


def measure_sizes(
    work: Path, scale: SizeScale, seconds_max: float, progress: Callable[[str], None]
) -> tuple[SizeResults, list[str]]:
    """Return all series, and what failed or was left out because the time was up."""
    end = time.monotonic() + seconds_max
    results = SizeResults()
    left_out: list[str] = []
    folder = work / "sizes"
    folder.mkdir()
    for disk_bytes in scale.disk_bytes:
        progress(f"a disk of {disk_bytes // GIB} GiB")
        _measure_disk(folder, disk_bytes, scale, results)
    for files in scale.files:
        for where in (SPREAD, ONE):
            if time.monotonic() > end:
                left_out.append(f"{files:,} files {where} left out: the time was up")
                continue
            progress(f"{files:,} files {where}")
            try:
                Mounted(folder, files, where, scale).measure(results, walk=where == SPREAD)
            except (OSError, SetupError) as error:
                left_out.append(f"{files:,} files {where} fail: {error}")
    shutil.rmtree(folder, ignore_errors=True)
    progress("")
    return results, left_out
