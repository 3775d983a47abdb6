"""The cleaner: what it moves, what it must not move, and that it gains space."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import DamageError
from lfs.common.turns import Flush
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import BLOCK_NODE, BLOCK_USAGE, HEAD_COLD, HEAD_MAIN, SUMMARY_CLEANER
from lfs.segments.cleaning import cleaner as cleaner_module
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.rounds import Rounds
from lfs.segments.cleaning.survey import Found
from lfs.segments.policy import POLICIES
from lfs.segments.usage import UsageTable
from lfs.volume.options import Options
from lfs.volume.volume import Volume
from tests.support.disks import BLOCK_BYTES, Disk, data, flip_byte, problems

MIB = 1 << 20
SEGMENT_BLOCKS = 64


def volume_of(disk: Disk) -> Volume:
    return disk.filesystem.core.volume


def usage_of(disk: Disk) -> UsageTable:
    return volume_of(disk).usage


def cleaner_of(disk: Disk) -> Cleaner:
    return disk.filesystem.core.cleaner


def runs_in_use(disk: Disk) -> list[int]:
    """Return the runs with live blocks."""
    usage = usage_of(disk)
    return [run for run in usage.runs() if usage.live_blocks(run)]


def closed_runs(disk: Disk) -> list[int]:
    """Return those that are not being written."""
    opened = volume_of(disk).log.open_runs()
    return [run for run in runs_in_use(disk) if run not in opened]


def run_blocks(disk: Disk, run: int) -> range:
    """Return the addresses of a run."""
    first = usage_of(disk).address_of(run)
    return range(first, first + usage_of(disk).run_blocks(run))


def clean(disk: Disk, victims: list[int]) -> None:
    """Clean ``victims`` in one round."""
    for _ in cleaner_of(disk)._clean(victims, disk.now_ns):
        pass


def small_disk(options: Options | None = None) -> Disk:
    return Disk(16 * MIB, SEGMENT_BLOCKS, options)


def holey_disk() -> tuple[Disk, dict[int, bytes], list[int]]:
    """Return a disk whose runs are half dead, what its files hold, and those runs."""
    disk = small_disk()
    contents = disk.make_half_dead_runs()
    return disk, contents, closed_runs(disk)


def check_contents(disk: Disk, contents: dict[int, bytes]) -> None:
    for ino, content in contents.items():
        assert disk.read(ino) == content


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


def room_for(most: int) -> Callable[[Found, Found], bool]:
    """Return what tells whether there is room for so many blocks at once."""
    return lambda found, more: found.block_count + more.block_count <= most


def test_cleaner_leaves_out_victims_that_have_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, contents, victims = holey_disk()
    live = {run: disk.filesystem.core.rounds.surveyor.survey(run).block_count for run in victims}
    most = max(live.values()) - 1
    monkeypatch.setattr(disk.filesystem.core.rounds, "_have_room", room_for(most))
    clean(disk, victims)
    left_out = {run for run in victims if live[run] > most}
    assert left_out
    assert {run for run in victims if usage_of(disk).live_blocks(run)} >= left_out
    assert disk.filesystem.core.rounds.moved_blocks == sum(live.values()) - sum(
        live[run] for run in left_out
    )
    check_contents(disk, contents)


def test_victims_that_have_no_room_together_are_moved_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, contents, victims = holey_disk()
    live = [disk.filesystem.core.rounds.surveyor.survey(run).block_count for run in victims]
    monkeypatch.setattr(disk.filesystem.core.rounds, "_have_room", room_for(max(live)))
    checkpoints: list[int] = []
    steps = Checkpointer.steps

    def counted(self: Checkpointer, *given: Any) -> Iterator[Flush]:
        checkpoints.append(1)
        return steps(self, *given)

    monkeypatch.setattr(Checkpointer, "steps", counted)
    clean(disk, victims)
    assert disk.filesystem.core.rounds.moved_blocks == sum(live)
    assert disk.filesystem.core.rounds.cleaned_runs == len(victims)
    assert len(checkpoints) <= 1
    # Those that were used again meanwhile are not the runs that they were.
    assert not usage_of(disk).out_of_use.immovable
    check_contents(disk, contents)


def test_round_that_could_do_nothing_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, contents, runs = holey_disk()
    cleaner = cleaner_of(disk)
    monkeypatch.setattr(Cleaner, "_background_victims", lambda self: runs[:1])
    monkeypatch.setattr(cleaner_module, "CLEAN_SHARE_LOW", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "_have_room", lambda self, found, more: False)
        steps = 0
        while cleaner.step(disk.now_ns).more:
            steps += 1
            assert steps < 10
    assert disk.filesystem.core.rounds.moved_blocks == 0
    # Something died: there may be room now.
    disk.truncate(next(iter(contents)), 0)
    disk.sync()
    assert cleaner.step(disk.now_ns)


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


def test_making_room_finishes_the_round_that_was_begun() -> None:
    disk, contents, victims = holey_disk()
    cleaner = cleaner_of(disk)
    cleaner._work = cleaner._clean(victims, disk.now_ns)
    next(cleaner._work)
    cleaner.make_room(0, disk.now_ns)
    assert not cleaner.busy
    assert disk.filesystem.core.rounds.cleaned_runs == len(victims)
    check_contents(disk, contents)


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


def test_cleaner_is_idle_while_much_is_clean() -> None:
    disk, _, _ = holey_disk()
    assert not cleaner_of(disk)._wanted_victims()
    assert not cleaner_of(disk).step(disk.now_ns).more


@pytest.mark.parametrize("policy", POLICIES)
def test_cleaner_makes_progress_at_85_percent(policy: str) -> None:
    disk = small_disk(Options(cleaner_policy=policy))
    file_blocks = 64
    count = disk.filesystem.statfs().total_blocks * 85 // 100 // file_blocks
    contents = {}
    for number in range(count):
        content = data(number, file_blocks * BLOCK_BYTES)
        contents[disk.make_file(b"file %d" % number, content)] = bytearray(content)
        disk.sync()
    choose = random.Random(4)
    total_blocks = 0
    # Overwrite as much as the disk holds: what is clean by now would never do.
    while total_blocks < disk.filesystem.statfs().total_blocks:
        ino = choose.choice(list(contents))
        first = choose.randrange(file_blocks - 8)
        content = data(choose.randrange(1000), 8 * BLOCK_BYTES)
        disk.write(ino, first * BLOCK_BYTES, content)
        contents[ino][first * BLOCK_BYTES : (first + 8) * BLOCK_BYTES] = content
        total_blocks += 8
        if choose.random() < 0.2:
            disk.sync()
        disk.filesystem.tick(disk.now_ns, idle=choose.random() < 0.3)
    assert disk.filesystem.core.rounds.moved_blocks > 0
    for ino, written in contents.items():
        assert disk.read(ino) == written
    disk.unmount()
    assert problems(disk.medium) == []


def test_making_room_ends_when_what_one_round_gains_the_next_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = small_disk()
    cleaner = cleaner_of(disk)
    rounds: list[int] = []

    def clean_round(victims: list[int], now_ns: int) -> Iterator[None]:
        rounds.append(len(rounds))
        assert len(rounds) < 100
        return iter(())

    monkeypatch.setattr(cleaner, "_clean", clean_round)
    monkeypatch.setattr(cleaner, "_victims", lambda *asked: [1])
    monkeypatch.setattr(cleaner, "_release", lambda blocks, now_ns: None)
    monkeypatch.setattr(cleaner, "_patience", lambda blocks: 8)
    monkeypatch.setattr(
        UsageTable, "clean_blocks", property(lambda usage: 100 + 64 * (len(rounds) % 2))
    )
    cleaner.make_room(1, disk.now_ns)
    assert 8 <= len(rounds) <= 10
