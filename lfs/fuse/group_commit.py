"""Group commit: what ``fsync`` waits for.

Theory.  A commit has three parts: the core writes the log (``begin_commit``),
the device is flushed, and the core is told (``finish_commit``).  Where much is dirty,
most of it is written before, in parts between which requests are served
(``write_ahead``).  Then only the flush takes time.  Where it is quick it runs in place:
the way to a worker thread and back would cost more, and while it runs nobody else could
use the processor of a single-threaded filesystem anyway.  Where it is slow it runs in a
thread while other requests go on in memory.  So does the first, which tells how the disk is.

Invariants.  A caller returns only after a flush that followed a commit begun
after its call.  There is one flush at a time; who arrives during it waits for
it and shares the next, which the first of them leads.  After a flush has failed
nobody knows what of the log the device holds: that commit fails for all who
share it, and the core lets all later ones fail.  Background work flushes by ``flush``
in the same way, and never beside another flush.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from lfs.common.errors import FilesystemError
from lfs.common.turns import Flush

INLINE_NS_MAX = 200_000
"""Flushes that take no longer on average run in place; a hop costs about 70 µs."""
ALONE_NS_MAX = 1_000_000
"""Those that take longer than this run in a thread, whoever is there."""
_AVERAGE_WEIGHT = 1 / 8


class Committable(Protocol):
    """The calls of ``Filesystem`` that a commit needs."""

    def write_ahead(self, now_ns: int) -> bool:
        """Make what the next commit has to log less; tell whether to go on."""

    def begin_commit(self, now_ns: int) -> int:
        """Log everything; return a ticket, higher than the last if there was anything to log."""

    def finish_commit(self, ticket: int) -> None:
        """Note that the device was flushed since ``ticket`` was given."""

    def finish_flush(self, flush: Flush) -> None:
        """Note that what background work asked for was done."""

    def fail(self, error: Exception) -> None:
        """Note that a flush failed: every later ``begin_commit`` raises."""


class Requests(Protocol):
    """What a commit has to know of the requests beside it."""

    def count(self) -> int:
        """Return how many there have been."""

    def is_waiting(self) -> bool:
        """Tell whether one waits to be received."""


class NoRequests:
    """Nobody beside those who commit."""

    def count(self) -> int:
        """Return 0."""
        return 0

    def is_waiting(self) -> bool:
        """Return False."""
        return False


class Flushable(Protocol):
    """The call of a device that a commit needs."""

    def flush(self) -> None:
        """Make every completed write durable."""


class _Round:
    """One commit and those who wait for it."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.error: FilesystemError | None = FilesystemError(errno.EIO, "commit abandoned")


class GroupCommit:
    """Makes everything durable for any number of callers with as few flushes as possible."""

    def __init__(
        self,
        filesystem: Committable,
        device: Flushable,
        requests: Requests | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        timer_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Commit ``filesystem``, which lies on ``device``, beside ``requests``."""
        self._filesystem = filesystem
        self._device = device
        self._requests = requests or NoRequests()
        self._now_ns = now_ns
        self._timer_ns = timer_ns
        self._current: _Round | None = None
        self._next: _Round | None = None
        self._flushed_ticket = -1
        self.flush_ns = math.inf
        """Moving average of what flushes took; of a disk that is not known yet, the worst."""
        self._alone = True

    @property
    def flushing(self) -> bool:
        """Tell whether a flush is on its way in a thread."""
        return self._current is not None

    async def commit(self) -> None:
        """Return once everything that was done before the call is durable.

        Raises FilesystemError when writing or flushing failed.
        """
        if self._current is None and self._next is None:
            await self._lead(_Round())
        elif self._next is None:
            mine = self._next = _Round()
            while self._current is not None:
                await self._current.over.wait()
            self._next = None
            await self._lead(mine)
        else:
            shared = self._next
            await shared.over.wait()
            if shared.error is not None:
                # One exception is not raised in several tasks.
                raise FilesystemError(shared.error.errno or errno.EIO, shared.error.strerror or "")

    async def flush(self, wanted: Flush) -> None:
        """Flush as background work asks; raises FilesystemError when that failed.

        Always in a thread: nobody waits for it, and it may be the first that is slow.
        """
        while self._current is not None:
            await self._current.over.wait()
        mine = self._current = _Round()
        try:
            await self._flush(in_place=False)
            self._filesystem.finish_flush(wanted)
            self._flushed_ticket = max(self._flushed_ticket, wanted.sequence)
        finally:
            self._current = None
            mine.over.set()

    async def follow(self, steps: Iterable[Flush | None]) -> None:
        """Take steps of the core, each of which ends with a flush or not; serve between them."""
        for wanted in steps:
            if wanted is None:
                await trio.lowlevel.checkpoint()
            else:
                await self.flush(wanted)

    async def _lead(self, mine: _Round) -> None:
        self._current = mine
        try:
            while self._filesystem.write_ahead(self._now_ns()):
                await trio.lowlevel.checkpoint()
            ticket = self._filesystem.begin_commit(self._now_ns())
            if ticket > self._flushed_ticket:
                await self._flush()
                self._filesystem.finish_commit(ticket)
                self._flushed_ticket = max(self._flushed_ticket, ticket)
            mine.error = None
        except FilesystemError as error:
            mine.error = error
            raise
        finally:
            self._current = None
            mine.over.set()

    async def _flush(self, in_place: bool = True) -> None:
        try:
            if in_place and self.flush_ns <= (ALONE_NS_MAX if self._alone else INLINE_NS_MAX):
                elapsed_ns = self._timed_flush()
                self._alone = not self._requests.is_waiting()
            else:
                count = self._requests.count()
                elapsed_ns = await trio.to_thread.run_sync(self._timed_flush)
                self._alone = self._requests.count() == count
        except FilesystemError as error:
            self._filesystem.fail(error)
            raise
        if self.flush_ns == math.inf:
            self.flush_ns = elapsed_ns
        else:
            self.flush_ns += (elapsed_ns - self.flush_ns) * _AVERAGE_WEIGHT

    def _timed_flush(self) -> int:
        start_ns = self._timer_ns()
        self._device.flush()
        return self._timer_ns() - start_ns
