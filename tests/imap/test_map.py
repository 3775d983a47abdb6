"""The inode map against a sorted dictionary, over nodes so small that the tree gets high."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lfs.common.checksum import checksum
from lfs.common.errors import DamageError
from lfs.imap.map import Imap
from lfs.imap.node_cache import NodeCache
from lfs.imap.rebuild import NewNode, Rebuild
from lfs.ondisk import (
    KEY_BYTES,
    KIND_INODE,
    LEAF_SLOT_BYTES,
    NO_BLOCK,
    NODE_HEADER_BYTES,
    Branch,
    Leaf,
    Pointer,
    Record,
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
        rebuilt = Rebuild(imap, BLOCK_BYTES, set(touched)).run()
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
        imap.adopt(root, rebuilt.root_level, node_count, 1 << 62)
        return rebuilt.freed_addresses

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


def fill(tree: Tree, model: dict[bytes, bytes]) -> float:
    """Return the used share of the leaves that the items would fill if each were full."""
    item_bytes = sum(LEAF_SLOT_BYTES + len(value) for value in model.values())
    leaf_count = sum(1 for raw in tree.blocks.values() if raw[32] == 0)
    return item_bytes / (leaf_count * (BLOCK_BYTES - NODE_HEADER_BYTES))


def test_imap_without_a_tree_has_nothing() -> None:
    tree = Tree()
    assert tree.imap.get(key_of(1)) is None
    assert tree.items() == []
    assert tree.imap.empty_root()
    tree.rebuild()
    tree.check()


def test_imap_gets_high_and_holds_everything() -> None:
    tree, model = filled(range(600))
    assert tree.imap.root_level >= 3
    tree.check()
    assert tree.items() == sorted(model.items())
    assert all(tree.imap.get(key) == value for key, value in model.items())
    assert tree.imap.get(key_of(600)) is None


def test_imap_change_lies_over_the_tree() -> None:
    tree, _ = filled(range(50))
    tree.imap.put(key_of(7), b"new")
    tree.imap.delete(key_of(8))
    assert tree.imap.get(key_of(7)) == b"new"
    assert tree.imap.get(key_of(8)) is None
    assert tree.imap.get_stored(key_of(7)) == value_of(7)
    assert tree.imap.get_stored(key_of(8)) == value_of(8)
    tree.rebuild()
    assert tree.imap.get_stored(key_of(7)) == b"new"
    assert tree.imap.get_stored(key_of(8)) is None


def test_imap_bounds_a_record_that_grows_before_it_is_logged() -> None:
    imap = Tree().imap
    imap.put(key_of(1), b"short")
    imap.apply(key_of(1), bytes(50))
    bound_bytes = imap.unlogged_bytes
    assert imap.take_unlogged() == [Record(key_of(1), bytes(50))]
    assert bound_bytes >= 19 + 50


def test_imap_logs_each_changed_key_once_with_its_last_value() -> None:
    imap = Tree().imap
    imap.put(key_of(2), b"old")
    imap.put(key_of(1), b"x")
    imap.put(key_of(2), b"new")
    imap.delete(key_of(3))
    imap.apply(key_of(4), b"told otherwise")
    bound_bytes = imap.unlogged_bytes
    records = imap.take_unlogged()
    assert records == [
        Record(key_of(2), b"new"),
        Record(key_of(1), b"x"),
        Record(key_of(3), None),
    ]
    assert sum(19 + len(record.value or b"") for record in records) <= bound_bytes
    assert imap.take_unlogged() == []
    assert imap.unlogged_bytes == 0


def test_imap_nodes_are_well_filled_after_growing_in_any_order() -> None:
    numbers = list(range(2000))
    random.Random(1).shuffle(numbers)
    tree, model = Tree(), {}
    for start in range(0, len(numbers), 20):
        for number in numbers[start : start + 20]:
            model[key_of(number)] = value_of(number)
            tree.imap.put(key_of(number), model[key_of(number)])
        tree.rebuild()
    tree.check()
    assert fill(tree, model) > 0.6


def test_imap_shrinks_with_what_it_holds() -> None:
    tree, model = filled(range(3000))
    full_count, full_level = tree.imap.node_count, tree.imap.root_level
    for number in range(3000):
        if number % 10:
            tree.imap.delete(key_of(number))
            del model[key_of(number)]
    tree.rebuild()
    tree.check()
    assert tree.items() == sorted(model.items())
    assert tree.imap.node_count < full_count * 0.2
    assert tree.imap.root_level < full_level
    assert fill(tree, model) > 0.55


def test_imap_shrinks_when_deleted_bit_by_bit() -> None:
    tree, model = filled(range(1000))
    full_count = tree.imap.node_count
    numbers = [number for number in range(1000) if number % 10]
    random.Random(2).shuffle(numbers)
    for start in range(0, len(numbers), 9):
        for number in numbers[start : start + 9]:
            tree.imap.delete(key_of(number))
            del model[key_of(number)]
        tree.rebuild()
    tree.check()
    assert tree.items() == sorted(model.items())
    assert tree.imap.node_count < full_count * 0.25


def test_imap_cuts_items_into_leaves_of_even_fill() -> None:
    tree = Tree()
    # Seven fit into a leaf, so there are three.
    for number in range(16):
        tree.imap.put(key_of(number), b"0123456789")
    tree.rebuild()
    leaves = {tuple(tree.leaf(key_of(number))) for number in range(16)}
    assert sorted(map(len, leaves)) == [5, 5, 6]


@given(st.lists(st.lists(st.integers(0, 180), min_size=1, max_size=6), min_size=1, max_size=9))
@example([[111, 45], [145], [76]])
def test_imap_slots_that_fitted_into_so_many_leaves_still_do(parts: list[list[int]]) -> None:
    capacity_bytes = BLOCK_BYTES - NODE_HEADER_BYTES
    leaves: list[list[int]] = []
    for part in parts:
        fitting = [size for size in part if size + LEAF_SLOT_BYTES <= capacity_bytes]
        while sum(fitting) + LEAF_SLOT_BYTES * len(fitting) > capacity_bytes:
            fitting.pop()
        leaves.append(fitting)
    sizes = [size for leaf in leaves for size in leaf]
    tree = Tree()
    for number, size in enumerate(sizes):
        tree.imap.put(key_of(number), bytes(size))
    tree.rebuild()
    assert len({tuple(tree.leaf(key_of(number))) for number in range(len(sizes))}) <= len(leaves)


def test_imap_knows_which_changes_may_make_it_grow() -> None:
    tree, model = filled(range(50))
    imap = tree.imap
    key = key_of(7)
    imap.put(key, bytes(len(model[key])), may_grow=False)
    imap.delete(key_of(8))
    assert (imap.growing_count, imap.growing_bytes) == (0, 0)
    imap.put(key, bytes(200))
    assert imap.growing_count == 1
    assert imap.growing_bytes >= 200
    # Once it may have grown, a shorter one counts as what it is.
    imap.put(key, bytes(10), may_grow=False)
    assert imap.growing_count == 1
    assert 10 <= imap.growing_bytes < 10 + 60
    tree.rebuild()
    assert (imap.growing_count, imap.growing_bytes) == (0, 0)


@pytest.mark.parametrize("number", [0, 15], ids=["first", "last"])
def test_imap_leaf_that_gets_short_joins_its_only_neighbour(number: int) -> None:
    tree, model = Tree(), {key_of(each): b"0123456789" for each in range(16)}
    for key, value in model.items():
        tree.imap.put(key, value)
    tree.rebuild()
    assert tree.imap.root_level == 1
    key = key_of(number)
    for other in tree.leaf(key):
        if other != key:
            tree.imap.delete(other)
            del model[other]
    tree.rebuild()
    assert len(tree.leaf(key)) > 1
    assert tree.items() == sorted(model.items())


def test_imap_without_items_has_no_tree() -> None:
    tree, model = filled(range(300))
    for key in model:
        tree.imap.delete(key)
    tree.rebuild()
    assert tree.imap.empty_root()
    assert tree.imap.root_level == 0
    tree.check()


def test_imap_one_change_rewrites_one_path() -> None:
    tree, _ = filled(range(1000))
    path = tree.path(key_of(500))
    count_before = tree.imap.node_count
    tree.imap.put(key_of(500), value_of(500)[::-1])
    assert tree.rebuild() == path
    assert tree.imap.node_count == count_before
    tree.check()


def test_imap_touched_key_rewrites_its_path_and_changes_nothing() -> None:
    tree, model = filled(range(1000))
    path = tree.path(key_of(500))
    assert len(path) >= 4
    freed = tree.rebuild([key_of(500)])
    assert freed == path
    assert set(path).isdisjoint(tree.path(key_of(500)))
    tree.check()
    assert tree.items() == sorted(model.items())


def test_imap_touched_key_that_does_not_exist_harms_nothing() -> None:
    tree, model = filled(range(0, 100, 2))
    tree.rebuild([key_of(51), key_of(1000)])
    tree.check()
    assert tree.items() == sorted(model.items())


def test_imap_leads_to_the_nodes_of_its_tree_only() -> None:
    tree, _ = filled(range(600))
    imap = tree.imap
    key = key_of(300)
    pointers = [Pointer(a, checksum(tree.blocks[a])) for a in tree.path(key)]
    for level, pointer in enumerate(reversed(pointers)):
        assert imap.leads_to(key, level, pointer)
        assert not imap.leads_to(key, level, Pointer(pointer.address + 100_000, pointer.checksum))
    assert not imap.leads_to(key_of(0), 0, pointers[-1])
    tree.rebuild([key])
    assert not imap.leads_to(key, 0, pointers[-1])


def test_imap_scan_goes_on_while_items_change() -> None:
    tree, model = filled(range(0, 1200, 2))
    seen = []
    for position, (key, value) in enumerate(tree.imap.scan(LOWEST, HIGHEST)):
        seen.append(key)
        assert model[key] == value or value == b"changed"
        number = int.from_bytes(key[:8], "big")
        if position == 100:
            # Behind it and far ahead of it.
            for other in (number - 50, number + 601):
                tree.imap.put(key_of(other), b"changed")
                model[key_of(other)] = b"changed"
            tree.imap.delete(key_of(number + 600))
        if position == 200:
            tree.rebuild()
    assert seen == sorted(set(seen))
    numbers = [int.from_bytes(key[:8], "big") for key in seen]
    # The deleted one is gone, the new one behind came too late, the one ahead is there.
    assert numbers == sorted({*range(0, 1200, 2), 801} - {800})


def test_imap_scan_sees_many_changes_in_one_leaf() -> None:
    tree = Tree()
    model = {key_of(number): value_of(number) for number in range(2000)}
    for key, value in model.items():
        tree.imap.put(key, value)
    # No tree below them, and more than one batch.
    assert tree.items() == sorted(model.items())


numbers = st.integers(0, 400)
STEPS = st.one_of(
    st.tuples(st.just("put"), numbers, st.integers(1, 150)),
    st.tuples(st.just("delete"), numbers, st.integers(1, 200)),
    st.tuples(st.just("rebuild"), numbers, st.integers(0, 2)),
    st.tuples(st.just("scan"), numbers, st.integers(0, 300)),
)


@given(st.lists(STEPS, max_size=25))
def test_imap_is_a_sorted_dictionary(steps: list[tuple[str, int, int]]) -> None:
    tree = Tree()
    model: dict[bytes, bytes] = {}
    for seed, (call, start, count) in enumerate(steps):
        keys = [key_of(number) for number in range(start, start + count)]
        if call == "put":
            # Every other key, so that there is room between for later ones.
            for number in range(start, start + 2 * count, 2):
                value = value_of(number, seed)
                tree.imap.put(key_of(number), value)
                model[key_of(number)] = value
        elif call == "delete":
            for key in keys:
                tree.imap.delete(key)
                model.pop(key, None)
        elif call == "rebuild":
            tree.rebuild(keys)
            tree.check()
        else:
            low, high = key_of(start), key_of(start + count)
            expected = [(key, model[key]) for key in sorted(model) if low <= key < high]
            assert list(tree.imap.scan(low, high)) == expected
            assert tree.imap.get(low) == model.get(low)
    tree.rebuild()
    tree.check()
    assert tree.items() == sorted(model.items())
