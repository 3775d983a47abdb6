"""What is kept of what was read or changed stays within its limit, and is told honestly.

Real memory is what Python's allocator says (tracemalloc).  The limits are small ones, so
that a load is many times as large as what may be kept of it.
"""

from __future__ import annotations

import gc
import random
import stat
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.inodes.inode import INODE_MEMORY_BYTES
from lfs.ondisk import ROOT_INO
from tests.support.volumes import format_small, mount

FILE = stat.S_IFREG | 0o644
BLOCK_BYTES = 4096
WINDOW_BYTES = 128 * BLOCK_BYTES
CACHE_BYTES = 2 << 20
OPTIONS = Options(node_cache_bytes=256 << 10, dirty_bytes_max=1 << 20, memory_bytes_max=0)
LIMIT_BYTES = CACHE_BYTES + OPTIONS.node_cache_bytes + OPTIONS.dirty_bytes_max
REAL_MOST = 1.3
DAYS_NS = 100 * 86_400 * 1_000_000_000


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfs.volume.options.CACHE_BYTES_MIN", CACHE_BYTES)


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many bytes more are in use than at its first call."""
    tracemalloc.start()
    first: list[int] = []

    def grown() -> int:
        gc.collect()
        now = tracemalloc.get_traced_memory()[0]
        first.append(now)
        return now - first[0]

    yield grown
    tracemalloc.stop()


def _device(mib: int) -> MemoryDevice:
    device = MemoryDevice(mib << 20)
    format_small(device, BLOCK_BYTES, 256)
    # All of its memory is there before anything is measured.
    device.write(0, [device.read(0, mib << 20)])
    return device


def _scattered_files(device: MemoryDevice, files: int, windows: int) -> list[int]:
    """Make files of windows in some sixteen pieces each."""
    filesystem = mount(device, 1)
    choose = random.Random(1)
    inos = [filesystem.create(ROOT_INO, b"%d" % n, FILE, 0, 0, 1).ino for n in range(files)]
    blocks = [(ino, w * 128 + b * 8) for ino in inos for w in range(windows) for b in range(16)]
    choose.shuffle(blocks)
    for number, (ino, block) in enumerate(blocks):
        filesystem.write(ino, block * BLOCK_BYTES, b"x" * BLOCK_BYTES, 2)
        if number % 500 == 0:
            filesystem.sync(3)
    filesystem.unmount(4)
    return inos


def _small_files(device: MemoryDevice, count: int) -> list[int]:
    filesystem = mount(device, 1)
    inos = [filesystem.create(ROOT_INO, b"%d" % n, FILE, 0, 0, 1).ino for n in range(count)]
    filesystem.unmount(2)
    return inos


def _assert_within(filesystem: Filesystem, real_bytes: int) -> None:
    assert real_bytes < REAL_MOST * LIMIT_BYTES, f"{real_bytes >> 10} KiB"
    inodes = filesystem.core.inodes
    assert inodes.cache.bytes_kept <= CACHE_BYTES // 4


def test_windows_read_and_changed(traced: Callable[[], int]) -> None:
    device = _device(128)
    inos = _scattered_files(device, 8, 50)
    filesystem = mount(device, 5, OPTIONS)
    traced()
    for ino in inos:
        for window in range(50):
            filesystem.read(ino, window * WINDOW_BYTES, BLOCK_BYTES, 6)
        _assert_within(filesystem, traced())
    for ino in inos:
        for window in range(50):
            filesystem.write(ino, window * WINDOW_BYTES + BLOCK_BYTES, b"y" * BLOCK_BYTES, 7)
        filesystem.sync(8)
        _assert_within(filesystem, traced())
    for ino in inos:
        for window in range(50):
            assert filesystem.read(ino, window * WINDOW_BYTES, 2 * BLOCK_BYTES, 9) == (
                b"x" * BLOCK_BYTES + b"y" * BLOCK_BYTES
            )


def test_inodes_read(traced: Callable[[], int]) -> None:
    """Access times make inodes dirty: they are committed when there are many."""
    device = _device(64)
    inos = _small_files(device, 8000)
    filesystem = mount(device, DAYS_NS, OPTIONS)
    traced()
    for number, ino in enumerate(inos):
        filesystem.getattr(ino)
        filesystem.read(ino, 0, 10, DAYS_NS + 1)
        filesystem.accessed(ino, DAYS_NS + 1)
        if number % 1000 == 999:
            _assert_within(filesystem, traced())
    assert len(filesystem.core.inodes.dirty) <= filesystem.core.inodes.count_max + 1


@pytest.mark.parametrize("call", ["accessed", "open", "getattr", "listxattr", "extents", "read"])
def test_whatever_looks_at_inodes_lets_others_go(call: str) -> None:
    device = _device(64)
    inos = _small_files(device, 6000)
    filesystem = mount(device, DAYS_NS, OPTIONS)
    arguments = {"accessed": (DAYS_NS + 1,), "read": (0, 1, DAYS_NS + 1)}.get(call, ())
    for ino in inos:
        getattr(filesystem, call)(ino, *arguments)
        if call == "open":
            filesystem.release(ino)
    assert len(filesystem.core.inodes._inodes) <= 2 * filesystem.core.inodes.count_max + 1


def test_files_created_without_a_sync(traced: Callable[[], int]) -> None:
    filesystem = mount(_device(64), 1, OPTIONS)
    traced()
    for number in range(8000):
        ino = filesystem.create(ROOT_INO, b"%d" % number, FILE, 0, 0, 2).ino
        filesystem.write(ino, 0, b"content" * 20, 3)
        if number % 1000 == 999:
            _assert_within(filesystem, traced())
    found = 0
    for found, _ in enumerate(filesystem.readdir(ROOT_INO), 1):
        if found % 1000 == 0:
            _assert_within(filesystem, traced())
    assert found == 8000


@pytest.mark.parametrize("what", ["windows", "inodes", "changes"])
def test_what_is_counted_is_what_it_takes(
    what: str, traced: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lfs.volume.options.CACHE_BYTES_MIN", 64 << 20)
    device = _device(64)
    inos = _scattered_files(device, 2, 100) if what == "windows" else _small_files(device, 5000)
    filesystem = mount(device, 5, OPTIONS)
    if what == "changes":
        traced()
        imap = filesystem.core.volume.imap
        for number in range(5000):
            imap.put(number.to_bytes(17, "big"), bytes(100 + number % 2))
        counted = imap.memory_bytes
    elif what == "inodes":
        nodes = filesystem.core.volume.imap.nodes
        nodes._bytes_max = 0
        traced()
        for ino in inos:
            filesystem.getattr(ino)
        counted = INODE_MEMORY_BYTES * len(inos)
    else:
        nodes = filesystem.core.volume.imap.nodes
        nodes._bytes_max = 0
        traced()
        for ino in inos:
            for window in range(100):
                filesystem.read(ino, window * WINDOW_BYTES, BLOCK_BYTES, 6)
        counted = filesystem.core.inodes.cache.bytes_kept
    real = traced()
    assert counted / REAL_MOST < real < REAL_MOST * counted, (counted, real)
