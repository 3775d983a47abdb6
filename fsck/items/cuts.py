"""Windows that were cut off and still wait to be given up (FORMAT.md, "Cut").

Items of the system inode come before all others, so every range is known when the
inode that it belongs to is looked at.

Held by ``tests/fsck/test_items.py``.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from itertools import pairwise

from fsck.reading.report import Report
from lfs.common.errors import DamageError
from lfs.ondisk import INODE_CUT, InodeItem, unpack_cut

Range = tuple[int, int]


class CutItems:
    """The cut items of the state a mount will show."""

    def __init__(self, report: Report) -> None:
        """Start empty; problems go to ``report``."""
        self._report = report
        self._ranges: dict[int, list[Range]] = {}
        self._may_lack_items = False
        self._found: set[int] = set()

    def take(self, number: int, value: bytes) -> None:
        """Take the cut item ``number``."""
        try:
            ino, first, end = unpack_cut(value)
        except DamageError as error:
            self._may_lack_items = True
            self._report.add("cut-damaged", f"cut item {number}: {error.strerror}")
            return
        self._ranges.setdefault(ino, []).append((first, end))

    def finish_items(self, may_lack_items: bool) -> None:
        """Apply the rules between items, all of which have been taken but those lost."""
        self._may_lack_items |= may_lack_items
        for ino, ranges in self._ranges.items():
            ranges.sort()
            for (_, end), (first, _) in pairwise(ranges):
                if first < end:
                    self._bad("cut-overlap", ino, f"window {first} is cut off twice")

    def covers(self, ino: int, index: int) -> bool:
        """Tell whether window ``index`` of ``ino`` was cut off."""
        ranges = self._ranges.get(ino, [])
        position = bisect_right(ranges, index, key=lambda one: one[0]) - 1
        return position >= 0 and index < ranges[position][1]

    def check_inode(self, ino: int, item: InodeItem) -> None:
        """Hold the flag of an inode against its items."""
        is_cut = ino in self._ranges
        if is_cut:
            self._found.add(ino)
            if not stat.S_ISREG(item.mode):
                self._bad("cut-inode", ino, "cut items of an inode that is no file")
        if is_cut != bool(item.flags & INODE_CUT) and (is_cut or not self._may_lack_items):
            expected = "cut items" if not is_cut else "the flag for its cut items"
            self._bad("cut-flag", ino, f"expected {expected}, found none")

    def finish(self) -> None:
        """Apply the rule that needs all inodes, of which none was lost."""
        for ino in sorted(self._ranges.keys() - self._found):
            self._bad("cut-target", ino, "expected to exist, a cut item names it")

    def _bad(self, code: str, ino: int, text: str) -> None:
        self._report.add(code, f"inode {ino}: {text}", ino=ino)
