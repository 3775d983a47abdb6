"""A full disk that can't be read everywhere: what is healthy goes on, and deleting above all."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence

import pytest

from lfs.common.errors import DeviceError, FilesystemError
from lfs.device.base import Buffer
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from tests.support.volumes import format_small, mount
from tests.system.full.disks import (
    MIB,
    REGULAR,
    SEGMENT_BLOCKS,
    error_of,
    filled_with_one_file,
)


class Outage(MemoryDevice):
    """A device that can't be read for a while."""

    is_out = False

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Read, or fail."""
        if self.is_out:
            raise DeviceError(errno.EIO, "read failed", offset_bytes)
        return super().read(offset_bytes, length_bytes)


def test_full_disk_serves_again_after_it_could_not_be_read_for_a_while() -> None:
    device = Outage(8 * MIB)
    format_small(device, 1024, SEGMENT_BLOCKS)
    filesystem, ino = filled_with_one_file(device)
    blocks = filesystem.getattr(ino).size // 1024
    choose = random.Random(1)
    usage = filesystem.core.volume.usage

    def overwrite(count: int, now_ns: int) -> None:
        for _ in range(count):
            filesystem.write(ino, choose.randrange(blocks) * 1024, bytes(1024), now_ns)

    overwrite(2000, 10**9)
    device.is_out = True
    # Cleaning finds nothing that it can move, and goes on without what it can't read.
    assert error_of(lambda: overwrite(2000, 10**9)) == errno.ENOSPC
    device.is_out = False
    assert len(usage.out_of_use.immovable) > 50
    assert usage.lost_blocks
    # The search is not repeated for each request, but it is after some seconds.
    overwrite(500, 30 * 10**9)
    filesystem.setattr(ino, 30 * 10**9, size=(blocks - 100) * 1024)
    assert error_of(lambda: grow(filesystem, ino)) == errno.ENOSPC
    assert not usage.out_of_use.immovable
    assert filesystem.getattr(ino).size >= (blocks - 4) * 1024


def grow(filesystem: Filesystem, ino: int) -> None:
    """Append until that is refused."""
    while True:
        filesystem.write(ino, filesystem.getattr(ino).size, bytes(1024), 40 * 10**9)


class BadBlocks(MemoryDevice):
    """A device of which some blocks of 4 KiB can't be read."""

    bad: frozenset[int] = frozenset()

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Read, or fail."""
        blocks = range(offset_bytes // 4096, -(-(offset_bytes + length_bytes) // 4096))
        if not self.bad.isdisjoint(blocks):
            raise DeviceError(errno.EIO, "read failed", offset_bytes)
        return super().read(offset_bytes, length_bytes)


@pytest.mark.parametrize("heals", [False, True])
def test_deleting_goes_on_beside_more_bad_blocks_than_segments_to_spare(heals: bool) -> None:
    device = BadBlocks(32 * MIB)
    format_small(device, 4096, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    choose = random.Random(1)
    inos: dict[bytes, int] = {}
    names: list[bytes] = []
    now_ns = 10**9

    def make_file() -> None:
        name = b"%d" % len(names)
        names.append(name)
        inos[name] = filesystem.create(ROOT_INO, name, REGULAR, 0, 0, now_ns).ino
        filesystem.write(inos[name], 0, choose.randbytes(73 * 4096), now_ns)

    def fill() -> None:
        while True:
            make_file()

    def overwrite() -> None:
        ino = inos[choose.choice(list(inos))]
        filesystem.write(ino, choose.randrange(73) * 4096, choose.randbytes(4096), now_ns)

    def delete(name: bytes) -> None:
        filesystem.unlink(ROOT_INO, name, now_ns)
        filesystem.forget(inos.pop(name))

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(now_ns)
    for _ in range(300):
        overwrite()
    filesystem.checkpoint(now_ns)
    device.bad = frozenset(
        address + choose.randrange(count)
        for name in choose.sample(list(inos), 60)
        for _, address, count in filesystem.extents(inos[name])[:1]
    )
    refused = 0
    for number in range(800):
        now_ns += choose.choice((10**6, 10**8, 10**9, 5 * 10**9))
        if heals and number == 100:
            device.bad = frozenset()
        step = choose.random()
        try:
            if step < 0.92:
                (overwrite if step < 0.8 else make_file)()
        except FilesystemError as error:
            # What is overwritten in part has to be read.
            refused += error.errno == errno.ENOSPC
        for second in range(20 if 0.92 <= step < 0.96 else 0):
            filesystem.tick(now_ns + second * 10**9, True)
        if step >= 0.96:
            delete(choose.choice(list(inos)))
    assert refused > 50
    assert not filesystem.read_only
    for name in list(inos):
        delete(name)
    filesystem.unmount(now_ns + 10**11)


def one_in_some_runs(
    filesystem: Filesystem, inos: list[int], choose: random.Random, percent: int
) -> frozenset[int]:
    """Return one block of data in each of so many of the runs that hold any."""
    usage = filesystem.core.volume.usage
    blocks: dict[int, int] = {}
    for ino in choose.sample(inos, len(inos)):
        for _, address, count in filesystem.extents(ino):
            blocks.setdefault(usage.run_of(address), address + choose.randrange(count))
    return frozenset(choose.sample([*blocks.values()], len(blocks) * percent // 100))


class Counting(BadBlocks):
    """A device that counts what is written to it, and how often it is flushed."""

    written_bytes = flush_count = 0

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write and count."""
        super().write(offset_bytes, buffers)
        self.written_bytes += sum(map(len, buffers))

    def flush(self) -> None:
        """Flush and count."""
        self.flush_count += 1
        super().flush()


