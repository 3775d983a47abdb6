"""Overwriting what is there works on a full disk, and at 85 % it goes on for ever."""

from __future__ import annotations

import errno
import random

import pytest

from fsck.check import check_device
from lfs.device.memory import MemoryDevice
from lfs.ondisk import ROOT_INO
from tests.support.client import Data
from tests.support.volumes import format_small, mount
from tests.system.full.disks import (
    DEVICE_BYTES,
    KIB,
    MIB,
    REGULAR,
    SEGMENT_BLOCKS,
    Disk,
    error_of,
    filled_with_one_file,
)


@pytest.mark.parametrize(
    ("block_bytes", "mib", "name_bytes", "count"), [(4096, 32, 12, 1000), (1024, 8, 100, 1500)]
)
def test_files_of_one_block_are_overwritten_on_a_full_disk(
    block_bytes: int, mib: int, name_bytes: int, count: int
) -> None:
    device = MemoryDevice(mib * MIB)
    format_small(device, block_bytes, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    inos: list[int] = []

    def fill() -> None:
        for number in range(100_000):
            name = (b"%d" % number).ljust(name_bytes, b"-")
            ino = filesystem.create(ROOT_INO, name, REGULAR, 0, 0, number).ino
            filesystem.write(ino, 0, bytes(block_bytes), number)
            inos.append(ino)

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(10**9)
    choose = random.Random(1)
    # What a segment of data gives, the leaves that map it take.
    for number in range(count):
        value = bytes([number % 251]) * block_bytes
        filesystem.write(choose.choice(inos), 0, value, 10**9 + number)
    filesystem.unmount(2 * 10**9)
    assert not check_device(device, data=True).problems


@pytest.mark.parametrize(("block_bytes", "mib", "count"), [(4096, 32, 2500), (1024, 12, 4000)])
def test_large_file_is_overwritten_at_random_on_a_full_disk(
    block_bytes: int, mib: int, count: int
) -> None:
    device = MemoryDevice(mib * MIB)
    format_small(device, block_bytes, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    large = filesystem.create(ROOT_INO, b"large", REGULAR, 0, 0, 1).ino
    blocks = filesystem.statfs().available_blocks * 9 // 10
    for first in range(0, blocks, 16):
        filesystem.write(large, first * block_bytes, bytes(16 * block_bytes), 2)
    names: list[bytes] = []

    def fill() -> None:
        for number in range(100_000):
            names.append(b"%d" % number)
            ino = filesystem.create(ROOT_INO, names[-1], REGULAR, 0, 0, number).ino
            filesystem.write(ino, 0, bytes(block_bytes), number)

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(10**9)
    choose = random.Random(1)
    # Each block comes to be an extent of its own, and mapping it takes ever more nodes.
    for number in range(count):
        value = bytes([number % 251]) * block_bytes
        offset = choose.randrange(blocks) * block_bytes
        filesystem.write(large, offset, value, 10**9 + number)
        if number % 10 == 0:
            old = choose.randrange(len(names) - 1)
            new = names[old][:-1] + bytes([97 + number % 26])
            if new not in names:
                filesystem.rename(ROOT_INO, names[old], ROOT_INO, new, 10**9)
                names[old] = new
    # Nothing was damaged, so the cleaner has no reason to leave any run alone.
    assert not filesystem.core.volume.usage.out_of_use.immovable
    filesystem.unmount(2 * 10**9)
    assert not check_device(device, data=True).problems


@pytest.mark.parametrize("segments", [32, 60, 128, 200, 400])
def test_as_much_is_overwritten_at_once_as_is_promised(segments: int) -> None:
    device = MemoryDevice((segments * SEGMENT_BLOCKS + 400) * 1024)
    format_small(device, 1024, SEGMENT_BLOCKS)
    filesystem, ino = filled_with_one_file(device)
    write_bytes = filesystem.write_bytes_max
    assert write_bytes >= 128 << 10
    choose = random.Random(1)
    for number in range(40):
        offset = choose.randrange(filesystem.getattr(ino).size - write_bytes) // 1024 * 1024
        filesystem.write(ino, offset, bytes([number]) * write_bytes, 10**9 + number)


def test_what_is_partly_stored_and_partly_dirty_is_overwritten() -> None:
    device = MemoryDevice(8 * MIB)
    format_small(device, 4096, SEGMENT_BLOCKS)
    filesystem, ino = filled_with_one_file(device)
    size = filesystem.getattr(ino).size - 8 * 4096
    filesystem.setattr(ino, 10**9, size=size)
    filesystem.checkpoint(10**9)
    position = size
    while filesystem.statfs().available_blocks:
        filesystem.write(ino, position, b"d" * 4096, 10**9)
        position += 4096
    assert position > size
    filesystem.write(ino, size - 4 * 4096, b"f" * (position - size + 4 * 4096), 10**9)


@pytest.mark.parametrize("synced", [False, True])
def test_overwrite_at_85_percent_goes_on_for_ever(synced: bool) -> None:
    disk = Disk()
    choose = random.Random(5)
    ino = disk.make_file(b"hot")
    while disk.used_share() < 0.85:
        disk.write(ino, len(disk.contents[ino]), Data(1, 64 * KIB).bytes())
        disk.tick()
    size = len(disk.contents[ino])
    written = 0
    while written < 4 * DEVICE_BYTES:
        length = choose.choice([500, 4096, 4096, 20_000])
        disk.write(ino, choose.randrange(size - length), Data(choose.randrange(99), length).bytes())
        written += length
        disk.tick()
        if synced and choose.random() < 0.1:
            disk.sync()
    # What pending metadata will add is only an upper bound.
    disk.filesystem.checkpoint(disk.now_ns)
    assert 0.8 < disk.used_share() < 0.9
    disk.verify_after_crash()
