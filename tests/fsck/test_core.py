"""Real images: what the filesystem writes is clean, crashed or not, and damage is found."""

from __future__ import annotations

import random
import stat

import pytest

from fsck.check import check_device
from lfs.device.memory import MemoryDevice
from lfs.ondisk import CHECKPOINT_REGION_BYTES, HEAD_AREA_BYTES, Checkpoint
from tests.fsck.samples import flip
from tests.support.volumes import format_small, mount

SECOND_NS = 10**9
GEOMETRIES = [(4096, 64), (1024, 64), (16384, 64), (65536, 64)]


def device_for(block_bytes: int) -> MemoryDevice:
    return MemoryDevice(max(16 << 20, 48 * 64 * block_bytes))


def filled(block_bytes: int, segment_blocks: int, seed: int = 0) -> MemoryDevice:
    """Return a device whose filesystem was used, then cut off in the middle of its log."""
    device = device_for(block_bytes)
    format_small(device, block_bytes, segment_blocks)
    filesystem = mount(device, SECOND_NS)
    choose = random.Random(seed)
    for number in range(120):
        now_ns = (number + 2) * SECOND_NS
        name = b"name %d" % number
        if number % 10 == 0:
            directory = filesystem.mkdir(1, b"directory %d" % number, 0o755, 0, 0, now_ns).ino
        ino = filesystem.create(directory, name, stat.S_IFREG | 0o644, 0, 0, now_ns).ino
        size = choose.choice((0, 100, 5000, 40_000, 300_000))
        filesystem.write(ino, choose.choice((0, 0, 9000)), choose.randbytes(size), now_ns)
        filesystem.setxattr(ino, b"user.one", choose.randbytes(choose.choice((3, 5000))), now_ns)
        if number % 3 == 0:
            filesystem.link(ino, 1, name, now_ns)
        if number % 4 == 0:
            filesystem.setattr(ino, now_ns, size=4000)
        if number % 5 == 0:
            filesystem.unlink(directory, name, now_ns)
            filesystem.forget(ino)
        if number % 6 == 0:
            filesystem.sync(now_ns)
        if number % 50 == 49:
            filesystem.checkpoint(now_ns)
    filesystem.sync(200 * SECOND_NS)
    return device


def newest_region(device: MemoryDevice) -> int:
    """Return the byte offset of the region with the newer checkpoint."""
    offsets = [HEAD_AREA_BYTES, HEAD_AREA_BYTES + CHECKPOINT_REGION_BYTES]
    return max(
        offsets,
        key=lambda offset: (
            Checkpoint.unpack(
                device.read(offset, CHECKPOINT_REGION_BYTES), bytes(range(8)), offset
            ).number
        ),
    )


@pytest.mark.parametrize(("block_bytes", "segment_blocks"), GEOMETRIES)
def test_core_new_filesystem_is_clean(block_bytes: int, segment_blocks: int) -> None:
    device = device_for(block_bytes)
    format_small(device, block_bytes, segment_blocks)
    report = check_device(device)
    assert report.problems == []
    assert report.is_clean_unmount
    assert report.statistics["inodes"] == 1


@pytest.mark.parametrize(("block_bytes", "segment_blocks"), GEOMETRIES)
def test_core_crashed_filesystem_is_clean(block_bytes: int, segment_blocks: int) -> None:
    report = check_device(filled(block_bytes, segment_blocks))
    assert report.problems == []
    assert report.log_commits > 0
    assert not report.is_clean_unmount


@pytest.mark.parametrize(("block_bytes", "segment_blocks"), GEOMETRIES)
def test_core_unmounted_filesystem_is_clean(block_bytes: int, segment_blocks: int) -> None:
    device = filled(block_bytes, segment_blocks)
    before = check_device(device)
    mount(device, 300 * SECOND_NS).unmount(301 * SECOND_NS)
    report = check_device(device)
    assert report.problems == []
    assert report.is_clean_unmount
    for name in ("inodes", "files", "directories", "data_blocks"):
        assert report.statistics[name] == before.statistics[name]


def test_core_older_checkpoint_leads_to_the_same_tree() -> None:
    device = filled(4096, 64)
    newer = check_device(device)
    device.write(newest_region(device), [bytes(CHECKPOINT_REGION_BYTES)])
    older = check_device(device)
    assert older.problems == []
    assert older.log_commits > newer.log_commits
    for name in ("inodes", "files", "directories", "data_blocks"):
        assert older.statistics[name] == newer.statistics[name]


def test_core_damaged_data_is_found() -> None:
    device = filled(4096, 64)
    filesystem = mount(device, 300 * SECOND_NS)
    ino = filesystem.create(1, b"victim", stat.S_IFREG | 0o644, 0, 0, 300 * SECOND_NS).ino
    filesystem.write(ino, 0, b"content" * 5000, 300 * SECOND_NS)
    filesystem.sync(301 * SECOND_NS)
    # Only the next log write says that the last one was flushed, so that damage is no torn end.
    filesystem.mkdir(1, b"later", 0o755, 0, 0, 302 * SECOND_NS)
    filesystem.sync(302 * SECOND_NS)
    _, address, _ = next(iter(filesystem.extents(ino)))
    flip(device, address * 4096)
    report = check_device(device)
    assert [problem.code for problem in report.problems] == ["data-checksum"]
    assert report.problems[0].message.endswith("(/victim)")
