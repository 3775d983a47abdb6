"""The connection to the kernel: how one begins, what libfuse says when it cannot, how it reads.

Held by ``tests/mount/unmounting/test_signals.py``.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyfuse3

from lfs.kernel.mountpoint import MountError

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What asks a daemon to unmount and end."""


def connect(operations: pyfuse3.Operations, mount_point: str, options: set[str]) -> None:
    """Mount; requests wait until ``pyfuse3.main`` serves them.  Raises MountError.

    ``END_SIGNALS`` wait until ``release_signals``: there is nobody before who could
    unmount in order.
    """
    with _captured_stderr() as said:
        signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
        try:
            pyfuse3.init(operations, mount_point, set(map(_Option, options)))
        except RuntimeError as error:
            release_signals()
            reason = said() or str(error)
            raise MountError(f"cannot mount on {mount_point}: {reason}") from error


class _Option(str):
    """An option that is encoded as the name of a file is.

    pyfuse3 asks for ASCII, but mount(8) finds a mount by the path of its image: it
    would mount again what it does not recognise.
    """

    __slots__ = ()

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return os.fsencode(str(self))


def release_signals() -> None:
    """Take ``END_SIGNALS`` again, those that came meanwhile first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, END_SIGNALS)


def read_ahead(device_number: int, kib: int) -> None:
    """Let the kernel read files ahead by ``kib`` KiB, where it lets us.

    Its default of 128 is for disks; here each request costs two changes of process.
    """
    name = f"{os.major(device_number)}:{os.minor(device_number)}"
    with suppress(OSError):
        Path("/sys/class/bdi", name, "read_ahead_kb").write_text(str(kib))


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what libfuse prints from the terminal; yields a function that returns its last line."""
    with tempfile.TemporaryFile() as kept:

        def said() -> str:
            kept.seek(0)
            lines = kept.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")

        saved = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
