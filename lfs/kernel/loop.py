"""How requests are received: a replacement of pyfuse3's wait for the descriptor.

Theory.  Before each receive, pyfuse3's session loop awaits the module global
``_wait_fuse_readable()``, which passes trio's scheduler twice: about 20 of the
50 microseconds a small request takes.  A process that works on a filesystem
sends its next request some microseconds after the reply to the last one.  So
the replacement looks at the descriptor first, then keeps looking for
``SPIN_NS``, and only then goes to sleep in trio.

Rules.  Between a look that found a request and pyfuse3's receive nothing else
runs, because the receive would block if another task took the request first;
so every way out of ``wait`` ends with a look.  Every ``REQUESTS_PER_TURN``
requests, and before every request while ``hurried`` says that something else
is waited for, trio's other tasks get a turn.  Nothing spins once the last
request is ``SPIN_NS`` old, or where there is only one processor.

pyfuse3 counts the tasks that wait in the original, which Python code cannot do
for it: it starts a task with each request until there are ``TASK_COUNT_MAX``,
and ends none.  One of them waits in trio for the descriptor (the *standby*),
the rest are parked, last in first out, so that few of their buffers are ever
used.  When a handler waits for a flush, the standby receives in its place.

The name is private to pyfuse3.  When it is missing, nothing is replaced and
everything works as slowly as pyfuse3 does.

The replacement is also where the connection is negotiated (``lfs.kernel.negotiation``):
the first request has been read before pyfuse3 waits at all, and when it waits for
the second the first has been replied to.
"""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol

import pyfuse3
import trio

SPIN_NS = 60_000
REQUESTS_PER_TURN = 64
TASK_COUNT_MAX = 64
_REPLACED_NAME = "_wait_fuse_readable"

log = logging.getLogger(__name__)


class RequestWaiter:
    """Waits until a descriptor has a request; shared by all tasks that receive."""

    def __init__(
        self,
        descriptor: int,
        hurried: Callable[[], bool] = lambda: False,
        spin_ns: int | None = None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait on ``descriptor``; ``hurried`` tells whether another task must run soon.

        ``on_turn`` is called at every turn of the others that is due to the number of
        requests, and not to a hurry.

        ``spin_ns`` is how long to look after the last request, by default
        ``SPIN_NS``, or 0 where a spinning process would hold up its clients.
        """
        if spin_ns is None:
            spin_ns = SPIN_NS if len(os.sched_getaffinity(0)) > 1 else 0
        self._descriptor = descriptor
        self._hurried = hurried
        self._on_turn = on_turn
        self._spin_ns = spin_ns
        self._requests_until_turn = REQUESTS_PER_TURN
        self._closed = False
        self._standby = False
        self._parked: list[trio.lowlevel.Task] = []
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        self._look = poll.poll

    async def wait(self) -> bool:
        """Return True when a receive will not block, False when the session is over."""
        self._requests_until_turn -= 1
        hurried = self._hurried()
        turn = self._requests_until_turn <= 0
        if turn:
            self._requests_until_turn = REQUESTS_PER_TURN
            self._on_turn()
        if turn or hurried:
            await trio.lowlevel.checkpoint()
        look = self._look
        if look(0):
            return True
        if not hurried:
            give_up_ns = perf_counter_ns() + self._spin_ns
            while perf_counter_ns() < give_up_ns:
                if look(0):
                    return True
        return await self._sleep()

    def is_waiting(self) -> bool:
        """Tell whether a request waits to be received."""
        return bool(self._look(0))

    def close(self) -> None:
        """Let every wait return False; ``pyfuse3.terminate`` then wakes the standby."""
        self._closed = True
        while self._parked:
            trio.lowlevel.reschedule(self._parked.pop())

    async def _sleep(self) -> bool:
        while not self._closed:
            if self._standby:
                await self._park()
                continue
            self._standby = True
            try:
                await trio.lowlevel.wait_readable(self._descriptor)
            except trio.ClosedResourceError:
                self.close()
            finally:
                self._standby = False
                if self._parked:
                    trio.lowlevel.reschedule(self._parked.pop())
            if self._look(0) and not self._closed:
                return True
        return False

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()
        self._parked.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class Concludable(Protocol):
    """An exchange of the first request and its reply (``lfs.kernel.negotiation``)."""

    def conclude(self) -> None:
        """Let the kernel have the reply."""


def install(
    waiter: RequestWaiter, negotiate: Callable[[], Concludable | None] = lambda: None
) -> bool:
    """Let pyfuse3 wait by ``waiter``; tell whether this version of it can be made to.

    ``negotiate`` is called if so, and must find the first request.
    """
    if not hasattr(pyfuse3, _REPLACED_NAME):
        log.info("pyfuse3 %s waits in another way, requests take longer", pyfuse3.__version__)
        return False
    negotiation = negotiate()
    wait = waiter.wait if negotiation is None else _concluding(negotiation, waiter)
    setattr(pyfuse3, _REPLACED_NAME, wait)
    return True


def _concluding(negotiation: Concludable, waiter: RequestWaiter) -> Callable[[], Awaitable[bool]]:
    """Return what pyfuse3 waits by until the first request has been replied to."""
    received = False

    async def wait() -> bool:
        nonlocal received
        if not received:
            received = True
            return True
        negotiation.conclude()
        setattr(pyfuse3, _REPLACED_NAME, waiter.wait)
        return await waiter.wait()

    return wait


def fuse_descriptors() -> set[int]:
    """Return the descriptors of /dev/fuse that this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(entry) == "/dev/fuse":
                found.add(int(entry.name))
        except OSError:  # the descriptor by which the directory itself was read
            continue
    return found
