"""Group commit, without FUSE and without a disk."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from lfs.common.errors import DeviceError, FilesystemError
from lfs.common.turns import Flush
from lfs.fuse.group_commit import GroupCommit

FAST_NS = 1_000
MEDIUM_NS = 500_000
SLOW_NS = 10_000_000


class FakeFilesystem:
    """Counts changes; a commit covers those made before it, and is durable when finished."""

    def __init__(self) -> None:
        self.change_count = 0
        self.logged_count = 0
        self.durable_count = 0
        self.failed = False
        self.ahead_count = 0
        self.begin_count = 0

    def change(self) -> int:
        self.change_count += 1
        return self.change_count

    def write_ahead(self, now_ns: int) -> bool:
        self.ahead_count -= self.ahead_count > 0
        return self.ahead_count > 0

    def begin_commit(self, now_ns: int) -> int:
        if self.failed:
            raise FilesystemError(errno.EIO, "failed before")
        self.begin_count += 1
        self.logged_count = self.change_count
        return self.logged_count

    def finish_commit(self, ticket: int) -> None:
        self.durable_count = max(self.durable_count, ticket)

    def finish_flush(self, flush: Flush) -> None:
        flush.done = True

    def fail(self, error: Exception) -> None:
        self.failed = True


class FakeDevice:
    """Takes ``flush_ns`` of a clock of its own for each flush."""

    def __init__(self, flush_ns: int) -> None:
        self.flush_ns = flush_ns
        self.now_ns = 0
        self.flush_count = 0
        self.error: DeviceError | None = None

    def flush(self) -> None:
        self.flush_count += 1
        self.now_ns += self.flush_ns
        if self.error is not None:
            raise self.error


class FakeRequests:
    """Of others: ``each_flush`` so many come during each flush."""

    def __init__(self) -> None:
        self.each_flush = 0
        self.total = 0

    def come(self) -> None:
        self.total += self.each_flush

    def count(self) -> int:
        return self.total

    def is_waiting(self) -> bool:
        return self.each_flush > 0


class Bench:
    """A group_commit over fakes.  Flushes in a thread take one second of the mock clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, flush_ns: int) -> None:
        self.filesystem = FakeFilesystem()
        self.device = FakeDevice(flush_ns)
        self.requests = FakeRequests()
        self.threaded_count = 0
        self.group_commit = GroupCommit(
            self.filesystem,
            self.device,
            self.requests,
            now_ns=lambda: 0,
            timer_ns=lambda: self.device.now_ns,
        )

        async def run_sync(work: Callable[[], int]) -> int:
            self.threaded_count += 1
            await trio.sleep(1)
            self.requests.come()
            return work()

        monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)

    async def change_and_commit(self) -> None:
        change = self.filesystem.change()
        await self.group_commit.commit()
        assert self.filesystem.durable_count >= change

    async def grow_slow(self) -> None:
        """Let the group_commit learn that flushes are slow."""
        while not self.threaded_count:
            await self.change_and_commit()


def run(work: Callable[[], Awaitable[None]]) -> None:
    trio.run(work, clock=MockClock(autojump_threshold=0))


def test_commit_with_fast_flush_runs_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, FAST_NS)

    async def work() -> None:
        for _ in range(20):
            await bench.change_and_commit()

    run(work)
    # The first is in a thread: nobody knows the disk yet.
    assert (bench.device.flush_count, bench.threaded_count) == (20, 1)


def test_requests_are_served_between_what_is_written_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, FAST_NS)
    bench.filesystem.ahead_count = 20
    served: list[int] = []

    async def serve() -> None:
        while bench.filesystem.begin_count == 0:
            served.append(bench.filesystem.ahead_count)
            await trio.lowlevel.checkpoint()

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(bench.change_and_commit)

    run(work)
    # All of it comes before the commit, and others have their turns all the while.
    assert bench.filesystem.ahead_count == 0
    assert len(set(served)) >= 9


def test_commit_with_slow_flush_moves_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, SLOW_NS)

    async def work() -> None:
        for _ in range(20):
            await bench.change_and_commit()

    run(work)
    assert (bench.device.flush_count, bench.threaded_count) == (20, 20)


