"""Where the daemon's lines go, without the thread that logs ever waiting for it.

Theory.  Who reads the log may be slow, stopped, or a program that writes what it reads
to this very filesystem: to wait for it in the thread that serves requests is to wait
for oneself.  So that thread only appends a line to a queue, and a thread of its own
sends it: to the system log by a datagram that is not waited for, or in the foreground
to the terminal.  A system log that is not there now may be there later: its lines wait,
and it is looked for again with each new line and every few seconds at first, later
every ``RETRY_SECONDS_MAX``.

Bounds.  ``QUEUE_LINES_MAX`` lines wait, each of ``LINE_BYTES_MAX`` at most.  When more
come the oldest go, and the log says how many.  The last ``RECENT_LINES`` are kept to be
shown (``lfs log``), whatever became of them.  The end of the process waits at most
``END_SECONDS`` for a log that is there, and not at all for one that is not.  Of warnings
and errors that repeat themselves there are only so many (``lfs.kernel.rate_limit``).
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple, Protocol

from lfs.kernel.rate_limit import RateLimit

SYSTEM_LOG = "/dev/log"
QUEUE_LINES_MAX = 500
LINE_BYTES_MAX = 8000
RECENT_LINES = 200
END_SECONDS = 1.0
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
_DAEMON = 3 << 3
_SEVERITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_CRITICAL = 2


log = logging.getLogger(__name__)


class Line(NamedTuple):
    """What was logged, and when."""

    level: int
    time_seconds: float
    text: str

    def __str__(self) -> str:
        """Return the line as it is shown, with its time."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.time_seconds))
        return f"{stamp} {self.text}"


class Outlet(Protocol):
    """Where lines go.  Only the sending thread calls it."""

    def send(self, line: Line) -> None:
        """Deliver a line; raises BlockingIOError for later, another OSError if nobody is there."""


class SystemLog:
    """The socket of the system log, by which syslog(3) reaches it too."""

    def __init__(self, command: str, path: str = SYSTEM_LOG) -> None:
        """Speak for ``command``."""
        self._ident = f"{command}[{os.getpid()}]"
        self._path = path
        self._socket: socket.socket | None = None

    def send(self, line: Line) -> None:
        """Send a datagram; what a restarted log no longer hears is sent to the new one."""
        severity = _SEVERITIES.get(line.level, _CRITICAL)
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(line.time_seconds))
        head = f"<{_DAEMON | severity}>{stamp} {self._ident}: "
        message = (head + line.text).encode(errors="surrogateescape")[:LINE_BYTES_MAX]
        if self._socket is not None:
            try:
                self._socket.send(message)
                return
            except BlockingIOError:
                raise
            except OSError:
                self._socket.close()
                self._socket = None
        self._socket = self._connected()
        self._socket.send(message)

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        return made


class Terminal:
    """Standard error as it is now: what libfuse says there is caught for a while."""

    def __init__(self, command: str) -> None:
        """Speak for ``command``."""
        self._command = command
        self._descriptor = os.dup(2)

    def send(self, line: Line) -> None:
        """Write a line, however long that takes: the sending thread has time."""
        left = f"{self._command}: {line.text}\n".encode(errors="surrogateescape")
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select((), (self._descriptor,), ())


