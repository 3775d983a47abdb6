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

from bench.workloads.workload import KIB, Context, Workload

PROCESS_COUNT = 4
SMALL = bytes(range(256)) * 4


def file_names(folder: Path, count: int) -> list[str]:
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
    for name in file_names(folder, count):
        _write_file(name, os.O_CREAT | os.O_EXCL)


def make_files(folder: Path, count: int) -> None:
    """Make as many files of 1 KiB, with the directories that they lie in."""
    _make_folders(folder, count)
    _create(folder, count)


def _stat(folder: Path, count: int) -> None:
    for name in file_names(folder, count):
        os.stat(name)


def _read(folder: Path, count: int) -> None:
    for name in file_names(folder, count):
        descriptor = os.open(name, os.O_RDONLY)
        assert len(os.read(descriptor, 4 * KIB)) == len(SMALL)
        os.close(descriptor)


def _rewrite(folder: Path, count: int) -> None:
    for name in file_names(folder, count):
        _write_file(name, os.O_TRUNC)


def _unlink(folder: Path, count: int) -> None:
    for name in file_names(folder, count):
        os.unlink(name)


def _rename(folder: Path, count: int) -> None:
    for name in file_names(folder, count):
        os.rename(name, name + "-renamed")


def _mkdir(folder: Path, count: int) -> None:
    for name in file_names(folder, count):
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
    _Metadata("stat", "stat a file after a remount", make_files, _stat, cold=True),
    _Metadata("open-read", "open a file of 1 KiB, read, close", make_files, _read),
    _Metadata("rewrite", "open with O_TRUNC, write 1 KiB, close", make_files, _rewrite),
    _Metadata("unlink", "remove a file", make_files, _unlink),
    _Metadata("rename", "rename a file in its directory", make_files, _rename),
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


METADATA: list[Workload] = [
    *(Workload(m.name, "metadata", "/s", m.meaning, _by_one(m)) for m in _METADATA),
    *(
        Workload(f"{m.name} x4", "metadata x4", "/s", f"{m.meaning}, four processes", _by_four(m))
        for m in _METADATA
    ),
]
