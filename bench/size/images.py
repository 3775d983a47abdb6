"""Images with many files, filled through the library, and what the device is asked for on them."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.library import KIB, REGULAR, Clock
from bench.size.series import FIRST, GIB, MOUNT_READS, ONE, SPREAD
from lfs.device.file import FileDevice
from lfs.device.recording import RecordingDevice
from lfs.ondisk import ROOT_INO

FILES_PER_DIRECTORY = 1000
_CHANGES_AFTER_CHECKPOINT = 2000
_FILES_PER_TICK = 100
_BYTES_PER_FILE = 4 * KIB


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


def mounted_reads(image: Path) -> int:
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
