"""Large writes on their way to the disk before anybody asks for a flush.

Theory.  What is written goes to the page cache of the host, which keeps it for
seconds; a flush then has to wait for all of it, and an ``fsync`` of 4 KiB waits for
the stream of another program.  Large writes are data that nobody writes again in the
same place, so nothing is gained by waiting: the host is asked to begin at once.

That may block where the disk is slow, so a thread does it, and it is advice: while
``PENDING_MAX`` writes wait for their turn, more are left to the flush.  Only the
beginning is asked for, never the end (``sync_file_range(2)`` without its WAIT flags):
who waits is told of errors in place of the flush, which has to hear of them.  What
goes wrong at the beginning already is kept for the flush too (``error``).

Invariant.  The thread uses the descriptor of its owner, who calls ``close`` before it
closes that, and ``begin`` no more: the number may lead elsewhere then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

WRITEBACK_BYTES_MIN = 1 << 20
"""Shorter writes wait for the flush: most are commits, which come with one."""

PENDING_MAX = 16
_SYNC_FILE_RANGE_WRITE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EBADF)
"""What the call itself is refused with, where nothing has gone wrong."""

Begin = Callable[[int, int, int], object]
"""Begins to write a range of a descriptor: ``(descriptor, offset_bytes, length_bytes)``."""


class Writeback:
    """Begins to write ranges of one file.  One thread calls it."""

    def __init__(self, descriptor: int, begin: Begin | None = None) -> None:
        """Serve the file behind ``descriptor``, by ``sync_file_range(2)`` where there is one."""
        self._begin = begin or _sync_file_range
        self._ranges: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._descriptor = descriptor
        self.error: OSError | None = None
        """The first error of the disk or its filesystem, which the next flush may not be told."""

    def begin(self, offset_bytes: int, length_bytes: int) -> None:
        """Let what was written to a range go to the disk soon, or leave it to the flush."""
        if self._thread is None:
            self._thread = self._started()
        if self._thread is not None and self._ranges.qsize() < PENDING_MAX:
            self._ranges.put((offset_bytes, length_bytes))

    def close(self) -> None:
        """End the thread; the descriptor stays open."""
        if self._thread is not None:
            self._ranges.put(None)
            self._thread.join()
            self._thread = None

    def _started(self) -> threading.Thread | None:
        """Return the thread, or None where the process can have no more of them."""
        thread = threading.Thread(target=self._run, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread

    def _run(self) -> None:
        while (wanted := self._ranges.get()) is not None:
            try:
                self._begin(self._descriptor, *wanted)
            except OSError as error:
                if self.error is None and error.errno not in _UNSUPPORTED:
                    self.error = error


def _sync_file_range(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    """Begin to write a range, where that can be had; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "sync_file_range", None)
    if call is None:
        return
    offset, length = ctypes.c_int64(offset_bytes), ctypes.c_int64(length_bytes)
    if call(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
