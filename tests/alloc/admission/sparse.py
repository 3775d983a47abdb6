"""A disk with files of many windows, which are given up in steps."""

from __future__ import annotations

import stat

from fsck.check import check_device
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO
from tests.support.volumes import format_small

FILE = stat.S_IFREG | 0o644
BLOCK_BYTES = 1024
WINDOW_BYTES = 32 * BLOCK_BYTES
STEP = Options(removal_items_max=2)


def fresh_device(size_bytes: int = 8 << 20) -> MemoryDevice:
    device = MemoryDevice(size_bytes)
    format_small(device, BLOCK_BYTES, 64)
    return device


def sparse_file(filesystem: Filesystem, windows: int, name: bytes = b"file") -> int:
    """Make a file with one block on disk in each of ``windows`` windows."""
    ino = filesystem.create(ROOT_INO, name, FILE, 0, 0, 1).ino
    for index in range(windows):
        filesystem.write(ino, index * WINDOW_BYTES, bytes([index % 255 + 1]) * BLOCK_BYTES, 2)
    filesystem.sync(3)
    return ino


def check(device: MemoryDevice) -> None:
    problems = check_device(device.copy(), data=True).problems
    assert not problems, problems


def drain(filesystem: Filesystem, now_ns: int = 100) -> int:
    """Let background work end; returns how many turns it took."""
    turns = 0
    while filesystem.tick(now_ns, idle=True):
        turns += 1
        assert turns < 10_000
    return turns
