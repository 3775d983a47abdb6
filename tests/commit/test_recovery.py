"""What a mount brings back after a crash, also when it crashes itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lfs.device.memory import MemoryDevice
from lfs.device.recording import Flush, RecordingDevice, crash_states
from lfs.ondisk import ROOT_INO
from lfs.volume.options import Options
from tests.commit.busy import busy_disk
from tests.support.disks import Disk, data, mounted_state, problems
from tests.support.volumes import format_small, mount

MIB = 1 << 20


def test_recovery_rolls_forward_from_the_newer_checkpoint() -> None:
    disk, expected = busy_disk()
    disk.mount()
    assert disk.state() == expected
    assert disk.lines == ["recovered 1 commits from the log"]


def test_recovery_after_a_clean_unmount_writes_nothing() -> None:
    disk, expected = busy_disk()
    disk.unmount()
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert disk.device.write_count == 0
    assert disk.lines == []


@pytest.mark.parametrize("size_bytes", [1 << 30, 1 << 40])
def test_recovery_after_a_clean_unmount_reads_little_of_any_disk(size_bytes: int) -> None:
    medium = MemoryDevice(size_bytes)
    format_small(medium, 4096, 1024)
    filesystem = mount(medium, 1)
    filesystem.mkdir(ROOT_INO, b"folder", 0o755, 0, 0, 2)
    filesystem.unmount(3)
    device = RecordingDevice(medium)
    mount(device, 4)
    # Superblocks, checkpoint regions, the root, a usage page, the rest of the open run by 256
    # blocks, and 256 places where a later log write might begin.
    assert device.read_count <= 300
    assert device.read_bytes <= 6 * MIB


# -------------------------------------------------------------------- crashes meanwhile


def test_recovery_that_crashes_at_any_write_changes_nothing() -> None:
    disk, expected = busy_disk()
    crashed = disk.medium.copy()
    disk.mount()
    assert sum(isinstance(event, Flush) for event in disk.device.events) >= 5
    states = 0
    for _, medium in crash_states(crashed, disk.device.events):
        again = RecordingDevice(medium)
        assert mounted_state(again) == expected
        states += 1
    assert states >= 5


def test_recovery_that_crashes_twice_changes_nothing() -> None:
    disk, expected = busy_disk()
    medium = disk.medium
    for _ in range(4):
        device = RecordingDevice(medium.copy())
        assert mounted_state(device) == expected
        states = [state for _, state in crash_states(medium, device.events)]
        medium = states[len(states) // 2]


def test_recovery_of_a_crash_goes_on_with_new_writes() -> None:
    disk, _ = busy_disk()
    for number in range(3):
        disk.mount()
        disk.make_file(b"new %d" % number, data(number, 9000))
        disk.sync()
        expected = disk.state()
    disk.mount()
    assert disk.state() == expected
    assert problems(disk.medium) == []


def test_recovery_removes_what_was_open_without_a_name() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", data(1, 100_000))
    disk.checkpoint()
    free_blocks = disk.filesystem.statfs().free_blocks
    disk.filesystem.open(ino)
    disk.filesystem.unlink(1, b"file", disk.now_ns)
    disk.sync()
    disk.mount()
    disk.unmount()
    disk.mount()
    assert disk.state().keys() == {b"/"}
    assert disk.filesystem.statfs().free_blocks >= free_blocks + 25
    assert problems(disk.medium) == []


# ----------------------------------------------------------------- windows from the log


def write_out_and_cut(disk: Disk, ino: int) -> None:
    disk.write(ino, 0, data(1, MIB))
    disk.truncate(ino, 100_001)


def write_out_cut_and_extend(disk: Disk, ino: int) -> None:
    write_out_and_cut(disk, ino)
    disk.truncate(ino, MIB)


def write_out_cut_and_write(disk: Disk, ino: int) -> None:
    write_out_and_cut(disk, ino)
    disk.write(ino, 300_000, data(2, MIB // 2))


def write_out_twice(disk: Disk, ino: int) -> None:
    disk.write(ino, 0, data(1, MIB))
    disk.write(ino, 500_000, data(2, MIB))


def write_out_and_empty(disk: Disk, ino: int) -> None:
    disk.write(ino, 0, data(1, MIB))
    disk.truncate(ino, 0)
    disk.write(ino, 10, data(3, 20))


@pytest.mark.parametrize(
    "change",
    [
        write_out_and_cut,
        write_out_cut_and_extend,
        write_out_cut_and_write,
        write_out_twice,
        write_out_and_empty,
    ],
)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_recovery_of_data_written_out_before_other_changes(
    change: Callable[[Disk, int], None], checkpointed: bool
) -> None:
    disk = Disk(options=Options(dirty_bytes_max=MIB // 2))
    ino = disk.make_file(b"file", data(9, 200_000))
    disk.sync()
    if checkpointed:
        disk.checkpoint()
    change(disk, ino)
    assert any(summary.payload_blocks > 40 for summary in disk.log())
    disk.sync()
    expected, content = disk.state(), disk.read(ino)
    disk.mount()
    assert disk.state() == expected
    assert disk.read(ino) == content
    assert problems(disk.medium) == []
