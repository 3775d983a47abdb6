"""What is measured on a mounted filesystem.

A workload prepares a folder, lets everything settle, and then does its work,
which alone is timed: what the preparation, or the system that ran before, has
left to be written is on the medium by then.  It returns operations a second,
MiB a second, or milliseconds.  Metadata workloads are written once and run by
one process and by four at the same time.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench.systems import System

KIB = 1024
MIB = 1024 * 1024
PROCESS_COUNT = 4
SMALL = bytes(range(256)) * 4
BLOCK = os.urandom(4 * KIB)
CHUNK = os.urandom(MIB)


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


# ------------------------------------------------------------------ metadata, small files


def _file_names(folder: Path, count: int) -> list[str]:
    """Return names spread over directories of a hundred, as plain strings to cost little."""
    return [f"{folder}/{number // 100}/{number}" for number in range(count)]


def _make_folders(folder: Path, count: int) -> None:
    for number in range(-(-count // 100)):
        (folder / str(number)).mkdir(parents=True)


def _write_file(name: str, flags: int) -> None:
    descriptor = os.open(name, flags | os.O_WRONLY, 0o644)
    os.write(descriptor, SMALL)
    os.close(descriptor)


def _create(folder: Path, count: int) -> None:
    for name in _file_names(folder, count):
        _write_file(name, os.O_CREAT | os.O_EXCL)


def _make_files(folder: Path, count: int) -> None:
    _make_folders(folder, count)
    _create(folder, count)


def _stat(folder: Path, count: int) -> None:
    for name in _file_names(folder, count):
        os.stat(name)


def _read(folder: Path, count: int) -> None:
    for name in _file_names(folder, count):
        descriptor = os.open(name, os.O_RDONLY)
        assert len(os.read(descriptor, 4 * KIB)) == len(SMALL)
        os.close(descriptor)


def _rewrite(folder: Path, count: int) -> None:
    for name in _file_names(folder, count):
        _write_file(name, os.O_TRUNC)


def _unlink(folder: Path, count: int) -> None:
    for name in _file_names(folder, count):
        os.unlink(name)


def _rename(folder: Path, count: int) -> None:
    for name in _file_names(folder, count):
        os.rename(name, name + "-renamed")


def _mkdir(folder: Path, count: int) -> None:
    for name in _file_names(folder, count):
        os.mkdir(name)


def _make_archive(folder: Path, count: int) -> None:
    """Put a tar archive of ``count`` files on the filesystem itself."""
    folder.mkdir()
    with tarfile.open(folder / "tree.tar", "w") as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"tree/{number // 100}/{number}")
            info.size = len(SMALL) * (1 + number % 16)
            with open("/dev/zero", "rb") as zeros:
                archive.addfile(info, zeros)


def _untar(folder: Path, count: int) -> None:
    subprocess.run(["tar", "-xf", folder / "tree.tar", "-C", folder], check=True)


def _make_tree(folder: Path, count: int) -> None:
    _make_archive(folder, count)
    _untar(folder, count)


def _copy(folder: Path, count: int) -> None:
    subprocess.run(["cp", "-r", folder / "tree", folder / "copy"], check=True)


Step = Callable[[Path, int], None]


@dataclass(frozen=True)
class _Metadata:
    name: str
    meaning: str
    prepare: Step
    work: Step
    cold: bool = False


_METADATA = [
    _Metadata("create", "create a file of 1 KiB, write, close", _make_folders, _create),
    _Metadata("stat", "stat a file after a remount", _make_files, _stat, cold=True),
    _Metadata("open-read", "open a file of 1 KiB, read, close", _make_files, _read),
    _Metadata("rewrite", "open with O_TRUNC, write 1 KiB, close", _make_files, _rewrite),
    _Metadata("unlink", "remove a file", _make_files, _unlink),
    _Metadata("rename", "rename a file in its directory", _make_files, _rename),
    _Metadata("mkdir", "make a directory", _make_folders, _mkdir),
    _Metadata("untar", "files from a tar archive by tar", _make_archive, _untar),
    _Metadata("copy", "files of a tree by cp -r", _make_tree, _copy),
]


def _by_one(metadata: _Metadata) -> Callable[[Context], float]:
    def run(context: Context) -> float:
        folder, count = context.folder / "one", context.scale.files
        metadata.prepare(folder, count)
        return context.rate(count, lambda: metadata.work(folder, count), metadata.cold)

    return run


def _by_four(metadata: _Metadata) -> Callable[[Context], float]:
    def run(context: Context) -> float:
        count = context.scale.files // 2
        folders = [context.folder / str(number) for number in range(PROCESS_COUNT)]
        for folder in folders:
            metadata.prepare(folder, count)
        return context.rate_by(
            count * PROCESS_COUNT,
            lambda: _seconds_together(metadata.work, folders, count),
            metadata.cold,
        )

    return run


def _seconds_together(work: Step, folders: list[Path], count: int) -> float:
    """Return the time from the first start of a process to the last end, one for each folder.

    The processes take the times: a parent that gets no processor would be late.
    """
    forking = multiprocessing.get_context("fork")
    barrier = forking.Barrier(len(folders))
    times = forking.SimpleQueue()
    processes = [
        forking.Process(target=_work_at, args=(barrier, times, work, folder, count))
        for folder in folders
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise OSError("a process of four failed")
    starts, ends = zip(*(times.get() for _ in processes), strict=True)
    return float(max(ends) - min(starts))


def _work_at(
    barrier: Barrier, times: SimpleQueue[tuple[float, float]], work: Step, folder: Path, count: int
) -> None:
    barrier.wait()
    start = time.perf_counter()
    work(folder, count)
    times.put((start, time.perf_counter()))


# ---------------------------------------------------------------------------------- fsync


def _append_sync(context: Context) -> float:
    with (context.folder / "log").open("wb", buffering=0) as file:

        def work() -> None:
            for _ in range(context.scale.syncs):
                file.write(BLOCK)
                os.fsync(file)

        return context.rate(context.scale.syncs, work)


def _prepared_file(context: Context, size: int) -> Path:
    path = context.folder / "data"
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(CHUNK)):
            file.write(CHUNK)
        os.fsync(file)
    return path


def _overwrite_sync(context: Context) -> float:
    choose = random.Random(1)
    with _prepared_file(context, 16 * MIB).open("r+b", buffering=0) as file:

        def work() -> None:
            for _ in range(context.scale.syncs):
                os.pwrite(file.fileno(), BLOCK, choose.randrange(16 * MIB // len(BLOCK)) * 4 * KIB)
                os.fsync(file)

        return context.rate(context.scale.syncs, work)


def _replace_sync(context: Context) -> float:
    def work() -> None:
        for number in range(context.scale.syncs):
            new = context.folder / "new"
            with new.open("wb", buffering=0) as file:
                file.write(BLOCK)
                os.fsync(file)
            new.rename(context.folder / f"file{number % 10}")

    return context.rate(context.scale.syncs, work)


def _sqlite(context: Context) -> float:
    with closing(sqlite3.connect(context.folder / "database", isolation_level=None)) as database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, value TEXT)")

        def work() -> None:
            for number in range(context.scale.syncs):
                database.execute("INSERT INTO item (value) VALUES (?)", (f"value {number}" * 8,))

        return context.rate(context.scale.syncs, work)


# -------------------------------------------------------------------------------- streams


def _stream_write(context: Context) -> float:
    size = context.scale.stream_bytes
    return context.rate(size / MIB, lambda: _prepared_file(context, size))


def _read_through(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def _read_cold(context: Context) -> float:
    path = _prepared_file(context, context.scale.stream_bytes)
    return context.rate(context.scale.stream_bytes / MIB, lambda: _read_through(path), cold=True)


def _read_warm(context: Context) -> float:
    path = _prepared_file(context, context.scale.stream_bytes)
    _read_through(path)
    return context.rate(context.scale.stream_bytes / MIB, lambda: _read_through(path))


def _random_write(context: Context) -> float:
    size = context.scale.stream_bytes // 4
    choose = random.Random(2)
    with _prepared_file(context, size).open("r+b", buffering=0) as file:

        def work() -> None:
            for _ in range(context.scale.overwrites):
                os.pwrite(file.fileno(), BLOCK, choose.randrange(size // len(BLOCK)) * 4 * KIB)
            os.fsync(file)

        return context.rate(context.scale.overwrites, work)


# -------------------------------------------------------------------------------- latency


def _append_until_killed(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(BLOCK)
            os.fsync(file)


def _stat_latency(context: Context) -> float:
    """Stat files the kernel does not know yet, each request of which reaches the filesystem."""
    folder, count = context.folder / "files", context.scale.files
    _make_files(folder, count)
    context.system.remount()
    writer = multiprocessing.get_context("fork").Process(
        target=_append_until_killed, args=(context.folder / "log",)
    )
    writer.start()
    try:
        time.sleep(0.2)
        names = _file_names(folder, count)
        latencies = sorted(seconds_of(lambda name=name: os.stat(name)) for name in names)  # type: ignore[misc]
    finally:
        writer.kill()
        writer.join()
    return 1000 * latencies[len(latencies) * 99 // 100]


# --------------------------------------------------------------------------- start and stop


def _import(context: Context) -> float:
    """Start Python and import what serves, with its files in the host's cache."""
    command = [sys.executable, "-c", f"import {context.system.module}"]
    return 1000 * seconds_of(lambda: subprocess.run(command, check=True))


