"""Where the time goes: the daemon of lfs under a sampling profiler, beside the ceiling.

py-spy looks at the stack of the daemon some hundred times a second, from outside
and whether it runs or waits, so shares are of the time that the program under
test sees.  Python code is told by its file; what C code below it does, and system
calls, counts to the function that called.  A library that the core calls counts
to the folder of the core that called it.

Only the timed part of a workload is watched.  Times for each operation are
taken without the profiler, in turn with the ceiling.
"""

from __future__ import annotations

import re
import shutil
import signal
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.systems.host import SetupError
from bench.systems.ours import Ceiling, Lfs
from bench.workloads.workload import FULL, MIB, QUICK, Scale, Workload, measure

SAMPLES_PER_SECOND = 250
ROUNDS = 3
TOP_COUNT = 12
# So much that a fast workload takes seconds; few samples tell nothing.
SCALE = replace(FULL, files=10_000, syncs=2000, stream_bytes=512 * MIB, overwrites=20_000)
SCALE_QUICK = replace(QUICK, files=2000, syncs=300, stream_bytes=128 * MIB, overwrites=4000)
LEFT_OUT = ("metadata x4", "aged", "aged reading")
"""Groups of which the main part is another's: programs that wait for one another, other disks."""

WAITING = "kernel and program (waiting)"
RECEIVING = "pyfuse3: receive and reply"
SCHEDULING = "trio"
OTHER = "other"
_NOT_WAITED_FOR = "lfs/device/writeback.py"
# "name (path.py:12)" as in a line of raw samples.
_FRAME = re.compile(r"(?P<name>.*) \((?P<path>[^()]*?):(?P<line>\d+)\)$")


@dataclass(frozen=True)
class Frame:
    """A function on the stack."""

    name: str
    path: str

    def __str__(self) -> str:
        """Return how it is shown."""
        return f"{self.name} ({self.path})"


@dataclass
class Profile:
    """Where the time of one workload goes."""

    operation: str
    lfs_us: float
    ceiling_us: float
    samples: int
    layers: dict[str, float]
    functions: dict[str, float]

    def text(self) -> str:
        """Return all of it, as many lines."""
        head = (
            f"{self.lfs_us:.1f} µs for each {self.operation}; the ceiling {self.ceiling_us:.1f} µs "
            f"({self.ceiling_us / self.lfs_us:.2f} of it)"
        )
        lines = [
            head,
            f"{'share':>8} {'µs':>8}  layer ({self.samples} samples)",
            *self._lines(self.layers),
            f"{'share':>8} {'µs':>8}  function",
            *self._lines(self.functions),
        ]
        return "\n".join(lines)

    def _lines(self, shares: dict[str, float]) -> Iterator[str]:
        for name, share in shares.items():
            yield f"{share:>8.1%} {share * self.lfs_us:>8.1f}  {name}"

    def as_json(self) -> dict[str, object]:
        """Return all of it."""
        return asdict(self)


def parse_samples(text: str) -> list[tuple[list[Frame], int]]:
    """Read py-spy's raw format: frames from the outermost inward, and how often."""
    found = []
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [
            Frame(match["name"], match["path"])
            for part in stack.split(";")
            if (match := _FRAME.match(part))
        ]
        if frames:
            found.append((frames, int(count)))
    return found


def layer_of(frames: Sequence[Frame]) -> str:
    """Return which layer the innermost of ``frames`` works for."""
    path = frames[-1].path
    if path.endswith(("trio/_core/_io_epoll.py", "lfs/kernel/loop.py")):
        return WAITING
    if path.endswith("_pyfuse3.py"):
        return RECEIVING
    for frame in reversed(frames):
        if frame.path.startswith("trio/"):
            return SCHEDULING
        if frame.path.startswith(("lfs/kernel/", "lfs/mount/")):
            return "lfs/fuse"
        if frame.path.startswith("lfs/"):
            return frame.path.rpartition("/")[0]
    return OTHER


