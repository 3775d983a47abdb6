"""Rounds of the cleaner: when one begins, how much it takes on, and that all end."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from lfs.commit.checkpoint import Checkpointer
from lfs.common.turns import Flush
from lfs.segments.cleaning import cleaner as cleaner_module
from lfs.segments.cleaning import moving
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.rounds import Rounds
from lfs.segments.cleaning.survey import Found
from lfs.segments.policy import POLICIES
from lfs.segments.usage import UsageTable
from lfs.volume.options import Options
from tests.segments.cleaning.half_dead import (
    check_contents,
    clean,
    cleaner_of,
    closed_runs,
    holey_disk,
    small_disk,
    usage_of,
)
from tests.support.disks import BLOCK_BYTES, Disk, data, problems


def room_for(most: int) -> Callable[[Found, Found, bool], bool]:
    """Return what tells whether there is room for so many blocks at once."""
    return lambda found, more, at_once: found.block_count + more.block_count <= most


@pytest.mark.pure_core
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


def take_clean_segments(disk: Disk, has_room: Callable[[], bool]) -> None:
    """Take clean segments away one by one, as long as there is room."""
    buddy = usage_of(disk).buddy
    while has_room() and (segment := buddy.allocate(0)) is not None:
        if not has_room():
            buddy.free(segment, 0)
            return


@pytest.mark.pure_core
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("victim_count", [2, 5, 9, 14, 20])
def test_round_that_was_begun_is_finished(
    victim_count: int, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halfway it would have taken room, and not given any.

    With no more room than it asks for.  Unless it is made at once, others then take all that
    is not kept.
    """
    monkeypatch.setattr(moving, "STEP_BLOCKS", 24)
    disk, contents, victims = holey_disk()
    core = disk.filesystem.core
    victims = victims[:victim_count]
    usage, rounds = usage_of(disk), core.rounds
    every = Found()
    for run in victims:
        every.add(rounds.surveyor.survey(run))
    # What is hot goes to another head: every other window is.
    monkeypatch.setattr(Rounds, "_is_hot", lambda self, inode, index: bool(inode.ino % 2))
    if at_once:
        take_clean_segments(disk, lambda: rounds._have_room(Found(), every, at_once))
    broken_off = []
    move_together = Rounds._move_together

    def watched(
        self: Rounds, found: Found, now_ns: int, at_once: bool
    ) -> Generator[Flush | None, None, dict[int, int] | None]:
        if not at_once:
            take_clean_segments(disk, lambda: core.ledger.shortage_blocks(0) <= 0)
        done = yield from move_together(self, found, now_ns, at_once)
        broken_off.append(done is None)
        assert not any(usage.live_blocks(run) for run in found.runs)
        return done

    monkeypatch.setattr(Rounds, "_move_together", watched)
    for flush in rounds.clean(victims, disk.now_ns, at_once):
        if flush is not None:
            core.volume.await_flush(flush)
        elif not at_once:
            take_clean_segments(disk, lambda: core.ledger.shortage_blocks(0) <= 0)
    assert broken_off
    assert not any(broken_off)
    if at_once:
        assert len(broken_off) == 1
        assert not any(usage.live_blocks(run) for run in victims)
    check_contents(disk, contents)


def test_round_writes_dirty_data_in_parts() -> None:
    """The commit of a round takes all that is dirty, but not in one step."""
    disk = Disk(64 << 20)
    disk.make_half_dead_runs()
    victims = closed_runs(disk)
    for number in range(12):
        disk.make_file(b"dirty %d" % number, data(number, 1 << 20))
    longest, before = 0, disk.device.written_bytes
    for _ in cleaner_of(disk)._clean(victims, disk.now_ns):
        longest = max(longest, disk.device.written_bytes - before)
        before = disk.device.written_bytes
    assert disk.filesystem.core.ledger.dirty_blocks == 0
    assert 1 << 20 <= longest <= 3 << 20
    assert problems(disk.medium) == []


