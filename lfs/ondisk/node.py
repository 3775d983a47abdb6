"""Nodes of the imap: leaves hold items, branches hold pointers (FORMAT.md, "Imap")."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lfs.ondisk.block import BLOCK_CHECKSUM_OFFSET, BLOCK_HEADER, Pointer, check_header
from lfs.ondisk.seal import expect, sealed

NODE_MAGIC = b"LNOD"
_NODE_HEADER = struct.Struct("<BBHI")
_LEAF_SLOT = struct.Struct("<17sH")
_BRANCH_SLOT = struct.Struct("<17sQI")
assert _NODE_HEADER.size == 8
assert _LEAF_SLOT.size == 19
assert _BRANCH_SLOT.size == 29
NODE_HEADER_BYTES = BLOCK_HEADER.size + _NODE_HEADER.size
LEAF_SLOT_BYTES = _LEAF_SLOT.size
BRANCH_SLOT_BYTES = _BRANCH_SLOT.size


class Branch(NamedTuple):
    """A decoded inner node: children in key order."""

    level: int
    keys: list[bytes]
    children: list[Pointer]


class Leaf(NamedTuple):
    """A decoded leaf: items in key order."""

    keys: list[bytes]
    values: list[bytes]

    @property
    def level(self) -> int:
        """Return 0."""
        return 0


Node = Branch | Leaf


def pack_node(
    node: Node, filesystem_id: bytes, address: int, sequence: int, block_bytes: int
) -> bytes:
    """Return the block of ``node`` for ``address``, padded to ``block_bytes``."""
    count = len(node.keys)
    if isinstance(node, Leaf):
        slots = b"".join(map(_LEAF_SLOT.pack, node.keys, map(len, node.values)))
        body = slots + b"".join(node.values)
    else:
        body = b"".join(
            _BRANCH_SLOT.pack(key, child.address, child.checksum)
            for key, child in zip(node.keys, node.children, strict=True)
        )
    used = NODE_HEADER_BYTES + len(body)
    assert used <= block_bytes, (used, block_bytes)
    header = BLOCK_HEADER.pack(NODE_MAGIC, 0, filesystem_id, address, sequence)
    raw = header + _NODE_HEADER.pack(node.level, 0, count, used) + body
    return sealed(raw.ljust(block_bytes, b"\0"), BLOCK_CHECKSUM_OFFSET)


def unpack_node(raw: bytes, filesystem_id: bytes, address: int) -> Node:
    """Read a node whose bytes the caller has verified against its pointer.

    Raises DamageError when they are none, another filesystem's, or belong elsewhere.
    """
    check_header(raw, "node", NODE_MAGIC, NODE_HEADER_BYTES, filesystem_id, address)
    level, _, count, used = _NODE_HEADER.unpack_from(raw, BLOCK_HEADER.size)
    expect(NODE_HEADER_BYTES <= used <= len(raw), "node length", address, len(raw), used)
    slot = _BRANCH_SLOT if level else _LEAF_SLOT
    values_offset = NODE_HEADER_BYTES + count * slot.size
    expect(values_offset <= used, "node slots", address, used, values_offset)
    slots = raw[NODE_HEADER_BYTES:values_offset]
    if level:
        branch_slots = list(_BRANCH_SLOT.iter_unpack(slots))
        keys = [key for key, _, _ in branch_slots]
        node: Node = Branch(
            level, keys, [Pointer(child, value) for _, child, value in branch_slots]
        )
    else:
        leaf_slots = list(_LEAF_SLOT.iter_unpack(slots))
        keys = [key for key, _ in leaf_slots]
        values = list(_split(raw, values_offset, [length for _, length in leaf_slots]))
        expect(
            values_offset + sum(map(len, values)) == used,
            "leaf values",
            address,
            used,
            values_offset,
        )
        node = Leaf(keys, values)
    ordered = all(left < right for left, right in pairwise(keys))
    expect(ordered, "node key order", address, "ascending keys", "others")
    return node


def _split(raw: bytes, offset: int, lengths: Sequence[int]) -> Iterator[bytes]:
    for length in lengths:
        yield raw[offset : offset + length]
        offset += length
