"""The buddy allocator: free space as chunks of 2**order units at multiples of 2**order.

Two chunks that were halves of one are buddies; their starts differ in one bit.

Invariants:
- No unit is in two free chunks.
- No two buddies are both free below ``order_max``: they would have been merged.
  So an aligned range that is wholly free always lies inside one chunk.

An allocation takes the smallest chunk that is large enough, which keeps large
ones whole, and among those the one with the lowest start, which keeps an image
file small.

For each order there is the set of starts, which is the truth, and a heap of
them, in which entries no longer in the set are dropped when they come up.
"""

from __future__ import annotations

import heapq

_HEAP_SLACK = 64


class BuddyAllocator:
    """Free units out of ``range(unit_count)``, in chunks of up to 2**``order_max`` units.

    Breaking a precondition is a caller's bug and an assertion.
    """

    def __init__(self, unit_count: int, order_max: int) -> None:
        """Start with nothing free; ``unit_count`` may be any number."""
        assert unit_count >= 0, unit_count
        assert order_max >= 0, order_max
        self.unit_count = unit_count
        self.order_max = order_max
        self._starts: list[set[int]] = [set() for _ in range(order_max + 1)]
        self._heaps: list[list[int]] = [[] for _ in range(order_max + 1)]
        self.free_units = 0
        """How many units are free; only the allocator changes it."""

    def largest_order(self) -> int:
        """Return the order of the largest free chunk, -1 when nothing is free."""
        for order in range(self.order_max, -1, -1):
            if self._starts[order]:
                return order
        return -1

    def is_free(self, unit: int) -> bool:
        """Tell whether ``unit`` is free."""
        return self._chunk_around(unit, 0) is not None

    def first_free(self, limit: int) -> list[int]:
        """Return the lowest ``limit`` free units (fewer when there are not so many), ascending."""
        chunks = (
            (start, order) for order in range(self.order_max + 1) for start in self._starts[order]
        )
        units: list[int] = []
        for start, order in heapq.nsmallest(limit, chunks):
            wanted = limit - len(units)
            if wanted == 0:
                break
            units.extend(range(start, start + min(wanted, 1 << order)))
        return units

    def last_taken(self, limit: int) -> range:
        """Return up to ``limit`` free units that single ones are taken from last."""
        order = self.largest_order()
        if order < 0:
            return range(0)
        end = max(self._starts[order]) + (1 << order)
        return range(end - min(limit, 1 << order), end)

    def free(self, start: int, order: int) -> None:
        """Make the 2**``order`` units at ``start`` free and merge them with their buddies.

        ``start`` is a multiple of 2**``order``, and none of the units is free.
        """
        self._check(start, order)
        assert self._chunk_around(start, 0) is None, (start, order)
        self.free_units += 1 << order
        while order < self.order_max:
            buddy = start ^ 1 << order
            if buddy not in self._starts[order]:
                break
            self._starts[order].remove(buddy)
            start &= ~(1 << order)
            order += 1
        self._add(start, order)

    def free_range(self, start: int, count: int) -> None:
        """Make any ``count`` units at ``start`` free, in the largest chunks that fit."""
        end = start + count
        while start < end:
            order = min((end - start).bit_length() - 1, self.order_max)
            if start:
                order = min(order, (start & -start).bit_length() - 1)
            self.free(start, order)
            start += 1 << order

    def allocate(self, order: int) -> int | None:
        """Take 2**``order`` adjacent units and return the first; None when no chunk is so large."""
        assert order >= 0, order
        for found in range(order, self.order_max + 1):
            if self._starts[found]:
                start = self._lowest(found)
                self._take(start, found, start, order)
                return start
        return None

    def reserve(self, start: int, order: int) -> None:
        """Take the 2**``order`` units at ``start``, a multiple of it; all of them are free."""
        self._check(start, order)
        chunk = self._chunk_around(start, order)
        assert chunk is not None, (start, order)
        self._take(*chunk, start, order)

    def _check(self, start: int, order: int) -> None:
        assert 0 <= order <= self.order_max, order
        assert start % (1 << order) == 0, (start, order)
        assert start >= 0, start
        assert start + (1 << order) <= self.unit_count, (start, order)

    def _chunk_around(self, unit: int, order_min: int) -> tuple[int, int] | None:
        """Return ``(start, order)`` of the free chunk of ``order_min`` or more around ``unit``."""
        for order in range(order_min, self.order_max + 1):
            start = unit >> order << order
            if start in self._starts[order]:
                return start, order
        return None

    def _take(self, chunk: int, chunk_order: int, start: int, order: int) -> None:
        """Remove a chunk and put back all of it but the 2**``order`` units at ``start``."""
        self._starts[chunk_order].remove(chunk)
        self.free_units -= 1 << order
        while chunk_order > order:
            chunk_order -= 1
            upper = chunk + (1 << chunk_order)
            if start < upper:
                self._add(upper, chunk_order)
            else:
                self._add(chunk, chunk_order)
                chunk = upper

    def _add(self, start: int, order: int) -> None:
        starts, heap = self._starts[order], self._heaps[order]
        starts.add(start)
        heapq.heappush(heap, start)
        if len(heap) > 2 * len(starts) + _HEAP_SLACK:
            self._heaps[order] = sorted(starts)

    def _lowest(self, order: int) -> int:
        """Return the lowest start of an order that has one."""
        starts, heap = self._starts[order], self._heaps[order]
        while heap[0] not in starts:
            heapq.heappop(heap)
        return heap[0]
