"""Nodes in memory: what is read, what is kept, what it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lfs.common.errors import DamageError
from lfs.imap.node_cache import NodeCache
from lfs.ondisk import (
    KEY_BYTES,
    KIND_ENTRY,
    LEAF_SLOT_BYTES,
    NO_BLOCK,
    NODE_HEADER_BYTES,
    Branch,
    Leaf,
    Node,
    PackedLeaf,
    Pointer,
    pack_key,
    pack_node,
)

BLOCK_BYTES = 1024
FILESYSTEM_ID = b"12345678"
_SECOND_SLOT = NODE_HEADER_BYTES + LEAF_SLOT_BYTES
_COUNT = 34
KEYS = [pack_key(1, KIND_ENTRY, 10 * number) for number in range(20)]


class Blocks:
    """Leaves by address, and a cache over them that counts what it reads."""

    def __init__(self, bytes_max: int) -> None:
        """Begin with nothing in memory."""
        self.read: list[int] = []
        self.cache = NodeCache(self._read_verified, FILESYSTEM_ID, bytes_max)

    def raw(self, address: int) -> bytes:
        """Return the leaf at ``address``: its values say where it is."""
        leaf = Leaf(KEYS, [b"%d at %d" % (number, address) for number in range(20)])
        return packed(leaf, address)

    def load(self, address: int) -> PackedLeaf:
        """Load the leaf at ``address``."""
        node = self.cache.load(Pointer(address, 0))
        assert isinstance(node, PackedLeaf)
        return node

    def use_often(self, address: int) -> PackedLeaf:
        """Load a leaf and ask it for as many keys as make its keys decoded."""
        for _ in range(20):
            assert self.load(address).get(KEYS[3]) == b"3 at %d" % address
        return self.load(address)

    def _read_verified(self, pointer: Pointer) -> bytes:
        self.read.append(pointer.address)
        return self.raw(pointer.address)


def packed(node: Node, address: int) -> bytes:
    return pack_node(node, FILESYSTEM_ID, address, 1, BLOCK_BYTES)


def test_packed_leaf_is_the_leaf_it_was_packed_from() -> None:
    values = [bytes([number]) * number for number in range(20)]
    cache = NodeCache(lambda pointer: packed(Leaf(KEYS, values), 7), FILESYSTEM_ID, 4096)
    leaf = cache.load(Pointer(7, 0))
    assert isinstance(leaf, PackedLeaf)
    for unfold in (False, True):
        if unfold:
            leaf.unfold()
        assert (leaf.keys, leaf.values) == (KEYS, values)
        for number in range(210):
            key = pack_key(1, KIND_ENTRY, number)
            expected = values[number // 10] if number < 200 and number % 10 == 0 else None
            assert leaf.get(key) == expected
        items = list(zip(KEYS, values, strict=True))
        assert leaf.between(KEYS[3], KEYS[7]) == items[3:7]
        assert leaf.between(KEYS[3] + b"\0", KEYS[7] + b"\0") == items[4:8]
        assert leaf.between(bytes(17), b"\xff" * 17) == items
        assert leaf.between(KEYS[7], KEYS[3]) == []


def test_node_cache_reads_once_and_drops_what_was_used_least_recently() -> None:
    blocks = Blocks(3 * (BLOCK_BYTES + 500))
    for address in (1, 2, 3, 1, 4, 1, 2):
        assert blocks.load(address).get(KEYS[0]) == b"0 at %d" % address
    assert blocks.read == [1, 2, 3, 4, 2]


def test_node_cache_keeps_to_its_bytes_whatever_is_asked() -> None:
    bytes_max = 10 * BLOCK_BYTES
    blocks = Blocks(bytes_max)
    for address in range(1, 100):
        blocks.use_often(address % 17)
        blocks.cache.store(1000 + address, blocks.raw(1000 + address))
        assert 5 * BLOCK_BYTES < blocks.cache.bytes_kept <= bytes_max or address < 10
        blocks.cache.drop(1000 + address - 3)
    for address in (*range(17), *range(1000, 1100)):
        blocks.cache.drop(address)
    assert blocks.cache.bytes_kept == 0


def test_node_cache_counts_branches_too() -> None:
    branch = Branch(1, KEYS, [Pointer(number, 0) for number in range(20)])
    cache = NodeCache(lambda pointer: packed(branch, pointer.address), FILESYSTEM_ID, 5000)
    for address in range(1, 9):
        assert cache.load(Pointer(address, 0)) == branch
        assert 0 < cache.bytes_kept <= 5000


def test_node_cache_decodes_what_is_asked_often_and_lets_that_go_first() -> None:
    blocks = Blocks(3 * BLOCK_BYTES + 3500)
    leaves = [blocks.use_often(1), blocks.load(2), blocks.load(3)]
    assert [leaf.is_unfolded for leaf in leaves] == [True, False, False]
    blocks.use_often(2)
    assert [leaf.is_unfolded for leaf in leaves] == [False, True, False]
    assert [blocks.load(address) for address in (1, 2, 3)] == leaves
    assert blocks.read == [1, 2, 3]


def test_node_cache_takes_what_was_written_without_reading_it() -> None:
    blocks = Blocks(100 * BLOCK_BYTES)
    blocks.cache.store(5, blocks.raw(5))
    assert blocks.load(5).get(KEYS[1]) == b"1 at 5"
    assert blocks.load(5) is blocks.load(5)
    blocks.cache.drop(5)
    blocks.cache.drop(NO_BLOCK.address)
    blocks.load(5)
    assert blocks.read == [5]


def _with_longer_value(raw: bytearray) -> None:
    raw[NODE_HEADER_BYTES + KEY_BYTES] += 1


def _with_swapped_keys(raw: bytearray) -> None:
    first, second = (slice(at, at + KEY_BYTES) for at in (NODE_HEADER_BYTES, _SECOND_SLOT))
    raw[first], raw[second] = raw[second], raw[first]


def _with_more_slots(raw: bytearray) -> None:
    raw[_COUNT + 1] += 1


@pytest.mark.parametrize("spoil", [_with_longer_value, _with_swapped_keys, _with_more_slots])
def test_leaf_that_contradicts_itself_is_damaged(spoil: Callable[[bytearray], None]) -> None:
    raw = bytearray(packed(Leaf(KEYS, [b"value"] * len(KEYS)), 7))
    spoil(raw)
    cache = NodeCache(lambda pointer: bytes(raw), FILESYSTEM_ID, 4096)
    with pytest.raises(DamageError):
        cache.load(Pointer(7, 0))
    assert cache.bytes_kept == 0


@pytest.mark.parametrize(("offset", "said"), [(0, "magic"), (8, "filesystem"), (16, "place")])
def test_node_of_another_place_is_damaged(offset: int, said: str) -> None:
    raw = bytearray(packed(Leaf(KEYS, [b"value"] * len(KEYS)), 7))
    raw[offset] ^= 1
    cache = NodeCache(lambda pointer: bytes(raw), FILESYSTEM_ID, 4096)
    with pytest.raises(DamageError, match=f"node {said} at 7"):
        cache.load(Pointer(7, 0))
