"""Holes of an image file, filled ahead of small writes that are flushed one by one.

Theory.  A write into a hole makes the host's filesystem allocate blocks, and the
next flush waits for its journal as well as for the data: measured on ext4, twice
as long.  Commits follow each other without a gap; so once a flushed write has been
continued by another small one, zeros go into the hole behind them, and the commits that
come there need no allocation.  Zeros wait for the next flush like any data, so they go in
small pieces: who syncs must not wait for a MiB of them now and then.  ``fallocate(2)``
does not serve: what it allocates is marked as unwritten, and taking the mark off needs
the journal in the same way.

Zeros in a hole change nothing that can be read; what does not read as zeros stays,
whatever the host calls it.  They are a favour: where they can't be written, or where
the host has little room left, the hole stays.  Large writes allocate for many blocks
at once and are left alone, and so is whoever does not flush.

Invariant: the bytes from ``_solid_start`` to ``_solid_end`` were no hole when last
looked at; one range is enough, because commits go to one place.
"""

from __future__ import annotations

import contextlib
import os

_FILL_BYTES = 64 << 10
_SMALL_BYTES = 64 << 10
_HOST_ROOM_BYTES = 64 << 20
_ZEROS = bytes(1 << 20)


class HoleFiller:
    """Fills the holes of one image file.  Told of its writes and flushes one at a time."""

    def __init__(self, size_bytes: int) -> None:
        """Serve an image of ``size_bytes``; nothing is filled beyond."""
        self._size_bytes = size_bytes
        self._solid_start = self._solid_end = 0
        self._end = 0
        self._flushed = False

    def wrote(self, descriptor: int, start: int, end: int) -> None:
        """Note that bytes ``start`` to ``end`` were written; fill the hole behind if need be."""
        continues = self._flushed and start == self._end
        self._flushed = False
        self._end = end
        if (
            continues
            and end - start <= _SMALL_BYTES
            and not (self._solid_start <= start and 2 * end - start < self._solid_end)
        ):
            with contextlib.suppress(OSError):
                self._look(descriptor, end)

    def flushed(self) -> None:
        """Note that what was written is being flushed."""
        self._flushed = True

    def discarded(self) -> None:
        """Note that there may be holes where there were none."""
        self._solid_end = 0

    def _look(self, descriptor: int, position: int) -> None:
        """Fill the hole at ``position``, or the one that follows soon; raises OSError."""
        if position >= self._size_bytes:
            return
        # What fails here is not tried again at every write.
        self._solid_start, self._solid_end = 0, self._size_bytes + 1
        # Where the host does not know holes, this is the end of the file.
        end = os.lseek(descriptor, position, os.SEEK_HOLE)
        if end < min(position + _FILL_BYTES, self._size_bytes):
            end = self._fill(descriptor, end)
        self._solid_start, self._solid_end = position, end

    def _fill(self, descriptor: int, start: int) -> int:
        """Write a piece of zeros from ``start``, at most to the hole's end; return their end."""
        host = os.fstatvfs(descriptor)
        if host.f_bavail * host.f_frsize < _HOST_ROOM_BYTES:
            return start
        end = min(start + _FILL_BYTES, self._size_bytes)
        with contextlib.suppress(OSError):
            # No data follows where this raises.
            end = min(end, os.lseek(descriptor, start, os.SEEK_DATA))
        zeros = _ZEROS[: end - start]
        if os.pread(descriptor, len(zeros), start) != zeros:
            return start
        return start + os.pwrite(descriptor, zeros, start)


def is_solid(descriptor: int, start: int, end: int) -> bool:
    """Tell whether no byte from ``start`` to ``end`` lies in a hole, as far as the host knows."""
    try:
        return os.lseek(descriptor, start, os.SEEK_HOLE) >= end
    except OSError:
        return True


def make_solid(descriptor: int, start: int, end: int) -> None:
    """Write zeros where a range that nobody reads has holes, while the host has room to spare."""
    with contextlib.suppress(OSError):
        while start < end and not is_solid(descriptor, start, end):
            host = os.fstatvfs(descriptor)
            if host.f_bavail * host.f_frsize < _HOST_ROOM_BYTES:
                return
            start += os.pwrite(descriptor, _ZEROS[: end - start], start)
