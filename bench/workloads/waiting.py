"""What somebody waits for: a request beside a writer, the start and the end of a mount."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.workloads.metadata import file_names, make_files
from bench.workloads.workload import BLOCK, Context, Workload, seconds_of

# ------------------------------------------------------------------------------ latency


def _append_until_killed(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(BLOCK)
            os.fsync(file)


def _stat_latency(context: Context) -> float:
    """Stat files the kernel does not know yet, each request of which reaches the filesystem."""
    folder, count = context.folder / "files", context.scale.files
    make_files(folder, count)
    context.system.remount()
    writer = multiprocessing.get_context("fork").Process(
        target=_append_until_killed, args=(context.folder / "log",)
    )
    writer.start()
    try:
        time.sleep(0.2)
        names = file_names(folder, count)
        latencies = sorted(seconds_of(lambda name=name: os.stat(name)) for name in names)  # type: ignore[misc]
    finally:
        writer.kill()
        writer.join()
    return 1000 * latencies[len(latencies) * 99 // 100]


# ----------------------------------------------------------------------- start and stop


ANSWER_COUNT = 5


def _import(context: Context) -> float:
    """Start Python and import what serves, with its files in the host's cache."""
    command = [sys.executable, "-c", f"import {context.system.module}"]
    return 1000 * seconds_of(lambda: subprocess.run(command, check=True))


def _answer(context: Context) -> float:
    """Mount a filesystem without files, with nothing cold; less what its libraries take."""
    system = context.system
    libraries = [sys.executable, "-c", "import pyfuse3, trio"]
    answers: list[float] = []
    imports: list[float] = []

    def work() -> None:
        system.mount()
        os.stat(system.place)

    for _ in range(ANSWER_COUNT):
        system.unmount()
        imports.append(seconds_of(lambda: subprocess.run(libraries, check=True)))
        answers.append(seconds_of(work))
    # The difference of two measurements may be less than nothing, and ratios need something.
    return max(1.0, 1000 * (median(answers) - median(imports)))


def _mount(context: Context) -> float:
    """Mount a filesystem with files on it and ask for one of them."""
    system, names = context.system, file_names(context.folder, context.scale.files)
    make_files(context.folder, len(names))
    system.unmount()
    system.drop_caches()

    def work() -> None:
        system.mount()
        os.stat(names[-1] if system.keeps_content else system.place)

    return 1000 * seconds_of(work)


def _unmount(context: Context) -> float:
    """Unmount it when everything is on the medium already."""
    system = context.system
    make_files(context.folder, context.scale.files)
    system.settle()
    seconds = seconds_of(system.unmount)
    system.mount()
    return 1000 * seconds


WAITING: list[Workload] = [
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
        "answer",
        "start",
        "ms",
        "mount without files until it answers, less starting Python and importing pyfuse3 and trio",
        _answer,
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
