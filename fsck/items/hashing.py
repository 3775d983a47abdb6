"""Items filed under the hash of a name: directory entries and extended attributes.

FORMAT.md, "Keys".  Names with the same hash take indices 0, 1, 2, ..., with marks where
one was removed before others, so a name can be there twice only within one group of
equal hashes.

Held by ``tests/fsck/test_items.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from fsck.reading.report import Report

INDEX_MAX = 0xFF


def name_hash(name: bytes, hash_seed: bytes) -> int:
    """Return the 64-bit hash of ``name``."""
    return int.from_bytes(blake2b(name, digest_size=8, key=hash_seed).digest(), "little")


class HashGroups:
    """Checks the names of one inode, which come in the order of their keys."""

    def __init__(
        self, what: str, hash_seed: bytes, base_of_hash: Callable[[int], int], report: Report
    ) -> None:
        """Take ``what`` ("entry", "xattr"), the start of the codes of the problems to report.

        ``base_of_hash`` returns the key offset of the first name with a hash.
        """
        self._what = what
        self._hash_seed = hash_seed
        self._base_of_hash = base_of_hash
        self._report = report
        self.begin(0)

    def begin(self, ino: int) -> None:
        """Go on to the names of inode ``ino``."""
        self._ino = ino
        self._base = -1
        self._names: list[bytes] = []

    def take(self, base: int, index: int, name: bytes, may_have_gap: bool) -> None:
        """Take ``name``, found as number ``index`` of the group at offset ``base``.

        It is empty for the mark of a removed one.  ``may_have_gap`` tells that items
        before it may have been lost.
        """
        if base != self._base:
            self.end(may_have_gap)
            self._base = base
        expected = self._base_of_hash(name_hash(name, self._hash_seed)) if name else base
        if base != expected:
            self._add("hash", name, f"expected hash offset {expected:#x}, found {base:#x}")
        elif index != len(self._names) and not may_have_gap:
            self._add("index", name, f"expected collision index {len(self._names)}, found {index}")
        elif name and name in self._names:
            self._add("duplicate", name, "the name is there twice")
        self._names.append(name)

    def end(self, may_have_gap: bool) -> None:
        """Take the end of the current group, if there is one."""
        if self._names and not self._names[-1] and not may_have_gap:
            self._add("mark", b"", "expected a name behind the mark of a removed one")
        self._base = -1
        self._names = []

    def _add(self, problem: str, name: bytes, text: str) -> None:
        self._report.add(
            f"{self._what}-{problem}",
            f"inode {self._ino}, {self._what} {name!r}: {text}",
            ino=self._ino,
        )
