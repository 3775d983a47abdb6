"""What errors have taken out of use, until the next mount: the disk keeps no list of it.

Theory.  A run where a write failed is *given up*: it is neither written to nor cleaned
while mounted, but what lives in it stays.  Once it is empty and free, the segments where
the write failed stay *withheld* from the allocator.  For the next mount they are segments
like others.

A run with something that can't be read can't be cleaned: it is *immovable*, for a while,
because a disk may fail for a moment only.

Held by ``tests/system/full/test_bad_disk.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

_IMMOVABLE_NS = 10_000_000_000
"""So long a run is left alone where something could not be moved, at first."""
_IMMOVABLE_NS_MAX = 3_600_000_000_000


class Immovable(NamedTuple):
    """What is known of a run in which something could not be moved."""

    live_blocks: int
    """So much lived there then."""
    until_ns: int
    """After so much time it is worth another try."""


class OutOfUse:
    """Runs that are not cleaned, and segments that are not written."""

    def __init__(self) -> None:
        """Start with none."""
        self.given_up: set[int] = set()
        """Runs in use where a write failed."""
        self.withheld: set[int] = set()
        """Segments that are not written, be they in use still or clean."""
        self.immovable: dict[int, Immovable] = {}
        """Runs in use with something that could not be moved."""
        self._waits_ns: dict[int, int] = {}
        """How long each run that has been one was left alone the last time."""

    def note_immovable(self, run: int, live_blocks: int, elapsed_ns: int) -> None:
        """Leave a run alone for a while, each time for twice as long.

        If it was tried early, because something had died there, for no longer than before.
        """
        before = self.immovable.get(run)
        if before is not None and elapsed_ns < before.until_ns:
            self.immovable[run] = Immovable(live_blocks, before.until_ns)
            return
        wait_ns = min(2 * self._waits_ns.get(run, _IMMOVABLE_NS // 2), _IMMOVABLE_NS_MAX)
        self._waits_ns[run] = wait_ns
        self.immovable[run] = Immovable(live_blocks, elapsed_ns + wait_ns)

    def immovable_runs(self, live_blocks: Callable[[int], int], elapsed_ns: int) -> Iterator[int]:
        """Yield the runs that it is no use to clean now.

        Where something has died since, it may have been what could not be moved.
        """
        for run, noted in self.immovable.items():
            if live_blocks(run) >= noted.live_blocks and elapsed_ns < noted.until_ns:
                yield run

    def forget(self, run: int) -> None:
        """Note that a run is in use no more."""
        self.given_up.discard(run)
        self.immovable.pop(run, None)
        self._waits_ns.pop(run, None)