def test_request_beside_many_bad_blocks_does_not_rewrite_the_disk() -> None:
    device = Counting(16 * MIB)
    format_small(device, 4096, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    choose = random.Random(2)
    inos: list[int] = []
    now_ns = 10**9

    def fill() -> None:
        while True:
            inos.append(filesystem.create(ROOT_INO, b"%d" % len(inos), REGULAR, 0, 0, 1).ino)
            filesystem.write(inos[-1], 0, choose.randbytes(choose.randrange(1, 30_000)), now_ns)

    def overwrite() -> None:
        ino = choose.choice(inos)
        size = filesystem.getattr(ino).size
        if size:
            offset = choose.randrange(size) // 4096 * 4096
            filesystem.write(ino, offset, bytes(min(4096, size - offset)), now_ns)

    assert error_of(fill) == errno.ENOSPC
    for _ in range(1500):
        overwrite()
    filesystem.checkpoint(now_ns)
    device.bad = one_in_some_runs(filesystem, inos, choose, 60)
    refused = most_bytes = most_flushes = 0
    while refused < 20:
        now_ns += choose.choice((10**6, 10**8, 10**9))
        device.written_bytes = device.flush_count = 0
        try:
            overwrite()
        except FilesystemError as error:
            refused += error.errno == errno.ENOSPC
        most_bytes = max(most_bytes, device.written_bytes)
        most_flushes = max(most_flushes, device.flush_count)
    for number, ino in enumerate(inos):
        device.written_bytes = device.flush_count = 0
        filesystem.unlink(ROOT_INO, b"%d" % number, now_ns)
        filesystem.forget(ino)
        most_bytes = max(most_bytes, device.written_bytes)
        most_flushes = max(most_flushes, device.flush_count)
    assert most_bytes < 2 * device.size_bytes
    assert most_flushes < 150


@pytest.mark.parametrize(("bad_percent", "rewrites_max"), [(5, 0.5), (30, 2)])
def test_overwriting_goes_on_beside_some_bad_blocks(bad_percent: int, rewrites_max: float) -> None:
    device = Counting(64 * MIB)
    format_small(device, 4096, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    choose = random.Random(bad_percent)
    inos: list[int] = []
    now_ns = 10**9

    def fill() -> None:
        while True:
            inos.append(filesystem.create(ROOT_INO, b"%d" % len(inos), REGULAR, 0, 0, 1).ino)
            filesystem.write(inos[-1], 0, choose.randbytes(73 * 4096), now_ns)

    assert error_of(fill) == errno.ENOSPC
    del inos[-1]
    filesystem.checkpoint(now_ns)
    device.bad = one_in_some_runs(filesystem, inos, choose, bad_percent)
    most_bytes = 0
    for _ in range(2000):
        now_ns += 10**6
        device.written_bytes = 0
        block = choose.randrange(73) * 4096
        # None of these is refused: with whole blocks nothing has to be read.
        filesystem.write(choose.choice(inos), block, choose.randbytes(4096), now_ns)
        most_bytes = max(most_bytes, device.written_bytes)
    assert filesystem.core.volume.usage.out_of_use.immovable
    assert most_bytes < rewrites_max * device.size_bytes
