"""The dirty blocks of one file, as extents.

Invariant: ``_starts`` and ``_ends`` are ascending, and between two extents
there is at least one clean block; extents that touch are one.

A file written in order extends the last extent, which costs a comparison.
Everything else finds its place by bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class DirtyExtents:
    """A set of file blocks, kept as sorted extents that neither overlap nor touch."""

    __slots__ = ("_ends", "_starts", "count")

    def __init__(self) -> None:
        """Start with no dirty block."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.count = 0
        """How many blocks are dirty."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield ``(start, count)`` of each extent, ascending; no changes meanwhile."""
        return iter(self.pairs())

    def pairs(self) -> list[tuple[int, int]]:
        """Return ``(start, count)`` of each extent, ascending."""
        starts, ends = self._starts, self._ends
        return [(starts[index], ends[index] - starts[index]) for index in range(len(starts))]

    def between(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ``(start, count)`` of what lies in blocks ``first`` to ``end`` of each extent."""
        for index in range(bisect_right(self._ends, first), bisect_left(self._starts, end)):
            start = max(first, self._starts[index])
            yield start, min(end, self._ends[index]) - start

    def __len__(self) -> int:
        """Return how many extents there are."""
        return len(self._starts)

    def __contains__(self, block: int) -> bool:
        """Tell whether ``block`` is dirty."""
        return self.extent_at(block) is not None

    def extent_at(self, block: int) -> tuple[int, int] | None:
        """Return ``(start, count)`` of the extent that holds ``block``."""
        index = bisect_right(self._starts, block) - 1
        if index < 0 or block >= self._ends[index]:
            return None
        return self._starts[index], self._ends[index] - self._starts[index]

    def count_in(self, start: int, count: int) -> int:
        """Return how many of ``count`` blocks at ``start`` are dirty."""
        starts, ends = self._starts, self._ends
        if not ends or start >= ends[-1]:
            return 0
        end = start + count
        dirty = 0
        for index in range(bisect_right(ends, start), bisect_left(starts, end)):
            dirty += min(end, ends[index]) - max(start, starts[index])
        return dirty

    def largest(self) -> tuple[int, int] | None:
        """Return ``(start, count)`` of the largest extent, the first of equals.

        Looks at every extent: after ``add``, ``extent_at`` is the cheaper question.
        """
        return max(self, key=lambda extent: extent[1], default=None)

    def clear(self) -> None:
        """Make all blocks clean."""
        self._starts.clear()
        self._ends.clear()
        self.count = 0

    def add(self, start: int, count: int) -> int:
        """Make ``count`` blocks at ``start`` dirty; return how many of them were not."""
        assert start >= 0, start
        assert count >= 0, count
        end = start + count
        if self._ends and start == self._ends[-1]:
            self._ends[-1] = end
            self.count += count
            return count
        if count == 0:
            return 0
        # Extents first..last-1 overlap or touch the new one and become one with it.
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first == last:
            self._starts.insert(first, start)
            self._ends.insert(first, end)
            self.count += count
            return count
        before = sum(self._ends[first:last]) - sum(self._starts[first:last])
        start = min(start, self._starts[first])
        end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        added = end - start - before
        self.count += added
        return added

    def remove(self, start: int, count: int) -> int:
        """Make ``count`` blocks at ``start`` clean; return how many of them were dirty."""
        assert count >= 0, count
        end = start + count
        # Extents first..last-1 have at least one block in the range.
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if count == 0 or first >= last:
            return 0
        starts, ends = self._starts[first:last], self._ends[first:last]
        before = sum(ends) - sum(starts)
        kept = [
            (left, right) for left, right in ((starts[0], start), (end, ends[-1])) if left < right
        ]
        self._starts[first:last] = [left for left, _ in kept]
        self._ends[first:last] = [right for _, right in kept]
        removed = before - sum(right - left for left, right in kept)
        self.count -= removed
        return removed

    def truncate(self, block: int) -> int:
        """Make ``block`` and all after it clean; return how many of them were dirty."""
        end = self._ends[-1] if self._ends else 0
        return self.remove(block, max(0, end - block))
