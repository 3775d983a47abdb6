"""Promises of space: what was accepted must find room later (ARCHITECTURE.md, "Space").

Only the arithmetic is here.  The caller knows what is live and how much the
pending metadata may add at most; this keeps what dirty data was promised.
"""

from __future__ import annotations


class Reservations:
    """Room promised to dirty data, out of ``limit_blocks``.

    ``limit_blocks`` is what user data and metadata may occupy, and
    ``privileged_blocks`` the part of it that only privileged callers may use.
    """

    def __init__(self, limit_blocks: int, privileged_blocks: int) -> None:
        """Start without any promise."""
        assert 0 <= privileged_blocks <= limit_blocks, (privileged_blocks, limit_blocks)
        self.limit_blocks = limit_blocks
        self.privileged_blocks = privileged_blocks
        self._dirty_blocks = 0

    @property
    def dirty_blocks(self) -> int:
        """Return the blocks promised to dirty data and not yet written out or dropped."""
        return self._dirty_blocks

    def available(self, used_blocks: int, metadata_blocks: int, privileged: bool) -> int:
        """Return how many more blocks may be promised, never less than 0.

        ``used_blocks`` are live on disk; ``metadata_blocks`` is the most that
        pending metadata will add to them.
        """
        limit_blocks = self.limit_blocks - (0 if privileged else self.privileged_blocks)
        return max(0, limit_blocks - used_blocks - metadata_blocks - self._dirty_blocks)

    def reserve(self, blocks: int) -> None:
        """Promise ``blocks`` more; the caller has compared them with ``available``."""
        assert blocks >= 0, blocks
        self._dirty_blocks += blocks

    def release(self, blocks: int) -> None:
        """Take back the promise of ``blocks`` that have been written out or dropped."""
        assert 0 <= blocks <= self._dirty_blocks, (blocks, self._dirty_blocks)
        self._dirty_blocks -= blocks
