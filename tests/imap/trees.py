"""Inode maps over nodes so small that their trees get high."""

from __future__ import annotations

import random
from collections.abc import Iterable

from lfs.common.checksum import checksum
from lfs.common.errors import DamageError
from lfs.imap.map import Imap
from lfs.imap.node_cache import NodeCache
from lfs.imap.rebuild import NewNode, Rebuild, Rebuilt
from lfs.ondisk import (
    KEY_BYTES,
    KIND_INODE,
    NO_BLOCK,
    Branch,
    Leaf,
    Pointer,
    pack_key,
    pack_node,
    unpack_node,
)

BLOCK_BYTES = 256
VALUE_BYTES_MAX = 60
FILESYSTEM_ID = b"12345678"
LOWEST = bytes(KEY_BYTES)
HIGHEST = b"\xff" * KEY_BYTES


class Tree:
    """An imap over blocks in a dictionary, rebuilt as a checkpoint does it."""

    def __init__(self) -> None:
        """Start empty; no more than a few nodes are cached."""
        self.blocks: dict[int, bytes] = {}
        self.next_address = 1000
        cache = NodeCache(self._read_verified, FILESYSTEM_ID, 4 * BLOCK_BYTES)
        self.imap = Imap(cache, NO_BLOCK, 0, 0)

    def _read_verified(self, pointer: Pointer) -> bytes:
        raw = self.blocks[pointer.address]
        if checksum(raw) != pointer.checksum:
            raise DamageError(f"block {pointer.address}")
        return raw

    def rebuild(self, touched: Iterable[bytes] = ()) -> list[int]:
        """Merge what changed; returns the addresses that were freed, as blocks are."""
        imap = self.imap
        imap.take_unlogged()
        rebuilt = Rebuild(imap, BLOCK_BYTES, {*touched, *imap.changes}).run()
        imap.adopt(*self._written(rebuilt), 1 << 62)
        return rebuilt.freed_addresses

    def rebuild_part(self, keys: list[bytes]) -> None:
        """Merge the changes of ``keys``."""
        rebuilt = Rebuild(self.imap, BLOCK_BYTES, keys).run()
        self.imap.adopt_part(keys, *self._written(rebuilt))

    def _written(self, rebuilt: Rebuilt) -> tuple[Pointer, int, int]:
        """Write the new nodes and free the others; returns what the map is to adopt."""
        imap = self.imap
        for new in rebuilt.new_nodes:
            raw = pack_node(new.finished(), FILESYSTEM_ID, self.next_address, 1, BLOCK_BYTES)
            new.pointer = Pointer(self.next_address, checksum(raw))
            self.blocks[self.next_address] = raw
            self.next_address += 1
        for address in rebuilt.freed_addresses:
            del self.blocks[address]
            imap.nodes.drop(address)
        root = rebuilt.root.pointer if isinstance(rebuilt.root, NewNode) else rebuilt.root
        node_count = imap.node_count + len(rebuilt.new_nodes) - len(rebuilt.freed_addresses)
        return root, rebuilt.root_level, node_count

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all items."""
        return list(self.imap.scan(LOWEST, HIGHEST))

    def path(self, key: bytes) -> list[int]:
        """Return the addresses of the nodes from the root to the leaf of ``key``."""
        addresses = []
        pointer = self.imap.root
        while True:
            addresses.append(pointer.address)
            node = unpack_node(self.blocks[pointer.address], FILESYSTEM_ID, pointer.address)
            if isinstance(node, Leaf):
                return addresses
            pointer = node.children[sum(1 for each in node.keys[1:] if each <= key)]

    def leaf(self, key: bytes) -> list[bytes]:
        """Return the keys in the leaf of ``key``."""
        address = self.path(key)[-1]
        return unpack_node(self.blocks[address], FILESYSTEM_ID, address).keys

    def check(self) -> None:
        """Hold every node against its parent, and the count of nodes against the blocks."""
        assert self.imap.node_count == len(self.blocks)
        if self.imap.root == NO_BLOCK:
            assert not self.blocks
            return
        found: list[int] = []
        pending = [(self.imap.root, self.imap.root_level, LOWEST, HIGHEST)]
        while pending:
            pointer, level, low, high = pending.pop()
            found.append(pointer.address)
            node = unpack_node(self._read_verified(pointer), FILESYSTEM_ID, pointer.address)
            assert node.level == level
            assert node.keys
            assert all(low <= key < high for key in node.keys)
            if isinstance(node, Branch):
                bounds = [*node.keys, high]
                pending += [
                    (child, level - 1, bounds[index], bounds[index + 1])
                    for index, child in enumerate(node.children)
                ]
        assert sorted(found) == sorted(self.blocks)


def key_of(number: int) -> bytes:
    return pack_key(number, KIND_INODE, 0)


def value_of(number: int, seed: int = 0) -> bytes:
    return random.Random(number * 1000 + seed).randbytes((number * 7 + seed) % VALUE_BYTES_MAX)


def filled(numbers: Iterable[int]) -> tuple[Tree, dict[bytes, bytes]]:
    """Return a tree with an item for each number, already rebuilt."""
    tree = Tree()
    model = {key_of(number): value_of(number) for number in numbers}
    for key, value in model.items():
        tree.imap.put(key, value)
    tree.rebuild()
    return tree, model
