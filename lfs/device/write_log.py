"""A write log: every change of a device, in a file, to be replayed to any point.

Theory.  The events are those of ``recording``: writes, flushes, discards and
marks, in the order in which the device accepted them.  Replaying the first
``n`` onto the medium as it was at the start gives the medium as a good disk
without a cache would have it after them.  A log that was torn by a crash ends
at its last whole record: each carries a checksum.

Format, little-endian.  The file begins with ``LFSWLOG1`` and the size of the
device in bytes (8).  Each record has a header of 32 bytes: kind (1), flags (1),
zero (2), checksum of the record with this field zero (4), offset in bytes (8),
length in bytes (8), stored bytes (4), zero (4); then the stored bytes.  Kinds:
1 write, 2 flush, 3 discard, 4 mark.  Flag 1: the content is compressed (zlib);
flag 2: the write was to be durable at once (FUA).  A write of zeros stores
nothing.  Compression and that keep hours of requests small.

Source of the idea: Linux, ``Documentation/admin-guide/device-mapper/log-writes.rst``.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from lfs.common.checksum import checksum
from lfs.common.errors import UsageError
from lfs.device.base import BlockDevice
from lfs.device.recording import Discard, Event, Flush, Mark, Write, replay

_MAGIC = b"LFSWLOG1"
_FILE_HEADER = struct.Struct("<8sQ")
_RECORD_HEADER = struct.Struct("<BBHIQQII")
_WRITE, _FLUSH, _DISCARD, _MARK = 1, 2, 3, 4
_KINDS = (_WRITE, _FLUSH, _DISCARD, _MARK)
_COMPRESSED, _DURABLE = 1, 2
_COMPRESSION_LEVEL = 1
_STORED_BYTES_MAX = 1 << 30


class WriteLog:
    """Appends events to a log file.  Any number of threads may."""

    def __init__(self, path: str | Path, size_bytes: int) -> None:
        """Begin a new log of a device of ``size_bytes``; raises UsageError if it can't be made."""
        try:
            self._file = Path(path).open("wb")  # noqa: SIM115  closed by close
        except OSError as error:
            raise UsageError(f"cannot write the log {path}: {error.strerror}") from error
        self._lock = threading.Lock()
        self.event_count = 0
        self._file.write(_FILE_HEADER.pack(_MAGIC, size_bytes))
        self._file.flush()

    def append(self, event: Event) -> None:
        """Add an event; marks and flushes also push what came before out of the process."""
        record = _pack(event)
        with self._lock:
            self._file.write(record)
            self.event_count += 1
            if not isinstance(event, Write):
                self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> WriteLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _pack(event: Event) -> bytes:
    """Return the record of an event."""
    kind, flags, offset_bytes, length_bytes, stored = _FLUSH, 0, 0, 0, b""
    match event:
        case Write(offset_bytes, data, durable):
            kind, length_bytes = _WRITE, len(data)
            flags = _DURABLE if durable else 0
            if data.count(0) != len(data):
                packed = zlib.compress(data, _COMPRESSION_LEVEL)
                stored = packed if len(packed) < len(data) else data
                flags |= _COMPRESSED if stored is packed else 0
        case Discard(offset_bytes, length_bytes):
            kind = _DISCARD
        case Mark(text):
            kind, stored = _MARK, text.encode()
            length_bytes = len(stored)
        case Flush():
            pass
    fields = (offset_bytes, length_bytes, len(stored), 0)
    bare = _RECORD_HEADER.pack(kind, flags, 0, 0, *fields) + stored
    return _RECORD_HEADER.pack(kind, flags, 0, checksum(bare), *fields) + stored


def read_size_bytes(path: str | Path) -> int:
    """Return the size of the device that a log is of; raises UsageError if it is no log."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_FILE_HEADER.size)
    except OSError as error:
        raise UsageError(f"cannot read the log {path}: {error.strerror}") from error
    if len(raw) < _FILE_HEADER.size or not raw.startswith(_MAGIC):
        raise UsageError(f"{path} is not a write log")
    size_bytes: int = _FILE_HEADER.unpack(raw)[1]
    return size_bytes


def read_events(path: str | Path) -> Iterator[Event]:
    """Yield the events of a log up to the last whole one.

    Raises UsageError if it is no log, or if a whole record is of no known kind.
    """
    read_size_bytes(path)
    with Path(path).open("rb") as file:
        file.seek(_FILE_HEADER.size)
        while len(header := file.read(_RECORD_HEADER.size)) == _RECORD_HEADER.size:
            kind, flags, _, expected, offset_bytes, length_bytes, stored_bytes, _ = (
                _RECORD_HEADER.unpack(header)
            )
            stored = file.read(min(stored_bytes, _STORED_BYTES_MAX))
            bare = header[:4] + bytes(4) + header[8:] + stored
            if len(stored) != stored_bytes or checksum(bare) != expected:
                return
            if kind not in _KINDS:
                raise UsageError(f"{path} has a record of the unknown kind {kind}")
            yield _unpack(kind, flags, offset_bytes, length_bytes, stored)


def _unpack(kind: int, flags: int, offset_bytes: int, length_bytes: int, stored: bytes) -> Event:
    """Return the event of a record whose checksum holds."""
    if kind == _WRITE:
        data = zlib.decompress(stored) if flags & _COMPRESSED else stored
        return Write(offset_bytes, data or bytes(length_bytes), bool(flags & _DURABLE))
    if kind == _DISCARD:
        return Discard(offset_bytes, length_bytes)
    if kind == _MARK:
        return Mark(stored.decode())
    return Flush()


def replay_log(
    path: str | Path,
    device: BlockDevice,
    *,
    event_count: int | None = None,
    mark: str | None = None,
) -> int:
    """Apply a log to ``device``, which holds what the medium held when the log began.

    Stops after ``event_count`` events, or at the first mark ``mark``; without
    either at the end.  Returns how many events were applied.  Raises UsageError
    when the log does not fit the device or ends before that point, and what the
    device raises.
    """
    if read_size_bytes(path) > device.size_bytes:
        raise UsageError(f"{path} is the log of a larger device")
    done = 0
    for event in read_events(path):
        if done == event_count:
            return done
        done += 1
        if mark is not None and event == Mark(mark):
            return done
        replay([event], device)
    if mark is not None:
        raise UsageError(f"{path} has no mark {mark!r}")
    if event_count is not None and done < event_count:
        raise UsageError(f"{path} has {done} events, not {event_count}")
    return done
