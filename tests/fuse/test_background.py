"""Turns of the core between requests, on a mock clock."""

from __future__ import annotations

import errno
import logging

import pytest
import trio
from trio.testing import MockClock

from lfs.errors import FilesystemError
from lfs.fuse.background import BUSY_PAUSE_SECONDS, FAILURE_PAUSE_SECONDS, Background


class FakeFilesystem:
    """Has ``work`` steps to do, and notes when it was asked and whether things were idle."""

    def __init__(self, work: int = 0, error: Exception | None = None) -> None:
        self.work = work
        self.error = error
        self.turns: list[tuple[float, bool]] = []

    def tick(self, now_ns: int, idle: bool) -> bool:
        self.turns.append((round(trio.current_time() - self.start, 3), idle))
        if self.error is not None:
            raise self.error
        self.work -= 1
        return self.work >= 0

    def fail(self, error: Exception) -> None:
        self.failure = error

    failure: Exception | None = None
    start = 0.0


def run(
    filesystem: FakeFilesystem, seconds: float, busy: bool = False, flushing: bool = False
) -> list[tuple[float, bool]]:
    counts = iter(range(10**6))
    background = Background(
        filesystem,
        (lambda: next(counts)) if busy else (lambda: 0),
        lambda: flushing,
        interval_seconds=1.0,
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


def test_background_leaves_a_flush_alone() -> None:
    assert run(FakeFilesystem(), 1.0, flushing=True) == []


@pytest.mark.parametrize("error", [FilesystemError(errno.EIO, "no disk"), ValueError("a bug")])
def test_background_after_an_error_logs_and_pauses(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem = FakeFilesystem(error=error)
    with caplog.at_level(logging.ERROR):
        turns = run(filesystem, FAILURE_PAUSE_SECONDS * 1.5)
    assert len(turns) == len(caplog.records) == 2
    assert (filesystem.failure is not None) == isinstance(error, ValueError)
