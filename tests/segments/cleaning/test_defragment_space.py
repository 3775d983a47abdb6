"""Putting files together costs no space that is promised, or that others need."""

from __future__ import annotations

import errno
import random
from contextlib import suppress

import pytest

from lfs.alloc import margins
from lfs.alloc.delayed.ledger import Ledger
from lfs.common.errors import FilesystemError
from lfs.segments.cleaning.defragment import Defragmenter
from tests.segments.cleaning.half_dead import usage_of
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
from tests.support.disks import BLOCK_BYTES, Disk, data, problems


def fill(disk: Disk) -> None:
    """Make files until there is no space left."""
    with suppress(FilesystemError):
        for number in range(10_000):
            disk.make_file(b"filler %d" % number, data(number, 240 * BLOCK_BYTES))
        raise AssertionError("the disk has no end")


def test_small_scattered_files_share_a_run() -> None:
    disk = roomy_disk()
    files = [scattered_file(disk, b"%d" % number, 40) for number in range(8)]
    clean_blocks = usage_of(disk).clean_blocks
    settle(disk)
    assert all(piece_count(disk, ino) <= 2 for ino, _ in files)
    # With a run for each it would be more.
    assert clean_blocks - usage_of(disk).clean_blocks < len(files) * 64


def test_clean_space_does_not_become_scarce_for_it() -> None:
    disk = roomy_disk()
    ino, _ = scattered_file(disk)
    pieces = piece_count(disk, ino)
    fill(disk)
    disk.sync()
    clean_blocks = usage_of(disk).clean_blocks
    for _ in idle_steps(disk):
        assert not disk.filesystem.core.ledger.is_scarce
    assert piece_count(disk, ino) < pieces
    assert usage_of(disk).clean_blocks >= clean_blocks - 64


def test_files_on_a_used_disk_are_put_in_order_too() -> None:
    disk = roomy_disk(128 * MIB)
    files = [scattered_file(disk, b"%d" % number, 4 * FILE_BLOCKS) for number in range(5)]
    number = 0
    while disk.filesystem.statfs().available_blocks > 3500:
        disk.make_file(b"filler %d" % number, data(number, 240 * BLOCK_BYTES))
        number += 1
    for number, (ino, content) in enumerate(files):
        scatter(disk, ino, content, FILE_BLOCKS, seed=number)
    # Nothing is beyond the share of the disk that the cleaner makes clean.
    assert disk.filesystem.core.ledger.spare_blocks() == 0
    pieces = sum(piece_count(disk, ino) for ino, _ in files)
    disk.device.reset_counters()
    assert sum(1 for _ in idle_steps(disk, 10_000)) > 1000
    assert sum(piece_count(disk, ino) for ino, _ in files) < pieces // 30
    # All of it is written once, and what has to be cleaned for that is less.
    assert disk.device.written_bytes < 2 * len(files) * 4 * FILE_BLOCKS * BLOCK_BYTES
    for ino, content in files:
        assert disk.read(ino) == content
    assert problems(disk.medium) == []


@pytest.mark.pure_core
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


@pytest.mark.pure_core
def test_a_stretch_that_found_no_room_is_tried_again_once_there_may_be_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = roomy_disk()
    ino, content = scattered_file(disk)
    pieces = piece_count(disk, ino)
    # It is not found by another look at the map.
    disk.filesystem.core.maintenance._search.step()
    with monkeypatch.context() as patch:
        patch.setattr(Defragmenter, "_has_room", lambda *_: False)
        # It does not try for ever while nothing changes.
        assert settle(disk) < 20
    assert piece_count(disk, ino) == pieces
    disk.make_file(b"other", data(1, BLOCK_BYTES))
    disk.sync()
    settle(disk)
    assert piece_count(disk, ino) <= 4
    assert disk.read(ino) == content


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
