"""The faulty disk: a block device over any other that does what its plan says.

Theory.  Every request passes the same stages.  *Power and pause*: a disk that
is off answers nothing.  *Refusals*: errors, bad sectors, a full, read-only or
vanished device.  *Lies*: a write is lost, torn, changed, sent elsewhere, or
repeated later, and acknowledged all the same.  *Cache*: what was acknowledged
waits there for a flush.  *Time*: when the request is complete.  All but the
wait happens under one lock, in the order of arrival; the wait happens outside,
so that requests of several threads are delayed side by side.

Without rules it is transparent.  What it does depends on the plan and the order
of the requests alone, and on the clock where the plan speaks of time; with a
``VirtualClock`` a run repeats exactly.  Every fault is counted, kept in
``faults`` (the newest ``FAULTS_KEPT``), and given to ``report`` as one line.
"""

from __future__ import annotations

import errno
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lfs.common.errors import DeviceError
from lfs.device.base import BlockDevice, Buffer
from lfs.device.fault.cache import WriteCache
from lfs.device.fault.clock import Clock, VirtualClock
from lfs.device.fault.faulty import FaultyMedium
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.power import Survival
from lfs.device.fault.plan.rule import DISCARD, FLUSH, OPERATIONS, READ, WRITE
from lfs.device.fault.power import PowerSchedule
from lfs.device.fault.statistics import OperationStatistics
from lfs.device.fault.when import Request
from lfs.device.recording import Event, Mark

FAULTS_KEPT = 4096


class Fault(NamedTuple):
    """Something that the device did wrong, on purpose.

    ``offset_bytes`` and ``length_bytes`` are what differs from what a good
    device would hold or would have returned.
    """

    number: int
    kind: str
    operation: str
    offset_bytes: int
    length_bytes: int
    detail: str

    def __str__(self) -> str:
        place = f" {self.offset_bytes}+{self.length_bytes}" if self.length_bytes else ""
        return f"fault {self.number}: {self.kind}, {self.operation}{place}: {self.detail}"


class CutReport(NamedTuple):
    """What a power cut did: which of the cached writes arrived, the oldest being 1."""

    survivors: tuple[int, ...]
    cached_count: int

    def __str__(self) -> str:
        listed = f" ({' '.join(map(str, self.survivors))})" if self.survivors else ""
        return f"{len(self.survivors)} of {self.cached_count} cached writes arrived{listed}"


def _ignore(line: str) -> None:
    """Report to nobody."""


def _forget(event: Event) -> None:
    """Keep no log."""


