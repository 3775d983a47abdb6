"""Cost against size: what an operation costs as files, or the disk, become more.

The images are filled through the library, which is faster than a mount, once for
each number of files: spread over directories of a thousand, or all in one.  The
log then ends with a checkpoint and a fixed number of changes to files all over
the tree, so that the mount after the crash has the same amount to roll forward
everywhere.  Everything else goes through that mount.

A cost may grow with a logarithm, which adds the same for each tenfold of files.

Operations are timed in two states that mean the same at every size.  *Cold* is the
first one after a mount, when nothing of the image is in any cache but what the mount
itself has read.  *Warm* is when all that it needs has been read before.  A mean over
the first thousand would be neither: of a thousand files a few blocks, once read, serve
all, while of a million each file has blocks of its own, so that it would tell how warm
they are.  Beside the times stands what one operation asks of the device, counted
through the library: that is the same on every machine.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench.library import KIB, MIB, REGULAR, Clock, Figure
from bench.systems import Lfs, SetupError, drop_kernel_caches, run
from bench.workloads import BLOCK, seconds_of
from lfs.device.file import FileDevice
from lfs.device.recording import RecordingDevice
from lfs.ondisk import ROOT_INO

GIB = 1024 * MIB
FILES_PER_DIRECTORY = 1000
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
_CHANGES_AFTER_CHECKPOINT = 2000
_FILES_PER_TICK = 100
_BYTES_PER_FILE = 4 * KIB
_GROWTH_MIN = 2.0
_STEP_FACTOR = 1.5


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


# --------------------------------------------------------------------------------- images


def path_of(number: int, where: str) -> str:
    """Return the path of a file below the root of the filesystem."""
    folder = 0 if where == ONE else number // FILES_PER_DIRECTORY
    return f"{folder}/file {number}"


def fill(image: Path, files: int, where: str) -> None:
    """Put ``files`` small files on an empty image and leave it as a crash would."""
    device = FileDevice(image)
    clock = Clock(device)
    filesystem = clock.filesystem
    inodes = []
    for number in range(files):
        folder, name = path_of(number, where).split("/")
        if number == 0 or (where == SPREAD and number % FILES_PER_DIRECTORY == 0):
            parent = filesystem.mkdir(ROOT_INO, folder.encode(), 0o755, 0, 0, clock.tick_ns()).ino
        ino = filesystem.create(parent, name.encode(), REGULAR, 0, 0, clock.tick_ns()).ino
        filesystem.write(ino, 0, b"content %d" % number, clock.tick_ns())
        filesystem.forget(ino)
        inodes.append(ino)
        if number % _FILES_PER_TICK == 0:
            filesystem.tick(clock.now_ns, idle=False)
    filesystem.checkpoint(clock.tick_ns())
    choose = random.Random(3)
    for _ in range(_CHANGES_AFTER_CHECKPOINT):
        filesystem.write(choose.choice(inodes), 0, b"changed", clock.tick_ns())
    filesystem.sync(clock.tick_ns())
    device.close()


def count_first(image: Path, paths: Sequence[str]) -> dict[str, float]:
    """Return what the device is asked for by a mount and the first operation after it.

    Each of ``paths`` is looked up after a mount of its own, then a file is made
    beside it and made durable; the means are returned.
    """
    mounting: list[float] = []
    looking: list[float] = []
    creating: list[float] = []
    written: list[float] = []
    for path in paths:
        folder, name = (part.encode() for part in path.split("/"))
        file = FileDevice(image)
        device = RecordingDevice(file)
        clock = Clock(device)
        filesystem = clock.filesystem
        mounting.append(device.read_count)
        device.reset_counters()
        parent = filesystem.lookup(ROOT_INO, folder).ino
        filesystem.lookup(parent, name)
        looking.append(device.read_count)
        device.reset_counters()
        filesystem.create(parent, name + b" newest", REGULAR, 0, 0, clock.tick_ns())
        filesystem.sync(clock.tick_ns())
        creating.append(device.read_count)
        written.append(device.written_bytes / KIB)
        filesystem.unmount(clock.tick_ns())
        device.close()
    taken = [statistics.mean(some) for some in (mounting, looking, creating, written)]
    return dict(zip((MOUNT_READS, *FIRST), taken, strict=True))


def _mounted_reads(image: Path) -> int:
    """Return how many requests to read a clean mount makes."""
    device = RecordingDevice(FileDevice(image, read_only=True))
    try:
        Clock(device)
        return device.read_count
    finally:
        device.close()


def image_bytes_for(files: int) -> int:
    """Return the size of an image with room for ``files`` and what is done beside them."""
    return GIB + files * _BYTES_PER_FILE


# --------------------------------------------------------------------------- on the mount


class _Mounted:
    """An image with many files on it, and what is measured there."""

    def __init__(self, work: Path, files: int, where: str, scale: SizeScale) -> None:
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
            add(CLEAN, "s", _clean_mount_seconds(system, self.scale.mounts))
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


def _clean_mount_seconds(system: Lfs, times: int) -> float:
    """Return the median time of a mount after an unmount; ``system`` is and stays mounted."""
    taken = []
    for _ in range(times):
        system.unmount()
        system.drop_caches()
        taken.append(seconds_of(system.mount))
    return statistics.median(taken)


def _crashed_mount_seconds(system: Lfs, times: int) -> float:
    """Return the same for a mount after a crash with a little in the log."""
    taken = []
    for number in range(times):
        for name in range(100):
            (system.place / f"{number} {name}").write_bytes(BLOCK)
        system.settle()
        system.crash()
        system.drop_caches()
        taken.append(seconds_of(system.mount))
    return statistics.median(taken)


# ------------------------------------------------------------------------------ everything


def _measure_disk(work: Path, disk_bytes: int, scale: SizeScale, results: SizeResults) -> None:
    system = Lfs(work, disk_bytes)
    system.start()
    try:
        where = "of an empty disk"
        clean = _clean_mount_seconds(system, scale.mounts)
        results.add(CLEAN, where, "s", "bytes", disk_bytes, clean)
        crashed = _crashed_mount_seconds(system, scale.mounts)
        results.add(CRASHED, where, "s", "bytes", disk_bytes, crashed)
        system.unmount()
        reads = float(_mounted_reads(system.image))
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
                _Mounted(folder, files, where, scale).measure(results, walk=where == SPREAD)
            except (OSError, SetupError) as error:
                left_out.append(f"{files:,} files {where} fail: {error}")
    shutil.rmtree(folder, ignore_errors=True)
    progress("")
    return results, left_out


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