@pytest.mark.pure_core
def test_victims_that_have_no_room_together_are_moved_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, contents, victims = holey_disk()
    live = [disk.filesystem.core.rounds.surveyor.survey(run).block_count for run in victims]
    monkeypatch.setattr(disk.filesystem.core.rounds, "_have_room", room_for(max(live)))
    checkpoints: list[int] = []
    steps = Checkpointer.steps

    def counted(self: Checkpointer, *given: Any) -> Iterator[Flush | None]:
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


@pytest.mark.pure_core
def test_round_that_could_do_nothing_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, contents, runs = holey_disk()
    cleaner = cleaner_of(disk)

    def choosing(self: Cleaner, *_: object) -> Generator[None, None, list[int]]:
        yield None
        return runs[:1]

    monkeypatch.setattr(Cleaner, "_choosing", choosing)
    monkeypatch.setattr(cleaner_module, "CLEAN_SHARE_LOW", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "_have_room", lambda self, found, more, at_once: False)
        steps = 0
        while cleaner.step(disk.now_ns).more:
            steps += 1
            assert steps < 100
    assert disk.filesystem.core.rounds.moved_blocks == 0
    # Something died: there may be room now.
    disk.truncate(next(iter(contents)), 0)
    disk.sync()
    assert cleaner.step(disk.now_ns)


def test_making_room_finishes_the_round_that_was_begun() -> None:
    disk, contents, victims = holey_disk()
    cleaner = cleaner_of(disk)
    cleaner._work = cleaner._clean(victims, disk.now_ns)
    next(cleaner._work)
    cleaner.make_room(0, disk.now_ns)
    assert not cleaner.busy
    assert disk.filesystem.core.rounds.cleaned_runs == len(victims)
    check_contents(disk, contents)


def test_cleaner_is_idle_while_much_is_clean() -> None:
    disk, _, _ = holey_disk()
    assert not cleaner_of(disk).is_wanted
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


@pytest.mark.pure_core
def test_making_room_ends_when_what_one_round_gains_the_next_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = small_disk()
    cleaner = cleaner_of(disk)
    rounds: list[int] = []

    def clean_round(victims: list[int], now_ns: int, at_once: bool) -> Iterator[None]:
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


@pytest.mark.parametrize("is_overtaken", [False, True])
def test_run_whose_nodes_wait_for_another_checkpoint_can_be_cleaned_again(
    is_overtaken: bool,
) -> None:
    """A round ends with a checkpoint in steps, which ends when another one is begun."""
    disk = Disk(options=Options(merged_items_max=8))
    core, usage = disk.filesystem.core, usage_of(disk)
    inos = [disk.make_file(b"%d" % number, b"short") for number in range(900)]
    disk.checkpoint()
    run = usage.run_of(core.volume.imap.root.address)
    while run in core.volume.log.open_runs():
        for ino in inos:
            disk.filesystem.setattr(ino, disk.now_ns, mode=0o600)
        disk.checkpoint()
    for ino in inos:
        disk.filesystem.setattr(ino, disk.now_ns, mode=0o640)
    assert usage.live_blocks(run)
    begun_count = core.checkpointer._begun_count
    was_overtaken = False
    for flush in core.rounds.clean([run], disk.now_ns, at_once=False):
        if flush is not None:
            core.volume.await_flush(flush)
        if is_overtaken and not was_overtaken and core.checkpointer._begun_count != begun_count:
            core.checkpointer.step(disk.now_ns)
            was_overtaken = True
    assert was_overtaken == is_overtaken
    assert bool(usage.live_blocks(run)) == is_overtaken
    assert not usage.out_of_use.immovable
    while core.checkpointer.busy:
        turn = core.checkpointer.step(disk.now_ns)
        if turn.flush is not None:
            core.volume.await_flush(turn.flush)
    disk.unmount()
    assert problems(disk.medium) == []
