"""What is wrong with the medium itself: bad sectors, stuck bits, room, old versions.

Held by ``tests/device/fault/test_faulty.py``.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator

from lfs.device.fault.plan.faults import Bad, Stuck
from lfs.device.fault.plan.rule import SECTOR_BYTES

_ROOM_BYTES = 4096
_OLD_SECTORS_MAX = 65536
_RECENT_MAX = 4096


class BadSectors:
    """Reads of these fail; a write remaps them, as long as there are spare sectors."""

    def __init__(self, rule: Bad) -> None:
        """Begin with the ranges of the plan."""
        self._ranges = list(rule.ranges)
        self._spare = rule.spare
        self.remapped_count = 0

    def touches(self, offset_bytes: int, length_bytes: int) -> bool:
        """Tell whether a range has bad sectors."""
        end = offset_bytes + length_bytes
        return any(offset_bytes < last and first < end for first, last in self._ranges)

    def remap(self, offset_bytes: int, length_bytes: int) -> bool:
        """Make a range good; False when too few spare sectors are left, and nothing changes."""
        end = offset_bytes + length_bytes
        left: list[tuple[int, int]] = []
        count = 0
        for first, last in self._ranges:
            if offset_bytes >= last or first >= end:
                left.append((first, last))
                continue
            taken = min(last, end) - max(first, offset_bytes)
            count += -(-taken // SECTOR_BYTES)
            left.extend(
                piece for piece in ((first, offset_bytes), (end, last)) if piece[0] < piece[1]
            )
        if self._spare and self.remapped_count + count > self._spare:
            return False
        self.remapped_count += count
        self._ranges = left
        return True


class StuckBits:
    """Bits that always read the same: drawn over the rule's ranges, or the whole device."""

    def __init__(self, rule: Stuck, size_bytes: int, generator: random.Random) -> None:
        """Draw the bits."""
        ranges = [
            (first, min(last, size_bytes))
            for first, last in rule.when.ranges or ((0, size_bytes),)
            if first < size_bytes
        ]
        self._bits: dict[int, list[tuple[int, int, int]]] = {}
        for _ in range(rule.bits if ranges else 0):
            place = _draw_byte(ranges, generator)
            bit, value = generator.randrange(8), generator.randrange(2)
            self._bits.setdefault(place // SECTOR_BYTES, []).append(
                (place % SECTOR_BYTES, 1 << bit, value)
            )

    def apply(self, offset_bytes: int, data: bytes) -> bytes:
        """Return ``data`` as it is read at ``offset_bytes``."""
        if not self._bits:
            return data
        first = offset_bytes // SECTOR_BYTES
        changed = bytearray(data)
        for index in range(len(data) // SECTOR_BYTES):
            for place, mask, value in self._bits.get(first + index, ()):
                at = index * SECTOR_BYTES + place
                changed[at] = changed[at] | mask if value else changed[at] & ~mask
        return bytes(changed)


def _draw_byte(ranges: list[tuple[int, int]], generator: random.Random) -> int:
    place = generator.randrange(sum(last - first for first, last in ranges))
    for first, last in ranges:
        if place < last - first:
            return first + place
        place -= last - first
    raise AssertionError(place)


class Room:
    """Which places of a device have ever been written, for one that can fill up."""

    def __init__(self, size_bytes: int) -> None:
        """Nothing is written; ``size_bytes`` may be."""
        self._count_max = size_bytes // _ROOM_BYTES
        self._used: set[int] = set()

    def take(self, offset_bytes: int, length_bytes: int) -> bool:
        """Count a range as written; False when there is no room, and nothing changes."""
        first = offset_bytes // _ROOM_BYTES
        wanted = set(range(first, -(-(offset_bytes + length_bytes) // _ROOM_BYTES)))
        wanted -= self._used
        if len(self._used) + len(wanted) > self._count_max:
            return False
        self._used |= wanted
        return True


class History:
    """The contents that the last writes replaced, sector by sector, the oldest forgotten first."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._old: OrderedDict[int, bytes] = OrderedDict()

    def keep(self, offset_bytes: int, data: bytes) -> None:
        """Remember ``data``, which is about to be overwritten."""
        first = offset_bytes // SECTOR_BYTES
        for index in range(len(data) // SECTOR_BYTES):
            start = index * SECTOR_BYTES
            self._old[first + index] = data[start : start + SECTOR_BYTES]
            self._old.move_to_end(first + index)
        while len(self._old) > _OLD_SECTORS_MAX:
            self._old.popitem(last=False)

    def aged(self, offset_bytes: int, data: bytes) -> bytes:
        """Return ``data`` with each sector as it was one write before, where that is known."""
        first = offset_bytes // SECTOR_BYTES
        sectors = [data[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES)]
        return b"".join(
            self._old.get(first + index, sector) for index, sector in enumerate(sectors)
        )


class RecentWrites:
    """Where the last writes went: the places in which bits flip at rest."""

    def __init__(self) -> None:
        """Know of none."""
        self._places: OrderedDict[tuple[int, int], None] = OrderedDict()

    def note(self, offset_bytes: int, length_bytes: int) -> None:
        """Remember a write."""
        self._places[offset_bytes, length_bytes] = None
        self._places.move_to_end((offset_bytes, length_bytes))
        if len(self._places) > _RECENT_MAX:
            self._places.popitem(last=False)

    def draw_byte(
        self, ranges: tuple[tuple[int, int], ...], generator: random.Random
    ) -> int | None:
        """Return a byte of one of them inside ``ranges``, or None when there is none."""
        places = list(self._inside(ranges))
        return _draw_byte(places, generator) if places else None

    def _inside(self, ranges: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
        for offset_bytes, length_bytes in self._places:
            end = offset_bytes + length_bytes
            if not ranges:
                yield offset_bytes, end
            for first, last in ranges:
                if offset_bytes < last and first < end:
                    yield max(first, offset_bytes), min(last, end)


def with_flipped_bit(data: bytes, bit: int) -> bytes:
    """Return ``data`` with one bit the other way round."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
