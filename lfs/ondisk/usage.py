"""Pages of the segment usage table (FORMAT.md, "Usage page").

Held by ``tests/ondisk/test_structures.py``.
"""

from collections.abc import Sequence
from itertools import starmap
from typing import NamedTuple

from lfs.ondisk.block import (
    BLOCK_CHECKSUM_OFFSET,
    BLOCK_HEADER,
    BlockHeader,
    block_sequence,
    check_header,
)
from lfs.ondisk.layout import U8, U16, U32, U64, Layout
from lfs.ondisk.seal import expect, sealed

USAGE_MAGIC = b"LUSE"

SEGMENT_CLEAN = 0
SEGMENT_RUN = 1
SEGMENT_CONTINUED = 2

USAGE_OLD_METADATA = 1


class Usage(NamedTuple):
    """Usage of one segment.

    A run is 2**order adjacent segments filled and cleaned as one; its first
    segment carries the counts, the others are ``SEGMENT_CONTINUED``.
    """

    live_blocks: U32
    order: U8
    state: U8
    flags: U16
    last_sequence: U64


USAGE = Layout(Usage, 16)
USAGE_BYTES = USAGE.size


class UsageHeader:
    """What follows the header of a block in a usage page."""

    index: U32
    count: U32
    run_address: U64
    run_blocks: U32


USAGE_HEADER = Layout(UsageHeader, 24)
_ENTRIES_OFFSET = BLOCK_HEADER.size + USAGE_HEADER.size


class UsagePage(NamedTuple):
    """A usage page: its entries, and where it lies itself, which no entry tells."""

    entries: Sequence[Usage]
    sequence: int
    """Of the log write that holds the page."""
    run_address: int
    """First block of the run that the page lies in."""
    run_blocks: int


def usage_per_page(block_bytes: int) -> int:
    """Return how many segments a usage page of ``block_bytes`` describes."""
    return (block_bytes - _ENTRIES_OFFSET) // USAGE_BYTES


def pack_usage_page(
    page: UsagePage, index: int, filesystem_id: bytes, address: int, block_bytes: int
) -> bytes:
    """Return the block of usage page ``index`` for ``address``."""
    header = BlockHeader(USAGE_MAGIC, 0, filesystem_id, address, page.sequence)
    own = USAGE_HEADER.pack(
        index=index,
        count=len(page.entries),
        run_address=page.run_address,
        run_blocks=page.run_blocks,
    )
    entries = b"".join(starmap(USAGE.struct.pack, page.entries))
    raw = BLOCK_HEADER.pack(header) + own + entries
    return sealed(raw.ljust(block_bytes, b"\0"), BLOCK_CHECKSUM_OFFSET)


def unpack_usage_page(raw: bytes, index: int, filesystem_id: bytes, address: int) -> UsagePage:
    """Read usage page ``index`` whose bytes were verified against its pointer.

    Raises DamageError when they are none, another filesystem's, or belong elsewhere.
    """
    check_header(raw, "usage page", USAGE_MAGIC, _ENTRIES_OFFSET, filesystem_id, address)
    header = USAGE_HEADER.unpack(raw, BLOCK_HEADER.size)
    count, run_address, run_blocks = header["count"], header["run_address"], header["run_blocks"]
    expect(header["index"] == index, "usage page index", address, index, header["index"])
    end = _ENTRIES_OFFSET + count * USAGE_BYTES
    expect(end <= len(raw), "usage page count", address, len(raw), count)
    inside = run_address <= address < run_address + run_blocks
    expect(inside, "usage page run", address, "itself inside", (run_address, run_blocks))
    entries = [*map(Usage._make, USAGE.struct.iter_unpack(raw[_ENTRIES_OFFSET:end]))]
    return UsagePage(entries, block_sequence(raw), run_address, run_blocks)
