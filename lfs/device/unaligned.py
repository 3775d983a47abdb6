"""Any bytes of a block device: what is no whole sector is read, changed, and written back.

Theory.  Whoever changes part of a sector must not undo what another writes to
the rest of it between the read and the write.  So a change of part of a sector
is alone, while writes of whole sectors go on side by side, as many as there
are.  Each write is one write of the device, whatever its alignment.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from lfs.device.base import BlockDevice

WriteWhole = Callable[[int, Sequence[bytes]], None]
"""Writes whole sectors: ``BlockDevice.write``, or the same with more promises."""


class ByteAccess:
    """Reads and writes any range of ``device``.  Any number of threads may use it."""

    def __init__(self, device: BlockDevice) -> None:
        """Give access to ``device``."""
        self.device = device
        self._unit = device.align_bytes
        self._lock = SharedLock()

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return a range; raises what the device does."""
        start = offset_bytes - offset_bytes % self._unit
        end = _round_up(offset_bytes + length_bytes, self._unit)
        data = self.device.read(start, end - start)
        if len(data) == length_bytes:
            return data
        return data[offset_bytes - start : offset_bytes - start + length_bytes]

    def write(self, offset_bytes: int, data: bytes, write: WriteWhole | None = None) -> None:
        """Write ``data`` by one call of ``write``, the device's own by default.

        Raises what the device does.
        """
        write = write or self.device.write
        if offset_bytes % self._unit == 0 and len(data) % self._unit == 0:
            with self._lock.shared():
                write(offset_bytes, [data])
            return
        self.device.check_write(*self._covering(offset_bytes, len(data)))
        with self._lock.alone():
            start, length_bytes = self._covering(offset_bytes, len(data))
            before = self._part(start, start, offset_bytes)
            end = start + length_bytes
            after = self._part(end - self._unit, offset_bytes + len(data), end)
            write(start, [before + data + after])

    def _covering(self, offset_bytes: int, length_bytes: int) -> tuple[int, int]:
        """Return offset and length of the whole sectors that cover a range."""
        start = offset_bytes - offset_bytes % self._unit
        return start, _round_up(offset_bytes + length_bytes, self._unit) - start

    def _part(self, sector: int, first: int, end: int) -> bytes:
        """Return the bytes from ``first`` to ``end`` of the sector at byte ``sector``."""
        if first == end:
            return b""
        return self.device.read(sector, self._unit)[first - sector : end - sector]


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


class SharedLock:
    """Held by any number that share it, or by one alone, who is let in before new sharers."""

    def __init__(self) -> None:
        """Nobody holds it."""
        self._condition = threading.Condition()
        self._sharers = 0
        self._alone = False
        self._waiting = 0

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it beside others."""
        with self._condition:
            while self._alone or self._waiting:
                self._condition.wait()
            self._sharers += 1
        try:
            yield
        finally:
            with self._condition:
                self._sharers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it with nobody else."""
        with self._condition:
            self._waiting += 1
            while self._alone or self._sharers:
                self._condition.wait()
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()
