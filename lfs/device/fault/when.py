"""Whether a rule applies to a request: everything a plan says before chance does.

The order is fixed: operation, place, time window, trigger file; then the count
of requests that came so far (``skip``, ``nth``, ``every``); then the budget.
The budget counts faults, so ``spend`` is called when one has happened.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from lfs.device.fault.plan.rule import FLUSH, When


class Request(NamedTuple):
    """What a rule sees of a request.  A flush has no place: ranges do not keep it out."""

    operation: str
    offset_bytes: int
    length_bytes: int
    time_ns: int
    """Since the plan was set."""


class Gate:
    """Counts the requests of one rule and lets those through that its ``When`` names."""

    def __init__(self, when: When, about: tuple[str, ...]) -> None:
        """Let pass what is among the rule's operations; ``about`` when the plan names none."""
        self._when = when
        self._operations = when.operations or about
        self._seen = 0
        self._spent = 0

    def lets_through(self, request: Request) -> bool:
        """Tell whether the rule may apply to ``request``, and count it."""
        when = self._when
        if request.operation not in self._operations:
            return False
        if when.ranges and request.operation != FLUSH and not self._in_ranges(request):
            return False
        if not self._in_time(request.time_ns):
            return False
        if when.file and not os.path.exists(when.file):
            return False
        self._seen += 1
        if when.times and self._spent >= when.times:
            return False
        return self._has_turn(self._seen - when.skip)

    def spend(self) -> None:
        """Note that a fault happened."""
        self._spent += 1

    def _in_ranges(self, request: Request) -> bool:
        start, end = request.offset_bytes, request.offset_bytes + request.length_bytes
        return any(start < last and first < end for first, last in self._when.ranges)

    def _in_time(self, time_ns: int) -> bool:
        when = self._when
        if time_ns < when.from_ns or (when.until_ns and time_ns >= when.until_ns):
            return False
        if not when.down_ns:
            return True
        return time_ns % (when.up_ns + when.down_ns) >= when.up_ns

    def _has_turn(self, number: int) -> bool:
        """Tell by ``number``, which is 1 for the first request that is not skipped."""
        when = self._when
        if number < 1:
            return False
        if when.nth:
            return number == when.nth
        return not when.every or number % when.every == 0