class LogQueue(logging.Handler):
    """Takes lines from any thread at once, and delivers them from a thread of its own."""

    def __init__(self, outlet: Outlet, about: str = "", limit: RateLimit | None = None) -> None:
        """Deliver to ``outlet``; each line begins with what it is ``about``.

        With a ``limit`` warnings and errors of one kind are logged only so often.
        """
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._outlet = outlet
        self._limit = limit
        self._about = about and f"{about}: "
        self._changed = threading.Condition()
        self._lines: deque[Line] = deque()
        self._recent: deque[Line] = deque(maxlen=RECENT_LINES)
        self._lost_count = 0
        self._sending = False
        self._absent = False
        self._ending = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Put a line into the queue; never waits for its reader."""
        with self._changed:
            self._tell_what_was_left_out(record.created)
            if self._admits(record):
                self._append(record.levelno, record.created, self.format(record))

    def _admits(self, record: logging.LogRecord) -> bool:
        if self._limit is None or record.levelno < logging.WARNING:
            return True
        return self._limit.admits(record.getMessage())

    def _append(self, level: int, time_seconds: float, text: str) -> None:
        line = Line(level, time_seconds, (self._about + text)[:LINE_BYTES_MAX])
        self._recent.append(line)
        self._lines.append(line)
        self._bound()
        self._changed.notify_all()
        if self._thread is None:
            self._thread = self._started()

    def _tell_what_was_left_out(self, time_seconds: float, at_the_end: bool = False) -> None:
        if self._limit is not None:
            for text in self._limit.ended(at_the_end):
                self._append(logging.WARNING, time_seconds, text)

    def recent(self) -> list[str]:
        """Return the last lines."""
        with self._changed:
            self._tell_what_was_left_out(time.time())
            return [str(line) for line in self._recent]

    def flush(self) -> None:
        """Wait until all is delivered, for ``END_SECONDS``, and only for a reader who is there."""
        with self._changed:
            self._tell_what_was_left_out(time.time(), at_the_end=True)
            self._ending = True
            self._changed.notify_all()
            self._changed.wait_for(self._is_settled, END_SECONDS)
            self._ending = False

    def _is_settled(self) -> bool:
        return self._thread is None or self._absent or not (self._lines or self._sending)

    def _bound(self) -> None:
        while len(self._lines) > QUEUE_LINES_MAX:
            self._lines.popleft()
            self._lost_count += 1

    def _started(self) -> threading.Thread | None:
        """Return the thread, or None where the process can have no more of them."""
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            return thread
        return None

    def _run(self) -> None:
        pause_seconds = RETRY_SECONDS_MIN
        while True:
            line, lost_count = self._next()
            delivered = self._deliver(line, lost_count)
            with self._changed:
                self._sending = False
                if delivered:
                    pause_seconds = RETRY_SECONDS_MIN
                else:
                    self._lines.appendleft(line)
                    self._bound()
                self._changed.notify_all()
                if not delivered:
                    self._changed.wait(RETRY_SECONDS_MIN if self._ending else pause_seconds)
                    pause_seconds = min(2 * pause_seconds, RETRY_SECONDS_MAX)

    def _next(self) -> tuple[Line, int]:
        """Wait for a line; return it, and how many were lost before it."""
        with self._changed:
            while not self._lines:
                self._changed.wait()
            self._sending = True
            return self._lines.popleft(), self._lost_count

    def _deliver(self, line: Line, lost_count: int) -> bool:
        """Try to send a line, after one that says how many were lost before it."""
        try:
            if lost_count:
                text = (
                    f"{self._about}{lost_count} lines before this one were lost: nobody read them"
                )
                self._outlet.send(Line(logging.WARNING, line.time_seconds, text))
                with self._changed:
                    self._lost_count -= lost_count
            self._outlet.send(line)
        except BlockingIOError:
            self._absent = False
            return False
        except OSError:
            self._absent = True
            return False
        self._absent = False
        return True


class StandardError:
    """Descriptor 2, through the log: libraries write there, in the thread that serves.

    They write to a pipe of ours that never blocks; what does not fit is lost.
    """

    def __init__(self) -> None:
        """Read what is written to descriptor 2 from now on."""
        self._saved = os.dup(2)
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._run, name="standard error", daemon=True)
        self._thread.start()

    def restore(self) -> None:
        """Let descriptor 2 be what it was."""
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        with open(self._reader, errors="replace") as lines:
            for line in lines:
                log.info("%s", line.rstrip("\n"))


_queue: LogQueue | None = None
_standard_error: StandardError | None = None


def configure_logging(
    foreground: bool,
    debug: bool,
    command: str = "mount.lfs",
    about: str = "",
    every_line: bool = False,
) -> None:
    """Log in the name of ``command`` to the terminal or to the system log.

    Each line begins with what it is ``about``.  With ``debug``, and where ``every_line``
    is a result, nothing is left out.
    """
    global _queue, _standard_error
    outlet = Terminal(command) if foreground else SystemLog(command)
    _queue = LogQueue(outlet, about, None if debug or every_line else RateLimit())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[_queue])
    # A line that cannot be logged must not disturb the filesystem.
    logging.raiseExceptions = False
    if foreground:
        _standard_error = StandardError()


def finish_logging() -> None:
    """Give the last lines their time, and standard error back to the terminal."""
    global _standard_error
    if _standard_error is not None:
        _standard_error.restore()
        _standard_error = None
    if _queue is not None:
        _queue.flush()


def recent_lines() -> list[str]:
    """Return the last lines that this process has logged."""
    return [] if _queue is None else _queue.recent()


def is_system_log_there(path: str = SYSTEM_LOG) -> bool:
    """Tell whether somebody takes lines for the system log now."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
            probe.connect(path)
    except OSError:
        return False
    return True


def where_to_look() -> str:
    """Return, for the end of a message, where more is told about a daemon that has ended."""
    if is_system_log_there():
        return "the system log says why"
    return f"no system log runs here ({SYSTEM_LOG}), mount with -f to see why"
