"""The order of keys that come in no order."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lfs.imap.key_order import KeyOrder
from lfs.ondisk import KIND_ENTRY, KIND_INODE, KIND_ORPHAN, pack_key

KEYS = st.builds(
    pack_key, st.integers(0, 3), st.integers(KIND_INODE, KIND_ORPHAN), st.integers(0, 300)
)


class Counted(bytes):
    """A key that counts how often keys are compared."""

    comparisons = 0

    def __lt__(self, other: bytes) -> bool:
        """Compare and count."""
        Counted.comparisons += 1
        return bytes.__lt__(self, other)


def compared(order: KeyOrder, start: bytes, end: bytes) -> int:
    """Return how many comparisons it costs to ask for the keys of a range."""
    Counted.comparisons = 0
    list(order.between(start, end))
    return Counted.comparisons


@given(st.lists(st.one_of(KEYS, st.tuples(KEYS, KEYS)), max_size=200))
def test_key_order_is_that_of_a_sorted_list(steps: list[Any]) -> None:
    keys: dict[bytes, None] = {}
    order = KeyOrder(keys)
    for step in steps:
        if isinstance(step, bytes):
            keys[step] = None
        else:
            start, end = sorted(step)
            assert list(order.between(start, end)) == [k for k in sorted(keys) if start <= k < end]


def test_key_order_places_no_key_of_another_kind() -> None:
    keys: dict[bytes, None] = {}
    for number in random.Random(1).sample(range(10_000), 1000):
        keys[Counted(pack_key(1, KIND_INODE, number))] = None
    keys[Counted(pack_key(1, KIND_ENTRY, 5))] = None
    order = KeyOrder(keys)
    assert compared(order, pack_key(1, KIND_ENTRY, 0), pack_key(1, KIND_ORPHAN, 0)) < 10
    assert compared(order, pack_key(1, KIND_INODE, 0), pack_key(1, KIND_ENTRY, 0)) > 1000


def test_key_order_places_one_more_key_without_sorting_all() -> None:
    keys: dict[bytes, None] = {}
    for number in random.Random(2).sample(range(10**6), 20_000):
        keys[Counted(pack_key(1, KIND_ENTRY, number))] = None
    order = KeyOrder(keys)
    span = pack_key(1, KIND_ENTRY, 0), pack_key(1, KIND_ENTRY, 10)
    assert compared(order, *span) > 20_000
    for number in range(10**6, 10**6 + 100):
        keys[Counted(pack_key(1, KIND_ENTRY, number))] = None
        assert compared(order, *span) < 100


def test_key_order_begins_anew_when_cleared() -> None:
    keys: dict[bytes, None] = {pack_key(1, KIND_ENTRY, 5): None}
    order = KeyOrder(keys)
    assert len(list(order.between(bytes(17), b"\xff" * 17))) == 1
    keys.clear()
    order.clear()
    assert not list(order.between(bytes(17), b"\xff" * 17))
    keys[pack_key(2, KIND_ENTRY, 7)] = None
    assert list(order.between(bytes(17), b"\xff" * 17)) == [pack_key(2, KIND_ENTRY, 7)]
