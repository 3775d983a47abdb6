"""The contents of dirty blocks, by block and by span.

Theory.  A large write is kept as it came: its whole blocks are one *span*, one
buffer that is neither cut up nor copied before it is written out.  A second copy of
a MiB costs little by itself; the memory that has to be found for it costs several
times as much as its checksums.  Everything else is kept block by block, padded when
it is written out.

Invariant: each block of a span leads to the span.  Whoever takes some of them away
or changes them cuts the span up first (``cut_around``), so no buffer is kept for
longer than its blocks are dirty, and what is kept is hardly more than what is dirty.
"""

from __future__ import annotations

from lfs.device.base import Buffer

SPAN_BLOCKS_MIN = 4


class Span:
    """``count`` whole blocks from file block ``first`` on, in ``data`` from ``start`` on."""

    __slots__ = ("count", "data", "first", "start")

    def __init__(self, first: int, count: int, data: bytes, start: int) -> None:
        """Keep ``data``; nothing of it changes any more."""
        self.first = first
        self.count = count
        self.data = data
        self.start = start

    def buffer(self, block_bytes: int) -> Buffer:
        """Return the bytes of all blocks, without a copy."""
        length = self.count * block_bytes
        if length == len(self.data):
            return self.data
        return memoryview(self.data)[self.start : self.start + length]

    def block(self, block: int, block_bytes: int) -> bytes:
        """Return the bytes of one block."""
        return self.blocks(block, block + 1, block_bytes)

    def blocks(self, first: int, end: int, block_bytes: int) -> bytes:
        """Return the bytes of blocks ``first`` to ``end``."""
        start = self.start - self.first * block_bytes
        return self.data[start + first * block_bytes : start + end * block_bytes]


Held = bytes | bytearray | Span
"""What a dirty block leads to: its bytes, which end early where zeros follow, or its span."""

DirtyBlocks = dict[int, Held]


def put_blocks(
    blocks: DirtyBlocks, first: int, end: int, data: bytes, start: int, block_bytes: int
) -> None:
    """Let ``blocks`` ``first`` to ``end`` lead to ``data`` from ``start`` on.

    The last one may end early.  Spans that lie there in part have been cut.
    """
    whole = min(end - first, (len(data) - start) // block_bytes)
    if whole >= SPAN_BLOCKS_MIN and type(data) is bytes:
        span = Span(first, whole, data, start)
        blocks.update(dict.fromkeys(range(first, first + whole), span))
        first += whole
        start += whole * block_bytes
    if end - first == 1 and start == 0 and len(data) <= block_bytes:
        blocks[first] = data
        return
    for block in range(first, end):
        blocks[block] = data[start : start + block_bytes]
        start += block_bytes


def cut_around(blocks: DirtyBlocks, first: int, end: int, block_bytes: int) -> None:
    """Cut up the spans that lie in part between blocks ``first`` and ``end``."""
    for edge in (first,) if end - first == 1 else (first, end - 1):
        span = blocks.get(edge)
        if type(span) is Span and (span.first < first or span.first + span.count > end):
            for block in range(span.first, span.first + span.count):
                blocks[block] = span.block(block, block_bytes)


def bytes_of(held: Held, block: int, block_bytes: int) -> bytes | bytearray:
    """Return what ``held`` says of ``block``; it may end early where zeros follow."""
    return held.block(block, block_bytes) if isinstance(held, Span) else held


def buffers_of(blocks: DirtyBlocks, first: int, count: int, block_bytes: int) -> list[Buffer]:
    """Return whole blocks ``first`` to ``first + count``, all dirty, in as few buffers as can be.

    No span lies in that range in part.
    """
    buffers: list[Buffer] = []
    end = first + count
    while first < end:
        held = blocks[first]
        if isinstance(held, Span):
            buffers.append(held.buffer(block_bytes))
            first += held.count
        else:
            whole = held if type(held) is bytes else bytes(held)
            buffers.append(whole if len(whole) == block_bytes else whole.ljust(block_bytes, b"\0"))
            first += 1
    return buffers
