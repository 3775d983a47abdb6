"""Device counters: what each operation costs the device, whatever the machine's speed.

Every system that has an image gets a loop device over it, so that the kernel
counts for all alike: ``/sys/block/loopN/stat`` has requests, sectors and flushes.
Seeks are writes that do not begin where the write before ended, in the order in
which the kernel issued them; the kernel's tracing tells the order, and where
there is no tracing seeks are not measured.

A workload of ``fsync`` is counted until its last ``fsync`` returns.  Others sync
nothing by themselves and are counted until everything has been written.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.runner import Results, start_all
from bench.systems.base import System
from bench.systems.host import SetupError
from bench.workloads.workload import Scale, Watch, Workload, measure

GROUPS = ("fsync", "metadata", "random", "write")
_SECTOR_BYTES = 512
_TRACE_KIB = 8192
# "... block_rq_issue: 7,0 WS 4096 () 8736 + 8 none,0,0 [program]": kind, first sector, sectors.
_ISSUED = re.compile(r"block_rq_issue: \d+,\d+ (\w+) \d+ \(.*?\) (\d+) \+ (\d+) ")
_ENTRIES = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+)")


@dataclass(frozen=True)
class Counters:
    """What a device was asked for."""

    reads: float
    read_bytes: float
    writes: float
    written_bytes: float
    flushes: float
    seeks: float | None = None

    def per(self, count: float) -> dict[str, float | None]:
        """Return the counters for each of ``count`` operations."""
        return {
            name: None if value is None else value / count for name, value in asdict(self).items()
        }


def parse_stat(text: str) -> Counters:
    """Read ``/sys/block/NAME/stat`` (Documentation/admin-guide/iostats of the kernel)."""
    fields = [int(field) for field in text.split()]
    return Counters(
        reads=fields[0],
        read_bytes=fields[2] * _SECTOR_BYTES,
        writes=fields[4],
        written_bytes=fields[6] * _SECTOR_BYTES,
        flushes=fields[15],
    )


def count_seeks(trace: str) -> int | None:
    """Count the writes in a trace of the kernel that do not follow the one before.

    Returns None for a trace that is not whole, or none.
    """
    entries = _ENTRIES.search(trace)
    if entries is None or entries[1] != entries[2]:
        return None
    seeks, position = 0, None
    for kind, first, length in _ISSUED.findall(trace):
        if "W" in kind:
            seeks += position != int(first)
            position = int(first) + int(length)
    return seeks


def _difference(before: Counters, after: Counters, seeks: int | None) -> Counters:
    return Counters(
        after.reads - before.reads,
        after.read_bytes - before.read_bytes,
        after.writes - before.writes,
        after.written_bytes - before.written_bytes,
        after.flushes - before.flushes,
        seeks,
    )


Trace = Callable[[], str]


@contextmanager
def _traced(device: Path) -> Iterator[Trace]:
    """Let the kernel note every request to ``device``; yields what returns the notes, or ""."""
    number = os.stat(device).st_rdev
    with _tracing_folder() as tracing:
        folder = tracing / "instances" / f"lfs-bench-{os.getpid()}"
        event = folder / "events/block/block_rq_issue"
        if not folder.parent.exists():
            yield lambda: ""
            return
        folder.mkdir()
        try:
            (folder / "buffer_size_kb").write_text(str(_TRACE_KIB))
            # The kernel's own number of a device is not that of the C library.
            (event / "filter").write_text(f"dev == {os.major(number) << 20 | os.minor(number)}")
            (event / "enable").write_text("1")
            yield lambda: (folder / "trace").read_text()
        finally:
            folder.rmdir()


@contextmanager
def _tracing_folder() -> Iterator[Path]:
    """Yield a mount of the kernel's tracing of our own; an empty folder where there can be none."""
    name = tempfile.mkdtemp(prefix="lfs-bench-")
    command = ["mount", "-t", "tracefs", "tracefs", name]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield Path(name)
    finally:
        if mounted:
            subprocess.run(["umount", name], capture_output=True, check=False)
        # Never with its contents: it may be still mounted.
        with contextlib.suppress(OSError):
            os.rmdir(name)


@dataclass
class Found:
    """What is measured of one workload on one system."""

    counters: Counters | None = None
    count: float = 0.0

    def watch(self, workload: Workload, system: System) -> Watch:
        """Return what counts around the timed part of ``workload``."""

        @contextmanager
        def watch(count: float) -> Iterator[None]:
            assert system.loop_device is not None
            stat = Path("/sys/block", system.loop_device.name, "stat")
            with _traced(system.loop_device) as trace:
                before = parse_stat(stat.read_text())
                yield
                if workload.group != "fsync":
                    system.settle()
                after = parse_stat(stat.read_text())
                notes = trace()
            self.count = count
            self.counters = _difference(before, after, count_seeks(notes))

        return watch


CounterTable = dict[str, dict[str, dict[str, float | None]]]


def count_all(
    systems: Sequence[type[System]],
    workloads: Sequence[Workload],
    scale: Scale,
    work: Path,
    image_bytes: int,
    results: Results,
    progress: Callable[[str], None],
) -> CounterTable:
    """Return counters for each operation, by workload and system; problems go to ``results``."""
    found: CounterTable = {}
    kinds = [kind for kind in systems if kind.has_image]
    with contextlib.ExitStack() as cleaning:
        ready = start_all(kinds, work, image_bytes, results, cleaning, on_loop=True)
        for workload in workloads:
            for system in ready:
                progress(f"{workload.name} on {system.name}")
                one = Found()
                try:
                    measure(workload, system, scale, one.watch(workload, system))
                except (OSError, SetupError, AssertionError) as error:
                    results.note(f"{workload.name} fails on {system.name}: {error}", system.name)
                if one.counters is not None:
                    found.setdefault(workload.name, {})[system.name] = one.counters.per(one.count)
    progress("")
    return found
