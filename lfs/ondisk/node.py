"""Nodes of the imap: leaves hold items, branches hold pointers (FORMAT.md, "Imap").

Held by ``tests/ondisk/test_structures.py``.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import lt
from typing import Annotated, NamedTuple

from lfs.ondisk.block import BLOCK_CHECKSUM_OFFSET, BLOCK_HEADER, Pointer, check_header
from lfs.ondisk.key import KEY_BYTES
from lfs.ondisk.layout import U8, U16, U32, AfterZeros, Bytes17, Layout
from lfs.ondisk.seal import damage, sealed
from lfs.ondisk.superblock import BLOCK_BYTES_MAX

NODE_MAGIC = b"LNOD"


class NodeHeader:
    """What follows the header of a block in a node."""

    level: U8
    count: Annotated[U16, AfterZeros(1)]
    used_bytes: U32


class LeafSlot:
    """What a leaf says of each item before the values."""

    key: Bytes17
    value_bytes: U16


class BranchSlot:
    """What a branch says of each child."""

    key: Bytes17
    child: Pointer


NODE_HEADER = Layout(NodeHeader, 8)
LEAF_SLOT = Layout(LeafSlot, 19)
BRANCH_SLOT = Layout(BranchSlot, 29)
NODE_HEADER_BYTES = BLOCK_HEADER.size + NODE_HEADER.size
LEAF_SLOT_BYTES = LEAF_SLOT.size
BRANCH_SLOT_BYTES = BRANCH_SLOT.size


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


class PackedLeaf:
    """A leaf as its block has it: an item is found without decoding all of them.

    It was checked like any other, but takes a third of the memory of a ``Leaf``.
    Where it is asked often, ``unfold`` makes finding a key faster for half of that.
    """

    __slots__ = ("_keys", "_offsets", "_raw", "count", "get_count")

    level = 0

    def __init__(self, raw: bytes, offsets: "array[int]") -> None:
        """Take a block and where each value begins in it, and where the last one ends."""
        self._raw = raw
        self._offsets = offsets
        self._keys: tuple[bytes, ...] | None = None
        self.count = len(offsets) - 1
        self.get_count = 0
        """How often a key was looked for while folded."""

    @property
    def is_unfolded(self) -> bool:
        """Tell whether the keys are decoded."""
        return self._keys is not None

    def unfold(self) -> None:
        """Decode the keys."""
        self._keys = self._decoded_keys(0, self.count)

    def fold(self) -> None:
        """Let the decoded keys go."""
        self._keys = None
        self.get_count = 0

    @property
    def memory_bytes(self) -> int:
        """Return about how much memory this takes."""
        item_bytes = 4 if self._keys is None else 4 + _KEY_OBJECT_BYTES
        return len(self._raw) + item_bytes * self.count + _OBJECT_BYTES

    @property
    def keys(self) -> list[bytes]:
        """Return all keys, in order."""
        return list(self._decoded_keys(0, self.count))

    @property
    def values(self) -> list[bytes]:
        """Return all values, in the order of their keys."""
        return [self._raw[start:end] for start, end in pairwise(self._offsets)]

    @property
    def item_sizes(self) -> list[int]:
        """Return how many bytes of a leaf each item takes, in the order of their keys."""
        return [LEAF_SLOT_BYTES + end - start for start, end in pairwise(self._offsets)]

    def _decoded_keys(self, low: int, high: int) -> tuple[bytes, ...]:
        start = NODE_HEADER_BYTES + low * LEAF_SLOT_BYTES
        return _slots_of(high - low).unpack_from(self._raw, start)[::2]

    def get(self, key: bytes) -> bytes | None:
        """Return the value of ``key``, or None."""
        raw = self._raw
        if self._keys is not None:
            index = bisect_left(self._keys, key)
            found = index < self.count and self._keys[index] == key
        else:
            self.get_count += 1
            index = bisect_left(_KEY_PLACES, key, 0, self.count, key=raw.__getitem__)
            found = index < self.count and raw[_KEY_PLACES[index]] == key
        return raw[self._offsets[index] : self._offsets[index + 1]] if found else None

    def between(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        """Return the items with ``start <= key < end``, in order."""
        raw = self._raw
        low = bisect_left(_KEY_PLACES, start, 0, self.count, key=raw.__getitem__)
        high = bisect_left(_KEY_PLACES, end, low, self.count, key=raw.__getitem__)
        values = [raw[a:b] for a, b in pairwise(self._offsets[low : high + 1])]
        return list(zip(self._decoded_keys(low, high), values, strict=True))


EMPTY_LEAF = PackedLeaf(bytes(NODE_HEADER_BYTES), array("I", [NODE_HEADER_BYTES]))
_OBJECT_BYTES = 256
_KEY_OBJECT_BYTES = 72
_KEY_PLACES = [
    slice(start, start + KEY_BYTES)
    for start in range(NODE_HEADER_BYTES, BLOCK_BYTES_MAX - KEY_BYTES, LEAF_SLOT_BYTES)
]
"""Where the keys of a leaf are, whatever its size: bisection looks there without Python."""


@lru_cache(1024)
def _slots_of(count: int) -> struct.Struct:
    """Return the layout of so many slots of a leaf."""
    return struct.Struct("<" + count * LEAF_SLOT.struct.format.removeprefix("<"))


def pack_node(
    node: Node, filesystem_id: bytes, address: int, sequence: int, block_bytes: int
) -> bytes:
    """Return the block of ``node`` for ``address``, padded to ``block_bytes``."""
    count = len(node.keys)
    if isinstance(node, Leaf):
        slots = b"".join(map(LEAF_SLOT.struct.pack, node.keys, map(len, node.values)))
        body = slots + b"".join(node.values)
    else:
        body = b"".join(
            BRANCH_SLOT.struct.pack(key, child.address, child.checksum)
            for key, child in zip(node.keys, node.children, strict=True)
        )
    used = NODE_HEADER_BYTES + len(body)
    assert used <= block_bytes, (used, block_bytes)
    header = BLOCK_HEADER.struct.pack(NODE_MAGIC, 0, filesystem_id, address, sequence)
    raw = header + NODE_HEADER.struct.pack(node.level, count, used) + body
    return sealed(raw.ljust(block_bytes, b"\0"), BLOCK_CHECKSUM_OFFSET)


def unpack_node(raw: bytes, filesystem_id: bytes, address: int) -> Node:
    """Read a node whose bytes the caller has verified against its pointer.

    Raises DamageError when they are none, another filesystem's, or belong elsewhere.
    """
    node = read_node(raw, filesystem_id, address)
    return Leaf(node.keys, node.values) if isinstance(node, PackedLeaf) else node


def read_node(raw: bytes, filesystem_id: bytes, address: int) -> Branch | PackedLeaf:
    """Check a node as ``unpack_node`` does, but leave the items of a leaf packed."""
    check_header(raw, "node", NODE_MAGIC, NODE_HEADER_BYTES, filesystem_id, address)
    level, count, used = NODE_HEADER.struct.unpack_from(raw, BLOCK_HEADER.size)
    if not NODE_HEADER_BYTES <= used <= len(raw):
        raise damage("node length", address, len(raw), used)
    slot_bytes = BRANCH_SLOT_BYTES if level else LEAF_SLOT_BYTES
    values_offset = NODE_HEADER_BYTES + count * slot_bytes
    if values_offset > used:
        raise damage("node slots", address, used, values_offset)
    keys: Sequence[bytes]
    node: Branch | PackedLeaf
    if not count:
        raise damage("node slots", address, "at least 1", 0)
    if level:
        slots = list(BRANCH_SLOT.struct.iter_unpack(raw[NODE_HEADER_BYTES:values_offset]))
        keys = [key for key, _, _ in slots]
        node = Branch(level, keys, [Pointer(child, value) for _, child, value in slots])
    else:
        fields = _slots_of(count).unpack_from(raw, NODE_HEADER_BYTES)
        keys = fields[::2]
        offsets = array("I", accumulate(fields[1::2], initial=values_offset))
        if offsets[-1] != used:
            raise damage("leaf values", address, used, offsets[-1])
        node = PackedLeaf(raw, offsets)
    if not all(map(lt, keys, keys[1:])):
        raise damage("node key order", address, "ascending keys", "others")
    return node
