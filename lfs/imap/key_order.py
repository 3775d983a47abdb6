"""The order of keys that were collected in no order.

Theory.  Nearly all that happens to changed items is a look at one key, which a
dictionary answers; only listing a directory and removing what belongs to an inode
need them in order.  So keys are put in order when somebody asks, and then only
those of the kinds asked for (FORMAT.md, "Keys"): a new name does not have to find
its place among inodes that nobody lists.  A key is placed once, however often the
order is asked for: new keys are sorted among themselves and merged when they are
many, and inserted one by one when they are few.

Invariant: of each kind, what is in ``_waiting`` and what is in ``_ordered`` are
together the first ``_taken`` keys of the dictionary; so keys may leave it only here first.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Any

from sortedcontainers import SortedList

from lfs.ondisk import KEY_KIND


class KeyOrder:
    """The keys of a dictionary in order."""

    def __init__(self, keys: dict[bytes, Any]) -> None:
        """Order the keys of ``keys``, which its owner goes on to change."""
        self._keys = keys
        self._taken = 0
        self._waiting: dict[int, list[bytes]] = {}
        self._ordered: dict[int, SortedList[bytes]] = {}

    def between(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the keys with ``start <= key < end``, ascending; no key may come meanwhile."""
        self._take_new()
        parts = []
        for kind in self._kinds(start, end):
            parts.append(self._in_order(kind).irange(start, end, (True, False)))
        return parts[0] if len(parts) == 1 else merge(*parts)

    def _kinds(self, start: bytes, end: bytes) -> list[int]:
        """Return the kinds of keys that may lie in a range."""
        if start[:KEY_KIND] != end[:KEY_KIND]:
            return sorted(self._waiting)
        first, last = start[KEY_KIND], end[KEY_KIND]
        if not any(end[KEY_KIND + 1 :]):
            last -= 1
        return [kind for kind in self._waiting if first <= kind <= last]

    def remove(self, keys: list[bytes]) -> None:
        """Forget ``keys``, which are about to leave the dictionary."""
        self._take_new()
        for key in keys:
            self._in_order(key[KEY_KIND]).remove(key)
        self._taken -= len(keys)

    def clear(self) -> None:
        """Forget all keys: the dictionary is empty."""
        assert not self._keys
        self._taken = 0
        self._waiting.clear()
        self._ordered.clear()

    def _in_order(self, kind: int) -> SortedList[bytes]:
        """Return the keys of one kind that have been taken, in order."""
        ordered = self._ordered.setdefault(kind, SortedList())
        if self._waiting[kind]:
            ordered.update(self._waiting[kind])
            self._waiting[kind] = []
        return ordered

    def _take_new(self) -> None:
        """Note the keys that came since the last time, by kind."""
        # They are the last ones, as a dictionary keeps the order in which keys came.
        new = len(self._keys) - self._taken
        for key in islice(reversed(self._keys), new):
            self._waiting.setdefault(key[KEY_KIND], []).append(key)
        self._taken += new
