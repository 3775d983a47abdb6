"""Pages of the segment usage table (FORMAT.md, "Usage page")."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from lfs.ondisk.block import BLOCK_CHECKSUM_OFFSET, BLOCK_HEADER, block_sequence, check_header
from lfs.ondisk.seal import expect, sealed

USAGE_MAGIC = b"LUSE"
_USAGE_HEADER = struct.Struct("<IIQII")
_USAGE = struct.Struct("<IBBHQ")
assert _USAGE.size == 16
USAGE_BYTES = _USAGE.size

SEGMENT_CLEAN = 0
SEGMENT_RUN = 1
SEGMENT_CONTINUED = 2

USAGE_OLD_METADATA = 1


class Usage(NamedTuple):
    """Usage of one segment.

    A run is 2**order adjacent segments filled and cleaned as one; its first
    segment carries the counts, the others are ``SEGMENT_CONTINUED``.
    """

    live_blocks: int
    order: int
    state: int
    last_sequence: int
    flags: int = 0


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
    return (block_bytes - BLOCK_HEADER.size - _USAGE_HEADER.size) // _USAGE.size


def pack_usage_page(
    page: UsagePage, index: int, filesystem_id: bytes, address: int, block_bytes: int
) -> bytes:
    """Return the block of usage page ``index`` for ``address``."""
    body = b"".join(
        _USAGE.pack(live, order, state, flags, last)
        for live, order, state, last, flags in page.entries
    )
    header = BLOCK_HEADER.pack(USAGE_MAGIC, 0, filesystem_id, address, page.sequence)
    own = _USAGE_HEADER.pack(index, len(page.entries), page.run_address, page.run_blocks, 0)
    raw = header + own + body
    return sealed(raw.ljust(block_bytes, b"\0"), BLOCK_CHECKSUM_OFFSET)


def unpack_usage_page(raw: bytes, index: int, filesystem_id: bytes, address: int) -> UsagePage:
    """Read usage page ``index`` whose bytes were verified against its pointer.

    Raises DamageError when they are none, another filesystem's, or belong elsewhere.
    """
    header_bytes = BLOCK_HEADER.size + _USAGE_HEADER.size
    check_header(raw, "usage page", USAGE_MAGIC, header_bytes, filesystem_id, address)
    own_index, count, run_address, run_blocks, _ = _USAGE_HEADER.unpack_from(raw, BLOCK_HEADER.size)
    expect(own_index == index, "usage page index", address, index, own_index)
    end = header_bytes + count * _USAGE.size
    expect(end <= len(raw), "usage page count", address, len(raw), count)
    inside = run_address <= address < run_address + run_blocks
    expect(inside, "usage page run", address, "itself inside", (run_address, run_blocks))
    entries = [
        Usage(live, order, state, last, flags)
        for live, order, state, flags, last in _USAGE.iter_unpack(raw[header_bytes:end])
    ]
    return UsagePage(entries, block_sequence(raw), run_address, run_blocks)
