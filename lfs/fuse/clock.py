"""The one clock of all time stamps of a mount: the kernel's own.

Theory.  Some stamps come from the kernel: the present time of ``utimensat`` (``touch``),
and with ``writeback_cache`` all of a regular file's.  It takes them from its *coarse*
clock, which advances with the timer tick.  A stamp of ours by the fine clock would run
up to a tick ahead of these, and of two changes the later one would look older.  So ours
are coarse, too.

Since Linux 6.13 the kernel's stamps may be ahead of the coarse clock that a program can
read: they are never before a fine one that it gave a file of ext4, XFS, tmpfs ...
shortly before.  What it would stamp now it shows on the inode of a pipe, at the cost of
two system calls.  With ``writeback_cache`` that is asked each time; otherwise only when
a time comes in that is ahead of the coarse clock, to tell the kernel's from a user's.

Invariants: no stamp is before an earlier one of the same mount, unless the system's
clock was set back by more than ``SET_BACK_NS``; then stamps follow it.  None is ahead of
what the kernel would stamp.  Times that users set are theirs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cache

SET_BACK_NS = 1_000_000_000
_TIMES = ("atime_ns", "mtime_ns")
_CLOCK_REALTIME_COARSE = 5  # linux/time.h; Python has no name for it


def coarse_ns() -> int:
    """Return the time of the coarse clock."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def kernel_ns() -> int:
    """Return the time that the kernel would stamp now."""
    pipe = _pipe()
    os.utime(pipe)
    return os.fstat(pipe).st_mtime_ns


@cache
def _pipe() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


class StampClock:
    """Gives each change its time."""

    def __init__(
        self,
        kernel_stamps: bool = False,
        coarse: Callable[[], int] = coarse_ns,
        kernel: Callable[[], int] = kernel_ns,
    ) -> None:
        """Begin; ``kernel_stamps``: the kernel stamps files without saying so at once."""
        self._read = kernel if kernel_stamps else coarse
        self._kernel = kernel
        self._last_ns = 0

    def __call__(self) -> int:
        """Return the time of a change that is made now."""
        now_ns = self._read()
        last_ns = self._last_ns
        if now_ns < last_ns < now_ns + SET_BACK_NS:
            return last_ns
        self._last_ns = now_ns
        return now_ns

    def note(self, time_ns: int) -> None:
        """Take a time that a request sets: of the kernel's own, no later stamp is before it."""
        if time_ns > self() and time_ns <= self._kernel():
            self._last_ns = time_ns

    def of_change(self, changes: Mapping[str, int]) -> int:
        """Return the time of a change that may set times, which may be the kernel's own."""
        for field in _TIMES:
            if field in changes:
                self.note(changes[field])
        return self()
