"""The volatile write cache of a disk, and what a power cut leaves of it.

Theory.  A write that was acknowledged is in the cache, in the order of arrival.
Reads see the newest of everything.  A write leaves the cache for the medium
when it is flushed, when it overtakes the others (``reorder``, FUA), or when it
is the oldest and the cache is too full.  What left early must not be undone by
an older write that leaves later: such a write then lacks those sectors, as on a
disk whose cache holds one copy of each sector.

A power cut lets some of the writes arrive, in order, and forgets the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lfs.device.base import BlockDevice
from lfs.device.fault.plan.power import Survival
from lfs.device.fault.plan.rule import SECTOR_BYTES


@dataclass(slots=True, eq=False)
class CachedWrite:
    """One write that is not on the medium yet; ``gone`` are sectors that newer data took."""

    offset_bytes: int
    data: bytes
    gone: set[int] = field(default_factory=set)

    def sectors(self) -> range:
        """Return the numbers of the sectors it covers."""
        first = self.offset_bytes // SECTOR_BYTES
        return range(first, first + len(self.data) // SECTOR_BYTES)

    def pieces(self, kept: Sequence[int] | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield offset and data of what is left of it, only ``kept`` sectors unless None."""
        if not self.gone and kept is None:
            yield self.offset_bytes, self.data
            return
        wanted = self.sectors() if kept is None else kept
        for first, end in _spans(sector for sector in wanted if sector not in self.gone):
            start = first * SECTOR_BYTES - self.offset_bytes
            yield first * SECTOR_BYTES, self.data[start : start + (end - first) * SECTOR_BYTES]


def _spans(sectors: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the rows of adjacent numbers in an ascending sequence, end exclusive."""
    first = end = -1
    for sector in sectors:
        if sector != end:
            if first >= 0:
                yield first, end
            first = sector
        end = sector + 1
    if first >= 0:
        yield first, end


class WriteCache:
    """The writes between the last flush and now, on their way to ``medium``."""

    def __init__(self, medium: BlockDevice) -> None:
        """Start empty."""
        self._medium = medium
        self._writes: dict[int, CachedWrite] = {}
        self._newest: dict[int, CachedWrite] = {}
        self._number = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._writes)

    # ------------------------------------------------------------------- requests

    def holds(self, offset_bytes: int) -> bool:
        """Tell whether the newest content of a sector is here and not on the medium."""
        return offset_bytes // SECTOR_BYTES in self._newest

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return the newest content of a range; raises what the medium raises."""
        raw = self._medium.read(offset_bytes, length_bytes)
        if not self._newest:
            return raw
        first = offset_bytes // SECTOR_BYTES
        cached = [
            (sector, write)
            for sector in range(first, first + length_bytes // SECTOR_BYTES)
            if (write := self._newest.get(sector)) is not None
        ]
        if not cached:
            return raw
        patched = bytearray(raw)
        for sector, write in cached:
            start = sector * SECTOR_BYTES - write.offset_bytes
            place = (sector - first) * SECTOR_BYTES
            patched[place : place + SECTOR_BYTES] = write.data[start : start + SECTOR_BYTES]
        return bytes(patched)

    def add(self, offset_bytes: int, data: bytes) -> int:
        """Take a write; return its number, by which it can be persisted."""
        write = CachedWrite(offset_bytes, data)
        self._number += 1
        self._writes[self._number] = write
        for sector in write.sectors():
            self._newest[sector] = write
        self.size_bytes += len(data)
        return self._number

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Forget what the cache has of a range, and discard it on the medium at once."""
        first = offset_bytes // SECTOR_BYTES
        doomed = range(first, first + length_bytes // SECTOR_BYTES)
        for write in self._writes.values():
            covered = write.sectors()
            write.gone.update(
                range(max(doomed.start, covered.start), min(doomed.stop, covered.stop))
            )
        for sector in [sector for sector in self._newest if sector in doomed]:
            del self._newest[sector]
        self._medium.discard(offset_bytes, length_bytes)

    # ---------------------------------------------------------------- to the medium

    def persist(self, number: int) -> None:
        """Put a write onto the medium before its turn; raises what the medium raises."""
        write = self._writes[number]
        for offset_bytes, data in write.pieces():
            self._medium.write(offset_bytes, [data])
        self._leave(number)
        covered = write.sectors()
        for other_number, other in self._writes.items():
            if other_number > number:
                break
            overlap = other.sectors()
            other.gone.update(
                range(max(covered.start, overlap.start), min(covered.stop, overlap.stop))
            )

    def shrink(self, size_bytes_max: int) -> None:
        """Persist the oldest writes until at most ``size_bytes_max`` are left."""
        while self.size_bytes > size_bytes_max:
            self.persist(next(iter(self._writes)))

    def _leave(self, number: int) -> None:
        write = self._writes.pop(number)
        self.size_bytes -= len(write.data)
        for sector in write.sectors():
            if self._newest.get(sector) is write:
                del self._newest[sector]

    # ----------------------------------------------------------------- the power cut

    def cut(self, survival: Survival, generator: random.Random) -> tuple[list[int], int]:
        """Let some writes arrive and forget all; return which (from 1) and of how many."""
        writes = list(self._writes.values())
        survivors = _survivors(survival, len(writes), generator)
        for index in survivors:
            write = writes[index]
            kept = None
            if survival.mode == "torn":
                kept = torn_sectors(write.sectors(), survival.atomic_bytes, generator)
            for offset_bytes, data in write.pieces(kept):
                self._medium.write(offset_bytes, [data])
        self._writes.clear()
        self._newest.clear()
        self.size_bytes = 0
        self._medium.flush()
        return [index + 1 for index in survivors], len(writes)


def _survivors(survival: Survival, count: int, generator: random.Random) -> list[int]:
    """Return the indices of the writes that arrive."""
    if survival.mode == "none":
        return []
    if survival.mode == "all":
        return list(range(count))
    if survival.mode == "order":
        return list(range(generator.randint(0, count)))
    if survival.mode == "writes":
        return [number - 1 for number in sorted(set(survival.numbers)) if number <= count]
    return [index for index in range(count) if generator.random() < 0.5]


def torn_sectors(sectors: range, atomic_bytes: int, generator: random.Random) -> list[int]:
    """Return a random part of ``sectors``, in which pieces of ``atomic_bytes`` stay whole.

    The pieces are those of the device, not of the write: with an atomicity of
    4 KiB a write that crosses a border of 4 KiB may be torn there.
    """
    size = atomic_bytes // SECTOR_BYTES
    pieces = sorted({sector // size for sector in sectors})
    kept = {piece for piece in pieces if generator.random() < 0.5}
    return [sector for sector in sectors if sector // size in kept]
