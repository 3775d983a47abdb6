"""Empty runs, until nothing needs them any more (FORMAT.md, "Reuse").

Theory.  A run is *empty* when its last live block dies, but it is not free then: what a
crash would bring back may still need it.  It waits for two things, one after the other:

| state | leads on |
|---|---|
| empty | a commit without those blocks has been written (``note_commit``) |
| committed | that commit has been flushed (``release``) |
| waiting | both checkpoints can roll forward without it, and refer to nothing in it |

Then ``release`` returns it.  An open run stays empty as long as it is open; one that gets
live blocks again is none of this.

Held by ``tests/segments/test_release.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable


class Reuse:
    """Which runs are empty, and how far each is on its way to be clean."""

    def __init__(self) -> None:
        """Start with none."""
        self.empty: set[int] = set()
        """Those that no commit has told of, or that are open."""
        self._committed: deque[tuple[int, list[int]]] = deque()
        self._waiting: set[int] = set()
        self._released_for: tuple[int, int] | None = None
        """What ``release`` was told when it last looked through all that is waiting."""

    def begin(self, empty: set[int], open_runs: Collection[int]) -> None:
        """Take over the runs that a mount finds empty."""
        self.empty = empty.intersection(open_runs)
        self._waiting = empty - self.empty

    def note_commit(
        self, sequence: int, open_runs: Collection[int], is_empty: Callable[[int], bool]
    ) -> None:
        """Collect the runs that are empty in the commit that ended with ``sequence``."""
        if self.empty:
            emptied = [run for run in sorted(self.empty.difference(open_runs)) if is_empty(run)]
            self.empty.intersection_update(open_runs)
            self._committed.append((sequence, emptied))

    def release(
        self, flushed_sequence: int, needs: tuple[int, int], is_needed: Callable[[int], bool]
    ) -> list[int]:
        """Return the runs that nothing needs any more, as of a flush up to ``flushed_sequence``.

        While ``needs`` is the same, so is what ``is_needed`` says of a run.
        """
        while self._committed and self._committed[0][0] <= flushed_sequence:
            self._waiting.update(self._committed.popleft()[1])
            self._released_for = None
        if not self._waiting or needs == self._released_for:
            return []
        self._released_for = needs
        free = [run for run in sorted(self._waiting) if not is_needed(run)]
        self._waiting.difference_update(free)
        return free

    def runs(self) -> Iterable[int]:
        """Return all that are empty."""
        return self._waiting.union(*(runs for _, runs in self._committed), self.empty)
