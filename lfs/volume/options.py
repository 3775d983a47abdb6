"""What a mount may choose.

Held against its bounds when it is made, so that nobody below has to look again.

Held by ``tests/volume/test_arguments.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from lfs.common.errors import FilesystemError
from lfs.segments.policy import POLICIES
from lfs.volume.arguments import OFFSET_MAX, check_number

SECOND_NS = 1_000_000_000
CACHE_BYTES_MIN = 32 << 20

_CHOICES = {
    "atime": ("relatime", "strictatime", "noatime"),
    "cleaner_policy": POLICIES,
    "errors": ("remount-ro", "continue", "panic"),
}
_POSITIVE = (
    "commit_interval_ns",
    "checkpoint_interval_ns",
    "dirty_bytes_max",
    "extent_bytes_max",
    "merged_items_max",
    "removal_items_max",
)


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a mount may choose.  Sizes are in bytes, times in nanoseconds."""

    read_only: bool = False
    atime: str = "relatime"
    """``relatime``, ``strictatime`` or ``noatime``."""
    directory_atime: bool = True
    """False keeps the access times of directories as they are."""
    commit_interval_ns: int = 5 * SECOND_NS
    checkpoint_interval_ns: int = 60 * SECOND_NS
    dirty_bytes_max: int = 32 << 20
    """Dirty data above this is written out before more is accepted."""
    extent_bytes_max: int = 8 << 20
    """Dirty data of one file above this is written out."""
    node_cache_bytes: int = 32 << 20
    memory_bytes_max: int = 192 << 20
    """All that is kept of what was read or changed; what the two before it leave, but at
    least 32 MiB, is for windows, changed items and inodes."""
    inode_count_max: int = 16384
    """Clean inodes kept in memory, if that has room for so many."""
    removal_items_max: int = 128
    """So many windows and attributes are given up at once; more wait for later steps."""
    merged_items_max: int = 1024
    """So many changed items go into the tree of the inode map at once, ahead of a checkpoint."""
    cleaner_policy: str = "cost-benefit"
    roll_forward: bool = True
    """False shows the last checkpoint and is only possible read-only."""
    errors: str = "remount-ro"
    """What follows when the log can't go on: ``remount-ro`` refuses changes with EROFS,
    ``continue`` with EIO; with ``panic`` the caller ends in ``on_failure``."""
    on_failure: Callable[[], None] = _nothing
    """Called once, when the log can't go on, after the reason was reported."""
    on_work: Callable[[], None] | None = None
    """Called when a turn of background work is to flush what no request should wait for; None
    where nobody takes turns: then requests flush."""

    def __post_init__(self) -> None:
        """Refuse what is no choice, with FilesystemError(EINVAL) or TypeError."""
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise FilesystemError(
                    errno.EINVAL, f"{name} {value!r} is none of {', '.join(choices)}"
                )
        for name in _POSITIVE:
            check_number(name, getattr(self, name), 1, OFFSET_MAX)

    @property
    def memory_bytes_min(self) -> int:
        """Return the least ``memory_bytes_max`` that can be kept to."""
        return self.dirty_bytes_max + self.node_cache_bytes + CACHE_BYTES_MIN

    @property
    def cache_bytes(self) -> int:
        """Return what windows, changed items and inodes may take together."""
        rest_bytes = self.memory_bytes_max - self.dirty_bytes_max - self.node_cache_bytes
        return max(CACHE_BYTES_MIN, rest_bytes)
