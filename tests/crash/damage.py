"""A damaged block: one bit flipped in what a workload left on the medium.

P3: whatever is damaged, the tree is right as far as it can be read, or an error
says so.  Two structures are there twice, so that damage to one of them must not
even be an error: the superblock, and the checkpoint region.  One thing can't be
told from a power cut: damage to the last log writes, which no later one knows
to have been flushed; then the tree may be an earlier one, as after a crash.

A state is called ``WORKLOAD:COUNT:flip-BYTE-BIT``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from fsck.check import check_device
from lfs.common.errors import FilesystemError, FormatError
from lfs.device.memory import PAGE_BYTES, MemoryDevice
from lfs.device.recording import Flush, Write
from lfs.filesystem import Filesystem
from lfs.ondisk import backup_superblock_offset_bytes
from tests.crash.oracle import LATER_NS, ViolationError
from tests.crash.recording import Recording
from tests.crash.states import Point, medium_of, points
from tests.support.state import state_digest, tree_state
from tests.support.volumes import FIRST_SEGMENT_BYTES

_SECTOR_BYTES = 512
_BLOCK_BYTES = 1024
_METADATA_STEP_BYTES = 16
_MAGICS = (b"LSUM", b"LNOD", b"LUSE", b"lfs-")


def last_promise(recording: Recording) -> Point:
    """Return the last point of a recording at which everything was promised."""
    point = None
    for point in points(recording.workload.name, recording.start, recording.events):
        if point.is_promise:
            last = point
    if point is None:
        raise ValueError(f"{recording.workload.name} promises nothing")
    return last


def flips(point: Point, start: MemoryDevice, choose: random.Random) -> list[str]:
    """Return a variant for each sector that is in use, and many for one of metadata."""
    found = []
    medium = medium_of(point, "all")
    is_metadata = False
    for offset in sorted({*_sectors(medium, start), *_places_at_the_ends(start)}):
        raw = medium.read(offset, _SECTOR_BYTES)
        if offset % _BLOCK_BYTES == 0:
            is_metadata = raw.startswith(_MAGICS)
        step = _METADATA_STEP_BYTES if is_metadata else _SECTOR_BYTES
        end = len(raw.rstrip(b"\0")) if is_metadata else _SECTOR_BYTES
        found += [offset + begin + choose.randrange(step) for begin in range(0, end, step)]
    return [f"flip-{offset}-{choose.randrange(8)}" for offset in found]


def _sectors(medium: MemoryDevice, start: MemoryDevice) -> Iterator[int]:
    """Yield the offsets of sectors that the workload has written."""
    for index, page in medium.differing_pages(start):
        for position in range(0, PAGE_BYTES, _SECTOR_BYTES):
            if page[position : position + _SECTOR_BYTES].strip(b"\0"):
                yield index * PAGE_BYTES + position


def _places_at_the_ends(start: MemoryDevice) -> Iterator[int]:
    yield 4096
    yield backup_superblock_offset_bytes(start.size_bytes)


def check_flip(recording: Recording, point: Point, variant: str) -> None:
    """Raise ViolationError unless a flipped bit is harmless or an error."""
    _, offset_text, bit_text = variant.split("-")
    offset, bit = int(offset_text), int(bit_text)
    medium = medium_of(point, "all")
    sector = offset - offset % _SECTOR_BYTES
    raw = bytearray(medium.read(sector, _SECTOR_BYTES))
    raw[offset - sector] ^= 1 << bit
    medium.write(sector, [bytes(raw)])
    is_twofold = offset < FIRST_SEGMENT_BYTES or _is_backup(medium, offset)
    try:
        check_device(medium, data=True)
        filesystem = Filesystem.mount(medium, LATER_NS, recording.workload.options)
        digest = state_digest(tree_state(filesystem, LATER_NS))
    except (FilesystemError, FormatError) as error:
        if is_twofold:
            raise ViolationError(f"damage to one of two copies: {error}") from error
        return
    allowed = recording.allowed(point.event_count)
    if filesystem.read_only:
        if is_twofold:
            raise ViolationError("damage to one of two copies ends writing")
        # The log is damaged, and says so: the tree is the one before.
        allowed = range(allowed.stop)
    elif not is_twofold and _is_in_the_last_log_writes(recording, point, offset):
        allowed = range(_promised_before(recording, point), allowed.stop)
    if digest not in [recording.digests[count] for count in allowed]:
        raise ViolationError("the tree is wrong and no error says so")


def _is_backup(medium: MemoryDevice, offset: int) -> bool:
    return offset >= backup_superblock_offset_bytes(medium.size_bytes)


def _flushes(recording: Recording, point: Point) -> list[int]:
    """Return the places in the events of the flushes that had something to flush."""
    found, pending = [], False
    for index, event in enumerate(recording.events[: point.event_count]):
        if isinstance(event, Write):
            pending = event.offset_bytes >= FIRST_SEGMENT_BYTES or pending
        elif isinstance(event, Flush) and pending:
            found.append(index)
            pending = False
    return found


def _is_in_the_last_log_writes(recording: Recording, point: Point, offset: int) -> bool:
    """Tell whether no later log write can say that the one at ``offset`` was flushed."""
    last = [0, 0, *_flushes(recording, point)][-2]
    last = recording.counting.get(last, last)
    return any(
        isinstance(event, Write)
        and event.offset_bytes <= offset < event.offset_bytes + len(event.data)
        for event in recording.events[last : point.event_count]
    )


def _promised_before(recording: Recording, point: Point) -> int:
    """Return how many requests were durable before the last flush that flushed a log write."""
    last = [0, *_flushes(recording, point)][-1]
    return recording.promised[last]
