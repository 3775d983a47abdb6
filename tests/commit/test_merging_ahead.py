"""Checkpoints that merge what has changed in parts, between requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from lfs.device.recording import Flush, Write
from lfs.filesystem import Options
from lfs.imap.part import PART_BLOCKS, PART_LEAVES, next_part
from lfs.ondisk import ROOT_INO
from tests.support.disks import BLOCK_BYTES, Disk, data, flip_byte, mounted_state, problems

FEW = Options(merged_items_max=8)
FILES = 5000


def turns(disk: Disk) -> Iterator[int]:
    """Take the turns of one checkpoint; yields how many blocks each of them wrote."""
    checkpointer = disk.filesystem.core.checkpointer
    is_first = True
    while is_first or checkpointer.busy:
        is_first = False
        before = len(disk.device.events)
        turn = checkpointer.step(disk.now_ns)
        if turn.flush is not None:
            disk.device.flush()
            disk.filesystem.finish_flush(turn.flush)
        writes = [event for event in disk.device.events[before:] if isinstance(event, Write)]
        yield sum(len(write.data) for write in writes) // BLOCK_BYTES


def scattered_changes(disk: Disk) -> None:
    """Change one item in each of many leaves."""
    for number in range(0, FILES, 4):
        ino = disk.filesystem.lookup(ROOT_INO, b"%d" % number).ino
        disk.filesystem.setattr(ino, disk.now_ns + 1, mode=0o600)


def many_names(disk: Disk) -> None:
    """Make files in a row."""
    for number in range(FILES, 2 * FILES):
        disk.make_file(b"%d" % number)


@pytest.fixture
def disk() -> Disk:
    disk = Disk(128 << 20)
    for number in range(FILES):
        disk.make_file(b"%d" % number, b"short")
    disk.checkpoint()
    return disk


@pytest.mark.parametrize("change", [scattered_changes, many_names])
def test_no_turn_writes_more_than_a_part(disk: Disk, change: Callable[[Disk], None]) -> None:
    change(disk)
    disk.sync()
    changed = len(disk.filesystem.core.volume.imap.changes)
    blocks = [*turns(disk)]
    assert len(blocks) > changed // 1100
    assert max(blocks) <= PART_BLOCKS
    # What leads to the parts is written with each of them, which may not come to much.
    at_once = Disk(128 << 20)
    for number in range(FILES):
        at_once.make_file(b"%d" % number, b"short")
    at_once.checkpoint()
    change(at_once)
    at_once.sync()
    before = len(at_once.device.events)
    at_once.checkpoint()
    writes = [event for event in at_once.device.events[before:] if isinstance(event, Write)]
    assert sum(blocks) <= 1.3 * sum(len(write.data) for write in writes) // BLOCK_BYTES
    assert disk.filesystem.core.volume.imap.changes == {}
    disk.unmount()
    assert problems(disk.medium) == []


def test_no_turn_reads_more_leaves_than_a_part_has(disk: Disk) -> None:
    scattered_changes(disk)
    disk.sync()
    imap = disk.filesystem.core.volume.imap
    imap.nodes._nodes.clear()
    imap._near.clear()
    reads = [0]
    read = disk.medium.read

    def counted(offset_bytes: int, length_bytes: int) -> bytes:
        reads[-1] += 1
        return read(offset_bytes, length_bytes)

    disk.medium.read = counted  # type: ignore[method-assign]  # of this device only
    for _ in turns(disk):
        reads.append(0)
    assert sum(reads) > 2 * PART_LEAVES
    assert max(reads) <= PART_LEAVES + 3 * imap.root_level + 2


def test_requests_between_the_parts_are_kept() -> None:
    """Whatever the parts have merged by then, and whenever the power goes."""
    choose = random.Random(1)
    disk = Disk(options=FEW)
    for number in range(200):
        disk.make_file(b"%d" % number, b"content")
    disk.checkpoint()
    for number in range(0, 200, 3):
        disk.remove(disk.filesystem.lookup(ROOT_INO, b"%d" % number).ino, b"%d" % number)
        disk.make_file(b"new %d" % number, b"other content")
    between = 0
    for number, _ in enumerate(turns(disk)):
        if disk.filesystem.core.checkpointer.busy:
            between += 1
            name = b"%d" % choose.choice([n for n in range(200) if n % 3])
            if choose.random() < 0.5:
                disk.filesystem.rename(ROOT_INO, name, ROOT_INO, name + b"-", disk.now_ns, 0)
                disk.filesystem.rename(ROOT_INO, name + b"-", ROOT_INO, name, disk.now_ns, 0)
            disk.make_file(b"between %d" % number, b"content")
        if not number % 7:
            disk.sync()
            assert mounted_state(disk.medium.copy()) == disk.state()
    assert between > 20
    disk.sync()
    expected = disk.state()
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []


def test_dirty_data_goes_in_parts_before_a_checkpoint_in_turns() -> None:
    disk = Disk(128 << 20)
    for number in range(10):
        disk.make_file(b"%d" % number, data(number, 1 << 20))
    blocks = [*turns(disk)]
    assert sum(blocks) > 2560
    assert max(blocks) <= 600
    disk.unmount()
    assert problems(disk.medium) == []


def test_checkpoint_that_is_needed_at_once_ends_the_one_in_parts() -> None:
    disk = Disk(options=FEW)
    for number in range(100):
        disk.make_file(b"%d" % number)
    steps = disk.filesystem.checkpoint_steps(disk.now_ns)
    next(steps)
    next(steps)
    disk.checkpoint()
    number = disk.filesystem.core.volume.state.checkpoint_number
    assert [*steps] == []
    assert disk.filesystem.core.volume.state.checkpoint_number == number
    disk.unmount()
    assert problems(disk.medium) == []


def test_leaf_that_cannot_be_read_is_for_the_end_of_the_checkpoint() -> None:
    disk = Disk(options=FEW)
    for number in range(400):
        disk.make_file(b"%d" % number)
    disk.unmount()
    disk.mount()
    for number in range(100):
        disk.make_file(b"new %d" % number)
    imap = disk.filesystem.core.volume.imap
    disk.sync()
    key = min(imap.changes)
    node = imap.load(imap.root, imap.root_level)
    while node.level:
        pointer = node.children[0]  # type: ignore[union-attr]  # a branch
        node = imap.load(pointer, node.level - 1)
    assert node.get(key) is not None  # type: ignore[union-attr]  # a leaf
    imap.nodes._nodes.clear()
    flip_byte(disk.medium, pointer.address * BLOCK_BYTES + 100)
    assert disk.filesystem.core.checkpointer.step(disk.now_ns).more
    with pytest.raises(OSError, match="checksum"):
        for _ in turns(disk):
            pass
    assert not disk.filesystem.core.volume.failed
    assert any("trying again later" in line for line in disk.lines)


def test_region_follows_at_once_where_a_request_wrote_the_last_nodes() -> None:
    """What has been written without a region takes room from a mount after a crash."""
    disk = Disk(options=FEW)
    for number in range(100):
        disk.make_file(b"%d" % number)
    disk.sync()
    state = disk.filesystem.core.volume.state
    number = state.checkpoint_number
    maintenance = disk.filesystem.core.maintenance
    maintenance._log_blocks_helping = 0
    steps = 0
    while state.checkpoint_number == number:
        before = len(disk.device.events)
        maintenance.keep_bounds(disk.now_ns)
        steps += 1
        flushes = [event for event in disk.device.events[before:] if isinstance(event, Flush)]
        assert bool(flushes) == (state.checkpoint_number > number)
    assert steps > 10


@pytest.mark.pure_core
def test_requests_help_with_a_checkpoint_that_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any turn in the background no request has to merge everything."""
    monkeypatch.setattr("lfs.requests.maintenance._CHANGES_HELPING", 1500)
    monkeypatch.setattr("lfs.requests.maintenance._CHANGES_MAX", 2000)
    disk = Disk(128 << 20, options=Options(merged_items_max=64))
    longest = 0
    for number in range(3000):
        before = len(disk.device.events)
        disk.make_file(b"%d" % number)
        writes = [event for event in disk.device.events[before:] if isinstance(event, Write)]
        longest = max(longest, sum(len(write.data) for write in writes) // BLOCK_BYTES)
        assert len(disk.filesystem.core.volume.imap.changes) <= 2000
    assert disk.filesystem.core.volume.imap.node_count > 50
    # All 1,500 changes at once would be more.
    assert longest <= 48
    # The log gets no longer than it may either: they bring that to an end.
    number = disk.filesystem.core.volume.state.checkpoint_number
    disk.filesystem.core.maintenance._log_blocks_helping = 1500
    disk.filesystem.core.maintenance._log_blocks_max = 700
    for name in (b"%d" % number for number in range(3000, 3500)):
        disk.make_file(name, data(1, 5 * BLOCK_BYTES))
        disk.sync()
        assert disk.filesystem.core.volume.log.blocks_since_checkpoint < 2000
    assert disk.filesystem.core.volume.state.checkpoint_number > number


def test_parts_leave_room_to_merge_everything_anew_after_a_crash() -> None:
    """A mount begins where the last region was: it writes again what the parts have written."""
    disk = Disk(options=FEW)
    merger = disk.filesystem.core.checkpointer._merger
    usage = disk.filesystem.core.volume.usage
    for number in range(100):
        disk.make_file(b"%d" % number)
    steps = disk.filesystem.checkpoint_steps(disk.now_ns)
    assert [next(steps) for _ in range(6)] == [None] * 6
    # After the commit each of them has merged something.
    assert merger.ahead_blocks >= 5
    # As if they had taken nearly all there is: the rest is merged in one go.
    merger.ahead_blocks = usage.clean_blocks - PART_BLOCKS
    flush = next(steps)
    assert flush is not None
    assert disk.filesystem.core.volume.imap.changes == {}
    disk.device.flush()
    flush.done = True
    for last in steps:
        assert last is not None
        disk.device.flush()
        last.done = True
    assert merger.ahead_blocks == 0


def test_inode_that_is_dirty_when_a_part_is_merged_may_grow_the_tree() -> None:
    """It has a number, and is in no tree: what it takes there is still to be reckoned with."""
    disk = Disk(128 << 20, options=FEW)
    for number in range(40):
        disk.make_file(b"%d" % number, b"short")
    disk.sync()
    core = disk.filesystem.core
    imap = core.volume.imap
    inos = [disk.make_file(b"new %d" % number) for number in range(100)]
    keys, _ = next_part(imap, bytes(17), 4096, BLOCK_BYTES)
    core.checkpointer._merger.merge_part(keys, disk.now_ns)
    growing_count = imap.growing_count
    for ino in inos:
        assert core.inodes.get(ino).key >= imap.fresh_key
    core.inodes.log_dirty()
    assert imap.growing_count - growing_count >= len(inos)