class FaultDevice(BlockDevice):
    """``device`` as ``plan`` makes it seem.  Any number of threads may use it."""

    def __init__(
        self,
        device: BlockDevice,
        plan: FaultPlan | None = None,
        clock: Clock | None = None,
        log: Callable[[Event], None] = _forget,
        report: Callable[[str], None] = _ignore,
    ) -> None:
        """Wrap ``device``; closing this closes it.

        ``log`` gets every accepted request as it was made, before any fault:
        replayed onto the medium of the start it gives what a good disk would
        hold.  ``report`` gets one line for each fault.
        """
        self.device = device
        self.size_bytes = device.size_bytes
        self.align_bytes = device.align_bytes
        self.read_only = device.read_only
        self.faults: deque[Fault] = deque(maxlen=FAULTS_KEPT)
        self.fault_counts: Counter[str] = Counter()
        self.statistics = {name: OperationStatistics() for name in OPERATIONS}
        self.powered = True
        self.paused = False
        self._clock = clock or VirtualClock()
        self._log = log
        self._report = report
        self._condition = threading.Condition()
        self._cache = WriteCache(device)
        self._end_bytes = 0
        self._arm(plan or FaultPlan())

    def _arm(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._start_ns = self._clock.now_ns()
        self._power = PowerSchedule(plan, self._start_ns)
        self._cut_generator = random.Random(f"{plan.seed} power")
        self._medium = FaultyMedium(self.device, self._cache, plan, self._log, self._note)

    # ------------------------------------------------------------------ being used

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return a range, right or wrong; raises what the plan says, and as the device does."""
        self.check_range(offset_bytes, length_bytes)
        return self._serve(
            READ, offset_bytes, length_bytes, lambda request, _: self._medium.read(request)
        )

    def write(
        self, offset_bytes: int, buffers: Sequence[Buffer], force_unit_access: bool = False
    ) -> None:
        """Write, or say so; with ``force_unit_access`` it is durable when this returns."""
        data = bytes(buffers[0]) if len(buffers) == 1 else b"".join(buffers)
        self.check_write(offset_bytes, len(data))

        def serve(request: Request, overtakes: bool) -> bytes:
            if self._power.cuts_write():
                self._medium.take_in_flight(request, data)
                self._cut(self._power.survival)
                raise DeviceError(errno.EIO, "the power went during the write", offset_bytes)
            self._medium.write(request, data, force_unit_access, overtakes)
            return b""

        self._serve(WRITE, offset_bytes, len(data), serve)

    def flush(self) -> None:
        """Empty the cache and flush the device, or say so."""

        def serve(request: Request, _: bool) -> bytes:
            self._medium.flush(request)
            return b""

        self._serve(FLUSH, 0, 0, serve)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Discard a range, or say so; it takes effect on the medium at once."""
        self.check_write(offset_bytes, length_bytes)

        def serve(request: Request, _: bool) -> bytes:
            self._medium.discard(request)
            return b""

        self._serve(DISCARD, offset_bytes, length_bytes, serve)

    def close(self) -> None:
        """Close the device; what is in the cache is lost, as nobody flushed it."""
        self.resume()
        self.device.close()

    def _serve(
        self,
        operation: str,
        offset_bytes: int,
        length_bytes: int,
        serve: Callable[[Request, bool], bytes],
    ) -> bytes:
        """Serve one request: do it under the lock, then wait until it is complete."""
        begin_ns = self._clock.now_ns()
        failure: DeviceError | None = None
        answer = b""
        overtakes = False
        with self._condition:
            while self.paused:
                self._condition.wait()
            arrival_ns = self._clock.now_ns() - self._start_ns
            request = Request(operation, offset_bytes, length_bytes, arrival_ns)
            try:
                self._check_power(request)
                self._medium.check(request)
                overtakes = self._medium.overtakes(request)
                answer = serve(request, overtakes)
            except DeviceError as error:
                failure = error
            timing = self._medium.armed.timing
            done_ns = self._start_ns + timing.complete_ns(request, overtakes)
            if operation != FLUSH:
                self.statistics[operation].seek_count += offset_bytes != self._end_bytes
                self._end_bytes = offset_bytes + length_bytes
        self._clock.sleep_until_ns(done_ns)
        with self._condition:
            latency_ns = self._clock.now_ns() - begin_ns
            self.statistics[operation].note(length_bytes, latency_ns, failure is not None)
        if failure is not None:
            raise failure
        return answer

    # -------------------------------------------------------------- being controlled

    @property
    def cached_count(self) -> int:
        """Return how many writes are in the cache."""
        return len(self._cache)

    def set_plan(self, plan: FaultPlan) -> None:
        """Go on by another plan, from its start; the cache keeps what fits its new size."""
        with self._condition:
            self._arm(plan)
            if self.powered:
                self._medium.settle()

    def mark(self, text: str) -> None:
        """Put a remark into the log; the plan may cut the power at it."""
        with self._condition:
            self._log(Mark(text))
            if self.powered and self._power.cuts_mark(text):
                self._cut(self._power.survival)

    def cut(self, survival: Survival | None = None) -> CutReport:
        """Cut the power: every request fails until ``restart``.

        Of what was not flushed, ``survival`` says what arrives on the medium;
        by default the plan does.  Raises what the device does.
        """
        with self._condition:
            if not self.powered:
                return CutReport((), 0)
            return self._cut(survival or self._power.survival)

    def restart(self) -> None:
        """Let the power come back, for the next cycle of the plan's ``cut``."""
        with self._condition:
            if not self.powered:
                self.powered = True
                self._power.restart(self._clock.now_ns())

    def pause(self) -> None:
        """Let all requests that come from now on wait until ``resume`` or ``close``."""
        with self._condition:
            self.paused = True

    def resume(self) -> None:
        """Serve requests again."""
        with self._condition:
            self.paused = False
            self._condition.notify_all()

    def report(self) -> dict[str, Any]:
        """Return the state and all statistics, for people and programs."""
        with self._condition:
            return {
                "plan": self.plan.text,
                "powered": self.powered,
                "paused": self.paused,
                "cached_writes": len(self._cache),
                "cached_bytes": self._cache.size_bytes,
                "faults": dict(self.fault_counts),
                "operations": {name: each.report() for name, each in self.statistics.items()},
            }

    # ---------------------------------------------------------------------- helpers

    def _check_power(self, request: Request) -> None:
        if self.powered and self._power.cuts_at(self._clock.now_ns()):
            self._cut(self._power.survival)
        if not self.powered:
            raise DeviceError(errno.EIO, "the power is off", request.offset_bytes)

    def _cut(self, survival: Survival) -> CutReport:
        survivors, cached_count = self._cache.cut(survival, self._cut_generator)
        self._medium.lose_power()
        self.powered = False
        report = CutReport(tuple(survivors), cached_count)
        self._log(Mark(f"power cut: {report}"))
        self._report(f"power cut: {report}")
        return report

    def _note(
        self, kind: str, request: Request, detail: str, offset_bytes: int, length_bytes: int
    ) -> None:
        self.fault_counts[kind] += 1
        number = self.fault_counts.total()
        fault = Fault(number, kind, request.operation, offset_bytes, length_bytes, detail)
        self.faults.append(fault)
        self._report(str(fault))
