"""A device that remembers every request that changes it.

The crash tests run a workload over a ``RecordingDevice`` and then ask what the
medium holds if the power goes after any event: ``crash_states`` replays the
events one by one onto a copy of the medium as it was at the start.  Marks tie
an event to what the workload had been promised by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lfs.device.base import BlockDevice, Buffer
from lfs.device.memory import MemoryDevice


class Write(NamedTuple):
    """``data`` was written at ``offset_bytes``; ``durable`` if its caller was promised so (FUA)."""

    offset_bytes: int
    data: bytes
    durable: bool = False


class Flush(NamedTuple):
    """Everything before was made durable."""


class Discard(NamedTuple):
    """A range was declared to hold nothing of use."""

    offset_bytes: int
    length_bytes: int


class Mark(NamedTuple):
    """A remark of the test, such as "fsync of 7 returned"."""

    text: str


Event = Write | Flush | Discard | Mark


class RecordingDevice(BlockDevice):
    """Passes every request on to ``device``, keeps ``events`` and counts.

    A request that fails is counted, but is no event.
    """

    def __init__(self, device: BlockDevice) -> None:
        """Wrap ``device``; closing this closes it."""
        self.device = device
        self.size_bytes = device.size_bytes
        self.align_bytes = device.align_bytes
        self.read_only = device.read_only
        self.events: list[Event] = []
        self.reset_counters()

    def reset_counters(self) -> None:
        """Set all counters to zero; events stay."""
        self.read_count = 0
        self.read_bytes = 0
        self.write_count = 0
        self.written_bytes = 0
        self.flush_count = 0
        self.discarded_bytes = 0

    def mark(self, text: str) -> None:
        """Add a remark to the events."""
        self.events.append(Mark(text))

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Read from the wrapped device; raises what it raises."""
        self.read_count += 1
        self.read_bytes += length_bytes
        return self.device.read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write to the wrapped device as one event; raises what it raises."""
        data = b"".join(buffers)
        self.write_count += 1
        self.written_bytes += len(data)
        self.device.write(offset_bytes, buffers)
        self.events.append(Write(offset_bytes, data))

    def flush(self) -> None:
        """Flush the wrapped device; raises what it raises."""
        self.flush_count += 1
        self.device.flush()
        self.events.append(Flush())

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Discard on the wrapped device; raises what it raises."""
        self.discarded_bytes += length_bytes
        self.device.discard(offset_bytes, length_bytes)
        self.events.append(Discard(offset_bytes, length_bytes))

    def close(self) -> None:
        """Close the wrapped device; events stay."""
        self.device.close()


def replay(events: Iterable[Event], device: BlockDevice) -> None:
    """Apply ``events`` to ``device`` in order; raises what the device raises."""
    for event in events:
        match event:
            case Write(offset_bytes, data, _):
                device.write(offset_bytes, [data])
            case Flush():
                device.flush()
            case Discard(offset_bytes, length_bytes):
                device.discard(offset_bytes, length_bytes)
            case Mark():
                pass


def crash_states(
    start: MemoryDevice, events: Sequence[Event]
) -> Iterator[tuple[int, MemoryDevice]]:
    """Yield ``(count, device)``: the medium after the first ``count`` events.

    Events that do not change it are passed over.  ``start`` is the medium before
    the first event and is not changed.  Every device yielded is the caller's to
    mount and write.
    """
    medium = start.copy()
    yield 0, medium.copy()
    for count, event in enumerate(events, 1):
        replay([event], medium)
        if isinstance(event, Write | Discard):
            yield count, medium.copy()
