"""Write amplification on a disk that is four fifths full: a counter, with little slack."""

from __future__ import annotations

import random

from tests.support.disks import BLOCK_BYTES, Disk, problems

MIB = 1 << 20
SECOND_NS = 1_000_000_000
LIMIT = 1.9


def amplification() -> float:
    """Return the device bytes for each byte overwritten, nine of ten in a tenth of the file.

    The first half of the overwrites brings the disk into its steady state.
    """
    disk = Disk(32 * MIB, 64)
    blocks = disk.filesystem.statfs().total_blocks * 8 // 10
    ino = disk.make_file(b"file")
    for first in range(0, blocks, 256):
        disk.write(ino, first * BLOCK_BYTES, bytes(min(256, blocks - first) * BLOCK_BYTES))
    disk.sync()
    choose = random.Random(1)
    count = blocks
    for _ in range(2):
        disk.device.reset_counters()
        disk.device.events.clear()
        for number in range(count):
            span = blocks // 10 if choose.random() < 0.9 else blocks
            block = choose.randrange(span)
            disk.now_ns += SECOND_NS // 1000
            disk.write(ino, block * BLOCK_BYTES, bytes([number % 256]) * BLOCK_BYTES)
            if number % 128 == 0:
                disk.sync()
            disk.filesystem.tick(disk.now_ns, idle=False)
            disk.device.events.clear()
        disk.sync()
    assert problems(disk.medium) == []
    return disk.device.written_bytes / (count * BLOCK_BYTES)


def test_hot_and_cold_overwrites_cost_little() -> None:
    assert amplification() < LIMIT