def test_commit_returns_in_place_when_flushes_grow_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, SLOW_NS)

    async def work() -> None:
        await bench.grow_slow()
        bench.device.flush_ns = FAST_NS
        for _ in range(100):
            await bench.change_and_commit()
        threaded_count = bench.threaded_count
        await bench.change_and_commit()
        assert bench.threaded_count == threaded_count

    run(work)


def test_commit_beside_others_leaves_a_flush_of_medium_length_to_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, MEDIUM_NS)

    async def threaded(commits: int) -> int:
        before = bench.threaded_count
        for _ in range(commits):
            await bench.change_and_commit()
        return bench.threaded_count - before

    async def work() -> None:
        assert await threaded(1) == 1
        assert await threaded(20) == 0
        bench.requests.each_flush = 1
        # The first shows that somebody waited.
        assert await threaded(20) == 19
        bench.requests.each_flush = 0
        # So does the last, that nobody did.
        assert await threaded(20) == 1

    run(work)


def test_commit_of_nothing_new_flushes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, FAST_NS)

    async def work() -> None:
        await bench.change_and_commit()
        await bench.group_commit.commit()

    run(work)
    assert bench.device.flush_count == 1


def test_commits_during_a_flush_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, SLOW_NS)

    async def work() -> None:
        await bench.grow_slow()
        before = bench.device.flush_count
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.change_and_commit)
            await wait_all_tasks_blocked()
            assert bench.group_commit.flushing
            for _ in range(10):
                nursery.start_soon(bench.change_and_commit)
        assert bench.device.flush_count - before == 2
        assert not bench.group_commit.flushing

    run(work)


def test_commit_that_comes_between_rounds_joins_the_waiting_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, SLOW_NS)

    async def work() -> None:
        await bench.grow_slow()
        before = bench.device.flush_count
        async with trio.open_nursery() as nursery:
            for delay in (0, 0.5, 1, 1, 1.5, 2, 2.5):

                async def later(delay: float = delay) -> None:
                    await trio.sleep(delay)
                    await bench.change_and_commit()

                nursery.start_soon(later)
        assert bench.device.flush_count - before <= 4

    run(work)


def test_commit_that_arrives_during_a_flush_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with nothing new: what it wants durable may be in that flush."""
    bench = Bench(monkeypatch, SLOW_NS)

    async def work() -> None:
        await bench.grow_slow()
        change = bench.filesystem.change()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.group_commit.commit)
            await wait_all_tasks_blocked()
            assert bench.filesystem.durable_count < change
            await bench.group_commit.commit()
            assert bench.filesystem.durable_count >= change

    run(work)


@pytest.mark.parametrize("flush_ns", [FAST_NS, SLOW_NS])
def test_commit_whose_flush_fails_fails_for_all(
    monkeypatch: pytest.MonkeyPatch, flush_ns: int
) -> None:
    bench = Bench(monkeypatch, flush_ns)
    errors: list[int | None] = []

    async def fail() -> None:
        bench.filesystem.change()
        try:
            await bench.group_commit.commit()
        except FilesystemError as error:
            errors.append(error.errno)

    async def work() -> None:
        if flush_ns == SLOW_NS:
            await bench.grow_slow()
        bench.device.error = DeviceError(errno.EIO, "flush failed")
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(fail)
        await fail()

    run(work)
    assert errors == [errno.EIO] * 6
    assert bench.filesystem.failed


def test_flush_of_background_work_runs_beside_requests_and_beside_no_other_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, SLOW_NS)
    wanted = Flush(1)
    seen: list[bool] = []

    async def work() -> None:
        await bench.grow_slow()
        threaded = bench.threaded_count
        begun = bench.filesystem.begin_count
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.group_commit.flush, wanted)
            await wait_all_tasks_blocked()
            assert bench.threaded_count == threaded + 1
            change = bench.filesystem.change()
            nursery.start_soon(bench.group_commit.commit)
            await wait_all_tasks_blocked()
            seen.append(wanted.done)
            assert bench.filesystem.begin_count == begun
        assert [*seen, wanted.done] == [False, True]
        assert bench.filesystem.durable_count >= change

    run(work)
