"""What is measured of lfs alone, through the library, where every device request is counted."""

from __future__ import annotations

import random
import stat
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.systems.host import our_tool, run
from lfs.device.base import BlockDevice
from lfs.device.memory import MemoryDevice
from lfs.device.recording import RecordingDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO

KIB = 1024
MIB = 1024 * 1024
REGULAR = stat.S_IFREG | 0o644
TICK_NS = 1_000_000
SECOND_NS = 1_000_000_000
# So few that hardly any block is overwritten twice before it reaches the device.
_WRITES_PER_SYNC = 256


@dataclass(frozen=True)
class LibraryScale:
    """How much is done."""

    disk_bytes: int
    overwrite_factor: float
    file_bytes: int
    overwrites: int


FULL = LibraryScale(512 * MIB, 3.0, 100 * MIB, 10_000)
QUICK = LibraryScale(64 * MIB, 1.5, 20 * MIB, 2_000)


@dataclass(frozen=True)
class Figure:
    """One result beside its budget."""

    name: str
    value: float
    unit: str
    budget: float
    meaning: str

    @property
    def met(self) -> bool:
        """Tell whether the budget is kept."""
        return self.value <= self.budget


@dataclass(frozen=True)
class Measurement:
    """A way to some figures."""

    name: str
    meaning: str
    run: Callable[[Path, LibraryScale], list[Figure]]


@contextmanager
def _formatted(work: Path, size_bytes: int) -> Iterator[Path]:
    image = work / "library.img"
    run(our_tool("mkfs.main", "-q", image, str(size_bytes)))
    try:
        yield image
    finally:
        image.unlink()


def _in_memory(work: Path, size_bytes: int) -> RecordingDevice:
    """Return a formatted device in memory that counts."""
    medium = MemoryDevice(size_bytes)
    with _formatted(work, size_bytes) as image, image.open("rb") as file:
        offset = 0
        while chunk := file.read(MIB):
            if chunk.strip(b"\0"):
                medium.write(offset, [chunk])
            offset += len(chunk)
    return RecordingDevice(medium)


class Clock:
    """A filesystem and a time that goes on a little with every request."""

    def __init__(self, device: BlockDevice) -> None:
        """Mount what is on ``device``."""
        self.now_ns = SECOND_NS
        self.filesystem = Filesystem.mount(device, self.now_ns, report=lambda line: None)

    def tick_ns(self) -> int:
        """Return the time, a little later than the last."""
        self.now_ns += TICK_NS
        return self.now_ns

    def make_file(self, name: bytes, size_bytes: int) -> int:
        """Make a file of zeros and return its number."""
        ino = self.filesystem.create(ROOT_INO, name, REGULAR, 0, 0, self.tick_ns()).ino
        for offset in range(0, size_bytes, MIB):
            data = bytes(min(MIB, size_bytes - offset))
            self.filesystem.write(ino, offset, data, self.tick_ns())
            self.filesystem.tick(self.tick_ns(), idle=False)
        self.filesystem.sync(self.tick_ns())
        return ino

    def settle(self) -> None:
        """Let background work go on until there is none, as on an idle machine."""
        for _ in range(100):
            self.now_ns += 10 * SECOND_NS
            quiet = True
            while self.filesystem.tick(self.now_ns, idle=True):
                quiet = False
            if quiet:
                return


def _append_cost(work: Path, scale: LibraryScale) -> list[Figure]:
    device = _in_memory(work, 64 * MIB)
    clock = Clock(device)
    ino = clock.make_file(b"log", 4 * KIB)
    written, flushes = [], []
    for index in range(1, 101):
        device.reset_counters()
        clock.filesystem.write(ino, index * 4 * KIB, bytes(4 * KIB), clock.tick_ns())
        clock.filesystem.sync(clock.tick_ns())
        written.append(device.written_bytes / KIB)
        flushes.append(device.flush_count)
    mean = statistics.mean(written)
    meaning = f"written to the device for a 4 KiB append with fsync (mean {mean:.2f} KiB)"
    return [
        Figure("append bytes", statistics.median(written), "KiB", 8.0, meaning),
        Figure("append flushes", max(flushes), "", 1.0, "device flushes for the same, at most"),
    ]


def _write_amplification(work: Path, scale: LibraryScale) -> list[Figure]:
    device = _in_memory(work, scale.disk_bytes)
    clock = Clock(device)
    filesystem = clock.filesystem
    space = filesystem.statfs()
    size = space.total_blocks * space.block_bytes * 8 // 10
    ino = clock.make_file(b"data", size)
    choose = random.Random(1)
    blocks = size // (4 * KIB)
    rewritten_bytes = int(size * scale.overwrite_factor)
    # The first half of the overwrites brings the disk into its steady state.
    for counted in (False, True):
        device.reset_counters()
        device.events.clear()
        for number in range(rewritten_bytes // (4 * KIB) // 2):
            hot = choose.random() < 0.9
            block = choose.randrange(blocks // 10) if hot else choose.randrange(blocks)
            filesystem.write(ino, block * 4 * KIB, bytes([number % 256]) * 4096, clock.tick_ns())
            if number % _WRITES_PER_SYNC == 0:
                filesystem.sync(clock.tick_ns())
            filesystem.tick(clock.now_ns, idle=False)
            device.events.clear()
        filesystem.sync(clock.tick_ns())
        assert counted or device.written_bytes > 0
    return [
        Figure(
            "write amplification",
            device.written_bytes / (rewritten_bytes // 2),
            "",
            2.0,
            "device bytes for each byte overwritten at 80 % full, nine of ten in a tenth of it",
        )
    ]


def _extents(work: Path, scale: LibraryScale) -> list[Figure]:
    device = _in_memory(work, 4 * scale.file_bytes)
    clock = Clock(device)
    filesystem = clock.filesystem
    ino = clock.make_file(b"data", scale.file_bytes)
    choose = random.Random(2)
    for number in range(scale.overwrites):
        block = choose.randrange(scale.file_bytes // (4 * KIB))
        filesystem.write(ino, block * 4 * KIB, bytes([number % 256]) * 4096, clock.tick_ns())
        filesystem.tick(clock.now_ns, idle=False)
    filesystem.sync(clock.tick_ns())
    scattered = len(list(filesystem.extents(ino)))
    clock.settle()
    return [
        Figure(
            "extents",
            len(list(filesystem.extents(ino))),
            "",
            8,
            f"of a {scale.file_bytes // MIB} MiB file after {scale.overwrites:,} random overwrites "
            f"({scattered} of them) and a settled cleaner",
        )
    ]


MEASUREMENTS: list[Measurement] = [
    Measurement(
        "append cost", "device bytes and flushes of a 4 KiB append with fsync", _append_cost
    ),
    Measurement("amplification", "write amplification at 80 % full", _write_amplification),
    Measurement("extents", "extents after random overwrites and a settled cleaner", _extents),
]
