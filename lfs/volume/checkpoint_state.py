"""What a checkpoint says besides the inode map and the log: numbers, and where pages lie.

Recovery fills it from the newest checkpoint and from the log after it, inodes count in
it, and the next checkpoint says it again.

Held by ``tests/commit/test_checkpoint.py``.
"""

from __future__ import annotations

from lfs.ondisk import NO_BLOCK, Pointer


class CheckpointState:
    """What the next checkpoint will say of inodes and usage pages, and which was the last."""

    __slots__ = ("checkpoint_number", "inode_count", "next_ino", "sequences", "usage_pages")

    def __init__(self, page_count: int) -> None:
        """Start as a new filesystem does: no inode, no checkpoint, no usage page."""
        self.next_ino = 1
        """The number of the next new inode; none is used twice."""
        self.inode_count = 0
        self.usage_pages: list[Pointer] = [NO_BLOCK] * page_count
        """Where the newest version of each page of the usage table lies."""
        self.checkpoint_number = 0
        """Of the newest durable checkpoint."""
        self.sequences = (1, 1)
        """First log write after the older and after the newer of the two checkpoints."""
