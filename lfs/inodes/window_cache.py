"""Decoded windows of all inodes, within one number of bytes.

A decoded window takes many times what its item does, so only some are kept, whoever
they belong to; those that were read or changed longest ago go first.  One that was
changed since the checkpoint is in the inode map's changes too, decoded as long as it
is kept here and packed from then on.

Invariant: ``bytes_kept`` is about what all windows kept take, and no more than the
limit unless a single one is larger.

Held by ``tests/library/test_memory.py``.
"""

from __future__ import annotations

from collections import OrderedDict

from lfs.imap.map import Imap
from lfs.inodes.window import Window, window_key

Windows = dict[int, Window]


class WindowCache:
    """The windows that inodes have in memory, and who has to let go of which."""

    def __init__(self, imap: Imap, bytes_max: int) -> None:
        """Keep up to ``bytes_max`` bytes."""
        self._imap = imap
        self._bytes_max = bytes_max
        self._kept: OrderedDict[tuple[int, int], tuple[Windows, int]] = OrderedDict()
        self.bytes_kept = 0

    def keep(self, ino: int, windows: Windows, index: int, window: Window) -> None:
        """Put ``window`` into ``windows``, those of inode ``ino``; others may have to go."""
        place = ino, index
        before = self._kept.pop(place, None)
        if before is not None:
            self.bytes_kept -= before[1]
        size = window.memory_bytes
        windows[index] = window
        self._kept[place] = windows, size
        self.bytes_kept += size
        while self.bytes_kept > self._bytes_max and len(self._kept) > 1:
            (owner, other), (kept, size) = self._kept.popitem(last=False)
            self.bytes_kept -= size
            dropped = kept.pop(other, None)
            if dropped is not None:
                self._imap.pack_change(window_key(owner, other), dropped)

    def drop(self, ino: int, windows: Windows, index: int) -> None:
        """Take a window that is gone out of ``windows``; it need not be there."""
        windows.pop(index, None)
        before = self._kept.pop((ino, index), None)
        if before is not None:
            self.bytes_kept -= before[1]

    def forget(self, ino: int, windows: Windows) -> None:
        """Take all windows out of ``windows``, because their inode leaves memory."""
        for index, window in [*windows.items()]:
            self._imap.pack_change(window_key(ino, index), window)
            self.drop(ino, windows, index)
