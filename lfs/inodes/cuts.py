"""What was cut off files and is still mapped: windows that wait to be given up.

Cutting a large file only notes which windows are no longer its own, in an item for
each range (FORMAT.md, "Cut"); they are given up in steps (``lfs.alloc.admission.removal``).  Until
then a window in such a range counts as unmapped for everybody, and whoever writes
there gives it up first, which parts the range in two.

Invariants: the ranges of an inode are ascending, neither empty nor overlapping, and
all of them are in the inode map; none has the first window of a file, which a cut gives
up at once; no dirty block lies in one.

Held by ``tests/alloc/admission/test_cut_off.py``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from lfs.common.errors import DamageError, FilesystemError
from lfs.device.reading import read_again
from lfs.imap.map import Imap
from lfs.ondisk import (
    KIND_CUT,
    SEQUENCE_MAX,
    SYSTEM_INO,
    pack_cut,
    pack_key,
    unpack_cut,
    unpack_key,
)


class Cut:
    """Windows ``first`` to ``end`` of inode ``ino``, under the number of their item."""

    __slots__ = ("end", "first", "ino", "is_stuck", "number")

    def __init__(self, number: int, ino: int, first: int, end: int) -> None:
        """Begin as one that can be given up."""
        self.number = number
        self.ino = ino
        self.first = first
        self.end = end
        self.is_stuck = False


class Cuts:
    """All ranges of windows of one filesystem that are cut off."""

    def __init__(self, imap: Imap) -> None:
        """Start without any; ``load`` reads what the inode map has."""
        self._imap = imap
        self._by_ino: dict[int, list[Cut]] = {}
        self._next_number = 0
        self.count = 0
        self.stuck_count = 0
        """Ranges that can't be given up."""
        self.error: FilesystemError | None = None
        """Why the items could not be read: then nobody knows what else is cut off."""

    def load(self) -> None:
        """Read the items; raises DamageError or DeviceError, which ``find`` repeats."""
        start = pack_key(SYSTEM_INO, KIND_CUT, 0)
        end = pack_key(SYSTEM_INO, KIND_CUT + 1, 0)
        try:
            for key, value in read_again(lambda: list(self._imap.scan(start, end))):
                number = unpack_key(key)[2]
                if number > SEQUENCE_MAX:
                    raise DamageError(f"the number of a cut item is {number}")
                cut = Cut(number, *unpack_cut(value))
                self._next_number = number + 1
                self._by_ino.setdefault(cut.ino, []).append(cut)
                self.count += 1
        except FilesystemError as error:
            self.error = error
            raise
        for cuts in self._by_ino.values():
            cuts.sort(key=_first)

    def __iter__(self) -> Iterator[Cut]:
        """Yield all ranges."""
        for cuts in self._by_ino.values():
            yield from cuts

    def inos(self) -> Iterable[int]:
        """Return the inodes of which something is cut off."""
        return self._by_ino.keys()

    def of(self, ino: int) -> Sequence[Cut]:
        """Return the ranges of ``ino`` in their order."""
        return self._by_ino.get(ino, ())

    def find(self, ino: int, index: int) -> Cut | None:
        """Return the range that window ``index`` of ``ino`` lies in, or None."""
        if self.error is not None:
            raise self.error
        cuts = self._by_ino.get(ino)
        if cuts:
            position = bisect_right(cuts, index, key=_first) - 1
            if position >= 0 and index < cuts[position].end:
                return cuts[position]
        return None

    def add(self, ino: int, first: int, end: int) -> None:
        """Cut windows ``first`` to ``end`` of ``ino`` off; ranges that touch become one."""
        before = [cut for cut in self.of(ino) if cut.end >= first and cut.first <= end]
        for cut in before:
            first, end = min(first, cut.first), max(end, cut.end)
            self.drop(cut)
        self._new(ino, first, end)

    def advance(self, cut: Cut, first: int) -> None:
        """Note that nothing before window ``first`` of a range is mapped any more."""
        if first >= cut.end:
            self.drop(cut)
        else:
            cut.first = first
            self._imap.put(_key(cut), pack_cut(cut.ino, cut.first, cut.end))

    def part(self, cut: Cut, index: int) -> None:
        """Take window ``index``, which is unmapped now, out of a range."""
        self.drop(cut)
        for first, end in ((cut.first, index), (index + 1, cut.end)):
            if first < end:
                self._new(cut.ino, first, end)

    def drop(self, cut: Cut) -> None:
        """Forget a range of which nothing is mapped any more."""
        cuts = self._by_ino[cut.ino]
        cuts.remove(cut)
        if not cuts:
            del self._by_ino[cut.ino]
        self._imap.delete(_key(cut))
        self.count -= 1
        self.stuck_count -= cut.is_stuck

    def set_aside(self, cut: Cut) -> None:
        """Note that a range can't be given up."""
        cut.is_stuck = True
        self.stuck_count += 1

    def _new(self, ino: int, first: int, end: int) -> None:
        cut = Cut(self._next_number, ino, first, end)
        cuts = self._by_ino.setdefault(ino, [])
        cuts.insert(bisect_right(cuts, first, key=_first), cut)
        self._imap.put(_key(cut), pack_cut(ino, first, end))
        self._next_number += 1
        self.count += 1


def _first(cut: Cut) -> int:
    return cut.first


def _key(cut: Cut) -> bytes:
    return pack_key(SYSTEM_INO, KIND_CUT, cut.number)
