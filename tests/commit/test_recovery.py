"""What a mount finds after crashes and damage, one at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import pytest

from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.commit.recovery import Recovery
from lfs.common.errors import DamageError, FilesystemError, FormatError
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Flush, RecordingDevice, Write, crash_states, replay
from lfs.ondisk import (
    CHECKPOINT_REGION_BYTES,
    ROOT_INO,
    SUMMARY_COMMIT,
    SUMMARY_JUMP,
    Branch,
    Checkpoint,
    pack_key,
    unpack_node,
)
from lfs.volume.options import Options
from lfs.volume.volume import Volume
from tests.commit.busy import busy_disk
from tests.support.disks import (
    BLOCK_BYTES,
    Disk,
    data,
    flip_byte,
    mounted_state,
    problems,
)
from tests.support.state import TreeState
from tests.support.volumes import format_small, mount

MIB = 1 << 20


def regions(medium: MemoryDevice) -> list[int]:
    """Return the byte offsets of the checkpoint regions, that of the newer one first."""
    superblock = read_superblock(medium)
    offsets = superblock.checkpoint_offset_bytes
    newest = read_checkpoints(medium, superblock)[0]
    return [offsets[newest.number % 2], offsets[(newest.number + 1) % 2]]


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


# ------------------------------------------------------------------ checkpoint regions


def test_recovery_rolls_forward_from_the_newer_checkpoint() -> None:
    disk, expected = busy_disk()
    disk.mount()
    assert disk.state() == expected
    assert disk.lines == ["recovered 1 commits from the log"]


def test_recovery_with_the_newer_checkpoint_damaged_finds_the_same() -> None:
    disk, expected = busy_disk()
    flip_byte(disk.medium, regions(disk.medium)[0] + 100)
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []
    assert len(read_checkpoints(disk.medium, disk.superblock)) == 2


def test_recovery_with_the_older_checkpoint_damaged_finds_the_same() -> None:
    disk, expected = busy_disk()
    flip_byte(disk.medium, regions(disk.medium)[1])
    disk.mount()
    assert disk.state() == expected


def test_recovery_after_a_clean_unmount_needs_either_checkpoint() -> None:
    disk, expected = busy_disk()
    disk.unmount()
    for offset in regions(disk.medium):
        medium = disk.medium.copy()
        medium.write(offset, [bytes(CHECKPOINT_REGION_BYTES)])
        assert mounted_state(medium) == expected


def test_recovery_with_both_checkpoints_damaged_is_refused() -> None:
    disk, _ = busy_disk()
    for offset in regions(disk.medium):
        flip_byte(disk.medium, offset + 50)
    with pytest.raises(FormatError, match="both checkpoint regions are damaged"):
        disk.mount()


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


# -------------------------------------------------------------------- the log's end


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


# ----------------------------------------------------------------- crashes meanwhile


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


# -------------------------------------------------------------- windows from the log


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


# ------------------------------------------------------------- what a checkpoint needs


def newest_checkpoint(disk: Disk) -> Checkpoint:
    return read_checkpoints(disk.medium, disk.superblock)[0]


def test_recovery_with_a_usage_page_damaged_uses_the_checkpoint_before() -> None:
    disk, expected = busy_disk()
    newest = newest_checkpoint(disk)
    page = next(pointer for pointer in newest.usage_pages if pointer.address)
    flip_byte(disk.medium, page.address * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.state() == expected
    assert disk.lines[0].startswith(
        f"checkpoint {newest.number} or the log after it has damage: block {page.address}"
    )
    disk.unmount()
    assert problems(disk.medium) == []


def test_recovery_with_the_root_damaged_uses_the_checkpoint_before() -> None:
    disk, expected = busy_disk()
    flip_byte(disk.medium, newest_checkpoint(disk).imap_root.address * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []


def test_older_blocks_over_all_that_the_newer_checkpoint_needs_are_no_end_of_the_log() -> None:
    """As a part of an older image does that is copied over a newer one."""
    disk, before = busy_disk()
    disk.checkpoint()
    older = disk.medium.copy()
    checkpoint = newest_checkpoint(disk)
    disk.make_file(b"synced", data(60, 50_000))
    disk.sync()
    disk.checkpoint()
    newest = newest_checkpoint(disk)
    first_page = disk.superblock.first_segment_block
    for page, raw in older.differing_pages(disk.medium.copy()):
        if page >= first_page:
            disk.medium.write(page * BLOCK_BYTES, [raw])
    assert newest_checkpoint(disk) == newest
    disk.mount()
    assert disk.filesystem.read_only
    assert f"the log is damaged at block {checkpoint.next_address}" in disk.filesystem.failure
    assert disk.filesystem.failure.endswith(f"(checkpoint {newest.number} says so)")
    assert disk.state() == before


def test_what_follows_a_fallback_outlives_a_newer_checkpoint_that_can_be_read_again() -> None:
    disk, _ = busy_disk()
    disk.checkpoint()
    # Nothing has changed: the first log write after the older one has the root.
    disk.checkpoint()
    newest = newest_checkpoint(disk)
    root_bytes = newest.imap_root.address * BLOCK_BYTES
    whole = disk.medium.read(root_bytes, BLOCK_BYTES)
    flip_byte(disk.medium, root_bytes + 100)
    bad = disk.medium.read(root_bytes, BLOCK_BYTES)
    disk.mount()
    assert disk.lines[0].startswith(f"checkpoint {newest.number} or the log after it has damage")
    disk.make_file(b"synced", b"content")
    disk.sync()
    expected = disk.state()
    if disk.medium.read(root_bytes, BLOCK_BYTES) == bad:
        disk.medium.write(root_bytes, [whole])
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []


@pytest.mark.parametrize("damaged", ["root", "usage page"])
def test_commit_during_the_flush_of_a_checkpoint_is_found_from_the_one_before(
    damaged: str,
) -> None:
    """What it follows had not been known to be flushed, but the newer checkpoint tells."""
    disk, _ = busy_disk()
    disk.checkpoint()
    for number, flush in enumerate(disk.filesystem.checkpoint_steps(disk.now_ns)):
        if number == 0:
            disk.make_file(b"between", b"content")
            disk.sync()
        disk.device.flush()
        disk.filesystem.finish_flush(flush)
    expected = disk.state()
    newest = newest_checkpoint(disk)
    page = next(pointer for pointer in newest.usage_pages if pointer.address)
    address = newest.imap_root.address if damaged == "root" else page.address
    flip_byte(disk.medium, address * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.lines[0].startswith(f"checkpoint {newest.number} or the log after it has damage")
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []


def test_mount_that_falls_back_leaves_two_whole_checkpoints() -> None:
    disk, _ = busy_disk()
    disk.unmount()
    disk.mount()
    disk.checkpoint()
    newest = newest_checkpoint(disk)
    flip_byte(disk.medium, newest.imap_root.address * BLOCK_BYTES + 100)
    disk.mount()
    disk.unmount()
    assert problems(disk.medium) == []


def test_recovery_with_a_changed_leaf_damaged_is_read_only_and_shows_the_rest() -> None:
    disk = Disk()
    inos = [disk.make_file(b"file %d" % number, b"content") for number in range(400)]
    disk.checkpoint()
    disk.checkpoint()
    late = disk.make_file(b"late", b"new")
    disk.write(inos[200], 0, b"changed")
    disk.sync()
    flip_byte(disk.medium, leaf_of(disk, pack_key(inos[200], 0, 0)) * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.filesystem.read_only
    assert any("read-only from now on" in line for line in disk.lines)
    assert disk.read(late) == b"new"
    assert disk.read(inos[0]) == b"content"
    assert disk.read(inos[200]) == b"changed"
    with pytest.raises(DamageError):
        disk.read(inos[201])
    with pytest.raises(FilesystemError, match=r"[Rr]ead-only"):
        disk.make_file(b"more")
    disk.unmount()


def leaf_of(disk: Disk, key: bytes) -> int:
    """Return the address of the leaf that has, or would have, ``key``."""
    pointer = newest_checkpoint(disk).imap_root
    while True:
        raw = disk.medium.read(pointer.address * BLOCK_BYTES, BLOCK_BYTES)
        node = unpack_node(raw, disk.superblock.filesystem_id, pointer.address)
        if not isinstance(node, Branch):
            return pointer.address
        pointer = node.children[max(0, bisect_right(node.keys, key) - 1)]


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
