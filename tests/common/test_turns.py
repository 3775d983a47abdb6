"""Intervals go by time that only passes, and a turn's flush may be done elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lfs.common.turns import Elapsed, Turn
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO
from lfs.volume.options import SECOND_NS
from tests.support.volumes import format_small, mount

HOUR_NS = 3600 * SECOND_NS
YEAR_NS = 365 * 24 * HOUR_NS
JUMPS_NS = [-20 * YEAR_NS, -HOUR_NS, -SECOND_NS, 0, SECOND_NS, HOUR_NS, 20 * YEAR_NS]
START_NS = 30 * YEAR_NS
INTERVAL_NS = 5 * SECOND_NS
CHECKPOINT_NS = 60 * SECOND_NS
REGULAR = 0o100644


@pytest.fixture
def filesystem() -> Filesystem:
    medium = MemoryDevice(16 << 20)
    format_small(medium, 4096, 64)
    options = Options(commit_interval_ns=INTERVAL_NS, checkpoint_interval_ns=CHECKPOINT_NS)
    return Filesystem.mount(medium, START_NS, options)


def test_elapsed_time_never_goes_back() -> None:
    elapsed = Elapsed()
    for now_ns, expected_ns in ((100, 0), (130, 30), (10, 30), (15, 35), (15, 35)):
        elapsed.advance(now_ns)
        assert elapsed.ns == expected_ns


def test_elapsed_time_goes_by_monotonic_time_once_it_was_given() -> None:
    elapsed = Elapsed()
    elapsed.advance(100)
    for now_ns, monotonic_ns, expected_ns in (
        (1000, 5, 0),
        (5, 8, 3),
        (10**6, None, 3),
        (0, 20, 15),
    ):
        elapsed.advance(now_ns, monotonic_ns)
        assert elapsed.ns == expected_ns


class Clocked:
    """Gives turns each second; its clock jumps by ``jump_ns`` after ten of them."""

    def __init__(self, filesystem: Filesystem, jump_ns: int, has_monotonic: bool) -> None:
        self.filesystem = filesystem
        self.jump_ns = jump_ns
        self.has_monotonic = has_monotonic
        self.second = 0

    @property
    def now_ns(self) -> int:
        return START_NS + self.second * SECOND_NS + (self.jump_ns if self.second > 10 else 0)

    def tick(self) -> None:
        self.second += 1
        monotonic_ns = 7 + self.second * SECOND_NS if self.has_monotonic else None
        while self.filesystem.tick(self.now_ns, False, monotonic_ns):
            pass

    def seconds_until(self, condition: Callable[[], bool]) -> int:
        start = self.second
        while not condition():
            self.tick()
            assert self.second < start + 200
        return self.second - start


@pytest.mark.parametrize("has_monotonic", [False, True])
@pytest.mark.parametrize("jump_ns", JUMPS_NS)
def test_clock_that_is_set_keeps_no_commit_and_no_checkpoint_from_being_made(
    filesystem: Filesystem, jump_ns: int, has_monotonic: bool
) -> None:
    clocked = Clocked(filesystem, jump_ns, has_monotonic)
    for _ in range(10):
        clocked.tick()
    filesystem.create(ROOT_INO, b"f", REGULAR, 0, 0, clocked.now_ns)
    filesystem.sync(clocked.now_ns)
    number = filesystem.core.volume.state.checkpoint_number
    filesystem.create(ROOT_INO, b"g", REGULAR, 0, 0, clocked.now_ns)
    seconds = clocked.seconds_until(lambda: not filesystem.dirty)
    # Without a monotonic clock, one that is set forward is time that has passed.
    slack = min(max(jump_ns // SECOND_NS, 0), 5) if not has_monotonic else 0
    late = 1 if jump_ns < 0 and not has_monotonic else 0
    assert 5 - slack <= seconds <= 5 + late
    clocked.seconds_until(lambda: filesystem.core.volume.state.checkpoint_number > number)
    # The first monotonic time tells of none that has passed since the mount.
    assert clocked.second <= 60 + (late or has_monotonic)


def begun_until_flush(filesystem: Filesystem, now_ns: int) -> Turn:
    turn = filesystem.begin_tick(now_ns, False)
    assert turn.flush is not None
    return turn


def test_turn_ends_before_each_of_its_flushes(filesystem: Filesystem) -> None:
    """The commit's by the timer, then the two of a checkpoint: requests come between."""
    device = filesystem.device
    flushes: list[int] = []
    device.flush = lambda: flushes.append(1)  # type: ignore[method-assign]
    now_ns = START_NS
    number = filesystem.core.volume.state.checkpoint_number
    for step in range(3):
        filesystem.create(ROOT_INO, b"%d" % step, REGULAR, 0, 0, now_ns)
        now_ns += CHECKPOINT_NS if step == 0 else 0
        turn = begun_until_flush(filesystem, now_ns)
        assert turn.flush is not None
        filesystem.create(ROOT_INO, b"beside %d" % step, REGULAR, 0, 0, now_ns)
        filesystem.finish_flush(turn.flush)
        assert filesystem.core.volume.state.checkpoint_number == number
    filesystem.begin_tick(now_ns, False)
    assert filesystem.core.volume.state.checkpoint_number == number + 1
    assert not flushes


