"""Work between requests: commits by timer, checkpoints, cleaning.

The core does such work in ``tick``, in steps that are short.  It gets a turn
every ``interval_seconds``; when there is more to do, at once again if nobody
asked for anything since, else after a pause that leaves the requests most of the
time.  Nothing else wakes an idle daemon.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import trio

from lfs.errors import FilesystemError

BUSY_PAUSE_SECONDS = 0.02
INTERVAL_SECONDS_MAX = 1.0
FAILURE_PAUSE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Ticking(Protocol):
    """The call of ``Filesystem`` that does background work."""

    def tick(self, now_ns: int, idle: bool) -> bool:
        """Do a short step; return whether there is more to do at once."""


class Background:
    """Gives the core its turns for as long as ``run`` runs."""

    def __init__(
        self,
        filesystem: Ticking,
        request_count: Callable[[], int],
        flushing: Callable[[], bool],
        interval_seconds: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Serve ``filesystem``.

        ``request_count`` returns how many requests there have been, from which
        idleness is told; ``flushing`` whether a commit is under way, which a
        turn would have to wait for.
        """
        self._filesystem = filesystem
        self._request_count = request_count
        self._flushing = flushing
        self._interval_seconds = interval_seconds
        self._now_ns = now_ns
        self._last_count = -1

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            await trio.sleep(self._turn())

    def _turn(self) -> float:
        """Do one step; return after how many seconds the next one is due."""
        if self._flushing():
            return BUSY_PAUSE_SECONDS
        count = self._request_count()
        idle = count == self._last_count
        self._last_count = count
        try:
            more = self._filesystem.tick(self._now_ns(), idle)
        except Exception as error:
            _log_failure(error)
            return FAILURE_PAUSE_SECONDS
        if not more:
            return self._interval_seconds
        return 0.0 if idle else BUSY_PAUSE_SECONDS


def _log_failure(error: Exception) -> None:
    if isinstance(error, FilesystemError):
        log.error("background work: %s", error.strerror)
    else:
        log.error("background work failed", exc_info=error)
