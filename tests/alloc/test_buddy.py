"""The buddy allocator against a set of free units.

Held after every step: no unit in two chunks, the right units free, no two
buddies free side by side, chunks aligned and in range, counts true.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lfs.alloc.buddy import BuddyAllocator


class BuddyMachine(RuleBasedStateMachine):
    @initialize(unit_count=st.integers(1, 70), order_max=st.integers(0, 5), full=st.booleans())
    def start(self, unit_count: int, order_max: int, full: bool) -> None:
        self.allocator = BuddyAllocator(unit_count, order_max)
        self.free: set[int] = set()
        if full:
            self.allocator.free_range(0, unit_count)
            self.free = set(range(unit_count))

    def _range(self, data: st.DataObject, free: bool) -> tuple[int, int] | None:
        """Choose an aligned range that is wholly free, or wholly not."""
        choices = [
            (start, order)
            for order in range(self.allocator.order_max + 1)
            for start in range(0, self.allocator.unit_count - (1 << order) + 1, 1 << order)
            if all((unit in self.free) == free for unit in range(start, start + (1 << order)))
        ]
        return data.draw(st.sampled_from(choices)) if choices else None

    @precondition(lambda self: len(self.free) < self.allocator.unit_count)
    @rule(data=st.data())
    def free_chunk(self, data: st.DataObject) -> None:
        chosen = self._range(data, free=False)
        assert chosen is not None
        start, order = chosen
        self.allocator.free(start, order)
        self.free |= set(range(start, start + (1 << order)))

    @precondition(lambda self: self.free)
    @rule(data=st.data())
    def reserve_chunk(self, data: st.DataObject) -> None:
        chosen = self._range(data, free=True)
        assert chosen is not None
        start, order = chosen
        self.allocator.reserve(start, order)
        self.free -= set(range(start, start + (1 << order)))

    @rule(order=st.integers(0, 6))
    def allocate_chunk(self, order: int) -> None:
        chunks = sorted((order, start) for start, order in self._chunks())
        adequate = [start for found, start in chunks if found >= order]
        start = self.allocator.allocate(order)
        # Smallest adequate order first, lowest start among those.
        assert start == (adequate[0] if adequate else None)
        if start is not None:
            units = set(range(start, start + (1 << order)))
            assert start % (1 << order) == 0
            assert units <= self.free
            self.free -= units

    def _chunks(self) -> list[tuple[int, int]]:
        starts = self.allocator._starts
        return [(start, order) for order, some in enumerate(starts) for start in some]

    @invariant()
    def free_units_are_those_of_the_model(self) -> None:
        units = [
            unit for start, order in self._chunks() for unit in range(start, start + (1 << order))
        ]
        assert len(units) == len(set(units)) == self.allocator.free_units
        assert set(units) == self.free
        for unit in range(self.allocator.unit_count):
            assert self.allocator.is_free(unit) == (unit in self.free)

    @invariant()
    def merges_are_complete(self) -> None:
        chunks = set(self._chunks())
        for start, order in chunks:
            assert start % (1 << order) == 0
            if order < self.allocator.order_max:
                assert (start ^ 1 << order, order) not in chunks
        orders = [order for _, order in chunks]
        assert self.allocator.largest_order() == max(orders, default=-1)

    @invariant()
    def first_free_units_are_the_lowest(self) -> None:
        for limit in (0, 1, 3, 1000):
            assert self.allocator.first_free(limit) == sorted(self.free)[:limit]


TestBuddyMachine = BuddyMachine.TestCase


def test_buddy_new_has_nothing_free() -> None:
    allocator = BuddyAllocator(100, 3)
    assert allocator.allocate(0) is None
    assert allocator.largest_order() == -1
    assert allocator.first_free(5) == []


def test_buddy_freed_units_merge_to_the_largest_order() -> None:
    allocator = BuddyAllocator(16, 4)
    for unit in (3, 1, 0, 2, *range(15, 3, -1)):
        allocator.free(unit, 0)
    assert allocator.largest_order() == 4
    assert allocator.allocate(4) == 0
    assert allocator.free_units == 0


def test_buddy_small_allocation_keeps_large_chunks_whole() -> None:
    allocator = BuddyAllocator(64, 5)
    allocator.free(0, 5)
    allocator.free(40, 1)
    assert allocator.allocate(0) == 40
    assert allocator.largest_order() == 5


def test_buddy_freeing_what_is_free_is_a_bug() -> None:
    allocator = BuddyAllocator(8, 3)
    allocator.free(0, 2)
    with pytest.raises(AssertionError):
        allocator.free(2, 0)


def test_buddy_stale_heap_entries_stay_few() -> None:
    allocator = BuddyAllocator(1024, 10)
    allocator.free(0, 10)
    for _ in range(2000):
        start = allocator.allocate(0)
        assert start == 0
        allocator.free(start, 0)
    assert sum(map(len, allocator._heaps)) < 1000


def test_buddy_million_units_are_freed_and_taken() -> None:
    allocator = BuddyAllocator(999_936, 8)
    allocator.free_range(0, 999_936)
    taken = [allocator.allocate(0) for _ in range(100_000)]
    assert taken == list(range(100_000))
    assert allocator.free_units == 899_936
