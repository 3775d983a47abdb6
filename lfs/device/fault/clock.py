"""The time of a faulty disk: real, or one that moves only when somebody waits.

The device takes its clock as an argument.  With a ``VirtualClock`` an hour of
delays passes at once and the same requests see the same times.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and lets it pass."""

    def now_ns(self) -> int:
        """Return the time since some fixed moment."""

    def sleep_until_ns(self, time_ns: int) -> None:
        """Return at ``time_ns`` or later; at once when that is over."""


class VirtualClock:
    """Starts at zero; moves when it is slept on or advanced."""

    def __init__(self) -> None:
        """Start."""
        self._now_ns = 0

    def now_ns(self) -> int:
        """Return the time that has been let pass."""
        return self._now_ns

    def sleep_until_ns(self, time_ns: int) -> None:
        """Be at ``time_ns`` at once."""
        self._now_ns = max(self._now_ns, time_ns)

    def advance_ns(self, duration_ns: int) -> None:
        """Let time pass."""
        self._now_ns += duration_ns


class RealClock:
    """The monotonic clock of the system."""

    def now_ns(self) -> int:
        """Return the system's monotonic time."""
        return time.monotonic_ns()

    def sleep_until_ns(self, time_ns: int) -> None:
        """Sleep."""
        left_ns = time_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