def count_samples(text: str) -> tuple[Counter[str], Counter[str]]:
    """Return in how many samples the daemon was in each layer, and in each function of its own.

    The main thread is in one place at a time.  While it waits for a worker thread,
    what that does takes the place of the waiting.
    """
    layers: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for frames, count in parse_samples(text):
        layer = layer_of(frames)
        if not any(frame.name == "<module>" for frame in frames):
            if layer in (SCHEDULING, OTHER):
                continue  # a worker thread that has nothing to do
            if any(frame.path.endswith(_NOT_WAITED_FOR) for frame in frames):
                continue
            layers[WAITING] -= count
        layers[layer] += count
        if layer not in (WAITING, RECEIVING):
            functions[str(frames[-1])] += count
    layers[WAITING] = max(0, layers[WAITING])
    return layers, functions


def _shares(counts: Counter[str], total: int, top: int | None = None) -> dict[str, float]:
    """Return the share of each, the largest first."""
    return {name: count / total for name, count in counts.most_common(top)}


def _profiler() -> str | None:
    """Return the path of py-spy; it may be installed beside the interpreter alone."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def missing() -> str | None:
    """Return what keeps profiles from being taken, or None."""
    return None if _profiler() else "needs py-spy: pip install 'lfsprogs[bench]'"


@contextmanager
def _sampled(process: int, output: Path) -> Iterator[None]:
    """Let py-spy watch ``process``; the samples are in ``output`` afterwards."""
    profiler = _profiler()
    assert profiler is not None
    command = [profiler, "record", "--idle", "-f", "raw", "-r", str(SAMPLES_PER_SECOND)]
    watcher = subprocess.Popen(
        [*command, "-o", output, "-p", str(process)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert watcher.stdout is not None
    try:
        # Its first line comes when it watches, or says why it cannot.
        first = watcher.stdout.readline()
        if "Sampling" not in first:
            raise SetupError(f"py-spy does not watch: {first.strip()}")
        yield
    finally:
        watcher.send_signal(signal.SIGINT)
        watcher.communicate()


def profile(workload: Workload, lfs: Lfs, ceiling: Ceiling, scale: Scale, samples: Path) -> Profile:
    """Measure ``workload`` on both and take samples of ``lfs``; raises SetupError, OSError."""
    rates: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for system in (lfs, ceiling):
            rates.setdefault(system.name, []).append(measure(workload, system, scale).value)

    def watch(count: float) -> AbstractContextManager[None]:
        assert lfs.daemon is not None
        return _sampled(lfs.daemon.pid, samples)

    measure(workload, lfs, scale, watch)
    layers, functions = count_samples(samples.read_text())
    total = sum(layers.values())
    if not total:
        raise SetupError(f"{workload.name} gave no samples")
    return Profile(
        workload.unit.removesuffix("/s") or "operation",
        1e6 / statistics.median(rates[Lfs.name]),
        1e6 / statistics.median(rates[Ceiling.name]),
        total,
        _shares(layers, total),
        _shares(functions, total, TOP_COUNT),
    )


def profile_all(
    workloads: Sequence[Workload],
    scale: Scale,
    work: Path,
    image_bytes: int,
    progress: Callable[[str], None],
) -> tuple[dict[str, Profile], list[str]]:
    """Return profiles by workload, and what went wrong."""
    found: dict[str, Profile] = {}
    problems = []
    lfs, ceiling = Lfs(work, image_bytes, filled=True), Ceiling(work, image_bytes)
    try:
        lfs.start()
        ceiling.start()
        for workload in workloads:
            if not workload.more_is_better:
                continue
            progress(f"profile of {workload.name}")
            try:
                found[workload.name] = profile(workload, lfs, ceiling, scale, work / "samples")
            except (OSError, SetupError) as error:
                problems.append(f"profile of {workload.name} fails: {error}")
    finally:
        lfs.stop()
        ceiling.stop()
    progress("")
    return found, problems
