"""Work between requests: commits by timer, checkpoints, cleaning, order in files.

The core does such work in ``begin_tick``, in steps that are short; what a step has to
flush is flushed while requests are served, and only then the next one begins.  It gets a turn
every ``interval_seconds``; when there is more to do, at once again if nobody
asked for anything since, else after a pause that leaves the requests most of the
time; and when a round of the cleaner waits for a flush.  Nothing else wakes an idle daemon.

An idle turn also looks for garbage in cycles, ``GARBAGE_SECONDS`` after the last
time: see ``lfs.kernel.memory``.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from lfs.common.errors import FilesystemError
from lfs.common.turns import Flush, Turn

BUSY_PAUSE_SECONDS = 0.02
INTERVAL_SECONDS_MAX = 1.0
FAILURE_PAUSE_SECONDS = 30.0
GARBAGE_SECONDS = 600.0

log = logging.getLogger(__name__)


def turn_seconds(commit_seconds: float) -> float:
    """Return how often background work gets a turn when it commits so often."""
    return min(INTERVAL_SECONDS_MAX, commit_seconds / 4)


class Wake:
    """Ends a pause of background work early."""

    def __init__(self) -> None:
        """Nobody has asked for that."""
        self._event = trio.Event()

    def set(self) -> None:
        """Let the pause that is under way, or else the next one, be over."""
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Return after ``seconds``, or once it is set."""
        with trio.move_on_after(seconds):
            await self._event.wait()
        if self._event.is_set():
            self._event = trio.Event()


class Ticking(Protocol):
    """The calls of ``Filesystem`` that background work needs."""

    def begin_tick(self, now_ns: int, idle: bool, monotonic_ns: int | None = None) -> Turn:
        """Do a short step, up to a flush."""

    def fail(self, error: Exception) -> None:
        """Note that what is in memory must not be written any more."""


class Background:
    """Gives the core its turns for as long as ``run`` runs."""

    def __init__(
        self,
        filesystem: Ticking,
        request_count: Callable[[], int],
        flush: Callable[[Flush], Awaitable[None]],
        interval_seconds: float,
        wake: Wake,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Serve ``filesystem``.

        ``request_count`` returns how many requests there have been, from which
        idleness is told; ``flush`` does what a turn ends with while requests are served;
        ``wake`` is set when something is to be flushed that no request waits for.
        """
        self._filesystem = filesystem
        self._request_count = request_count
        self._flush = flush
        self._wake = wake
        self.interval_seconds = interval_seconds
        self._now_ns = now_ns
        self._monotonic_ns = monotonic_ns
        self._last_count = -1
        self._garbage_time = 0.0

    async def run(self) -> None:
        """Take turns until cancelled."""
        self._garbage_time = trio.current_time()
        while True:
            await self._wake.pause(await self._turn())

    async def _turn(self) -> float:
        """Do one step; return after how many seconds the next one is due."""
        count = self._request_count()
        idle = count == self._last_count
        self._last_count = count
        try:
            turn = self._filesystem.begin_tick(self._now_ns(), idle, self._monotonic_ns())
            if turn.flush is not None:
                await self._flush(turn.flush)
        except Exception as error:
            self._note_failure(error)
            return FAILURE_PAUSE_SECONDS
        if turn.more:
            return 0.0 if idle else BUSY_PAUSE_SECONDS
        if idle and trio.current_time() - self._garbage_time >= GARBAGE_SECONDS:
            gc.collect()
            self._garbage_time = trio.current_time()
        return self.interval_seconds

    def _note_failure(self, error: Exception) -> None:
        if isinstance(error, FilesystemError):
            log.error("background work: %s", error.strerror)
        else:
            self._filesystem.fail(RuntimeError(f"unexpected {error!r}"))
            log.error("background work failed", exc_info=error)
