"""Waiting for requests, on a pipe in place of /dev/fuse."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator

import pyfuse3
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from lfs.kernel import loop
from lfs.kernel.loop import REQUESTS_PER_TURN, RequestWaiter


class Requests:
    """A pipe that holds one byte for each request."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def send(self, count: int = 1) -> None:
        os.write(self.writer, bytes(count))

    def receive(self) -> None:
        os.read(self.reader, 1)


@pytest.fixture
def requests() -> Iterator[Requests]:
    made = Requests()
    yield made
    os.close(made.reader)
    os.close(made.writer)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(20):
            await work()

    trio.run(bounded)


def test_wait_with_a_request_there_returns_at_once(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=0)
    requests.send()
    run(lambda: _expect(waiter, True))


async def _expect(waiter: RequestWaiter, expected: bool) -> None:
    assert await waiter.wait() is expected


def test_wait_without_request_sleeps_until_one_comes(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=0)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect, waiter, True)
            await wait_all_tasks_blocked()
            requests.send()

    run(work)


def test_wait_when_idle_uses_no_processor(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=60_000)

    async def work() -> None:
        with trio.move_on_after(0.5):
            await waiter.wait()

    before = time.process_time()
    run(work)
    assert time.process_time() - before < 0.25


def test_wait_by_many_tasks_serves_each_request_once(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=0)
    served = [0] * 10

    async def serve(number: int, nursery: trio.Nursery) -> None:
        while await waiter.wait():
            # Blocks for ever if another task took the request first.
            requests.receive()
            served[number] += 1
            if number % 2:
                await trio.lowlevel.checkpoint()
            if sum(served) == 1000:
                nursery.cancel_scope.cancel()

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(serve, number, nursery)
            for _ in range(100):
                requests.send(10)
                await trio.sleep(0)

    run(work)
    assert sum(served) == 1000


def test_wait_has_a_standby_when_a_handler_blocks(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=0)
    released = trio.Event()
    served = []

    async def serve(number: int) -> None:
        while await waiter.wait():
            requests.receive()
            served.append(number)
            if len(served) < 5:
                await released.wait()

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(serve, number)
            for count in range(1, 6):
                await wait_all_tasks_blocked()
                requests.send()
                while len(served) < count:
                    await trio.sleep(0)
            released.set()
            nursery.cancel_scope.cancel()

    run(work)
    assert sorted(served) == [0, 1, 2, 3, 4]


def test_wait_gives_other_tasks_a_turn_under_load(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0)
            turns += 1

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(10 * REQUESTS_PER_TURN):
                requests.send()
                assert await waiter.wait()
                requests.receive()
            nursery.cancel_scope.cancel()

    run(work)
    assert turns >= 5


def test_wait_gives_other_tasks_each_turn_when_hurried(requests: Requests) -> None:
    told: list[int] = []
    waiter = RequestWaiter(
        requests.reader, hurried=lambda: True, spin_ns=0, on_turn=lambda: told.append(1)
    )
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0)
            turns += 1

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(2 * REQUESTS_PER_TURN):
                requests.send()
                assert await waiter.wait()
                requests.receive()
            nursery.cancel_scope.cancel()

    run(work)
    assert turns >= REQUESTS_PER_TURN
    # What is told of is how many requests come, whoever is in a hurry.
    assert len(told) == 2


def test_close_ends_every_wait(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=0)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(_expect, waiter, False)
            await wait_all_tasks_blocked()
            waiter.close()
            trio.lowlevel.notify_closing(requests.reader)
        await _expect(waiter, False)

    run(work)


def test_notice_of_closing_alone_ends_every_wait(requests: Requests) -> None:
    waiter = RequestWaiter(requests.reader, spin_ns=0)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(_expect, waiter, False)
            await wait_all_tasks_blocked()
            trio.lowlevel.notify_closing(requests.reader)

    run(work)


def test_install_replaces_what_this_version_of_pyfuse3_awaits(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiter = RequestWaiter(requests.reader)
    original = vars(pyfuse3)["_wait_fuse_readable"]
    monkeypatch.setattr(pyfuse3, "_wait_fuse_readable", original)
    assert loop.install(waiter)
    assert vars(pyfuse3)["_wait_fuse_readable"] == waiter.wait


def test_install_without_the_private_name_changes_nothing(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pyfuse3, "_wait_fuse_readable")
    assert not loop.install(RequestWaiter(requests.reader))
    assert not hasattr(pyfuse3, "_wait_fuse_readable")
