"""A full disk is mounted after a crash: the checkpoint has room, or the mount is read-only."""

from __future__ import annotations

import errno

import pytest

from fsck.check import check_device
from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.ondisk import ROOT_INO
from lfs.volume.volume import Volume
from tests.support.client import Data
from tests.support.volumes import format_small, mount, without_newest_checkpoint
from tests.system.full.disks import MIB, REGULAR, SEGMENT_BLOCKS


@pytest.mark.pure_core
def test_mount_after_a_crash_before_any_region_has_room_for_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the crash cut short took almost all that was clean, and counts for nothing."""
    medium = small_blocks()
    crashed: list[MemoryDevice] = []
    whole = Checkpointer._write_in_place

    def write_region(self: Checkpointer, offset_bytes: int, raw: bytes) -> None:
        crashed.append(medium.copy())
        whole(self, offset_bytes, raw)

    monkeypatch.setattr(Checkpointer, "_write_in_place", write_region)
    _fill_with_metadata(medium)
    monkeypatch.undo()
    assert len(crashed) > 10
    for one in crashed:
        assert not mount(one, 10**9).read_only
        assert not check_device(one).problems


@pytest.mark.pure_core
def test_mount_without_room_for_a_lost_checkpoint_is_read_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the older checkpoint all must be written again, beside what is there already."""
    medium = small_blocks()
    lost: list[MemoryDevice] = []
    whole = Volume.flush

    def flush(self: Volume, sequence: int) -> None:
        whole(self, sequence)
        lost.append(without_newest_checkpoint(medium))

    monkeypatch.setattr(Volume, "flush", flush)
    _fill_with_metadata(medium)
    monkeypatch.undo()
    mounted = [mount(one, 10**9) for one in lost]
    assert {one.read_only for one in mounted} == {False, True}
    for one in mounted:
        names = [name for _, name, _, _ in one.readdir(ROOT_INO)]
        assert sorted(map(int, names)) == list(range(len(names)))


def small_blocks() -> MemoryDevice:
    medium = MemoryDevice(8 * MIB)
    format_small(medium, 1024, SEGMENT_BLOCKS)
    return medium


def _fill_with_metadata(medium: MemoryDevice) -> None:
    """Fill an empty filesystem with attributes until one is refused."""
    filesystem = mount(medium, 0)
    for number in range(10**6):
        try:
            ino = filesystem.create(ROOT_INO, b"%d" % number, REGULAR, 0, 0, number).ino
            filesystem.setxattr(ino, b"user.name", Data(number, 9000).bytes(), number)
        except FilesystemError as refusal:
            if refusal.errno != errno.ENOSPC:
                raise
            return
