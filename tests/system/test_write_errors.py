"""A disk that refuses some writes: what could not be written goes elsewhere.

``tests/system/test_lies.py`` fails each write of a workload once, and ``tests/crash``
cuts the power around such errors.  Here are errors that last, in a place or in
number, those that come while the cleaner works or the disk is full, and what they
take from the space there is.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lfs.common.errors import DeviceError, FilesystemError
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO
from lfs.segments.usage import UsageTable
from lfs.volume.volume import PLACES_MAX
from tests.support.disks import BLOCK_BYTES, LATER_NS, SEGMENT_BLOCKS, data, mounted_state, problems
from tests.support.state import tree_state
from tests.system.faulty_disks import MIB, SEGMENT_BYTES, FaultyDisk, check_kept

# --------------------------------------------------------------------------- bad places


def test_bad_place_is_written_around_and_not_tried_again() -> None:
    disk = FaultyDisk()
    disk.make_file(b"before", data(1, 50_000))
    disk.sync()
    bad = disk.range_of(disk.next_place())
    disk.plan(f"error EIO on write in {bad}")
    for number in range(60):
        disk.make_file(b"file %d" % number, data(number, 100_000))
        disk.sync()
    disk.checkpoint()
    assert len(disk.faulty.faults) == 1
    assert len(disk.lines) == 1
    assert "written elsewhere" in disk.lines[0]
    check_kept(disk)


@pytest.mark.parametrize("plan", ["error EIO on write {conditions}", "bad {places} spare 3"])
def test_bad_sectors_all_over_the_disk_are_written_around(plan: str) -> None:
    disk = FaultyDisk(options=Options(dirty_bytes_max=MIB))
    first_bytes = disk.superblock.first_segment_block * BLOCK_BYTES
    places = [first_bytes + number * 5 * SEGMENT_BYTES + 40_960 for number in range(20)]
    conditions = " ".join(f"in {place}+4096" for place in places)
    disk.plan(plan.format(conditions=conditions, places=" ".join(f"{p}+4096" for p in places)))
    for number in range(30):
        disk.make_file(b"file %d" % number, data(number, 400_000))
        if number % 4 == 0:
            disk.sync()
    disk.sync()
    assert len(disk.faulty.faults) >= 5
    check_kept(disk)


def test_what_was_durable_in_a_bad_run_is_read_where_it_is() -> None:
    disk = FaultyDisk()
    ino = disk.make_file(b"kept", data(1, 20_000))
    disk.sync()
    ((_, address, _),) = disk.filesystem.extents(ino)
    run = disk.usage.run_of(address)
    assert run == disk.usage.run_of(disk.next_place())
    disk.plan("error EIO on write nth 1")
    disk.make_file(b"other", data(2, 20_000))
    disk.sync()
    assert run in disk.usage.out_of_use.given_up
    ((_, found, _),) = disk.filesystem.extents(ino)
    assert found == address
    assert disk.read(ino) == data(1, 20_000)
    check_kept(disk)


def test_lost_space_is_told_until_the_next_mount() -> None:
    disk = FaultyDisk()
    ino = disk.make_file(b"kept", data(1, 20_000))
    disk.sync()
    before = disk.filesystem.statfs()
    disk.plan("error EIO on write nth 1")
    other = disk.make_file(b"other", data(2, 20_000))
    disk.sync()
    space = disk.filesystem.statfs()
    assert 0 < before.total_blocks - space.total_blocks <= SEGMENT_BLOCKS
    disk.remove(ino, b"kept")
    disk.remove(other, b"other")
    for _ in range(3):
        disk.checkpoint()
    lost_blocks = before.total_blocks - disk.filesystem.statfs().total_blocks
    # In terms of data, of which a block takes a little more than itself.
    assert SEGMENT_BLOCKS - 2 <= lost_blocks <= SEGMENT_BLOCKS
    assert disk.usage.lost_blocks == SEGMENT_BLOCKS
    assert disk.usage.out_of_use.given_up == set()
    disk.unmount()
    disk.mount()
    assert disk.filesystem.statfs().total_blocks == before.total_blocks
    assert problems(disk.medium) == []


# ------------------------------------------------------------------------------ regions


def test_checkpoint_region_is_tried_again_in_its_place() -> None:
    disk = FaultyDisk()
    disk.make_file(b"kept", data(1, 20_000))
    disk.plan(f"error EIO partial on write in {disk.region_range()} times 2")
    disk.checkpoint()
    assert len(disk.lines) == 2
    check_kept(disk)


def test_checkpoint_region_that_cannot_be_written_ends_writing_and_keeps_the_other() -> None:
    disk = FaultyDisk()
    disk.make_file(b"kept", data(1, 20_000))
    disk.sync()
    state = disk.state()
    disk.plan(f"error EIO partial on write in {disk.region_range()}")
    with pytest.raises(DeviceError):
        disk.checkpoint()
    assert disk.filesystem.read_only
    assert problems(disk.medium) == []
    assert mounted_state(disk.medium) == state


# -------------------------------------------------------------------------- many errors


def test_as_many_errors_in_a_row_as_are_borne() -> None:
    disk = FaultyDisk()
    disk.plan(f"error EIO on write times {PLACES_MAX}")
    disk.make_file(b"kept", data(1, 20_000))
    disk.sync()
    assert len(disk.faulty.faults) == PLACES_MAX
    disk.plan(f"error EIO on write times {PLACES_MAX}")
    disk.make_file(b"again", data(1, 20_000))
    disk.sync()
    check_kept(disk)


@pytest.mark.parametrize("errors", ["remount-ro", "continue"])
def test_more_errors_in_a_row_end_writing_and_keep_what_was_synced(errors: str) -> None:
    ends: list[int] = []
    disk = FaultyDisk(options=Options(errors=errors, on_failure=lambda: ends.append(1)))
    disk.make_file(b"kept", data(1, 20_000))
    disk.sync()
    state = disk.state()
    disk.plan("error EIO on write")
    disk.make_file(b"lost", data(2, 20_000))
    for _ in range(2):
        with pytest.raises(FilesystemError) as refusal:
            disk.sync()
        assert refusal.value.errno == errno.EIO
    assert len(disk.faulty.faults) == PLACES_MAX + 1
    assert ends == [1]
    disk.plan("seed 0")
    with pytest.raises(FilesystemError) as refusal:
        disk.make_file(b"refused")
    assert refusal.value.errno == (errno.EIO if errors == "continue" else errno.EROFS)
    disk.unmount()
    assert problems(disk.medium) == []
    assert mounted_state(disk.medium) == state


@pytest.mark.pure_core
def test_log_write_without_room_ends_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk()
    disk.make_file(b"kept", data(1, 5000))
    disk.sync()
    kept = disk.state()
    disk.make_file(b"lost", data(2, 3 * MIB))
    monkeypatch.setattr(UsageTable, "open_run", lambda usage, order, sequence: None)
    with pytest.raises(FilesystemError) as refusal:
        disk.checkpoint()
    assert refusal.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert disk.filesystem.read_only
    assert disk.lines[-1].startswith("read-only from now on: no clean segment left")
    assert mounted_state(disk.medium) == kept


@pytest.mark.parametrize("every", [2, 3, 4, 5, 7])
def test_every_so_many_writes_fail_for_ever(every: int) -> None:
    """Between two errors there is room for whole checkpoints, or the end is a clean one."""
    disk = FaultyDisk()
    disk.plan(f"error EIO on write every {every}")
    states = [disk.state()]
    with suppress(FilesystemError):
        for number in range(12):
            disk.make_file(b"file %d" % number, data(number, 30_000))
            states.append(disk.state())
            disk.sync()
            states = states[-1:]
    assert len(states) == 1 or disk.filesystem.read_only
    assert problems(disk.medium) == []
    # A sync that failed may have come as far as to be durable.
    assert mounted_state(disk.medium) in states


@pytest.mark.parametrize("partial", ["", " partial"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_error_while_a_mount_recovers(nth: int, partial: str) -> None:
    disk = FaultyDisk()
    disk.make_file(b"kept", data(1, 600_000))
    disk.filesystem.unlink(ROOT_INO, b"kept", disk.now_ns)
    disk.make_file(b"other", data(2, 60_000))
    disk.sync()
    state = disk.state()
    device = FaultDevice(disk.medium, parse_plan(f"error EIO{partial} on write nth {nth}"))
    filesystem = Filesystem.mount(device, LATER_NS)
    assert tree_state(filesystem, LATER_NS) == state
    assert mounted_state(disk.medium.copy()) == state
    filesystem.unmount(LATER_NS)
    assert problems(disk.medium) == []
    assert mounted_state(disk.medium) == state


# ---------------------------------------------------------------- cleaning, a full disk


@pytest.mark.parametrize("partial", ["", " partial"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_error_while_cleaning(nth: int, partial: str) -> None:
    disk = FaultyDisk(16 * MIB)
    contents = disk.make_half_dead_runs()
    opened = disk.filesystem.core.volume.log.open_runs()
    usage = disk.usage
    victims = [run for run in usage.runs() if usage.live_blocks(run) and run not in opened]
    disk.plan(f"error EIO{partial} on write nth {nth}")
    for _ in disk.filesystem.core.cleaner._clean(victims, disk.now_ns):
        pass
    disk.checkpoint()
    disk.checkpoint()
    assert not disk.filesystem.read_only
    for ino, content in contents.items():
        assert disk.read(ino) == content
    check_kept(disk)


def test_bad_run_is_no_victim() -> None:
    disk = FaultyDisk(16 * MIB)
    disk.make_half_dead_runs()
    ino = disk.make_file(b"kept", data(1, 20_000))
    disk.sync()
    ((_, address, _),) = disk.filesystem.extents(ino)
    disk.plan("error EIO on write nth 1")
    disk.make_file(b"other", data(2, 20_000))
    disk.sync()
    run = disk.usage.run_of(address)
    assert run in disk.usage.out_of_use.given_up
    assert run not in disk.filesystem.core.cleaner._victims("greedy", 0.999)
    disk.filesystem.core.cleaner.make_room(10_000, disk.now_ns)
    ((_, found, _),) = disk.filesystem.extents(ino)
    assert found == address


def fill(disk: FaultyDisk) -> Iterator[int]:
    """Write files until one is refused for want of space; yields each."""
    for number in range(10_000):
        try:
            yield disk.make_file(b"full %d" % number, data(number, 30_000))
        except FilesystemError as refusal:
            if refusal.errno != errno.ENOSPC:
                raise
            return
        if number % 7 == 0:
            disk.sync()


@pytest.mark.parametrize("every", [29, 41, 97])
def test_full_disk_with_errors_keeps_what_it_accepted(every: int) -> None:
    disk = FaultyDisk(24 * MIB)
    disk.plan(f"error EIO partial on write every {every} times 6")
    inos = list(fill(disk))
    assert disk.faulty.faults
    disk.sync()
    for ino in inos[::3]:
        disk.write(ino, 0, data(99, 30_000))
    disk.sync()
    assert not disk.filesystem.read_only
    check_kept(disk)


@pytest.mark.parametrize("nth", range(1, 6))
def test_error_on_a_full_disk(nth: int) -> None:
    disk = FaultyDisk(16 * MIB)
    inos = list(fill(disk))
    disk.sync()
    disk.plan(f"error EIO on write nth {nth}")
    for ino in inos[::5]:
        disk.write(ino, 0, data(98, 30_000))
        disk.sync()
    assert len(disk.faulty.faults) == 1
    assert not disk.filesystem.read_only
    for ino in inos[::2]:
        disk.truncate(ino, 0)
    disk.sync()
    check_kept(disk)
