"""What blocks that stand for themselves have in common: a pointer to them and their header.

Imap nodes and usage pages are such blocks.  A pointer carries the checksum of
the block it leads to; the block carries it once more, for a scan without
pointers, and says which filesystem and address it belongs to.

Held by ``tests/ondisk/test_structures.py``.
"""

from typing import NamedTuple

from lfs.ondisk.layout import U32, U64, Bytes4, Bytes8, Layout
from lfs.ondisk.seal import damage, expect, seal_holds


class Pointer(NamedTuple):
    """Where a block is and the checksum it must have; address 0 is no block."""

    address: U64
    checksum: U32


NO_BLOCK = Pointer(0, 0)


class BlockHeader(NamedTuple):
    """How such a block begins."""

    magic: Bytes4
    checksum: U32
    filesystem_id: Bytes8
    address: U64
    """Its own."""
    sequence: U64
    """Of the log write that holds it."""


BLOCK_HEADER = Layout(BlockHeader, 32)
BLOCK_CHECKSUM_OFFSET = BLOCK_HEADER.offset("checksum")
_unpack_header = BLOCK_HEADER.struct.unpack_from


def check_header(
    raw: bytes, what: str, magic: bytes, header_bytes: int, filesystem_id: bytes, address: int
) -> None:
    """Check the header of the block ``what`` found at ``address``; raises DamageError."""
    if len(raw) < header_bytes:
        raise damage(f"{what} length", address, header_bytes, len(raw))
    found_magic, _, found_id, own_address, _ = _unpack_header(raw)
    if (found_magic, found_id, own_address) == (magic, filesystem_id, address):
        return
    expect(found_magic == magic, f"{what} magic", address, magic, found_magic)
    expect(found_id == filesystem_id, f"{what} filesystem", address, filesystem_id, found_id)
    expect(own_address == address, f"{what} place", address, address, own_address)


def block_seal_holds(raw: bytes) -> bool:
    """Tell whether a node's or usage page's own checksum holds."""
    return seal_holds(raw, BLOCK_CHECKSUM_OFFSET)


def block_sequence(raw: bytes) -> int:
    """Return the sequence number a node or usage page was written with."""
    return BlockHeader._make(_unpack_header(raw)).sequence
