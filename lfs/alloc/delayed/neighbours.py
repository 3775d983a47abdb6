"""Keeping windows in few fragments: unchanged blocks go along with dirty ones.

Theory.  What is overwritten here and there falls into fragments with each write-out.  So
the unchanged blocks between the dirty ones, their *neighbours*, are read and made dirty
while that costs little, and the whole window lies in one place again.  That is done for
nobody who asked: it takes at most half of what is spare, and fails without a trace.
What stays in many fragments is noted for the defragmenter.

Held by ``tests/alloc/delayed/test_write_out.py`` and ``tests/system``.
"""

from __future__ import annotations

from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.scattered import ScatteredFiles
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.inodes.window import Window, shares
from lfs.volume.volume import Volume

_NEIGHBOUR_FRAGMENTS_MIN = 4
_MANY = 2 * _NEIGHBOUR_FRAGMENTS_MIN
"""So many fragments a window has that is worth much to be put together."""


class Neighbours:
    """Makes unchanged blocks dirty that are to be written with those beside them."""

    def __init__(
        self, volume: Volume, inodes: InodeTable, ledger: Ledger, scattered: ScatteredFiles
    ) -> None:
        """Serve the inodes of one volume, and note in ``scattered`` what stays in fragments."""
        self._volume = volume
        self._inodes = inodes
        self._ledger = ledger
        self._scattered = scattered
        self.spare_blocks: int | None = None
        """So many more may go along; None until that has been reckoned for what is taken now."""

    def take(self, inode: Inode, pairs: list[tuple[int, int]]) -> None:
        """Make the unchanged blocks of fragmented windows dirty when that is cheap.

        A window that will lie in several fragments is written whole if its unchanged
        blocks are no more than the dirty ones, or, once it has many fragments, than
        four times as many.  Reading them must not make a commit fail, so damaged
        ones stay where they are.  A window that stays in many fragments is noted.
        """
        size = self._volume.window_blocks
        if len(pairs) == 1:
            first, count = pairs[0]
            index = first // size
            if first + count <= (index + 1) * size:
                self._take_of(inode, index, count, 1)
                return
        by_window: dict[int, int] = {}
        extents: dict[int, int] = {}
        for first, count in pairs:
            for index, start, stop in shares(first, first + count, size):
                by_window[index] = by_window.get(index, 0) + stop - start
                extents[index] = extents.get(index, 0) + 1
        for index, blocks in by_window.items():
            self._take_of(inode, index, blocks, extents[index])

    def _take_of(self, inode: Inode, index: int, dirty_blocks: int, extent_count: int) -> None:
        """Do so in window ``index``, which has so many dirty blocks in so many extents."""
        window = self._inodes.pin_window(inode, index)
        # There are no more fragments than extents.
        extents_max = len(window.extents)
        if extents_max < _NEIGHBOUR_FRAGMENTS_MIN and extents_max + 2 * extent_count <= _MANY:
            return
        if not window.mapped or dirty_blocks == self._volume.window_blocks:
            return
        fragments = window.fragment_count(_MANY)
        worth = 4 * dirty_blocks if fragments >= _MANY else dirty_blocks
        is_cheap = fragments >= _NEIGHBOUR_FRAGMENTS_MIN and window.mapped - dirty_blocks <= worth
        if is_cheap and self._dirty_whole(inode, index, window):
            return
        if fragments + 2 * extent_count > _MANY:
            self._scattered.note(inode.ino, dirty_blocks, self._volume.elapsed.ns)

    def _dirty_whole(self, inode: Inode, index: int, window: Window) -> bool:
        """Read what is mapped and not dirty of a window and make it dirty.

        Returns False when there is no space to spare for all of it.
        """
        base = index * self._volume.window_blocks
        block_bytes = self._volume.block_bytes
        dirty = inode.dirty
        assert dirty is not None
        for first, count, address in window.extents:
            wanted = [b for b in range(first, first + count) if base + b not in dirty]
            if not wanted:
                continue
            if self.spare_blocks is None:
                # Half of what is spare may go to neighbours.
                self.spare_blocks = self._ledger.spare_blocks() // 2
            if len(wanted) > self.spare_blocks:
                return False
            try:
                raw = self._volume.read_data(address, window.checksums[first : first + count])
            except OSError:
                continue
            self.spare_blocks -= len(wanted)
            for block in wanted:
                start = (block - first) * block_bytes
                content = raw[start : start + block_bytes]
                self._inodes.dirty_data.put(inode, base + block, content)
        return True
