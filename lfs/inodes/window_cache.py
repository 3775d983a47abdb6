"""Decoded windows of all inodes, within one number of bytes.

A decoded window takes many times what its item does, so only some are kept, whoever
they belong to: they go in the order in which they came, but for those that were changed
since, which go to the end once ("second chance", F. J. Corbató, "A Paging Experiment with
the Multics System", 1968), a few at a time.  One that was changed since the checkpoint is in
the inode map's changes too, decoded as long as it is kept here and packed from then on.

Invariants: what is kept is what inodes have in their ``windows``; ``bytes_kept`` is about
what all of that takes, and no more than the limit unless a single window is larger.

Held by ``tests/library/test_memory.py``.
"""

from __future__ import annotations

from collections import OrderedDict

from lfs.imap.map import Imap
from lfs.inodes.window import Window

Windows = dict[int, Window]

_CHANCES_AT_ONCE = 64


class WindowCache:
    """The windows that inodes have in memory, and who has to let go of which."""

    def __init__(self, imap: Imap, bytes_max: int) -> None:
        """Keep up to ``bytes_max`` bytes."""
        self._imap = imap
        self._bytes_max = bytes_max
        self._kept: OrderedDict[tuple[int, int], Windows] = OrderedDict()
        self.bytes_kept = 0

    def keep(self, ino: int, windows: Windows, index: int, window: Window) -> None:
        """Put ``window`` into ``windows``, those of inode ``ino``; others may have to go."""
        before = windows.get(index)
        if before is window:
            window.was_used = True
            self.bytes_kept -= window.kept_bytes
        else:
            if before is not None:
                self.drop(ino, windows, index)
            windows[index] = window
            self._kept[ino, index] = windows
            window.was_used = False
        window.kept_bytes = window.memory_bytes
        self.bytes_kept += window.kept_bytes
        if self.bytes_kept > self._bytes_max:
            self._trim((ino, index))

    def _trim(self, newest: tuple[int, int]) -> None:
        """Let go of windows, but not of the newest.

        Each that was used since it came, or was looked at, stays once, as long as that does
        not mean to look through all of them.
        """
        kept = self._kept
        chances = _CHANCES_AT_ONCE
        while self.bytes_kept > self._bytes_max and len(kept) > 1:
            place, windows = kept.popitem(last=False)
            index = place[1]
            window = windows[index]
            if place == newest or (window.was_used and chances > 0):
                chances -= 1
                window.was_used = False
                kept[place] = windows
                continue
            del windows[index]
            self.bytes_kept -= window.kept_bytes
            self._imap.pack_change(window.key, window)

    def drop(self, ino: int, windows: Windows, index: int) -> None:
        """Take a window that is gone out of ``windows``; it need not be there."""
        before = windows.pop(index, None)
        if before is not None:
            del self._kept[ino, index]
            self.bytes_kept -= before.kept_bytes

    def forget(self, ino: int, windows: Windows) -> None:
        """Take all windows out of ``windows``, because their inode leaves memory."""
        for index, window in [*windows.items()]:
            self._imap.pack_change(window.key, window)
            self.drop(ino, windows, index)
