"""Files that lie in many pieces: a few numbers, never all there are.

Whoever maps data notes how many blocks went to places that are scattered.  Only
the files with the most such blocks are kept, so memory does not grow with their
number; what is forgotten is noted again when it is written again.
"""

from __future__ import annotations

FILES_MAX = 64


class ScatteredFiles:
    """Inode numbers, each with the blocks that were scattered since it was forgotten."""

    def __init__(self, files_max: int = FILES_MAX) -> None:
        """Keep at most ``files_max`` inode numbers."""
        self._files_max = files_max
        self._blocks: dict[int, int] = {}

    def note(self, ino: int, blocks: int) -> None:
        """Count ``blocks`` more of ``ino``; if there are too many files, forget the least."""
        self._blocks[ino] = self._blocks.get(ino, 0) + blocks
        if len(self._blocks) > self._files_max:
            del self._blocks[self.worst_first()[-1]]

    def forget(self, ino: int) -> int:
        """Drop ``ino``; returns the blocks that were counted."""
        return self._blocks.pop(ino, 0)

    def blocks(self, ino: int) -> int:
        """Return the blocks counted of ``ino``."""
        return self._blocks.get(ino, 0)

    def worst_first(self) -> list[int]:
        """Return the inode numbers, those with the most blocks first."""
        return sorted(self._blocks, key=lambda ino: (-self._blocks[ino], ino))
