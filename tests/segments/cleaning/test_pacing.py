"""Nobody waits for a whole round of cleaning: each request does a little, in time."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator

import pytest

from lfs.common.errors import DamageError
from lfs.ondisk import ROOT_INO
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.policy import choosing_victims
from lfs.segments.usage import UsageTable
from lfs.volume.options import Options
from tests.segments.cleaning.half_dead import (
    MIB,
    check_contents,
    cleaner_of,
    holey_disk,
    usage_of,
)
from tests.support.disks import BLOCK_BYTES, Disk, data, problems

NEVER = 1 << 62


def aged_disk(
    percent: int, on_work: Callable[[], None] | None = None, size_bytes: int = 64 * MIB
) -> tuple[Disk, list[int], int]:
    """Return a disk that is so full, its files, and how many blocks each has."""
    options = Options(commit_interval_ns=NEVER, checkpoint_interval_ns=NEVER, on_work=on_work)
    disk = Disk(size_bytes, 64, options)
    blocks = disk.filesystem.statfs().available_blocks * percent // 800
    inos = [
        disk.make_file(b"%d" % number, data(number, blocks * BLOCK_BYTES)) for number in range(8)
    ]
    disk.checkpoint()
    return disk, inos, blocks


def overwrites(disk: Disk, inos: list[int], blocks: int, count: int) -> Iterator[None]:
    choose = random.Random(1)
    for number in range(count):
        place = choose.randrange(blocks) * BLOCK_BYTES
        disk.write(choose.choice(inos), place, data(number, BLOCK_BYTES))
        yield


@pytest.mark.parametrize("percent", [75, 90, 97])
def test_no_request_cleans_much(percent: int) -> None:
    """No background work at all: the requests themselves do it."""
    disk, inos, blocks = aged_disk(percent)
    rounds = disk.filesystem.core.rounds
    longest_bytes = longest_moved = moved_before = 0
    before = disk.device.written_bytes
    for _ in overwrites(disk, inos, blocks, 13_000):
        longest_bytes = max(longest_bytes, disk.device.written_bytes - before)
        longest_moved = max(longest_moved, rounds.moved_blocks - moved_before)
        before, moved_before = disk.device.written_bytes, rounds.moved_blocks
    assert rounds.moved_blocks > 8 * 256
    assert longest_moved <= 256 + 128
    assert longest_bytes <= 4 * MIB
    disk.unmount()
    assert problems(disk.medium) == []


def test_large_requests_clean_as_much_as_they_take() -> None:
    disk, inos, blocks = aged_disk(90)
    rounds = disk.filesystem.core.rounds
    for _ in overwrites(disk, inos, blocks, 8000):
        pass
    large_blocks = 32
    for number in range(600):
        place = number * 7 % (blocks - large_blocks)
        before = rounds.moved_blocks
        disk.write(inos[number % 8], place * BLOCK_BYTES, data(number, large_blocks * BLOCK_BYTES))
        assert rounds.moved_blocks - before <= 8 * 256
    disk.unmount()
    assert problems(disk.medium) == []


def test_what_waits_to_be_given_up_goes_before_anything_is_cleaned() -> None:
    disk, inos, blocks = aged_disk(97)
    core = disk.filesystem.core
    for _ in overwrites(disk, inos, blocks, 12_000):
        pass
    assert core.ledger.is_scarce
    inos.pop()
    disk.filesystem.forget(disk.filesystem.unlink(ROOT_INO, b"7", disk.now_ns).ino)
    waited = [core.removal.is_waiting]
    moved_blocks = core.rounds.moved_blocks
    for _ in overwrites(disk, inos, blocks, 100):
        waited.append(core.removal.is_waiting)
        assert core.rounds.moved_blocks == moved_blocks
        if not waited[-1]:
            break
    assert (waited[0], waited[-1]) == (True, False)
    disk.unmount()
    assert problems(disk.medium) == []


def test_what_a_round_has_in_use_is_not_kept_twice_and_comes_back() -> None:
    disk, contents, victims = holey_disk()
    ledger = disk.filesystem.core.ledger
    kept_blocks = ledger.kept_blocks
    least_blocks = kept_blocks
    for flush in cleaner_of(disk)._clean(victims, disk.now_ns):
        least_blocks = min(least_blocks, ledger.kept_blocks)
        if flush is not None:
            disk.filesystem.core.volume.await_flush(flush)
    assert 0 <= least_blocks < kept_blocks
    assert ledger._in_use_blocks == 0
    check_contents(disk, contents)


@pytest.mark.pure_core
def test_round_that_breaks_off_has_nothing_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _, victims = holey_disk()
    core = disk.filesystem.core

    def commit(now_ns: int) -> int:
        assert core.ledger._in_use_blocks
        raise RuntimeError

    monkeypatch.setattr(core.checkpointer, "commit", commit)
    with pytest.raises(RuntimeError):
        for _ in cleaner_of(disk)._clean(victims, disk.now_ns):
            pass
    assert core.ledger._in_use_blocks == 0


def test_run_that_is_used_again_between_two_steps_of_a_survey_is_another() -> None:
    """Reading it further would look like damage."""
    disk, _, victims = holey_disk()
    run = max(victims, key=usage_of(disk).live_blocks)
    steps = disk.filesystem.core.rounds._survey(run, usage_of(disk).last_sequence(run))
    next(steps)
    usage_of(disk).touch_run(run, disk.filesystem.core.volume.log.next_sequence)
    with pytest.raises(StopIteration) as ended:
        next(steps)
    assert ended.value.value is None
    assert not usage_of(disk).out_of_use.immovable


def test_victims_of_a_large_disk_are_chosen_in_steps() -> None:
    usage = UsageTable(0, 64, 100_000, BLOCK_BYTES)
    steps = 0
    choosing = choosing_victims(usage, "greedy", 1, lambda: (), 1 << 40)
    while True:
        try:
            next(choosing)
        except StopIteration:
            break
        steps += 1
    assert steps >= 100_000 // 8192


@pytest.mark.pure_core
def test_requests_do_not_search_again_and_again_where_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, inos, _ = aged_disk(90)
    begun = []

    def none(self: Cleaner, *_: object) -> Generator[None, None, list[int]]:
        begun.append(1)
        yield None
        return []

    monkeypatch.setattr(Cleaner, "_choosing", none)
    assert cleaner_of(disk).help(disk.now_ns)
    for _ in range(100):
        cleaner_of(disk).help(disk.now_ns)
    assert len(begun) == 1
    # Something has died.
    disk.truncate(inos[0], 0)
    assert cleaner_of(disk).help(disk.now_ns)
    assert len(begun) == 2


def test_no_request_waits_for_the_flush_of_a_round_while_there_is_room() -> None:
    """A turn of background work does it, and is asked for; without one the request does."""
    wakes: list[int] = []
    disk, inos, blocks = aged_disk(90, on_work=lambda: wakes.append(1), size_bytes=128 * MIB)
    rounds, device = disk.filesystem.core.rounds, disk.device
    disk.filesystem.begin_tick(disk.now_ns, False)
    device.reset_counters()
    turns = 0
    for number, _ in enumerate(overwrites(disk, inos, blocks, 12_000)):
        assert device.flush_count == 0
        if wakes or number % 16 == 0:
            turn = disk.filesystem.begin_tick(disk.now_ns, False)
            turns += bool(wakes)
            assert turn.flush is not None or not wakes
            wakes.clear()
            if turn.flush is not None:
                disk.filesystem.finish_flush(turn.flush)
            device.reset_counters()
    assert turns > 10
    assert rounds.moved_blocks > 8 * 256
    # No more turns come: before clean space runs out, requests flush by themselves.
    before = rounds.moved_blocks
    long_count = 0
    for _ in overwrites(disk, inos, blocks, 4000):
        long_count += rounds.moved_blocks - before > 256 + 128
        before = rounds.moved_blocks
    # In segments so small it may happen that this is too late.
    assert long_count <= 4
    assert device.flush_count > 10
    disk.unmount()
    assert problems(disk.medium) == []


@pytest.mark.pure_core
def test_requests_wait_before_they_begin_a_round_again_that_met_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its checkpoint is tried again later: three times at once would be the end of writing."""
    disk, _, _ = holey_disk()
    begun = []

    def broken(self: Cleaner, *arguments: object) -> Generator[None, None, None]:
        begun.append(disk.now_ns)
        yield from ()
        raise DamageError("a leaf")

    monkeypatch.setattr(Cleaner, "_round", broken)
    cleaner = cleaner_of(disk)
    for _ in range(20):
        disk.now_ns += 250_000_000
        cleaner.help(disk.now_ns)
    assert len(begun) == 5
