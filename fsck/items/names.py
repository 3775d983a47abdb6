"""Rules between inodes: links, parents, orphans, and that all can be reached from the root.

FORMAT.md, "Inode", "Directory entry", "Orphan".  Entries point to inodes that
may come much later in key order, so both are collected in compact columns (some
30 bytes a name) and held against each other at the end.

Held by ``tests/fsck/test_items.py``.
"""

from __future__ import annotations

import stat
from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fsck.reading.report import Report
from lfs.ondisk import ROOT_INO, EntryItem, InodeItem

_DIRECTORY_TYPE = stat.S_IFDIR >> 12
_UNKNOWN, _ON_PATH, _REACHED, _REPORTED = range(4)

Numbers = npt.NDArray[np.int64]


class Names:
    """All inodes, entries and orphan items of the state a mount will show."""

    def __init__(self, report: Report) -> None:
        """Start empty; problems go to ``report``."""
        self._report = report
        self._inos = array("Q")
        self._types = array("B")
        self._links = array("I")
        self._parents = array("Q")
        self._directories = array("Q")
        self._targets = array("Q")
        self._target_types = array("B")
        self._orphans: set[int] = set()
        self._unreadable: set[int] = set()

    def add_inode(self, ino: int, item: InodeItem) -> None:
        """Take an inode; numbers come in ascending order."""
        self._inos.append(ino)
        self._types.append(item.mode >> 12 & 0xF)
        self._links.append(item.nlink)
        self._parents.append(item.parent_ino)

    def add_entry(self, directory: int, entry: EntryItem) -> None:
        """Take an entry of the inode ``directory``."""
        self._directories.append(directory)
        self._targets.append(entry.ino)
        self._target_types.append(entry.file_type)

    def add_orphan(self, ino: int) -> None:
        """Take an orphan item."""
        self._orphans.add(ino)

    def add_unreadable(self, ino: int) -> None:
        """Take an inode that exists but cannot be read: nothing more is said about it."""
        self._unreadable.add(ino)

    def check(self) -> None:
        """Apply the rules to everything that was taken."""
        found = self._check_targets()
        name_counts = np.bincount(found[found >= 0], minlength=len(self._inos))
        self._check_root()
        self._check_orphans()
        self._check_links(name_counts)
        self._check_directories(found, name_counts)

    def _bad(self, code: str, ino: int, text: str) -> None:
        if ino not in self._unreadable:
            self._report.add(code, f"inode {ino}: {text}", ino=ino)

    def _index(self, ino: int) -> int | None:
        """Return where the columns have inode ``ino``, None when they do not."""
        index = int(np.searchsorted(_column(self._inos), np.uint64(ino)))
        return index if index < len(self._inos) and self._inos[index] == ino else None

    def _check_targets(self) -> Numbers:
        """Return for each entry the index of its inode, -1 for none, which is a problem."""
        inos, targets = _column(self._inos), _column(self._targets)
        found = np.searchsorted(inos, targets).astype(np.int64)
        if len(inos):
            clipped = np.minimum(found, len(inos) - 1)
            found[inos[clipped] != targets] = -1
        else:
            found[:] = -1
        for position in _positions(found < 0):
            text = (
                f"expected to exist, an entry of directory {self._directories[position]} names it"
            )
            self._bad("entry-target", self._targets[position], text)
        types = np.frombuffer(self._types, dtype=np.uint8)
        wrong = found >= 0
        wrong[wrong] = types[found[wrong]] != _bytes(self._target_types)[wrong]
        for position in _positions(wrong):
            self._bad(
                "entry-type",
                self._targets[position],
                f"file type {self._types[int(found[position])]}, the entry of directory "
                f"{self._directories[position]} says {self._target_types[position]}",
            )
        return found

    def _check_root(self) -> None:
        index = self._index(ROOT_INO)
        if index is None:
            self._bad("root", ROOT_INO, "the root directory is missing")
        elif self._types[index] != _DIRECTORY_TYPE:
            self._bad("root", ROOT_INO, "the root is no directory")
        elif self._parents[index] != ROOT_INO:
            found = self._parents[index]
            self._bad("directory-parent", ROOT_INO, f"expected the root as parent, found {found}")

    def _check_orphans(self) -> None:
        for ino in sorted(self._orphans):
            index = self._index(ino)
            if index is None:
                self._bad("orphan-missing", ino, "an orphan item names it, but it does not exist")
            elif self._links[index]:
                text = f"expected 0 links of an orphan, found {self._links[index]}"
                self._bad("orphan-links", ino, text)

    def _check_links(self, name_counts: Numbers) -> None:
        """Hold the number of names of each inode against its links and its orphan item."""
        types, links = _bytes(self._types), np.frombuffer(self._links, dtype=np.uint32)
        is_directory = types == _DIRECTORY_TYPE
        # Nearly every inode passes here: only the others are looked at one by one.
        usual = (name_counts > 0) & (links > 0)
        usual &= name_counts == np.where(is_directory, 1, links)
        if self._orphans:
            orphans = np.array(sorted(self._orphans), dtype=np.uint64)
            usual &= ~np.isin(_column(self._inos), orphans)
        for position in _positions(~usual):
            ino, count = self._inos[position], int(name_counts[position])
            if ino == ROOT_INO:
                if count:
                    self._bad("directory-links", ino, f"{count} entries name the root")
            elif ino in self._orphans:
                if count:
                    self._bad("orphan-named", ino, f"an orphan, but {count} entries name it")
            elif count == 0:
                self._bad("inode-unreachable", ino, "no entry names it and it is no orphan")
            elif is_directory[position] and count > 1:
                self._bad("directory-links", ino, f"expected 1 name of a directory, found {count}")
            else:
                found = self._links[position]
                self._bad("link-count", ino, f"expected {count} links, found {found}")

    def _check_directories(self, found: Numbers, name_counts: Numbers) -> None:
        """Check the parent of each directory, and that its parents lead to the root."""
        namer = self._naming_directories(found)
        state = bytearray(len(self._inos))
        root = self._index(ROOT_INO)
        if root is not None:
            state[root] = _REACHED
        for start in _positions(_bytes(self._types) == _DIRECTORY_TYPE):
            if state[start] != _UNKNOWN or not name_counts[start]:
                continue
            path = []
            position = start
            while position >= 0 and state[position] == _UNKNOWN:
                state[position] = _ON_PATH
                path.append(position)
                position = int(namer[position])
            if position >= 0 and state[position] == _ON_PATH:
                text = "the directories above it form a cycle that the root is not in"
                self._bad("directory-cycle", self._inos[position], text)
            # What is below a directory without a name was reported with that directory.
            for passed in path:
                state[passed] = _REPORTED if position < 0 else _REACHED

    def _naming_directories(self, found: Numbers) -> Numbers:
        """Return for each inode that is a directory the index of one that names it, else -1."""
        namer = np.full(len(self._inos), -1, dtype=np.int64)
        inos = _column(self._inos)
        directories = _column(self._directories)
        entries = np.flatnonzero(found >= 0)
        entries = entries[_bytes(self._types)[found[entries]] == _DIRECTORY_TYPE]
        namer[found[entries]] = np.searchsorted(inos, directories[entries])
        parents = _column(self._parents)
        for entry in entries[parents[found[entries]] != directories[entries]]:
            position = int(found[entry])
            self._bad(
                "directory-parent",
                self._inos[position],
                f"expected parent {self._directories[int(entry)]}, whose entry names it, "
                f"found {self._parents[position]}",
            )
        return namer


def _column(values: array[int]) -> npt.NDArray[np.uint64]:
    return np.frombuffer(values, dtype=np.uint64)


def _bytes(values: array[int]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(values, dtype=np.uint8)


def _positions(chosen: npt.NDArray[np.bool_]) -> Iterator[int]:
    return (int(position) for position in np.flatnonzero(chosen))
