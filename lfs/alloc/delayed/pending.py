"""What is pending: how much a commit and a checkpoint would have to write now, at most.

Theory.  What accepted requests have left in memory are dirty blocks, changed items and
inodes.  How many nodes and usage pages these bring along is known only when they are
written, so it is bounded (docs/design/space.md, "What writing takes").  The bound may only
be too large: the ledger keeps as much clean, and else a commit could fail (P4).

Held by ``tests/alloc/delayed/test_ledger.py`` and ``tests/space``.
"""

from __future__ import annotations

from typing import NamedTuple

from lfs.alloc.margins import BRANCH_FILL
from lfs.common.checksum import CHECKSUM_BYTES
from lfs.inodes.table import InodeTable
from lfs.ondisk import (
    BRANCH_SLOT_BYTES,
    EXTENT_BYTES,
    HEAD_MAIN,
    HEAD_METADATA,
    INODE_BYTES,
    NODE_HEADER_BYTES,
    RECORD_OVERHEAD_BYTES,
    WINDOW_HEADER_BYTES,
)
from lfs.segments.placement import BULK_BLOCKS
from lfs.segments.write_bound import WriteBound
from lfs.volume.volume import Volume

_INODE_ITEM_BYTES = 256
_MAPPED_BYTES = RECORD_OVERHEAD_BYTES + WINDOW_HEADER_BYTES + 2 * EXTENT_BYTES + CHECKSUM_BYTES
"""What a dirty block adds to the map at most: to a window of its own, or amid an extent."""


class Moving(NamedTuple):
    """What is about to be moved, in numbers."""

    blocks: int = 0
    inodes: int = 0
    windows: int = 0
    divisible_windows: int = 0
    """Those that may have more extents then."""
    nodes: int = 0
    usage_pages: int = 0


_NOTHING = Moving()


class Pending:
    """What one volume has to write, as numbers of blocks."""

    def __init__(self, volume: Volume, inodes: InodeTable) -> None:
        """Count for ``volume``."""
        self._volume = volume
        self._inodes = inodes
        superblock = volume.superblock
        self._block_bytes = superblock.block_bytes
        self._bound = WriteBound(superblock.segment_blocks, superblock.block_bytes)
        self._branch_slots = (superblock.block_bytes - NODE_HEADER_BYTES) // BRANCH_SLOT_BYTES
        # A third is the least that is left alone (``lfs.imap.rebuild``), but for one at the end.
        self._children_min = self._branch_slots // BRANCH_FILL
        self._in_hand_blocks = 0
        """Taken from memory to be written, and not yet written."""

    @property
    def dirty_blocks(self) -> int:
        """Return the blocks promised to dirty data and not yet written out or dropped."""
        return self._inodes.dirty_data.block_count

    @property
    def metadata_blocks(self) -> int:
        """Return an upper bound of the blocks that changed items will add to the map."""
        volume = self._volume
        inodes = self._inodes
        pending = volume.imap.growing_bytes + len(inodes.dirty) * _INODE_ITEM_BYTES
        pending += inodes.inline_bytes
        return 2 * pending // volume.block_bytes

    def take_in_hand(self, blocks: int) -> None:
        """Count blocks as pending although they are in memory no more, until ``written``."""
        self._in_hand_blocks += blocks

    def written(self, blocks: int) -> None:
        """Note that blocks in hand, or moved, have been written."""
        self._in_hand_blocks = max(0, self._in_hand_blocks - blocks)

    def _node_blocks(self, moving: Moving = _NOTHING) -> int:
        """Return an upper bound of the nodes that a commit and a checkpoint write after ``moving``.

        On each level a change rewrites the node on its way, and cuts it in two if it grows
        or takes in the one beside it if it shrinks; but no node goes twice, and slots that
        do not grow need no more nodes, nor do nodes that are only to lie elsewhere.  What
        growing items hold beyond that fills nodes of its own.
        """
        imap = self._volume.imap
        inodes = self._inodes
        # Dirty data changes pinned windows, and makes those of a file that had none, which
        # lie side by side.
        dirty = len(inodes.dirty) + inodes.pinned_count + len(inodes.dirty_data.owners)
        changes = len(imap.changes) + dirty + moving.inodes + moving.windows
        touched = len(imap.touched_keys) + moving.nodes
        growing = imap.growing_count + dirty + moving.divisible_windows
        mapped = self.dirty_blocks + self._in_hand_blocks
        written = 2 * (imap.root_level + 2) + 2 * _MAPPED_BYTES * mapped // self._block_bytes
        nodes = imap.node_count
        for _ in range(imap.root_level + 1):
            written += min(2 * changes + touched, nodes + min(growing, nodes))
            nodes = nodes // self._children_min + 1
        return written + self.metadata_blocks

    def pending_blocks(self, moving: Moving = _NOTHING) -> int:
        """Return an upper bound of the clean blocks that a commit and a checkpoint take now.

        What is ``moving`` included.  docs/design/space.md, "What writing takes", derives it.
        """
        volume = self._volume
        usage = volume.usage
        records = volume.imap.unlogged_bytes + self._inodes.dirty_record_bytes()
        records += moving.inodes * (INODE_BYTES + RECORD_OVERHEAD_BYTES)
        data = self.dirty_blocks + self._in_hand_blocks
        nodes = self._node_blocks(moving)
        mapped = data + moving.blocks + nodes
        pages = len(usage.dirty_pages) + moving.usage_pages + 2 * mapped + 8
        pages = min(usage.page_count, pages)
        bound, log = self._bound, volume.log
        main = data + records // volume.block_bytes + 1
        main_blocks = bound.clean_blocks(main, log.room_blocks(HEAD_MAIN))
        metadata_blocks = bound.clean_blocks(nodes + pages, log.room_blocks(HEAD_METADATA))
        # What moves goes to the cold head or to the main one, and neither may have room.
        moved_blocks = bound.clean_blocks(moving.blocks, 0) if moving.blocks else 0
        heads = bool(main_blocks or moved_blocks) + bool(metadata_blocks) + bool(moved_blocks)
        more_heads = max(0, heads - 1) + (data >= BULK_BLOCKS)
        clean_blocks = main_blocks + metadata_blocks + moved_blocks
        return clean_blocks + more_heads * volume.superblock.segment_blocks
