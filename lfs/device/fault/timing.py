"""How long requests take: delay, rate, slots, a moving arm, a bounded queue.

``Timing.complete_ns`` says when a request that arrives now will be complete;
the device sleeps until then.  Delays run side by side, as netem's do.  What
belongs to the one mechanism that all requests share does not: bytes at a rate,
the arm, and slots are taken in the order of arrival.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

from lfs.device.fault.chance import Duration
from lfs.device.fault.plan.plan import FaultPlan, rules_of
from lfs.device.fault.plan.rule import Rule
from lfs.device.fault.plan.timing import Delay, Limit, Rate, Seek, Slot
from lfs.device.fault.when import Gate, Request

Generators = Callable[[Rule], random.Random]


class Timing:
    """The clockwork of one plan on one device."""

    def __init__(self, plan: FaultPlan, size_bytes: int, generator: Generators) -> None:
        """Draw from what ``generator`` gives for each rule: numbers of its own."""
        self._delays = [
            (
                Gate(rule.when, rule.about),
                Duration(
                    generator(rule),
                    rule.time_ns,
                    rule.jitter_ns,
                    rule.correlation,
                    rule.distribution,
                ),
            )
            for rule in rules_of(plan.rules, Delay)
        ]
        self._rates = [(Gate(rule.when, rule.about), rule) for rule in rules_of(plan.rules, Rate)]
        self._arms = [
            (Gate(rule.when, rule.about), Arm(rule, size_bytes, generator(rule)))
            for rule in rules_of(plan.rules, Seek)
        ]
        self._slots = [
            (Gate(rule.when, rule.about), Slots(rule, generator(rule)))
            for rule in rules_of(plan.rules, Slot)
        ]
        self._limits = [rule.requests for rule in rules_of(plan.rules, Limit)]
        self._in_service: list[int] = []
        self._free_ns = 0
        self._idle = not (self._delays or self._rates or self._arms or self._slots)

    def complete_ns(self, request: Request, overtakes: bool = False) -> int:
        """Return when ``request`` is complete; one that ``overtakes`` is not delayed."""
        now_ns = request.time_ns
        if self._idle:
            return now_ns
        start_ns = self._service_ns(now_ns)
        delay_ns = 0
        for gate, duration in self._delays:
            if gate.lets_through(request) and not overtakes:
                gate.spend()
                delay_ns += duration.draw_ns()
        busy_ns = self._busy_ns(request)
        if busy_ns:
            self._free_ns = max(self._free_ns, start_ns) + busy_ns
            start_ns = self._free_ns
        done_ns = start_ns + delay_ns
        for gate, slots in self._slots:
            if gate.lets_through(request):
                gate.spend()
                done_ns = slots.next_ns(done_ns, request.length_bytes)
        if self._limits:
            heapq.heappush(self._in_service, done_ns)
        return done_ns

    def _service_ns(self, now_ns: int) -> int:
        """Return when there is room in the queue."""
        waiting = self._in_service
        while waiting and waiting[0] <= now_ns:
            heapq.heappop(waiting)
        start_ns = now_ns
        if self._limits:
            while len(waiting) >= self._limits[0]:
                start_ns = max(start_ns, heapq.heappop(waiting))
        return start_ns

    def _busy_ns(self, request: Request) -> int:
        """Return for how long the request has the mechanism for itself."""
        busy_ns = 0
        for gate, rate in self._rates:
            if gate.lets_through(request):
                gate.spend()
                busy_ns += transfer_ns(rate, request.length_bytes)
        for gate, arm in self._arms:
            if gate.lets_through(request):
                gate.spend()
                busy_ns += arm.move_ns(request)
        return busy_ns


def transfer_ns(rate: Rate, length_bytes: int) -> int:
    """Return how long a request takes to pass, as netem counts overhead and cells."""
    length_bytes += rate.overhead_bytes
    if rate.cell_bytes:
        cells = -(-length_bytes // rate.cell_bytes)
        length_bytes = cells * (rate.cell_bytes + rate.cell_overhead_bytes)
    return round(length_bytes * 1e9 / rate.bytes_per_second)


class Arm:
    """Where the heads are.

    The heads move together and share the disk: each covers one part of the
    address space.  A move takes ``min_ns`` for the next track and grows with
    the root of the distance to ``max_ns``; then the sector has to come round.
    What goes on where the last request ended takes no move.
    """

    def __init__(self, rule: Seek, size_bytes: int, generator: random.Random) -> None:
        """Start over byte 0."""
        self._rule = rule
        self._span_bytes = max(1, size_bytes // rule.heads)
        self._random = generator.random
        self._end_bytes = 0

    def move_ns(self, request: Request) -> int:
        """Return how long it takes to get to a request, and be there."""
        start, self._end_bytes = self._end_bytes, request.offset_bytes + request.length_bytes
        if request.offset_bytes == start:
            return 0
        way = abs(request.offset_bytes % self._span_bytes - start % self._span_bytes)
        rule = self._rule
        move_ns = rule.min_ns + (rule.max_ns - rule.min_ns) * math.sqrt(way / self._span_bytes)
        return round(move_ns + self._random() * rule.rotation_ns)


class Slots:
    """netem's slots: what is ready when a slot opens completes then, up to its limits.

    A request that finds the last slot already open waits for the next one, which
    opens after a pause; what becomes ready during the pause goes with it.  The
    pause after a slot that is used up begins when that slot opened.
    """

    def __init__(self, rule: Slot, generator: random.Random) -> None:
        """No slot has opened yet."""
        self._rule = rule
        self._random = generator.random
        self._duration = (
            Duration(generator, rule.min_ns, rule.max_ns, 0.0, rule.distribution)
            if rule.distribution
            else None
        )
        self._open_ns = -1
        self._requests = self._size_bytes = 0.0

    def next_ns(self, ready_ns: int, length_bytes: int) -> int:
        """Return when a request that would be complete at ``ready_ns`` may be."""
        if self._open_ns < ready_ns:
            self._open_ns = ready_ns + self._pause_ns()
            self._refill()
        completed_ns = self._open_ns
        self._requests -= 1
        self._size_bytes -= length_bytes
        if self._requests <= 0 or self._size_bytes <= 0:
            self._open_ns += self._pause_ns()
            self._refill()
        return completed_ns

    def _refill(self) -> None:
        self._requests = self._rule.requests or math.inf
        self._size_bytes = self._rule.size_bytes or math.inf

    def _pause_ns(self) -> int:
        if self._duration is not None:
            return self._duration.draw_ns()
        spread_ns = self._rule.max_ns - self._rule.min_ns
        return self._rule.min_ns + round(self._random() * spread_ns)
