"""Turns of background work, of which a front end makes as many as it has time for.

Held by ``tests/common/test_turns.py``.
"""

from __future__ import annotations

from lfs.common.errors import DamageError
from lfs.common.turns import Flush, Turn
from lfs.requests.durability import DurabilityRequests
from lfs.volume.arguments import check_time


class BackgroundRequests(DurabilityRequests):
    """Turns of background work."""

    def commit_due(self, now_ns: int, monotonic_ns: int | None = None) -> bool:
        """Tell whether the commit interval has passed with something to commit."""
        _check_clocks(now_ns, monotonic_ns)
        self.core.volume.elapsed.advance(now_ns, monotonic_ns)
        return not self.core.read_only and self.core.maintenance.commit_due()

    def tick(self, now_ns: int, idle: bool, monotonic_ns: int | None = None) -> bool:
        """Do a bounded piece of background work; returns whether more should follow at once.

        Commits and flushes when the interval has passed, once little is dirty; checkpoints
        when the log or the time since the last one is long; cleans when ``idle`` or when
        clean segments are scarce; puts scattered files together when there is nothing else to
        do and ``idle``.  Intervals go by ``monotonic_ns``, or without it by how far
        ``now_ns`` goes on from call to call.  Raises DeviceError.
        """
        turn = self.begin_tick(now_ns, idle, monotonic_ns)
        if turn.flush is not None:
            self.core.volume.await_flush(turn.flush)
        return turn.more

    def begin_tick(self, now_ns: int, idle: bool, monotonic_ns: int | None = None) -> Turn:
        """Do what ``tick`` does but for the flush that it may need.

        The caller flushes the device, in another thread if he likes, calls
        ``finish_flush``, and only then this again.  What lasts, lasts after that.
        """
        _check_clocks(now_ns, monotonic_ns)
        if self.core.read_only:
            return Turn(more=False)
        self.core.now_ns = max(self.core.now_ns, now_ns)
        if self.commit_due(now_ns, monotonic_ns):
            if self.core.maintenance.write_ahead(now_ns):
                return Turn(more=True)
            return Turn(True, Flush(self.begin_commit(now_ns)))
        try:
            return self.core.maintenance.step(now_ns, idle)
        except DamageError:
            # The checkpoint that was due has been reported, and is tried again.
            return Turn(more=False)

    def finish_flush(self, flush: Flush) -> None:
        """Note that the device was flushed since ``begin_tick`` returned ``flush``."""
        if not isinstance(flush, Flush):
            raise TypeError(f"flush must be what begin_tick returned, not {type(flush).__name__}")
        self.core.volume.flushed(flush.sequence)
        flush.done = True


def _check_clocks(now_ns: int, monotonic_ns: int | None) -> None:
    check_time(now_ns)
    if monotonic_ns is not None:
        check_time(monotonic_ns)
