"""Runs too large to be emptied with what the cleaner keeps for itself.

Theory.  While there is one, so many more clean blocks must be kept as it takes to empty
the largest (``breakup_blocks``).  One that can't be emptied is none of these: nothing is
kept for that.

Held by ``tests/segments/cleaning/test_defragment.py``.
"""

from __future__ import annotations

from lfs.alloc import margins


class LargeRuns:
    """The large runs of a disk, by their first segment, that can be emptied."""

    def __init__(self, order_max: int, segment_blocks: int) -> None:
        """Start with none; runs up to ``order_max`` are not large."""
        self._order_max = order_max
        self._segment_blocks = segment_blocks
        self._orders: dict[int, int] = {}
        self.breakup_blocks = 0
        """So many clean blocks it takes to empty the largest, beyond the usual."""

    @property
    def runs(self) -> set[int]:
        """Return them."""
        return {*self._orders}

    def __contains__(self, run: int) -> bool:
        """Tell whether ``run`` is one."""
        return run in self._orders

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._orders)

    def add(self, run: int, order: int) -> None:
        """Note a run of an order, which may not be large."""
        if order > self._order_max:
            self._orders[run] = order
            self.breakup_blocks = max(self.breakup_blocks, self._breakup_blocks(order))

    def discard(self, run: int) -> None:
        """Note that a run can't be emptied, or is there no more."""
        if self._orders.pop(run, None) is not None:
            self.breakup_blocks = max(map(self._breakup_blocks, self._orders.values()), default=0)

    def opening_blocks(self, order: int) -> int:
        """Return by how much a run of an order lessens what is clean and may be used."""
        more_blocks = max(0, self._breakup_blocks(order) - self.breakup_blocks)
        return (self._segment_blocks << order) + more_blocks

    def _breakup_blocks(self, order: int) -> int:
        large = order > self._order_max
        return margins.breakup_blocks(self._segment_blocks << order) if large else 0
