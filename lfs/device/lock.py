"""One lock on each image, held by whoever uses it.

The lock is ``flock(2)`` on a descriptor of the image or disk itself: nothing to
clean up, gone with its last holder, and inherited by a daemon that forks.
Writers hold it exclusively, read-only users share it.  Plain ``umount`` may
return before the daemon has written its last checkpoint; therefore a lock is
waited for, but for a bounded time, and then the holder is named.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from lfs.errors import UsageError

_POLL_SECONDS = 0.05


class ImageLock:
    """A lock on ``path``, held until ``release``, the end of ``with``, or the process's end."""

    def __init__(
        self, path: str | Path, *, exclusive: bool = True, wait_seconds: float = 10.0
    ) -> None:
        """Take the lock, shared unless ``exclusive``, within ``wait_seconds``.

        Raises UsageError when ``path`` cannot be opened, or when the time is
        over; then the text names the holder where the system tells.
        """
        self.path = Path(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"cannot open {path}: {error.strerror}") from error
        try:
            self._acquire(exclusive, wait_seconds)
        except BaseException:
            self.release()
            raise
        self.exclusive = exclusive

    def convert(self, exclusive: bool, wait_seconds: float = 0.0) -> None:
        """Make the lock exclusive or shared, within ``wait_seconds``.

        Raises UsageError when others share it; then it stays as it was.  flock(2)
        gives the old lock up before it asks for the new one, so that somebody else
        may get in between and keep it: that is a UsageError too, without a lock.
        """
        try:
            self._acquire(exclusive, wait_seconds)
        except UsageError:
            self._acquire(self.exclusive, wait_seconds)
            raise
        self.exclusive = exclusive

    def _acquire(self, exclusive: bool, wait_seconds: float) -> None:
        operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(self._descriptor, operation)
                return
            except BlockingIOError:
                left = deadline - time.monotonic()
            except OSError as error:
                raise UsageError(f"cannot lock {self.path}: {error.strerror}") from error
            if left <= 0:
                holder = describe_holder(self.path) or "another process"
                raise UsageError(f"{self.path} is in use by {holder}")
            time.sleep(min(_POLL_SECONDS, left))

    def release(self) -> None:
        """Give the lock back; doing so twice is allowed.

        A child that inherited the descriptor keeps the lock.
        """
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> ImageLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def describe_holder(path: Path) -> str | None:
    """Return who holds a lock on ``path``, as ``process 12 (mount.lfs a.img /mnt)``, or None.

    Best effort: another user's processes may hide.
    """
    status = path.stat()
    # The process that took the lock may have left it to a child, so those that
    # have it now come first and what /proc/locks remembers second.
    for pid in (*_pids_with_lock(status), *_pids_that_locked(status)):
        command = _command_line(pid)
        if command:
            return f"process {pid} ({command})"
    return None


def _pids_with_lock(status: os.stat_result) -> Iterator[int]:
    """Yield the processes with a descriptor of the file that carries a lock."""
    own = os.getpid()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            descriptors = list((process / "fd").iterdir())
        except OSError:  # gone, or not ours to look at
            continue
        for descriptor in descriptors:
            try:
                same = os.path.samestat(descriptor.stat(), status)
                locked = same and "FLOCK" in (process / "fdinfo" / descriptor.name).read_text()
            except OSError:
                continue
            if locked and int(process.name) != own:
                yield int(process.name)
                break


def _pids_that_locked(status: os.stat_result) -> Iterator[int]:
    """Yield the processes that /proc/locks names for the file."""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if "FLOCK" in fields and device in fields:
            yield int(fields[fields.index(device) - 1])


def _command_line(pid: int) -> str:
    """Return the command line of a process on one line; empty when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    text = raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return " ".join(text.split())
