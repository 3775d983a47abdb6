"""Parts of the changes of the inode map, and what the map counts once they are merged."""

from __future__ import annotations

import random

import pytest

from lfs.imap.map import Imap, Packable
from lfs.imap.part import PART_LEAVES, next_part
from tests.imap.trees import BLOCK_BYTES, LOWEST, Tree, filled, key_of, value_of


class Kept(Packable):
    """A value that stays decoded.  A class of the tests can't derive from a compiled one."""

    def __init__(self, value: bytes, stored_bytes: int) -> None:
        super().__init__()
        self.value = value
        self.stored_bytes = stored_bytes

    @property
    def packed_bytes(self) -> int:
        return len(self.value)

    def pack(self) -> bytes:
        return self.value


def changed(choose: random.Random) -> tuple[Tree, dict[bytes, bytes]]:
    """Return a tree with changes of all kinds, and what it holds with them."""
    tree, model = filled(range(400))
    for number in choose.sample(range(600), 250):
        key, before = key_of(number), model.get(key_of(number), b"")
        match choose.randrange(4):
            case 0:
                tree.imap.delete(key)
                model.pop(key, None)
                continue
            case 1:
                model[key] = before[: choose.randrange(len(before) + 1)]
                tree.imap.put(key, model[key], may_grow=False) if before else None
                if not before:
                    tree.imap.put(key, model[key])
            case 2:
                model[key] = value_of(number, 1)
                tree.imap.apply(key, Kept(model[key], len(before)))
            case _:
                model[key] = value_of(number, 2)
                tree.imap.put(key, model[key])
    return tree, model


def counts(imap: Imap) -> tuple[int, int, int]:
    return imap.changed_bytes, imap.growing_count, imap.growing_bytes


@pytest.mark.pure_core
def test_parts_merge_everything_and_leave_nothing_counted() -> None:
    for seed in range(20):
        tree, model = changed(random.Random(seed))
        kept = [value for value in tree.imap.changes.values() if isinstance(value, Kept)]
        tree.imap.take_unlogged()
        start: bytes | None = LOWEST
        while start is not None:
            keys, start = next_part(tree.imap, start, 30, BLOCK_BYTES)
            assert 0 < len(keys) <= 30
            tree.rebuild_part(keys)
            tree.check()
            assert dict(tree.items()) == model
        assert tree.imap.changes == {}
        assert counts(tree.imap) == (0, 0, 0)
        assert all(value.stored_bytes == len(value.value) for value in kept)


@pytest.mark.pure_core
def test_what_has_not_been_logged_stays() -> None:
    tree, model = changed(random.Random(1))
    tree.imap.take_unlogged()
    late = [key_of(number) for number in range(0, 700, 50)]
    for key in late:
        model[key] = b"late"
        tree.imap.put(key, b"late")
    start: bytes | None = LOWEST
    while start is not None:
        keys, start = next_part(tree.imap, start, 30, BLOCK_BYTES)
        tree.rebuild_part(keys)
    assert sorted(tree.imap.changes) == late
    assert [key for key, _ in tree.imap.take_unlogged()] == late
    assert dict(tree.items()) == model


def test_a_part_lies_in_few_leaves() -> None:
    tree, _ = filled(range(5000))
    for number in range(0, 5000, 2):
        tree.imap.put(key_of(number), value_of(number, 3))
    tree.imap.take_unlogged()
    before = len(tree.blocks)
    keys, _ = next_part(tree.imap, LOWEST, 10_000, BLOCK_BYTES)
    tree.rebuild_part(keys)
    assert len({tree.path(key)[-1] for key in keys}) <= 2 * PART_LEAVES
    assert abs(len(tree.blocks) - before) <= PART_LEAVES
