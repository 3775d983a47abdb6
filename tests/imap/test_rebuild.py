"""The tree that a checkpoint makes of the inode map: how full its nodes are, what is rewritten."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lfs.ondisk import LEAF_SLOT_BYTES, NO_BLOCK, NODE_HEADER_BYTES
from tests.imap.trees import BLOCK_BYTES, Tree, filled, key_of, value_of


def fill(tree: Tree, model: dict[bytes, bytes]) -> float:
    """Return the used share of the leaves that the items would fill if each were full."""
    item_bytes = sum(LEAF_SLOT_BYTES + len(value) for value in model.values())
    leaf_count = sum(1 for raw in tree.blocks.values() if raw[32] == 0)
    return item_bytes / (leaf_count * (BLOCK_BYTES - NODE_HEADER_BYTES))


def test_imap_gets_high_and_holds_everything() -> None:
    tree, model = filled(range(600))
    assert tree.imap.root_level >= 3
    tree.check()
    assert tree.items() == sorted(model.items())
    assert all(tree.imap.get(key) == value for key, value in model.items())
    assert tree.imap.get(key_of(600)) is None


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
    assert tree.imap.root == NO_BLOCK
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


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 30))
def test_imap_touched_nodes_come_to_no_more_than_they_were(seed: int) -> None:
    choose = random.Random(seed)
    tree, model = filled(range(600))
    # What is left after ranges have gone: leaves and branches of any fill.
    for _ in range(choose.randrange(4)):
        first = choose.randrange(600)
        for number in range(first, first + choose.randrange(150)):
            tree.imap.delete(key_of(number))
            model.pop(key_of(number), None)
        tree.rebuild()
    keys = [key_of(choose.randrange(600)) for _ in range(choose.choice((1, 3, 30)))]
    touched = {address for key in keys for address in tree.path(key)}
    count_before = tree.imap.node_count
    freed = tree.rebuild(keys)
    assert {*freed} == touched
    assert tree.imap.node_count <= count_before
    tree.check()
    assert tree.items() == sorted(model.items())


def test_imap_touched_key_that_does_not_exist_harms_nothing() -> None:
    tree, model = filled(range(0, 100, 2))
    tree.rebuild([key_of(51), key_of(1000)])
    tree.check()
    assert tree.items() == sorted(model.items())
