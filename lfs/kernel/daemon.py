"""Running in the background, and telling the caller how the start went.

The parent waits on a pipe: one zero byte says that the filesystem answers,
anything else is an exit code and the line to print.  The child keeps the
parent's standard error until then and nothing of it afterwards.  It keeps its
process group until then too: that is how the kernel knows who may pass an
automount point of systemd while it is being mounted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable

from lfs.command.parts import import_failure
from lfs.command.start import Unwinding
from lfs.kernel.logs import finish_logging, where_to_look
from lfs.kernel.mountpoint import MountError

_READY = b"\0"

log = logging.getLogger(__name__)

Start = Callable[[Callable[[], None]], None]
"""Starts, calls its argument once the filesystem answers, returns after unmounting."""


def run_in_background(start: Start) -> None:
    """Return once ``start``, run in a child, is ready; raises MountError as it did."""
    reader, writer = os.pipe()
    with Unwinding():
        child = os.fork()
        if child == 0:
            # Ctrl-C reaches both: the parent hears it and ends the child.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(reader)
            os._exit(_run_child(start, writer))
        os.close(writer)
        _await(reader, child)


def _await(reader: int, child: int) -> None:
    try:
        with open(reader, "rb") as pipe:
            answer = pipe.read()
    except KeyboardInterrupt:
        # It takes back what it has mounted meanwhile.
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if answer.startswith(_READY):
        return
    if not answer:
        raise MountError(f"the daemon ended before the filesystem answered; {where_to_look()}")
    raise MountError(os.fsdecode(answer[1:]), answer[0])


def _run_child(start: Start, writer: int) -> int:
    """Run ``start`` with the pipe's end ``writer``; return the exit code."""
    announced = False

    def announce() -> None:
        nonlocal announced
        announced = True
        _leave_terminal()
        # The parent may have been killed: that is no reason to end.
        with contextlib.suppress(BrokenPipeError):
            os.write(writer, _READY)
        os.close(writer)

    try:
        _start(start, announce)
    except BaseException as error:
        exit_code = error.exit_code if isinstance(error, MountError) else 2
        if not announced:
            os.write(writer, bytes([exit_code]) + os.fsencode(str(error)))
        _log_end(error)
        return exit_code
    finally:
        finish_logging()
    return 0


def _start(start: Start, announce: Callable[[], None]) -> None:
    """Run ``start``; raises MountError when a library is missing that it imports, too."""
    try:
        start(announce)
    except ImportError as error:
        raise MountError(import_failure(error), 2) from error


def _log_end(error: BaseException) -> None:
    if isinstance(error, MountError):
        log.error("%s", error)
    else:
        log.error("the daemon failed", exc_info=error)


def _leave_terminal() -> None:
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
