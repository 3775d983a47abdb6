"""Where the log ends: what a crash tore is dropped, what was flushed and is damaged is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lfs.commit.fixed_places import read_checkpoints
from lfs.commit.recovery import Recovery
from lfs.common.errors import DamageError
from lfs.device.recording import Write, replay
from lfs.ondisk import SUMMARY_COMMIT, SUMMARY_JUMP
from lfs.volume.options import Options
from lfs.volume.volume import Volume
from tests.support.disks import BLOCK_BYTES, Disk, data, flip_byte, mounted_state
from tests.support.state import TreeState

MIB = 1 << 20


def check_read_only(disk: Disk, damaged_address: int) -> None:
    """Mount a log that is damaged at a block: read-only, with the reason in one line."""
    before = disk.medium.copy()
    disk.mount()
    assert disk.filesystem.read_only
    told = [line for line in disk.lines if line.startswith("read-only from now on")]
    assert len(told) == 1, disk.lines
    assert f"the log is damaged at block {damaged_address}" in told[0]
    disk.state()
    assert not list(disk.medium.differing_pages(before))


def two_commits(flush_last: bool = True) -> tuple[Disk, TreeState, TreeState]:
    """Return a disk after two commits, and the tree after each of them."""
    disk = Disk()
    ino = disk.make_file(b"file", data(1, 20_000))
    disk.sync()
    first = disk.state()
    disk.write(ino, 10_000, data(2, 20_000))
    disk.make_file(b"other", data(3, 100))
    if flush_last:
        disk.sync()
    else:
        disk.filesystem.begin_commit(disk.now_ns)
    return disk, first, disk.state()


def test_recovery_drops_a_last_log_write_that_is_torn() -> None:
    disk, first, second = two_commits()
    last = disk.written()[-1]
    # Of the rest of the log write there is what was in this place before.
    for kept_bytes in range(512, len(last.data.rstrip(b"\0")), 512):
        medium = disk.medium.copy()
        medium.write(last.offset_bytes, [last.data[:kept_bytes].ljust(len(last.data), b"\0")])
        assert mounted_state(medium) == first
    assert mounted_state(disk.medium) == second


def test_recovery_drops_a_commit_whose_unflushed_payload_differs() -> None:
    disk, first, _ = two_commits(flush_last=False)
    last = disk.log()[-1]
    flip_byte(disk.medium, (last.payload_address + 2) * BLOCK_BYTES + 77)
    assert mounted_state(disk.medium) == first


def test_recovery_leaves_flushed_payload_to_the_reader() -> None:
    disk, _, second = two_commits()
    damaged = next(one for one in disk.log() if one.payload_blocks).payload_address
    ino = disk.filesystem.lookup(1, b"file").ino
    disk.make_file(b"third")
    disk.sync()
    flip_byte(disk.medium, damaged * BLOCK_BYTES)
    disk.mount()
    # It is the first block of the file that is damaged; the others are not.
    with pytest.raises(DamageError, match=str(damaged)):
        disk.filesystem.read(ino, 0, 1, disk.now_ns)
    assert len(disk.filesystem.read(ino, BLOCK_BYTES, 100_000, disk.now_ns)) == 30_000 - BLOCK_BYTES
    assert disk.filesystem.getattr(ino).size == second[b"/file"].size


@pytest.mark.parametrize("position", [0, 1, 2])
def test_recovery_is_read_only_up_to_where_the_log_is_damaged_before_its_flushed_end(
    position: int,
) -> None:
    disk = Disk()
    ino = disk.make_file(b"file")
    for number in range(4):
        disk.write(ino, number * BLOCK_BYTES, data(number, BLOCK_BYTES))
        disk.sync()
    damaged = [one for one in disk.log() if one.flags & SUMMARY_COMMIT][position]
    flip_byte(disk.medium, damaged.address * BLOCK_BYTES + 70)
    check_read_only(disk, damaged.address)
    # What was committed before is there, and nothing after it.
    assert disk.state().keys() == ({b"/", b"/file"} if position else {b"/"})
    if position:
        assert disk.read(ino) == b"".join(data(number, BLOCK_BYTES) for number in range(position))
    disk.options = replace(disk.options, read_only=True, roll_forward=False)
    disk.mount()
    # The checkpoint of mkfs knows nothing of it.
    assert disk.state().keys() == {b"/"}


def test_recovery_is_read_only_up_to_where_the_log_is_damaged_at_a_jump_back() -> None:
    disk = Disk()
    disk.make_file(b"small", data(1, 5000))
    disk.sync()
    # Large files go elsewhere; the log comes back for the commit.
    disk.make_file(b"large", data(2, 2 * MIB))
    disk.sync()
    disk.make_file(b"third")
    disk.sync()
    chain = disk.log()
    back = [one for one in chain if one.flags & SUMMARY_JUMP][-1]
    assert back.next_address > min(one.address for one in chain if one.flags & SUMMARY_COMMIT)
    flip_byte(disk.medium, back.address * BLOCK_BYTES)
    check_read_only(disk, back.address)


def test_recovery_is_read_only_up_to_where_the_log_is_damaged_right_after_the_checkpoint() -> None:
    disk = Disk()
    disk.make_file(b"file")
    disk.sync()
    # After a crash commits and checkpoints go to runs of their own.
    disk.mount()
    disk.make_file(b"before", data(1, 5000))
    disk.sync()
    disk.checkpoint()
    for number in range(2):
        disk.make_file(b"after %d" % number, data(number, 5000))
        disk.sync()
    jump, first, _ = disk.log()
    assert jump.flags & SUMMARY_JUMP
    assert first.address != first.run_address
    flip_byte(disk.medium, jump.address * BLOCK_BYTES)
    check_read_only(disk, jump.address)


def test_recovery_is_read_only_up_to_where_the_log_is_damaged_at_a_jump_out_of_the_checkpoint() -> (
    None
):
    disk = Disk()
    disk.make_file(b"large", data(1, 2 * MIB))
    disk.sync()
    disk.checkpoint()
    disk.make_file(b"larger", data(2, 4 * MIB))
    disk.sync()
    disk.make_file(b"last")
    disk.sync()
    for damaged in disk.log()[:-1]:
        flip_byte(disk.medium, damaged.address * BLOCK_BYTES + 80)
        check_read_only(disk, damaged.address)
        flip_byte(disk.medium, damaged.address * BLOCK_BYTES + 80)


def test_recovery_is_read_only_up_to_a_damaged_way_from_a_full_run_to_a_new_one() -> None:
    disk = Disk()
    disk.make_file(b"file")
    disk.sync()
    disk.checkpoint()
    runs: list[int] = []
    while runs.count(runs[-1] if runs else 0) < 2 or runs[0] == runs[-1]:
        disk.make_file(b"%d" % len(runs), data(len(runs), 5000))
        disk.sync()
        runs = [one.run_address for one in disk.log()]
    damaged = disk.log()[runs.index(runs[-1]) - 1]
    flip_byte(disk.medium, damaged.address * BLOCK_BYTES + 80)
    check_read_only(disk, damaged.address)


def test_recovery_ignores_a_commit_without_its_end() -> None:
    disk = Disk()
    inos = [disk.make_file(b"file %d" % n, data(n, 50 * BLOCK_BYTES)) for n in range(5)]
    disk.sync()
    expected = disk.state()
    for ino in inos:
        disk.write(ino, 0, data(100 + ino, 50 * BLOCK_BYTES))
    before = disk.medium.copy()
    position = len(disk.device.events)
    disk.sync()
    writes = [event for event in disk.device.events[position:] if isinstance(event, Write)]
    assert len(writes) > 3
    replay(writes[:-1], before)
    assert mounted_state(before) == expected


def test_log_write_that_tells_of_a_flush_is_kept_and_no_later_one() -> None:
    disk = Disk(options=Options(dirty_bytes_max=MIB))
    ino = disk.make_file(b"file", data(1, 5000))
    ticket = disk.filesystem.begin_commit(disk.now_ns)
    disk.write(ino, 0, data(2, 2 * MIB))
    disk.device.flush()
    disk.filesystem.finish_commit(ticket)
    disk.write(ino, 2 * MIB, data(3, 2 * MIB))
    log = disk.log()
    telling = next(one for one in log if one.flushed_sequence == ticket)
    assert not any(one.flags & SUMMARY_COMMIT for one in log if one.sequence > ticket)
    volume = Volume(disk.medium.copy(), disk.superblock, Options(read_only=True))
    Recovery(volume).run(read_checkpoints(volume.device, disk.superblock))
    # Without it the commit would not be known as flushed, and damage in it be its end.
    claimed = {one.run_address for one in log if volume.usage.run_of(one.address) >= 0}
    needed = {one.run_address for one in log if one.sequence <= telling.sequence}
    assert telling.run_address not in {one.run_address for one in log if one.sequence <= ticket}
    assert claimed == needed < {one.run_address for one in log}
