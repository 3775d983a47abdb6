"""Idle turns put scattered files together, and cost neither promises nor space."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest

from lfs.alloc import margins
from lfs.alloc.delayed.ledger import Ledger
from lfs.common.errors import DamageError, FilesystemError
from lfs.ondisk import SUMMARY_CLEANER, window_blocks
from lfs.segments.cleaning.defragment import QUIET_NS, Defragmenter
from lfs.segments.usage import UsageTable
from lfs.volume.options import Options
from tests.support.disks import BLOCK_BYTES, Disk, data, flip_byte, problems

MIB = 1 << 20
FILE_BLOCKS = 1024
WINDOW_BLOCKS = window_blocks(BLOCK_BYTES)
LATER = 10 * QUIET_NS


def usage_of(disk: Disk) -> UsageTable:
    return disk.filesystem.core.volume.usage


def defragmenter_of(disk: Disk) -> Defragmenter:
    return disk.filesystem.core.defragmenter


def roomy_disk(size_bytes: int = 64 * MIB) -> Disk:
    """Return a disk with so many segments that runs may be larger than the cleaner likes."""
    options = Options(commit_interval_ns=1 << 62, checkpoint_interval_ns=1 << 62)
    return Disk(size_bytes, 64, options)


def scatter(disk: Disk, ino: int, content: bytearray, count: int, seed: int = 1) -> None:
    """Overwrite ``count`` blocks of a file, here and there."""
    choose = random.Random(seed)
    for number in range(count):
        block = choose.randrange(len(content) // BLOCK_BYTES)
        new = data(1000 * seed + number, BLOCK_BYTES)
        disk.write(ino, block * BLOCK_BYTES, new)
        content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = new
        if number % 64 == 63:
            disk.sync()
    disk.sync()


def scattered_file(
    disk: Disk, name: bytes = b"file", blocks: int = FILE_BLOCKS
) -> tuple[int, bytearray]:
    """Return a file in many pieces and what it holds."""
    content = bytearray(data(1, blocks * BLOCK_BYTES))
    ino = disk.make_file(name, bytes(content))
    disk.sync()
    scatter(disk, ino, content, blocks // 4)
    assert piece_count(disk, ino) > blocks // 6
    return ino, content


def fill(disk: Disk) -> None:
    """Make files until there is no space left."""
    with suppress(FilesystemError):
        for number in range(10_000):
            disk.make_file(b"filler %d" % number, data(number, 240 * BLOCK_BYTES))
        raise AssertionError("the disk has no end")


def piece_count(disk: Disk, ino: int) -> int:
    return len(list(disk.filesystem.extents(ino)))


def idle_steps(disk: Disk, steps_max: int = 1000) -> Iterator[int]:
    """Let idle turns follow each other until there is nothing more to do."""
    disk.now_ns += LATER
    for number in range(steps_max):
        if not disk.filesystem.tick(disk.now_ns, idle=True):
            return
        yield number
    raise AssertionError("idle turns go on for ever")


def settle(disk: Disk) -> int:
    """Let idle turns do all that is to be done; return how many it took."""
    return sum(1 for _ in idle_steps(disk))


def test_idle_turns_put_a_scattered_file_together() -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk)
    settle(disk)
    assert piece_count(disk, ino) <= 4
    assert disk.read(ino) == content
    disk.mount()
    assert piece_count(disk, ino) <= 4
    assert disk.read(ino) == content
    assert problems(disk.medium) == []


def test_budget_of_extents_after_random_overwrites() -> None:
    # The budget of 100 MiB and 10,000 overwrites, a fifth as large.
    disk = Disk(80 * MIB, 64, Options(commit_interval_ns=1 << 62))
    ino = disk.make_file(b"file", bytes(20 * MIB))
    choose = random.Random(2)
    for number in range(2000):
        block = choose.randrange(20 * MIB // BLOCK_BYTES)
        disk.write(ino, block * BLOCK_BYTES, data(number, BLOCK_BYTES))
    disk.sync()
    assert piece_count(disk, ino) > 2000
    settle(disk)
    assert piece_count(disk, ino) <= 8


def test_each_turn_is_short() -> None:
    disk = roomy_disk()
    scattered_file(disk)
    moved = [0]
    for _ in idle_steps(disk):
        moved.append(defragmenter_of(disk).moved_blocks)
    assert moved[-1] >= FILE_BLOCKS
    assert max(b - a for a, b in pairwise(moved)) <= 512 + WINDOW_BLOCKS


def test_what_is_moved_is_marked_and_keeps_its_version() -> None:
    disk = roomy_disk()
    ino, _ = scattered_file(disk)
    disk.checkpoint()
    settle(disk)
    moved = [one for one in disk.log() if one.flags & SUMMARY_CLEANER]
    assert moved
    version = disk.filesystem.getattr(ino).version
    for entry in [entry for one in moved for entry in one.entries]:
        assert (entry.owner, entry.version) == (ino, version)


def test_nothing_is_rewritten_in_turns_that_are_not_idle() -> None:
    disk = roomy_disk()
    ino, _ = scattered_file(disk)
    pieces = piece_count(disk, ino)
    disk.now_ns += LATER
    assert not disk.filesystem.tick(disk.now_ns, idle=False)
    assert piece_count(disk, ino) == pieces


def test_a_file_is_left_alone_until_it_is_quiet() -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk)
    disk.now_ns += LATER
    disk.write(ino, 0, bytes(content[:BLOCK_BYTES]))
    disk.sync()
    disk.now_ns += QUIET_NS - 1
    assert not disk.filesystem.tick(disk.now_ns, idle=True)
    disk.now_ns += 1
    assert disk.filesystem.tick(disk.now_ns, idle=True)


def test_rewriting_costs_at_most_eight_blocks_for_each_that_was_scattered() -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk)
    settle(disk)
    moved_blocks = defragmenter_of(disk).moved_blocks
    assert moved_blocks == FILE_BLOCKS
    scatter(disk, ino, content, FILE_BLOCKS // 8 - 30, seed=2)
    settle(disk)
    assert defragmenter_of(disk).moved_blocks == moved_blocks
    scatter(disk, ino, content, 60, seed=3)
    settle(disk)
    assert defragmenter_of(disk).moved_blocks > moved_blocks
    assert piece_count(disk, ino) <= 8


def test_a_file_written_in_order_is_not_rewritten() -> None:
    disk = roomy_disk()
    ino = disk.make_file(b"file", data(1, FILE_BLOCKS * BLOCK_BYTES))
    disk.sync()
    for part in range(0, FILE_BLOCKS, 256):
        disk.write(ino, part * BLOCK_BYTES, data(2, 256 * BLOCK_BYTES))
        disk.sync()
    settle(disk)
    assert defragmenter_of(disk).moved_blocks == 0


def test_a_stretch_in_few_pieces_stays() -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk, blocks=3 * FILE_BLOCKS)
    settle(disk)
    moved_blocks = defragmenter_of(disk).moved_blocks
    # All of it at the beginning.
    head = bytearray(content[: FILE_BLOCKS * BLOCK_BYTES])
    scatter(disk, ino, head, FILE_BLOCKS // 2, seed=2)
    settle(disk)
    assert 0 < defragmenter_of(disk).moved_blocks - moved_blocks < 2 * FILE_BLOCKS
    assert disk.read(ino) == head + content[FILE_BLOCKS * BLOCK_BYTES :]


def test_small_scattered_files_share_a_run() -> None:
    disk = roomy_disk()
    files = [scattered_file(disk, b"%d" % number, 40) for number in range(8)]
    clean_blocks = usage_of(disk).clean_blocks
    settle(disk)
    assert all(piece_count(disk, ino) <= 2 for ino, _ in files)
    # With a run for each it would be more.
    assert clean_blocks - usage_of(disk).clean_blocks < len(files) * 64


def test_a_file_may_change_between_turns() -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk)
    other, other_content = scattered_file(disk, b"other")
    disk.make_file(b"third", data(9, MIB))
    changed = 0
    for number in idle_steps(disk):
        if defragmenter_of(disk).moved_blocks and changed < 12:
            changed += 1
            if number % 3 == 0:
                new = data(number, 3 * BLOCK_BYTES)
                at = (number * 37 % 500) * BLOCK_BYTES
                disk.write(ino, at, new)
                content[at : at + len(new)] = new
                disk.sync()
            elif number % 3 == 1:
                del content[-20 * BLOCK_BYTES :]
                disk.truncate(ino, len(content))
            else:
                disk.now_ns += LATER
    assert changed > 3
    settle(disk)
    assert disk.read(ino) == content
    assert disk.read(other) == other_content
    assert piece_count(disk, ino) <= 4
    disk.sync()
    disk.mount()
    assert disk.read(ino) == content
    assert problems(disk.medium) == []


def test_a_file_may_go_between_turns() -> None:
    disk = roomy_disk()
    ino, _ = scattered_file(disk)
    for _ in idle_steps(disk):
        if defragmenter_of(disk).moved_blocks:
            break
    disk.remove(ino, b"file")
    settle(disk)
    disk.unmount()
    assert problems(disk.medium) == []


def test_a_file_that_is_gone_is_no_candidate() -> None:
    disk = roomy_disk()
    ino, _ = scattered_file(disk)
    disk.remove(ino, b"file")
    settle(disk)
    assert defragmenter_of(disk).moved_blocks == 0
    assert disk.filesystem.core.write_out.scattered.worst_first() == []


def test_a_damaged_file_is_reported_once_and_left_alone() -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk)
    damaged = disk.filesystem.extents(ino)[3]
    flip_byte(disk.medium, damaged[1] * BLOCK_BYTES + 5)
    settle(disk)
    settle(disk)
    assert [line for line in disk.lines if f"inode {ino}" in line and str(damaged[1]) in line]
    assert len(disk.lines) == 1
    assert damaged[1] in [at for _, at, _ in disk.filesystem.extents(ino)]
    before = damaged[0] * BLOCK_BYTES
    assert disk.filesystem.read(ino, 0, before, 1) == content[:before]
    with pytest.raises(DamageError, match=str(damaged[1])):
        disk.read(ino)


def test_no_space_is_used_that_is_not_to_spare() -> None:
    disk = roomy_disk()
    ino, _ = scattered_file(disk)
    pieces = piece_count(disk, ino)
    number = 0
    while disk.filesystem.core.ledger.spare_blocks() > 64:
        disk.make_file(b"filler %d" % number, data(number, 60 * BLOCK_BYTES))
        disk.sync()
        number += 1
    clean_blocks = usage_of(disk).clean_blocks
    settle(disk)
    assert piece_count(disk, ino) == pieces
    assert usage_of(disk).clean_blocks >= clean_blocks - 64


@pytest.mark.parametrize("others", ["fill the disk", "fill the run", "need the run", "owe much"])
def test_no_space_is_used_that_others_took_between_turns(
    others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So large that a run takes several turns.
    disk = roomy_disk(256 * MIB)
    ino, content = scattered_file(disk, blocks=2 * FILE_BLOCKS)
    defragmenter = defragmenter_of(disk)
    disk.now_ns += LATER
    while not defragmenter.moved_blocks:
        assert disk.filesystem.tick(disk.now_ns, idle=True)
    begun_blocks = defragmenter.moved_blocks
    if others == "fill the disk":
        fill(disk)
    elif others == "fill the run":
        disk.make_file(b"filler", data(1, 6 * FILE_BLOCKS * BLOCK_BYTES))
    elif others == "need the run":
        disk.filesystem.core.volume.log.close_large()
    else:
        monkeypatch.setattr(Ledger, "shortage_blocks", lambda self, blocks: blocks - 1)
    disk.sync()
    work = defragmenter._work
    while defragmenter._work is work and disk.filesystem.tick(disk.now_ns, idle=True):
        assert others != "owe much" or defragmenter.moved_blocks == begun_blocks
        # It may go on in the run that it has, but not at the cost of what was promised.
        assert others != "fill the disk" or disk.filesystem.core.ledger.shortage_blocks(0) <= 0
    monkeypatch.undo()
    assert disk.read(ino) == content
    assert problems(disk.medium) == []


def test_a_file_with_holes_is_not_rewritten_for_its_holes() -> None:
    disk = roomy_disk()
    ino = disk.make_file(b"sparse")
    for block in range(0, 2 * FILE_BLOCKS, 2):
        disk.write(ino, block * BLOCK_BYTES, data(block, BLOCK_BYTES))
    disk.sync()
    assert piece_count(disk, ino) >= FILE_BLOCKS
    disk.filesystem.core.write_out.scattered.note(ino, FILE_BLOCKS, 0)
    settle(disk)
    assert defragmenter_of(disk).moved_blocks == 0


def test_where_no_large_run_is_free_smaller_ones_serve() -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk)
    held = []
    # Every fourth segment, so that what is free lies in pieces of two at most.
    while (segment := usage_of(disk).buddy.allocate(2)) is not None:
        held.append(segment)
    for segment in held:
        usage_of(disk).buddy.free(segment, 1)
    pieces = piece_count(disk, ino)
    settle(disk)
    assert not usage_of(disk).large_runs
    assert piece_count(disk, ino) < pieces // 8
    assert disk.read(ino) == content


# ----------------------------------------------------------------------- large runs


def test_large_runs_are_broken_up_when_the_disk_gets_full(monkeypatch: pytest.MonkeyPatch) -> None:
    # So large that a full disk has no room to empty one.
    monkeypatch.setattr(margins, "_LARGE_RUN_SHARE", 6)
    disk = roomy_disk(128 * MIB)
    files = [scattered_file(disk, b"%d" % number, 6000) for number in range(2)]
    settle(disk)
    order = usage_of(disk).order_most
    large_count = sum(usage_of(disk).run_blocks(run) == 64 << order for run in large_runs(disk))
    assert large_count >= 2
    disk.unmount()
    disk.mount()
    assert len(large_runs(disk)) >= large_count
    fill_up(disk)
    assert all(usage_of(disk).run_blocks(run) < 64 << order for run in large_runs(disk))
    # And all of it can be overwritten for ever.
    choose = random.Random(5)
    for number in range(600):
        ino, content = files[number % 2]
        block = choose.randrange(len(content) // BLOCK_BYTES)
        new = data(number, BLOCK_BYTES)
        disk.write(ino, block * BLOCK_BYTES, new)
        content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = new
        if number % 8 == 0:
            disk.sync()
    for ino, content in files:
        assert disk.read(ino) == content
    disk.unmount()
    assert problems(disk.medium) == []


def large_runs(disk: Disk) -> set[int]:
    return usage_of(disk).large_runs.runs


def fill_up(disk: Disk) -> None:
    """Write until hardly anything is available any more; nothing before that is refused."""
    number = 0
    while disk.filesystem.statfs().available_blocks > 200:
        content = data(number, 30 * BLOCK_BYTES)
        disk.make_file(b"filler %d" % number, content)
        number += 1
        if number % 5 == 0:
            disk.sync()
    with pytest.raises(FilesystemError) as caught:
        disk.make_file(b"too much", data(1, 2 * MIB))
    assert caught.value.errno == errno.ENOSPC
