"""Dirty data: what was accepted and has no place on disk yet.

Theory.  Four things must stay in step: what each dirty block of a file holds
(``lfs.alloc.spans``), the numbers of these blocks as extents (``lfs.alloc.extents``), how
many there are in all files, which is the room promised to them, and which files have any.
``DirtyData`` owns all four.  Others read a file's part (``DirtyFile``), and nobody but it
changes anything.

Nearly every file has its dirty blocks side by side.  So one extent is two numbers, and only
a file that has had several at once gets ``DirtyExtents``.

Invariants: a file has a ``DirtyFile`` exactly while it has dirty blocks, and is among
``owners`` as long; the extents are those of the blocks; ``block_count`` is their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from lfs.alloc.extents import DirtyExtents
from lfs.alloc.spans import DirtyBlocks, Held, Span, buffers_of, bytes_of, cut_around, put_blocks
from lfs.device.base import Buffer

_PAST_ALL_BLOCKS = 1 << 62


class DirtyFile:
    """The dirty blocks of one file, to be read."""

    __slots__ = ("_block_bytes", "_blocks", "_end", "_several", "_start")

    def __init__(self, block_bytes: int) -> None:
        """Start with none, of ``block_bytes`` bytes each."""
        self._block_bytes = block_bytes
        self._blocks: DirtyBlocks = {}
        self._start = 0
        self._end = 0
        """The only extent, unless there have been several."""
        self._several: DirtyExtents | None = None

    @property
    def count(self) -> int:
        """Return how many blocks are dirty."""
        several = self._several
        return self._end - self._start if several is None else several.count

    def count_in(self, start: int, count: int) -> int:
        """Return how many of ``count`` blocks at ``start`` are dirty."""
        several = self._several
        if several is not None:
            return several.count_in(start, count)
        low = self._start if self._start > start else start
        high = self._end if self._end < start + count else start + count
        return high - low if low < high else 0

    def __contains__(self, block: int) -> bool:
        """Tell whether ``block`` is dirty."""
        return block in self._blocks

    def extents(self) -> list[tuple[int, int]]:
        """Return ``(start, count)`` of each extent, ascending."""
        several = self._several
        return [(self._start, self._end - self._start)] if several is None else several.pairs()

    def _add(self, start: int, end: int) -> int:
        """Note that blocks ``start`` to ``end`` are dirty; return how many of them were not."""
        several = self._several
        if several is None:
            count = self._end - self._start
            if not count:
                self._start, self._end = start, end
                return end - start
            if start <= self._end and self._start <= end:
                if start < self._start:
                    self._start = start
                if end > self._end:
                    self._end = end
                return self._end - self._start - count
            several = self._several = DirtyExtents()
            several.add(self._start, count)
        return several.add(start, end - start)

    def _remove(self, start: int, end: int) -> int:
        """Note that blocks ``start`` to ``end`` are clean; return how many of them were dirty.

        They lie in one extent.
        """
        several = self._several
        if several is None:
            if start <= self._start:
                self._start = end
                return end - start
            if end >= self._end:
                self._end = start
                return end - start
            several = self._several = DirtyExtents()
            several.add(self._start, self._end - self._start)
        return several.remove(start, end - start)

    def _truncate(self, block: int) -> int:
        """Note that ``block`` and all after it are clean; return how many of them were dirty."""
        several = self._several
        if several is not None:
            return several.truncate(block)
        before = self._end
        self._end = max(self._start, min(before, block))
        return before - self._end

    def extents_between(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the same as far as it lies in blocks ``first`` to ``end``."""
        several = self._several
        if several is not None:
            return several.between(first, end)
        start, stop = max(self._start, first), min(self._end, end)
        return iter([(start, stop - start)] if start < stop else [])

    def part_end(self, first: int, count: int, window_blocks: int) -> int | None:
        """Return where ``count`` dirty blocks from ``first`` on end, or a few more.

        That is between two windows, and amid no extent; None past all that is dirty.
        """
        end = first
        for start, blocks in self.extents_between(first, _PAST_ALL_BLOCKS):
            if count <= 0 and start >= end:
                return end
            count -= blocks
            end = -(-(start + blocks) // window_blocks) * window_blocks
        return None

    def content(self, block: int) -> bytes | bytearray | None:
        """Return what ``block`` holds, which may end early where zeros follow; None if clean."""
        held = self._blocks.get(block)
        return None if held is None else bytes_of(held, block, self._block_bytes)

    def pieces(self, first: int, end: int) -> Iterator[tuple[int, int, bytes | None]]:
        """Yield ``(start, end, content)`` for blocks ``first`` to ``end``; None where clean."""
        block_bytes = self._block_bytes
        clean_from = block = first
        while block < end:
            held = self._blocks.get(block)
            if held is None:
                block += 1
                continue
            if clean_from < block:
                yield clean_from, block, None
            if isinstance(held, Span):
                stop = min(end, held.first + held.count)
                yield block, stop, held.blocks(block, stop, block_bytes)
                block = stop
            else:
                yield block, block + 1, bytes(held).ljust(block_bytes, b"\0")
                block += 1
            clean_from = block
        if clean_from < end:
            yield clean_from, end, None


class Owner(Protocol):
    """A file, as far as its dirty data is concerned."""

    ino: int
    dirty: DirtyFile | None


OwnerT = TypeVar("OwnerT", bound=Owner)


class DirtyData(Generic[OwnerT]):
    """The dirty data of all files."""

    def __init__(self, block_bytes: int) -> None:
        """Start with none, in blocks of ``block_bytes`` bytes."""
        self._block_bytes = block_bytes
        self.block_count = 0
        """How many blocks are dirty in all files."""
        self.owners: dict[int, OwnerT] = {}
        """The files that have some, by inode number, in the order in which they came to it."""

    def write(
        self,
        owner: OwnerT,
        first: int,
        end: int,
        offset: int,
        data: bytes,
        head: bytearray | None,
        tail: bytearray | None,
    ) -> None:
        """Make blocks ``first`` to ``end`` dirty, with ``data`` at byte ``offset`` of the file.

        Where the first or the last block is written in part, ``head`` or ``tail`` is what
        it held, to be changed and kept; of a single block that is ``head``.
        """
        block_bytes = self._block_bytes
        dirty = owner.dirty
        if dirty is None:
            dirty = self._begin(owner)
            blocks = dirty._blocks
        else:
            blocks = dirty._blocks
            cut_around(blocks, first, end, block_bytes)
        self.block_count += dirty._add(first, end)
        start = 0
        if head is not None:
            skip = offset - first * block_bytes
            start = min(len(data), block_bytes - skip)
            _overlay(head, skip, data[:start])
            blocks[first] = head
            first += 1
        if tail is not None:
            end -= 1
            _overlay(tail, 0, data[end * block_bytes - offset :])
            blocks[end] = tail
        put_blocks(blocks, first, end, data, start, block_bytes)

    def put(self, owner: OwnerT, block: int, content: bytes | bytearray) -> None:
        """Make ``block`` dirty; it holds ``content``, and zeros after it."""
        dirty = owner.dirty
        if dirty is None:
            dirty = self._begin(owner)
        cut_around(dirty._blocks, block, block + 1, self._block_bytes)
        self.block_count += dirty._add(block, block + 1)
        dirty._blocks[block] = content

    def editable(self, owner: OwnerT, block: int) -> bytearray | None:
        """Return what dirty ``block`` holds, to be given to ``write``; None if it is clean."""
        dirty = owner.dirty
        held: Held | None = dirty._blocks.get(block) if dirty else None
        if held is None or isinstance(held, bytearray):
            return held
        return bytearray(bytes_of(held, block, self._block_bytes))

    def drop(self, owner: OwnerT, first: int) -> None:
        """Give up the dirty blocks of a file from block ``first`` on."""
        dirty = owner.dirty
        if dirty is None:
            return
        blocks = dirty._blocks
        cut_around(blocks, first, _PAST_ALL_BLOCKS, self._block_bytes)
        for block in [block for block in blocks if block >= first]:
            del blocks[block]
        self.block_count -= dirty._truncate(first)
        if not blocks:
            self._forget(owner)

    def take(self, owner: OwnerT) -> list[tuple[int, int, list[Buffer]]]:
        """Return ``(start, count, buffers)`` of each extent, in file order: it is clean now."""
        dirty = owner.dirty
        if dirty is None:
            return []
        blocks, block_bytes = dirty._blocks, self._block_bytes
        taken: list[tuple[int, int, list[Buffer]]] = []
        taken_blocks = 0
        for start, count in dirty.extents():
            taken.append((start, count, buffers_of(blocks, start, count, block_bytes)))
            taken_blocks += count
        self.block_count -= taken_blocks
        self._forget(owner)
        return taken

    def take_part(self, owner: OwnerT, first: int, end: int) -> list[tuple[int, int, list[Buffer]]]:
        """Do what ``take`` does, with blocks ``first`` to ``end`` only."""
        dirty = owner.dirty
        if dirty is None:
            return []
        blocks = dirty._blocks
        cut_around(blocks, first, end, self._block_bytes)
        taken = []
        for start, count in [*dirty.extents_between(first, end)]:
            taken.append((start, count, buffers_of(blocks, start, count, self._block_bytes)))
            for block in range(start, start + count):
                del blocks[block]
            self.block_count -= dirty._remove(start, start + count)
        if not blocks:
            self._forget(owner)
        return taken

    def _begin(self, owner: OwnerT) -> DirtyFile:
        dirty = owner.dirty = DirtyFile(self._block_bytes)
        self.owners[owner.ino] = owner
        return dirty

    def _forget(self, owner: OwnerT) -> None:
        owner.dirty = None
        del self.owners[owner.ino]


def _overlay(block: bytearray, start: int, part: bytes) -> None:
    """Put ``part`` into ``block`` at ``start``, with zeros before it if need be."""
    if len(block) < start:
        block.extend(bytes(start - len(block)))
    block[start : start + len(part)] = part
