"""Files that lie in many fragments: a few numbers, never all there are.

Whoever maps data notes how many blocks went to places that are scattered.  Only
the files with the most such blocks are kept, so memory does not grow with their
number; what is forgotten is found in the map (``lfs.segments.cleaning.search``).
"""

from __future__ import annotations

FILES_MAX = 64


class ScatteredFiles:
    """Inode numbers, each with the blocks that were scattered since it was forgotten."""

    def __init__(self, files_max: int = FILES_MAX) -> None:
        """Keep at most ``files_max`` inode numbers."""
        self._files_max = files_max
        self._blocks: dict[int, int] = {}
        self._written_ns: dict[int, int] = {}
        self.has_left_out = False
        """Whether there were too many, so that some are to be looked for in the map."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._blocks)

    def note(self, ino: int, blocks: int, at_ns: int) -> None:
        """Count ``blocks`` more of ``ino``, written at ``at_ns``.

        If there are too many files, the least is forgotten.
        """
        self._blocks[ino] = self._blocks.get(ino, 0) + blocks
        self._written_ns[ino] = at_ns
        if len(self._blocks) > self._files_max:
            self.forget(self.worst_first()[-1])
            self.has_left_out = True

    @property
    def is_full(self) -> bool:
        """Tell whether one more would have another forgotten."""
        return len(self._blocks) >= self._files_max

    def wrote(self, ino: int, at_ns: int) -> None:
        """Note that ``ino`` was written, if anything is counted of it."""
        if ino in self._blocks:
            self._written_ns[ino] = at_ns

    def written_ns(self, ino: int) -> int:
        """Return when ``ino`` was last written, if anything is counted of it."""
        return self._written_ns.get(ino, 0)

    def forget(self, ino: int) -> int:
        """Drop ``ino``; returns the blocks that were counted."""
        self._written_ns.pop(ino, None)
        return self._blocks.pop(ino, 0)

    def blocks(self, ino: int) -> int:
        """Return the blocks counted of ``ino``."""
        return self._blocks.get(ino, 0)

    def worst_first(self) -> list[int]:
        """Return the inode numbers, those with the most blocks first."""
        return sorted(self._blocks, key=lambda ino: (-self._blocks[ino], ino))