def test_what_is_synced_while_a_checkpoint_waits_for_its_flushes_outlives_a_crash() -> None:
    medium = MemoryDevice(16 << 20)
    format_small(medium, 4096, 64)
    filesystem = mount(medium, START_NS)
    synced: list[bytes] = []

    def crash_is_survived() -> bool:
        again = mount(medium.copy(), START_NS)
        return {entry.name for entry in again.readdir(ROOT_INO)} == set(synced)

    now_ns = START_NS + CHECKPOINT_NS
    number = filesystem.core.volume.state.checkpoint_number
    while filesystem.core.volume.state.checkpoint_number < number + 2:
        name = b"f%d" % len(synced)
        filesystem.create(ROOT_INO, name, REGULAR, 0, 0, now_ns)
        filesystem.sync(now_ns)
        synced.append(name)
        assert crash_is_survived()
        turn = filesystem.begin_tick(now_ns, False)
        assert crash_is_survived()
        if turn.flush is not None:
            filesystem.finish_flush(turn.flush)
        now_ns += CHECKPOINT_NS
    assert len(synced) >= 5


def test_flush_that_nobody_did_is_done_by_the_next_turn(filesystem: Filesystem) -> None:
    flushes: list[int] = []
    filesystem.device.flush = lambda: flushes.append(1)  # type: ignore[method-assign]
    filesystem.create(ROOT_INO, b"f", REGULAR, 0, 0, START_NS)
    now_ns = START_NS + CHECKPOINT_NS
    begun_until_flush(filesystem, now_ns)
    begun_until_flush(filesystem, now_ns)
    assert not flushes
    begun_until_flush(filesystem, now_ns)
    assert len(flushes) == 1


def test_checkpoint_that_is_needed_at_once_takes_the_place_of_one_in_turns(
    filesystem: Filesystem,
) -> None:
    filesystem.create(ROOT_INO, b"f", REGULAR, 0, 0, START_NS)
    now_ns = START_NS + CHECKPOINT_NS
    filesystem.tick(now_ns, False)
    begun_until_flush(filesystem, now_ns)
    filesystem.create(ROOT_INO, b"g", REGULAR, 0, 0, now_ns)
    number = filesystem.core.volume.state.checkpoint_number
    filesystem.checkpoint(now_ns)
    assert filesystem.core.volume.state.checkpoint_number == number + 1
    while filesystem.tick(now_ns, False):
        pass
    assert filesystem.core.volume.state.checkpoint_number == number + 1
    again = mount(filesystem.device, now_ns)
    assert again.lookup(ROOT_INO, b"g").nlink == 1
