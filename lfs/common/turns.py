"""What background work needs of whoever gives it its turns: time that passes, and flushes.

*Time.*  The core has no clock.  What it does every so often goes by time that only
passes: a front end says what a monotonic clock shows.  Without that the differences of
the times of its turns serve, of which those that go back count for nothing, so that a
clock that is set back delays what is due by no more than one interval.

*Flushes.*  Only the flush of a turn may take long.  So work that needs one says so and
ends its turn; it goes on in the next, after whoever gave the turn has flushed, in
another thread if he likes, while requests are served.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeVar

_Result = TypeVar("_Result")


class Elapsed:
    """Time that has passed, as far as turns told."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.ns = 0
        self._last_ns: int | None = None
        self._is_monotonic = False

    def advance(self, now_ns: int, monotonic_ns: int | None = None) -> None:
        """Take note of the time; once a monotonic one has been given, only of such."""
        if monotonic_ns is not None and not self._is_monotonic:
            self._is_monotonic = True
            self._last_ns = monotonic_ns
        elif monotonic_ns is None and self._is_monotonic:
            return
        time_ns = now_ns if monotonic_ns is None else monotonic_ns
        if self._last_ns is not None:
            self.ns += max(0, time_ns - self._last_ns)
        self._last_ns = time_ns


class Flush:
    """A flush that makes the log durable up to ``sequence``; must begin after it was asked for."""

    __slots__ = ("done", "sequence")

    def __init__(self, sequence: int) -> None:
        """Ask for it."""
        self.sequence = sequence
        self.done = False


class Turn(NamedTuple):
    """How a turn ended."""

    more: bool
    """Whether another should follow at once."""
    flush: Flush | None = None
    """What must be done before the next one goes on."""


def finished(work: Generator[object, None, _Result]) -> _Result:
    """Do at once what goes in steps; returns what it comes to."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
