"""What the cleaner leaves where it is: what is damaged, or whose owner can't be read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lfs.common.errors import DamageError
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.segments.cleaning import moving, rounds
from tests.segments.cleaning.half_dead import (
    SEGMENT_BLOCKS,
    check_contents,
    clean,
    cleaner_of,
    holey_disk,
    run_blocks,
    usage_of,
    volume_of,
)
from tests.support.disks import BLOCK_BYTES, Disk, flip_byte


def test_cleaner_never_moves_a_damaged_block() -> None:
    disk, contents, victims = holey_disk()
    ino = next(
        ino
        for ino in contents
        if disk.filesystem.extents(ino)[0][1] in run_blocks(disk, victims[1])
    )
    damaged = disk.filesystem.extents(ino)[0][1]
    flip_byte(disk.medium, damaged * BLOCK_BYTES + 1)
    run = usage_of(disk).run_of(damaged)
    clean(disk, victims)
    disk.checkpoint()
    disk.checkpoint()
    assert disk.filesystem.extents(ino)[0][1] == damaged
    assert run in usage_of(disk).runs()
    with pytest.raises(DamageError, match=str(damaged)):
        disk.read(ino)
    assert [line for line in disk.lines if f"inode {ino}" in line and str(damaged) in line]
    del contents[ino]
    check_contents(disk, contents)
    # It is not tried again.
    assert run not in cleaner_of(disk)._victims("greedy", 0.999)
    disk.mount()
    with pytest.raises(DamageError):
        disk.read(ino)


def test_cleaner_leaves_a_run_whose_summaries_are_damaged() -> None:
    disk, contents, victims = holey_disk()
    run = victims[1]
    flip_byte(disk.medium, usage_of(disk).address_of(run) * BLOCK_BYTES)
    clean(disk, [run])
    assert usage_of(disk).live_blocks(run) > 0
    assert any("leaving the run" in line for line in disk.lines)
    check_contents(disk, contents)


@pytest.mark.pure_core
@pytest.mark.parametrize("has_live", [False, True])
def test_owner_that_can_not_be_read_keeps_a_run_only_while_it_lives_there(
    has_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, contents, victims = holey_disk()
    run = victims[1]
    owners = {piece[0] for piece in disk.filesystem.core.rounds.surveyor.survey(run).pieces}
    bad = min(owners)
    if not has_live:
        disk.write(bad, 0, contents[bad])
        disk.sync()
    find = InodeTable.find

    def failing(self: InodeTable, ino: int) -> Inode | None:
        if ino == bad:
            raise DamageError("a leaf can't be read")
        return find(self, ino)

    lost_blocks = usage_of(disk).lost_blocks
    with monkeypatch.context() as patch:
        patch.setattr(InodeTable, "find", failing)
        clean(disk, [run])
    live_blocks = usage_of(disk).live_blocks(run)
    if has_live:
        # All that lived there still does: moving the rest would gain nothing.
        assert live_blocks > len(contents[bad]) // BLOCK_BYTES
        assert {*usage_of(disk).out_of_use.immovable} == {run}
        assert usage_of(disk).lost_blocks == lost_blocks + SEGMENT_BLOCKS - live_blocks
        assert run not in cleaner_of(disk)._victims("greedy", 0.999)
        # What can't be read goes: now the rest can be moved.
        disk.filesystem.setattr(bad, disk.now_ns, size=0)
        contents[bad] = b""
        assert run in cleaner_of(disk)._victims("greedy", 0.999)
        clean(disk, [run])
    assert not usage_of(disk).live_blocks(run)
    assert not usage_of(disk).out_of_use.immovable
    assert usage_of(disk).lost_blocks == lost_blocks
    check_contents(disk, contents)


def test_run_that_could_not_be_moved_is_like_others_once_it_is_clean() -> None:
    disk, contents, victims = holey_disk()
    run = victims[1]
    usage_of(disk).note_immovable(run, 0)
    for ino in contents:
        disk.truncate(ino, 0)
    disk.checkpoint()
    disk.checkpoint()
    assert run not in usage_of(disk).runs()
    assert not usage_of(disk).out_of_use.immovable
    assert not usage_of(disk).lost_blocks


def read_at_most(disk: Disk, run: int) -> tuple[int, int]:
    """Clean ``run``; return the most data blocks that one step read, and how many all did."""
    volume = volume_of(disk)
    counts = [0]
    read_data = volume.read_data

    def counted(address: int, checksums: Sequence[int]) -> bytes:
        counts[-1] += len(checksums)
        return read_data(address, checksums)

    volume.read_data = counted  # type: ignore[method-assign]
    for _ in cleaner_of(disk)._clean([run], disk.now_ns):
        counts.append(0)
    del volume.read_data
    return max(counts), sum(counts)


@pytest.mark.pure_core
def test_what_is_read_before_it_moves_is_read_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "STEP_BLOCKS", 8)
    monkeypatch.setattr(rounds, "_SUSPICIOUS_ROUNDS", 2)
    disk, contents, victims = holey_disk()
    bad, first, second, third, fourth = victims[:5]
    live = {run: disk.filesystem.core.rounds.surveyor.survey(run).block_count for run in victims}
    ino = next(
        ino for ino in contents if disk.filesystem.extents(ino)[0][1] in run_blocks(disk, bad)
    )
    damaged = disk.filesystem.extents(ino)[0][1]
    flip_byte(disk.medium, damaged * BLOCK_BYTES + 1)
    assert read_at_most(disk, first)[1] == live[first]
    clean(disk, [bad])
    # One that was met is a reason to look before moving, but in steps.
    most, total = read_at_most(disk, second)
    assert total == 2 * live[second]
    assert most < live[second]
    assert read_at_most(disk, third)[1] == 2 * live[third]
    # That went well so often that the next is moved at once.
    assert read_at_most(disk, fourth)[1] == live[fourth]
    del contents[ino]
    check_contents(disk, contents)


@pytest.mark.pure_core
def test_what_has_no_room_is_not_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _, victims = holey_disk()
    one = disk.filesystem.core.rounds
    monkeypatch.setattr(one, "_suspicious_rounds", 1)
    monkeypatch.setattr(one, "_have_room", lambda found, more, at_once: False)
    assert read_at_most(disk, victims[0]) == (0, 0)
