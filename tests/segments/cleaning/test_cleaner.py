"""What the cleaner moves: all that lives in its victims, wherever that has to go."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from lfs.ondisk import BLOCK_NODE, BLOCK_USAGE, HEAD_COLD, HEAD_MAIN, SUMMARY_CLEANER
from lfs.segments.cleaning.survey import Found
from tests.segments.cleaning.half_dead import (
    MIB,
    SEGMENT_BLOCKS,
    check_contents,
    clean,
    cleaner_of,
    closed_runs,
    holey_disk,
    run_blocks,
    runs_in_use,
    small_disk,
    usage_of,
    volume_of,
)
from tests.support.disks import BLOCK_BYTES, Disk, data, problems


def test_cleaner_leaves_contents_and_gains_the_victims() -> None:
    disk, contents, victims = holey_disk()
    assert len(victims) >= 5
    addresses = {address for run in victims for address in run_blocks(disk, run)}
    clean_blocks = usage_of(disk).clean_blocks
    clean(disk, victims)
    disk.checkpoint()
    disk.checkpoint()
    check_contents(disk, contents)
    for ino in contents:
        for _, address, count in disk.filesystem.extents(ino):
            assert addresses.isdisjoint(range(address, address + count))
    assert set(usage_of(disk).runs()).isdisjoint(victims)
    assert usage_of(disk).clean_blocks > clean_blocks
    assert disk.filesystem.core.rounds.cleaned_runs == len(victims)
    disk.mount()
    check_contents(disk, contents)
    assert problems(disk.medium) == []


def test_survey_finds_all_that_lives() -> None:
    disk, _, _ = holey_disk()
    disk.filesystem.checkpoint(disk.now_ns)
    surveyor = disk.filesystem.core.rounds.surveyor
    live = {run: surveyor.survey(run).live_count for run in runs_in_use(disk)}
    assert live == {run: usage_of(disk).live_blocks(run) for run in live}
    # The root and the leaf at its left begin with the same key.
    found = Found()
    for run in live:
        found.add(surveyor.survey(run))
    assert found.node_count == volume_of(disk).imap.node_count > len(found.keys)


def test_cleaner_moves_only_what_lives() -> None:
    disk, _, victims = holey_disk()
    live_blocks = sum(usage_of(disk).live_blocks(run) for run in victims)
    clean(disk, victims)
    # What is not data is rewritten by the checkpoint.
    assert 0 < disk.filesystem.core.rounds.moved_blocks <= live_blocks


def test_cleaner_marks_what_it_writes() -> None:
    disk, _, victims = holey_disk()
    # Without nodes there is no checkpoint, so that the log is still in view.
    data_only = [run for run in victims if not metadata_in(disk, run)]
    assert data_only
    clean(disk, data_only)
    moved = [one for one in disk.log() if one.flags & SUMMARY_CLEANER]
    assert sum(one.payload_blocks for one in moved) == disk.filesystem.core.rounds.moved_blocks


def test_cleaner_keeps_what_is_hot_out_of_the_cold_run() -> None:
    disk = small_disk()
    old = disk.make_file(b"old", data(1, 60 * BLOCK_BYTES))
    disk.checkpoint()
    disk.checkpoint()
    young = disk.make_file(b"young", data(2, 60 * BLOCK_BYTES))
    disk.sync()
    pieces = [
        (ino, first, at, count)
        for ino in (old, young)
        for first, at, count in disk.filesystem.extents(ino)
    ]
    disk.filesystem.core.rounds._move(pieces, disk.now_ns)
    heads = {
        entry.owner: one.head
        for one in disk.log()
        if one.flags & SUMMARY_CLEANER
        for entry in one.entries
    }
    assert heads == {old: HEAD_COLD, young: HEAD_MAIN}


def metadata_in(disk: Disk, run: int) -> list[int]:
    """Return the kinds of metadata blocks in a run."""
    usage = usage_of(disk)
    summaries = volume_of(disk).reader.walk_run(usage.address_of(run), usage.last_sequence(run))
    kinds = [entry.kind for one in summaries for entry in one.entries]
    return [kind for kind in kinds if kind in (BLOCK_NODE, BLOCK_USAGE)]


def test_cleaner_puts_scattered_blocks_in_file_order() -> None:
    disk = small_disk()
    ino, other = disk.make_file(b"file"), disk.make_file(b"other")
    order = list(range(40))
    random.Random(3).shuffle(order)
    for number in order:
        # Blocks of another file lie between.
        for each in (ino, other):
            disk.write(each, number * BLOCK_BYTES, data(number, BLOCK_BYTES))
            disk.sync()
    disk.remove(other, b"other")
    disk.checkpoint()
    content = disk.read(ino)
    before = disk.filesystem.extents(ino)
    clean(disk, closed_runs(disk))
    after = disk.filesystem.extents(ino)
    assert disk.read(ino) == content
    # Runs of 16 blocks hold no more at once.
    assert len(before) > 8
    assert len(after) <= len(before) * 3 // 5


@pytest.mark.parametrize("kind", [BLOCK_NODE, BLOCK_USAGE])
def test_cleaner_moves_metadata(kind: int) -> None:
    # Several usage pages, and data enough that some of them have no need to change again.
    disk = Disk(64 * MIB, SEGMENT_BLOCKS)
    contents = {disk.make_file(b"%d" % n, data(n, MIB)): data(n, MIB) for n in range(24)}
    disk.checkpoint()
    victims: list[int] = []
    for number in range(30):
        ino = disk.make_file(b"more %d" % number, data(number, 1000))
        contents[ino] = data(number, 1000)
        disk.checkpoint()
        victims = [run for run in closed_runs(disk) if kind in metadata_in(disk, run)]
        victims = [run for run in victims if live_metadata(disk, run, kind)]
        if victims:
            break
    assert victims
    clean(disk, victims)
    assert all(usage_of(disk).live_blocks(run) == 0 for run in victims)
    check_contents(disk, contents)
    disk.unmount()
    disk.mount()
    check_contents(disk, contents)
    assert problems(disk.medium) == []


def live_metadata(disk: Disk, run: int, kind: int) -> bool:
    """Tell whether a run has a node or usage page that is in use."""
    volume = volume_of(disk)
    if kind == BLOCK_USAGE:
        return any(
            volume.usage.run_of(pointer.address) == run for pointer in volume.state.usage_pages
        )
    live_data = sum(
        len(range(max(at, blocks.start), min(at + count, blocks.stop)))
        for blocks in [run_blocks(disk, run)]
        for ino in inode_numbers(disk)
        for _, at, count in disk.filesystem.extents(ino)
    )
    pages = sum(volume.usage.run_of(pointer.address) == run for pointer in volume.state.usage_pages)
    return volume.usage.live_blocks(run) > live_data + pages


def inode_numbers(disk: Disk) -> Iterator[int]:
    for _, _, ino, _ in disk.filesystem.readdir(1):
        yield ino


def test_cleaner_goes_on_while_files_change() -> None:
    disk, contents, victims = holey_disk()
    inos = list(contents)
    step = 0
    for step, _ in enumerate(cleaner_of(disk)._clean(victims, disk.now_ns)):
        ino = inos[step % len(inos)]
        if step % 2:
            disk.truncate(ino, BLOCK_BYTES)
            contents[ino] = contents[ino][:BLOCK_BYTES]
        else:
            disk.write(ino, 0, data(500 + step, 2 * BLOCK_BYTES))
            contents[ino] = data(500 + step, 2 * BLOCK_BYTES) + contents[ino][2 * BLOCK_BYTES :]
    assert step > 3
    check_contents(disk, contents)
    disk.sync()
    disk.mount()
    check_contents(disk, contents)
    assert problems(disk.medium) == []
