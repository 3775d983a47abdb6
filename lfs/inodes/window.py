"""The decoded extent map of some adjacent file blocks, 128 or so.

Extents are in file order and do not overlap; every mapped block has a checksum, what is
not mapped reads as zeros (FORMAT.md, "Window").

Held by ``tests/inodes/test_table.py`` and ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

from lfs.common.checksum import CHECKSUM_BYTES
from lfs.imap.map import Packable
from lfs.ondisk import (
    EXTENT_BYTES,
    KIND_WINDOW,
    WINDOW_HEADER_BYTES,
    Extent,
    WindowItem,
    pack_key,
)

_WINDOW_MEMORY_BYTES = 800
_EXTENT_MEMORY_BYTES = 108


_no_checksums = array("I")


def _zeros(count: int) -> array[int]:
    """Return ``count`` zeros, which are to be copied."""
    global _no_checksums
    if len(_no_checksums) != count:
        _no_checksums = array("I", bytes(CHECKSUM_BYTES * count))
    return _no_checksums


class Window(Packable):
    """Where the blocks of one window are: extents in file order, a checksum for each block."""

    __slots__ = ("checksums", "extents", "kept_bytes", "key", "mapped", "pinned_bytes", "was_used")

    def __init__(self, block_count: int, key: bytes = b"") -> None:
        """Map nothing of ``block_count`` file blocks; ``key`` is that of the item."""
        super().__init__()
        self.key = key
        self.extents: list[tuple[int, int, int]] = []
        self.checksums = _zeros(block_count)[:]
        self.mapped = 0
        self.pinned_bytes = 0
        """What it was counted as when it was pinned."""
        self.kept_bytes = 0
        """What ``lfs.inodes.window_cache`` counts it as."""
        self.was_used = False
        """Whether it was changed since that cache looked at it."""

    @classmethod
    def unpack(cls, raw: bytes, block_count: int, key: bytes = b"") -> Window:
        """Read a window item; raises DamageError."""
        item = WindowItem.unpack(raw, block_count)
        window = cls(block_count, key)
        position = 0
        for first, count, _, address in item.extents:
            window.extents.append((first, count, address))
            window.checksums[first : first + count] = array(
                "I", item.checksums[position : position + count]
            )
            position += count
        window.mapped = position
        window.stored_bytes = len(raw)
        return window

    @property
    def memory_bytes(self) -> int:
        """Return about how much memory the window takes, and keeping it."""
        return (
            _WINDOW_MEMORY_BYTES
            + CHECKSUM_BYTES * len(self.checksums)
            + _EXTENT_MEMORY_BYTES * len(self.extents)
        )

    @property
    def packed_bytes(self) -> int:
        """Return the length of what ``pack`` returns."""
        return WINDOW_HEADER_BYTES + EXTENT_BYTES * len(self.extents) + CHECKSUM_BYTES * self.mapped

    def pack(self) -> bytes:
        """Return the window item's value."""
        extents = tuple(Extent(first, count, 0, address) for first, count, address in self.extents)
        checksums: list[int] = []
        for first, count, _ in self.extents:
            checksums += self.checksums[first : first + count]
        return WindowItem(extents, tuple(checksums)).pack()

    def map(self, first: int, checksums: Sequence[int], address: int) -> list[tuple[int, int]]:
        """Map ``len(checksums)`` blocks from ``first`` on to ``address``.

        Returns the ``(address, count)`` of what was there before.
        """
        count = len(checksums)
        extents = self.extents
        if count == 1:
            self.checksums[first] = checksums[0]
        else:
            self.checksums[first : first + count] = array("I", checksums)
        if not extents:
            self.mapped = count
            extents.append((first, count, address))
            return []
        start, length, at = extents[-1]
        if start + length <= first:
            # What is written in order goes behind the last extent.
            self.mapped += count
            if start + length == first and at + length == address:
                extents[-1] = start, length + count, at
            else:
                extents.append((first, count, address))
            return []
        if start == first and length == count:
            # What is overwritten is often what was written at once, such as a small file.
            extents[-1] = first, count, address
            if len(extents) > 1:
                self._join_last()
            return [(at, count)]
        replaced = self.unmap(first, first + count)
        self.mapped += count
        self._insert(bisect_left(extents, (first,)), first, count, address)
        return replaced

    def _join_last(self) -> None:
        """Make the last two extents one where they adjoin."""
        first, count, address = self.extents.pop()
        self._insert(len(self.extents), first, count, address)

    def _insert(self, index: int, first: int, count: int, address: int) -> None:
        """Put an extent at ``index``, as one with those that it adjoins."""
        extents = self.extents
        if index:
            start, length, at = extents[index - 1]
            if start + length == first and at + length == address:
                index -= 1
                first, count, address = start, length + count, at
                del extents[index]
        if index < len(extents):
            start, length, at = extents[index]
            if first + count == start and address + count == at:
                count += length
                del extents[index]
        extents.insert(index, (first, count, address))

    def unmap(self, first: int, end: int) -> list[tuple[int, int]]:
        """Unmap blocks ``first`` to ``end``; returns the ``(address, count)`` they had."""
        extents = self.extents
        low_index = bisect_left(extents, (first,))
        if low_index:
            start, count, _ = extents[low_index - 1]
            low_index -= start + count > first
        high_index = bisect_left(extents, (end,), low_index)
        if low_index == high_index:
            return []
        replaced: list[tuple[int, int]] = []
        kept: list[tuple[int, int, int]] = []
        for start, count, address in extents[low_index:high_index]:
            low, high = max(start, first), min(start + count, end)
            replaced.append((address + low - start, high - low))
            if start < low:
                kept.append((start, low - start, address))
            if high < start + count:
                kept.append((high, start + count - high, address + high - start))
            self.mapped -= high - low
        extents[low_index:high_index] = kept
        return replaced

    def fragment_count(self, count_max: int) -> int:
        """Return in how many places on disk the blocks lie; a hole alone parts nothing.

        Counts no further than ``count_max``, which is at least 1.
        """
        found, end = 0, -1
        for _, count, address in self.extents:
            if address != end:
                found += 1
                if found == count_max:
                    break
            end = address + count
        return found

    def address(self, block: int) -> int:
        """Return the address of ``block`` of this window, or 0."""
        for first, count, address in self.extents:
            if first <= block < first + count:
                return address + block - first
        return 0

    def place_of(self, first: int, end: int) -> int:
        """Return the address of blocks ``first`` to ``end`` if they lie in one extent, or 0."""
        for start, count, address in self.extents:
            if start <= first and end <= start + count:
                return address + first - start
        return 0

    def pieces(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """Return ``(block, count, address)`` covering ``first`` to ``end``; address 0 is a hole."""
        found: list[tuple[int, int, int]] = []
        position = first
        for start, count, address in self.extents:
            if start + count <= position:
                continue
            if start >= end:
                break
            if start > position:
                found.append((position, start - position, 0))
                position = start
            high = min(start + count, end)
            found.append((position, high - position, address + position - start))
            position = high
        if position < end:
            found.append((position, end - position, 0))
        return found


def shares(first: int, end: int, window_blocks: int) -> list[tuple[int, int, int]]:
    """Return ``(index, start, stop)`` of each window that has some of ``first`` to ``end``.

    ``first`` and ``end`` count blocks of the file, ``start`` and ``stop`` those of the window.
    """
    index, start = first // window_blocks, first % window_blocks
    if start + end - first <= window_blocks and first < end:
        return [(index, start, start + end - first)]
    found: list[tuple[int, int, int]] = []
    while first < end:
        stop = min(window_blocks, start + end - first)
        found.append((index, start, stop))
        first += stop - start
        index, start = index + 1, 0
    return found


def window_key(ino: int, index: int) -> bytes:
    """Return the imap key of window ``index`` of inode ``ino``."""
    return pack_key(ino, KIND_WINDOW, index)
