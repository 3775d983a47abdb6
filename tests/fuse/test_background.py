"""Turns of the core between requests, on a mock clock."""

from __future__ import annotations

import errno
import logging

import pytest
import trio
from trio.testing import MockClock

from lfs.common.errors import FilesystemError
from lfs.common.turns import Flush, Turn
from lfs.fuse.background import BUSY_PAUSE_SECONDS, FAILURE_PAUSE_SECONDS, Background, Wake


class FakeFilesystem:
    """Has ``work`` steps to do, and notes when it was asked and whether things were idle."""

    def __init__(self, work: int = 0, error: Exception | None = None) -> None:
        self.work = work
        self.error = error
        self.turns: list[tuple[float, bool]] = []
        self.times: list[tuple[int, int | None]] = []
        self.flushed: list[int] = []

    def begin_tick(self, now_ns: int, idle: bool, monotonic_ns: int | None = None) -> Turn:
        self.turns.append((round(trio.current_time() - self.start, 3), idle))
        self.times.append((now_ns, monotonic_ns))
        if self.error is not None:
            raise self.error
        self.work -= 1
        return Turn(self.work >= 0, Flush(self.work) if self.flushes else None)

    def fail(self, error: Exception) -> None:
        self.failure = error

    failure: Exception | None = None
    start = 0.0
    flushes = False
    """Whether each turn ends with a flush."""


FLUSH_SECONDS = 0.3


def run(
    filesystem: FakeFilesystem, seconds: float, busy: bool = False, wake: Wake | None = None
) -> list[tuple[float, bool]]:
    counts = iter(range(10**6))

    async def flush(wanted: Flush) -> None:
        filesystem.flushed.append(wanted.sequence)
        await trio.sleep(FLUSH_SECONDS)

    background = Background(
        filesystem,
        (lambda: next(counts)) if busy else (lambda: 0),
        flush,
        interval_seconds=1.0,
        wake=wake or Wake(),
        now_ns=lambda: 7,
        monotonic_ns=lambda: round(trio.current_time() * 10**9),
    )

    async def work() -> None:
        filesystem.start = trio.current_time()
        with trio.move_on_after(seconds):
            await background.run()

    trio.run(work, clock=MockClock(autojump_threshold=0))
    return filesystem.turns


def test_background_with_nothing_to_do_takes_a_turn_each_interval() -> None:
    assert [time for time, _ in run(FakeFilesystem(), 4.5)] == [0, 1, 2, 3, 4]


def test_background_with_work_goes_on_at_once_when_idle() -> None:
    turns = run(FakeFilesystem(work=50), 0.9)
    assert len(turns) == 51
    assert set(turns[1:]) == {(BUSY_PAUSE_SECONDS, True)}


def test_background_with_work_pauses_between_turns_when_busy() -> None:
    turns = run(FakeFilesystem(work=10**6), 10 * BUSY_PAUSE_SECONDS + 0.001, busy=True)
    assert len(turns) == 11
    assert not any(idle for _, idle in turns)


def test_background_first_turn_is_not_idle() -> None:
    assert run(FakeFilesystem(), 1.5) == [(0.0, False), (1.0, True)]


def test_background_goes_on_when_what_a_turn_ends_with_is_flushed() -> None:
    filesystem = FakeFilesystem(work=3)
    filesystem.flushes = True
    assert [time for time, _ in run(filesystem, 2.0)] == [0.0, 0.32, 0.62, 0.92]
    assert filesystem.flushed == [2, 1, 0, -1]


def test_background_that_is_woken_takes_a_turn_at_once() -> None:
    wake = Wake()
    wake.set()
    # Before the first pause; it is not woken twice by that.
    assert [time for time, _ in run(FakeFilesystem(), 2.5, wake=wake)] == [0.0, 0.0, 1.0, 2.0]


def test_background_is_woken_amid_a_pause() -> None:
    wake = Wake()
    filesystem = FakeFilesystem()

    async def work() -> None:
        background = Background(filesystem, lambda: 0, lambda _: trio.sleep(0), 1.0, wake)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(background.run)
            await trio.sleep(0.25)
            wake.set()
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    trio.run(work, clock=MockClock(autojump_threshold=0))
    assert len(filesystem.turns) == 2


def test_background_tells_the_monotonic_time_beside_that_of_the_clock() -> None:
    filesystem = FakeFilesystem()
    run(filesystem, 1.5)
    (first, started), (second, later) = filesystem.times
    assert (first, second) == (7, 7)
    assert started is not None
    assert later == started + 10**9


@pytest.mark.parametrize("error", [FilesystemError(errno.EIO, "no disk"), ValueError("a bug")])
def test_background_after_an_error_logs_and_pauses(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem = FakeFilesystem(error=error)
    with caplog.at_level(logging.ERROR):
        turns = run(filesystem, FAILURE_PAUSE_SECONDS * 1.5)
    assert len(turns) == len(caplog.records) == 2
    assert (filesystem.failure is not None) == isinstance(error, ValueError)
