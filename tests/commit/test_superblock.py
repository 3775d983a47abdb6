"""Which superblock a mount goes by, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lfs.commit.fixed_places import read_superblock
from lfs.common.errors import FormatError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import (
    SUPERBLOCK_OFFSET_BYTES,
    Superblock,
    backup_superblock_offset_bytes,
)
from tests.commit.busy import busy_disk
from tests.support.disks import (
    LATER_NS,
    Disk,
    flip_byte,
    mounted_state,
)

MIB = 1 << 20


def change_superblock(medium: MemoryDevice, **changes: int) -> None:
    """Rewrite both copies."""
    superblock = read_superblock(medium).replaced(**changes)
    for offset in (SUPERBLOCK_OFFSET_BYTES, backup_superblock_offset_bytes(medium.size_bytes)):
        medium.write(offset, [superblock.at(offset).pack()])


@pytest.mark.parametrize("damaged", ["primary", "copy"])
def test_recovery_uses_the_superblock_that_holds(damaged: str) -> None:
    disk, expected = busy_disk()
    backup = backup_superblock_offset_bytes(disk.medium.size_bytes)
    flip_byte(disk.medium, (SUPERBLOCK_OFFSET_BYTES if damaged == "primary" else backup) + 40)
    assert mounted_state(disk.medium) == expected


def test_recovery_without_any_superblock_is_refused() -> None:
    disk = Disk()
    for offset in (SUPERBLOCK_OFFSET_BYTES, backup_superblock_offset_bytes(disk.medium.size_bytes)):
        flip_byte(disk.medium, offset)
    with pytest.raises(FormatError, match="no valid superblock"):
        disk.mount()
    with pytest.raises(FormatError, match="no valid superblock"):
        mounted_state(MemoryDevice(4096))


def test_recovery_uses_the_superblock_of_the_higher_generation() -> None:
    disk = Disk()
    superblock = read_superblock(disk.medium)
    backup = backup_superblock_offset_bytes(disk.medium.size_bytes)
    newer = superblock.replaced(generation=2, label=b"newer").at(backup)
    disk.medium.write(backup, [newer.pack()])
    assert read_superblock(disk.medium) == newer


def test_recovery_refuses_an_unknown_incompatible_feature() -> None:
    disk = Disk()
    change_superblock(disk.medium, incompatible=1 << 5)
    disk.options = replace(disk.options, read_only=True)
    with pytest.raises(FormatError, match="unknown incompatible features 0x20"):
        disk.mount()


@pytest.mark.parametrize(("version", "age"), [(1, "an older"), (3, "a newer")])
def test_recovery_refuses_another_format(version: int, age: str) -> None:
    disk = Disk()
    change_superblock(disk.medium, format_version=version)
    with pytest.raises(FormatError, match=f"{age} version.*format {version}"):
        disk.mount()


def test_recovery_with_an_unknown_read_only_feature_is_only_read_only() -> None:
    disk, expected = busy_disk()
    change_superblock(disk.medium, read_only_compatible=1)
    with pytest.raises(FormatError, match="read-only mount"):
        disk.mount()
    disk.options = replace(disk.options, read_only=True)
    disk.mount()
    assert disk.state() == expected
    assert disk.device.write_count == 0


def test_recovery_ignores_an_unknown_compatible_feature() -> None:
    disk, expected = busy_disk()
    change_superblock(disk.medium, compatible=1 << 63)
    assert mounted_state(disk.medium) == expected


@pytest.mark.parametrize("missing_bytes", [MIB, 16 * MIB])
def test_recovery_refuses_a_device_smaller_than_the_filesystem(missing_bytes: int) -> None:
    disk = Disk()
    size_bytes = disk.medium.size_bytes - missing_bytes
    smaller = MemoryDevice(size_bytes)
    smaller.write(0, [disk.medium.read(0, size_bytes)])
    with pytest.raises(FormatError, match=f"the device has {size_bytes}"):
        Filesystem.mount(smaller, LATER_NS)


def test_recovery_read_only_shows_the_log_and_writes_nothing() -> None:
    disk, expected = busy_disk()
    disk.options = replace(disk.options, read_only=True)
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert (disk.device.write_count, disk.device.flush_count) == (0, 0)


def test_superblock_of_another_place_does_not_count() -> None:
    disk = Disk()
    primary = disk.medium.read(SUPERBLOCK_OFFSET_BYTES, 512)
    backup = backup_superblock_offset_bytes(disk.medium.size_bytes)
    flip_byte(disk.medium, SUPERBLOCK_OFFSET_BYTES)
    disk.medium.write(backup, [primary])
    with pytest.raises(FormatError):
        read_superblock(disk.medium)
    assert Superblock.unpack(primary, SUPERBLOCK_OFFSET_BYTES).segment_count > 0