def _mount(context: Context) -> float:
    """Mount a filesystem with files on it and ask for one of them."""
    system, names = context.system, _file_names(context.folder, context.scale.files)
    _make_files(context.folder, len(names))
    system.unmount()
    system.drop_caches()

    def work() -> None:
        system.mount()
        os.stat(names[-1] if system.keeps_content else system.place)

    return 1000 * seconds_of(work)


def _unmount(context: Context) -> float:
    """Unmount it when everything is on the medium already."""
    system = context.system
    _make_files(context.folder, context.scale.files)
    system.settle()
    seconds = seconds_of(system.unmount)
    system.mount()
    return 1000 * seconds


WORKLOADS: list[Workload] = [
    *(Workload(m.name, "metadata", "/s", m.meaning, _by_one(m)) for m in _METADATA),
    *(
        Workload(f"{m.name} x4", "metadata x4", "/s", f"{m.meaning}, four processes", _by_four(m))
        for m in _METADATA
    ),
    Workload("append+fsync", "fsync", "/s", "append 4 KiB, fsync", _append_sync),
    Workload(
        "overwrite+fsync",
        "fsync",
        "/s",
        "overwrite a 4 KiB block at random, fsync",
        _overwrite_sync,
    ),
    Workload(
        "replace+fsync", "fsync", "/s", "create, write 4 KiB, fsync, rename over", _replace_sync
    ),
    Workload("sqlite", "fsync", "/s", "SQLite transactions of one row", _sqlite),
    Workload("write", "write", "MiB/s", "write a file by 1 MiB, fsync at the end", _stream_write),
    Workload("read cold", "read", "MiB/s", "read a file by 1 MiB after a remount", _read_cold),
    Workload("read warm", "read", "MiB/s", "read it again", _read_warm),
    Workload(
        "random write", "random", "/s", "overwrite 4 KiB blocks at random, one fsync", _random_write
    ),
    Workload(
        "stat p99",
        "latency",
        "ms",
        "99th percentile of stat beside a writer that syncs all the time",
        _stat_latency,
        more_is_better=False,
    ),
    Workload(
        "import",
        "start",
        "ms",
        "start Python and import what serves (lfs and the ceiling)",
        _import,
        more_is_better=False,
        applies_to=lambda system: bool(system.module),
    ),
    Workload(
        "mount",
        "start",
        "ms",
        "mount, and stat one file",
        _mount,
        more_is_better=False,
    ),
    Workload(
        "unmount",
        "start",
        "ms",
        "unmount, until the daemon has ended",
        _unmount,
        more_is_better=False,
    ),
]


def measure(workload: Workload, system: System, scale: Scale, watch: Watch = _unwatched) -> float:
    """Run ``workload`` in a new folder of ``system`` and leave nothing of it, nor to be written."""
    folder = system.place / "bench"
    folder.mkdir()
    try:
        return workload.run(Context(system, folder, scale, watch))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        system.settle()
