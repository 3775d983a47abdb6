"""Write logs without a server: what is in one, and making a medium of it.

Held by ``tests/faultdisk/test_main.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator

from faultdisk.daemon.served import LOCK_WAIT_SECONDS
from lfs.command.notes import noting
from lfs.common.errors import UsageError
from lfs.device.exclusion.identity import share_bytes
from lfs.device.file import FileDevice
from lfs.device.file_limit import lift_file_limit
from lfs.device.recording import Discard, Event, Mark, Write
from lfs.device.write_log import read_events, read_size_bytes, replay_log


def _row(number: int, event: Event) -> list[str]:
    match event:
        case Write(offset_bytes, data, durable):
            return [str(number), "write", str(offset_bytes), str(len(data)), "fua" * durable]
        case Discard(offset_bytes, length_bytes):
            return [str(number), "discard", str(offset_bytes), str(length_bytes), ""]
        case Mark(text):
            return [str(number), "mark", "", "", text]
        case _:
            return [str(number), "flush", "", "", ""]


def log_lines(path: str) -> Iterator[str]:
    """Yield a table of the events of a log, numbered from 1; raises UsageError."""
    width = len(str(max(1, os.path.getsize(path) // 32))) if os.path.exists(path) else 1
    yield f"{path}: of a device of {read_size_bytes(path)} bytes"
    yield f"{'':>{width}}  {'kind':<7}  {'offset':>14}  {'length':>9}  mark"
    for number, event in enumerate(read_events(path), 1):
        count, kind, offset, length, note = _row(number, event)
        yield f"{count:>{width}}  {kind:<7}  {offset:>14}  {length:>9}  {note}".rstrip()


def replay(log: str, target: str, event_count: int | None, mark: str | None) -> str:
    """Apply a log, or its beginning, to ``target``; return a line about it.

    Raises UsageError before anything is changed when the log does not reach to
    ``event_count`` or ``mark`` or does not fit, and DeviceError.
    """
    if os.path.exists(log) and os.path.exists(target) and share_bytes(log, target):
        raise UsageError(f"{target} is the log itself")
    end = _find_end(log, event_count, mark)
    lift_file_limit()
    opened = FileDevice(target, wait_seconds=LOCK_WAIT_SECONDS, on_wait=noting("faultdisk"))
    with contextlib.closing(opened) as device:
        applied = replay_log(log, device, event_count=end)
        device.flush()
    return f"{target}: {_summary(log, applied)}"


def _find_end(log: str, event_count: int | None, mark: str | None) -> int:
    """Return how many events to apply; raises UsageError when the log has no such point."""
    count = 0
    for count, event in enumerate(read_events(log), 1):
        if count == event_count or (mark is not None and event == Mark(mark)):
            return count
    if mark is not None:
        raise UsageError(f"{log} has no mark {mark!r}")
    if event_count:
        raise UsageError(f"{log} has {count} events, not {event_count}")
    return 0 if event_count == 0 else count


def _summary(log: str, applied: int) -> str:
    kinds: Counter[str] = Counter()
    for number, event in enumerate(read_events(log), 1):
        if number > applied:
            break
        kinds[type(event).__name__.lower()] += 1
    listed = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return f"{applied} events applied" + (f" ({listed})" if listed else "")
