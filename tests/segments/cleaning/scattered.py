"""Files in many pieces, and idle turns that put them together."""

from __future__ import annotations

import random
from collections.abc import Iterator

from lfs.segments.cleaning.defragment import QUIET_NS, Defragmenter
from lfs.volume.options import Options
from tests.support.disks import BLOCK_BYTES, Disk, data

MIB = 1 << 20
FILE_BLOCKS = 1024
LATER = 10 * QUIET_NS


def defragmenter_of(disk: Disk) -> Defragmenter:
    return disk.filesystem.core.defragmenter


def roomy_disk(size_bytes: int = 64 * MIB) -> Disk:
    """Return a disk with so many segments that runs may be larger than the cleaner likes."""
    options = Options(commit_interval_ns=1 << 62, checkpoint_interval_ns=1 << 62)
    return Disk(size_bytes, 64, options)


def scatter(disk: Disk, ino: int, content: bytearray, count: int, seed: int = 1) -> None:
    """Overwrite ``count`` blocks of a file, here and there."""
    choose = random.Random(seed)
    for number in range(count):
        block = choose.randrange(len(content) // BLOCK_BYTES)
        new = data(1000 * seed + number, BLOCK_BYTES)
        disk.write(ino, block * BLOCK_BYTES, new)
        content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = new
        if number % 64 == 63:
            disk.sync()
    disk.sync()


def scattered_file(
    disk: Disk, name: bytes = b"file", blocks: int = FILE_BLOCKS
) -> tuple[int, bytearray]:
    """Return a file in many pieces and what it holds."""
    content = bytearray(data(1, blocks * BLOCK_BYTES))
    ino = disk.make_file(name, bytes(content))
    disk.sync()
    scatter(disk, ino, content, blocks // 4)
    assert piece_count(disk, ino) > blocks // 6
    return ino, content


def piece_count(disk: Disk, ino: int) -> int:
    return len(list(disk.filesystem.extents(ino)))


def idle_steps(disk: Disk, steps_max: int = 1000) -> Iterator[int]:
    """Let idle turns follow each other until there is nothing more to do."""
    disk.now_ns += LATER
    for number in range(steps_max):
        if not disk.filesystem.tick(disk.now_ns, idle=True):
            return
        yield number
    raise AssertionError("idle turns go on for ever")


def settle(disk: Disk) -> int:
    """Let idle turns do all that is to be done; return how many it took."""
    return sum(1 for _ in idle_steps(disk))
