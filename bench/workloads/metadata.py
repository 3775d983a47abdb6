"""Metadata and small files: written once, run by one process and by four at the same time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench.waits import Measured
from bench.workloads.workload import KIB, Context, Workload

PROCESS_COUNT = 4
SMALL = bytes(range(256)) * 4


def file_names(folder: Path, count: int) -> list[str]:
    """Return names spread over directories of a hundred, as plain strings to cost little."""
    return [f"{folder}/{number // 100}/{number}" for number in range(count)]


def make_folders(folder: Path, count: int) -> None:
    """Make the directories in which as many files lie."""
    for number in range(-(-count // 100)):
        (folder / str(number)).mkdir(parents=True)


def write_small(name: str, flags: int, data: bytes = SMALL) -> None:
    """Open a file, write all that it holds, and close it."""
    descriptor = os.open(name, flags | os.O_WRONLY, 0o644)
    os.write(descriptor, data)
    os.close(descriptor)


def _create(name: str) -> None:
    write_small(name, os.O_CREAT | os.O_EXCL)


def make_files(folder: Path, count: int) -> None:
    """Make as many files of 1 KiB, with the directories that they lie in."""
    make_folders(folder, count)
    for name in file_names(folder, count):
        _create(name)


def _read(name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY)
    assert len(os.read(descriptor, 4 * KIB)) == len(SMALL)
    os.close(descriptor)


def _rewrite(name: str) -> None:
    write_small(name, os.O_TRUNC)


def _rename(name: str) -> None:
    os.rename(name, name + "-renamed")


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
Operation = Callable[[str], object]


@dataclass(frozen=True)
class _Metadata:
    """What is done to each of many files, or to all of them by one program."""

    name: str
    meaning: str
    prepare: Step
    operation: Operation | None = None
    program: Step | None = None
    cold: bool = False

    def work(self, folder: Path, count: int) -> None:
        """Do all of it."""
        if self.program is not None:
            self.program(folder, count)
        if self.operation is not None:
            for name in file_names(folder, count):
                self.operation(name)


_METADATA = [
    _Metadata("create", "create a file of 1 KiB, write, close", make_folders, _create),
    _Metadata("stat", "stat a file after a remount", make_files, os.stat, cold=True),
    _Metadata("open-read", "open a file of 1 KiB, read, close", make_files, _read),
    _Metadata("rewrite", "open with O_TRUNC, write 1 KiB, close", make_files, _rewrite),
    _Metadata("unlink", "remove a file", make_files, os.unlink),
    _Metadata("rename", "rename a file in its directory", make_files, _rename),
    _Metadata("mkdir", "make a directory", make_folders, os.mkdir),
    _Metadata("untar", "files from a tar archive by tar", _make_archive, program=_untar),
    _Metadata("copy", "files of a tree by cp -r", _make_tree, program=_copy),
]


def _by_one(metadata: _Metadata) -> Callable[[Context], float | Measured]:
    def run(context: Context) -> float | Measured:
        folder, count = context.folder / "one", context.scale.files
        metadata.prepare(folder, count)
        if metadata.operation is not None:
            names = file_names(folder, count)
            return context.each(metadata.operation, names, cold=metadata.cold)
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


METADATA: list[Workload] = [
    *(Workload(m.name, "metadata", "/s", m.meaning, _by_one(m)) for m in _METADATA),
    *(
        Workload(f"{m.name} x4", "metadata x4", "/s", f"{m.meaning}, four processes", _by_four(m))
        for m in _METADATA
    ),
]
