"""Idle turns put scattered files together, and leave alone what gains nothing."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from lfs.common.errors import DamageError
from lfs.ondisk import SUMMARY_CLEANER, window_blocks
from lfs.segments.cleaning.defragment import QUIET_NS
from lfs.volume.options import Options
from tests.segments.cleaning.scattered import (
    FILE_BLOCKS,
    LATER,
    MIB,
    defragmenter_of,
    idle_steps,
    piece_count,
    roomy_disk,
    scatter,
    scattered_file,
    settle,
)
from tests.support.disks import BLOCK_BYTES, Disk, data, flip_byte, problems

WINDOW_BLOCKS = window_blocks(BLOCK_BYTES)


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
