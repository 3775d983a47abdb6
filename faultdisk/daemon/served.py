"""A fault device for as long as it is served: lock, target, log, report, control.

Order matters at both ends.  The lock on the target comes first, so that nothing
of a running server is touched by a second one; the control socket goes last, so
that whoever asked for the stop hears when everything is closed.

The end is orderly, as that of a machine that is shut down: requests in flight
are completed at once whatever delay the plan has for them, and what is in the
cache goes to the medium and is flushed.  A crash is asked for by ``cut``, and
after one nothing more arrives.

Held by ``tests/faultdisk/test_report.py``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue

from faultdisk.daemon.control import ControlServer
from lfs.command.notes import noting
from lfs.common.errors import DeviceError, UsageError
from lfs.device.exclusion.identity import share_bytes
from lfs.device.exclusion.lock import locked_file
from lfs.device.fault.clock import RealClock
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.file import FileDevice
from lfs.device.file_limit import lift_file_limit
from lfs.device.recording import Event
from lfs.device.write_log import WriteLog, read_size_bytes

LOCK_WAIT_SECONDS = 10.0
REPORT_LINES_MAX = 10_000
REPORT_END_SECONDS = 1.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """What to serve and how; all paths are absolute."""

    target: str
    plan: FaultPlan
    control: str
    log: str | None = None
    report: str | None = None
    read_only: bool = False


class StoppableClock(RealClock):
    """Real time, until it is stopped: then nobody waits any more."""

    def __init__(self) -> None:
        """Run."""
        self._stopped = threading.Event()

    def sleep_until_ns(self, time_ns: int) -> None:
        """Return at ``time_ns``, or when the clock is stopped."""
        left_ns = time_ns - time.monotonic_ns()
        if left_ns > 0:
            self._stopped.wait(left_ns / 1e9)

    def stop(self) -> None:
        """Let everybody go on at once."""
        self._stopped.set()


class Served:
    """A fault device that is being served."""

    def __init__(self, device: FaultDevice, clock: StoppableClock, control_path: str) -> None:
        """Take what belongs together."""
        self.device = device
        self.control_path = control_path
        self._clock = clock

    def release(self) -> None:
        """Let every request end now: the server is leaving."""
        self._clock.stop()
        self.device.resume()

    def settle(self) -> None:
        """Bring everything that was acknowledged to the medium, unless the power is off."""
        self.release()
        if self.device.powered and not self.device.read_only:
            # A good disk without a cache: what the old plan kept back goes on.
            self.device.set_plan(FaultPlan())
            self.device.flush()


@contextlib.contextmanager
def serving(service: Service, report: Report, stop: Callable[[], None]) -> Iterator[Served]:
    """Open everything, and close it after the ``with``; ``stop`` is for the control socket.

    Faults go to ``report`` when the service names no file for them.  Raises
    UsageError when something cannot be opened, or when the last writes fail.
    """
    _refuse_same_files(service)
    lift_file_limit()
    clock = StoppableClock()
    with contextlib.ExitStack() as last, contextlib.ExitStack() as stack:
        target = stack.enter_context(contextlib.closing(_opened(service)))
        if target.size_bytes == 0:
            raise UsageError(f"{service.target} is empty: a disk has at least 512 bytes")
        log: Callable[[Event], None] = _ignore
        if service.log is not None:
            log = stack.enter_context(open_log(service.log, target.size_bytes))
        if service.report is not None:
            report = stack.enter_context(report_file(service.report))
        device = FaultDevice(target, service.plan, clock, log, report)
        control = last.enter_context(ControlServer(service.control, device, stop))
        served = Served(device, clock, control.path)
        try:
            yield served
        finally:
            try:
                served.settle()
            except DeviceError as error:
                raise UsageError(f"{service.target}: the last {error.strerror}") from error


def _opened(service: Service) -> FileDevice:
    return FileDevice(
        service.target,
        service.read_only,
        wait_seconds=LOCK_WAIT_SECONDS,
        on_wait=noting("faultdisk"),
    )


def _ignore(event: Event) -> None:
    """Keep no log."""


def _refuse_same_files(service: Service) -> None:
    """Raise UsageError when the target or the log would be written over."""
    named = [("the target", service.target), ("the log", service.log), ("report", service.report)]
    files = [(what, path) for what, path in named if path is not None]
    for index, (what, path) in enumerate(files):
        for _, other in files[index + 1 :]:
            if _same_file(path, other):
                raise UsageError(f"{other} is {what} already")


def _same_file(first: str, second: str) -> bool:
    with contextlib.suppress(OSError):
        return share_bytes(first, second)
    return os.path.realpath(first) == os.path.realpath(second)


@contextlib.contextmanager
def open_log(path: str, size_bytes: int) -> Iterator[Callable[[Event], None]]:
    """Begin a log; one that another server writes, and what is no log, is left alone."""
    try:
        Path(path).touch()
        if os.path.getsize(path):
            read_size_bytes(path)
    except OSError as error:
        raise UsageError(f"cannot write the log {path}: {error.strerror}") from error
    except UsageError as error:
        raise UsageError(f"{path} exists and is not a write log") from error
    with locked_file(path), WriteLog(path, size_bytes) as log:
        yield log.append


@contextlib.contextmanager
def report_file(path: str) -> Iterator[Report]:
    """Append lines with the time to a file; raises UsageError when it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(f"cannot write the report {path}: {error.strerror}") from error
    writer = _ReportWriter(descriptor)
    try:
        # Several may report to one file, but none to an image that is in use.
        with locked_file(path, exclusive=False):
            yield writer.add
    finally:
        writer.close()


class _ReportWriter:
    """Writes lines in a thread of its own: the requests that they tell of wait for no file.

    It may be a pipe that nobody reads, or lie on what is made of the very disk that is
    served.  ``REPORT_LINES_MAX`` lines wait; the report says how many were lost beyond.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to ``descriptor``, and close it in the end."""
        self._descriptor = descriptor
        self._lines: Queue[str | None] = Queue(REPORT_LINES_MAX)
        self._lost_count = 0
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)
        self._thread.start()

    def add(self, line: str) -> None:
        """Let a line be written with the time it has now; never waits."""
        stamp = datetime.datetime.now().astimezone().isoformat()
        try:
            self._lines.put_nowait(f"{stamp} {line}\n")
        except Full:
            self._lost_count += 1

    def close(self) -> None:
        """Wait until all is written, for a bounded time."""
        with contextlib.suppress(Full):
            self._lines.put(None, timeout=REPORT_END_SECONDS)
        self._thread.join(REPORT_END_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self._lost_count and self._lines.empty():
                lost_count, self._lost_count = self._lost_count, 0
                self._write(f"{lost_count} lines before this one were lost\n")
        os.close(self._descriptor)

    def _write(self, text: str) -> None:
        # The fault happens whether or not there is room to tell of it.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode(errors="surrogateescape"))
