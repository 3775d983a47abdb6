"""Directories: entries by name hash.

An entry is an imap item of its directory, at an offset that the keyed hash of
its name gives (FORMAT.md, "Keys").  Looking one up, adding or removing it costs
one item however large the directory is, and the offset is a readdir position
that stays true while other entries come and go.

Invariants: entries with the same hash have collision indices 0, 1, 2, ...
without gaps; ``.`` and ``..`` are not stored.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from lfs.errors import FilesystemError
from lfs.imap import Imap
from lfs.ondisk import HASH_COLLISIONS, KIND_ENTRY, EntryItem, entry_offset, pack_key, unpack_key


class DirectoryEntry(NamedTuple):
    """An entry as ``readdir`` gives it; ``cookie`` is where the listing goes on after it."""

    cookie: int
    name: bytes
    ino: int
    file_type: int


class NameHash:
    """The keyed hash of names: BLAKE2b (RFC 7693) with an 8-byte digest."""

    def __init__(self, seed: bytes) -> None:
        """Use ``seed``, 16 bytes, as the key."""
        self._seed = seed

    def __call__(self, name: bytes) -> int:
        """Return the 64-bit hash of ``name``."""
        digest = hashlib.blake2b(name, digest_size=8, key=self._seed).digest()
        return int.from_bytes(digest, "little")


class Directories:
    """The entries of all directories of a filesystem."""

    def __init__(self, imap: Imap, name_hash: NameHash) -> None:
        """Keep entries in ``imap``."""
        self._imap = imap
        self._hash = name_hash

    def find(self, directory_ino: int, name: bytes) -> EntryItem | None:
        """Return the entry called ``name``, or None."""
        offset = entry_offset(self._hash(name))
        for index in range(HASH_COLLISIONS):
            value = self._imap.get(pack_key(directory_ino, KIND_ENTRY, offset + index))
            if value is None:
                return None
            entry = EntryItem.unpack(value)
            if entry.name == name:
                return entry
        return None

    def add(self, directory_ino: int, entry: EntryItem) -> None:
        """Add an entry whose name is not there yet; raises ENOSPC after 256 collisions."""
        offset = entry_offset(self._hash(entry.name))
        for index in range(HASH_COLLISIONS):
            key = pack_key(directory_ino, KIND_ENTRY, offset + index)
            if self._imap.get(key) is None:
                self._imap.put(key, entry.pack())
                return
        raise FilesystemError(errno.ENOSPC, "too many names with the same hash")

    def replace(self, directory_ino: int, entry: EntryItem) -> None:
        """Make the existing entry of that name lead to another inode."""
        self._imap.put(self._locate(directory_ino, entry.name)[0], entry.pack())

    def remove(self, directory_ino: int, name: bytes) -> None:
        """Remove an existing entry; the last of its hash takes its place."""
        key, last = self._locate(directory_ino, name)
        if last != key:
            value = self._imap.get(last)
            assert value is not None
            self._imap.put(key, value)
        self._imap.delete(last)

    def _locate(self, directory_ino: int, name: bytes) -> tuple[bytes, bytes]:
        """Return the key of an entry and the last key with the same hash."""
        offset = entry_offset(self._hash(name))
        found = last = b""
        for index in range(HASH_COLLISIONS):
            key = pack_key(directory_ino, KIND_ENTRY, offset + index)
            value = self._imap.get(key)
            if value is None:
                break
            last = key
            if EntryItem.unpack(value).name == name:
                found = key
        if not found:
            raise FilesystemError(errno.ENOENT)
        return found, last

    def listing(self, directory_ino: int, cookie: int = 0) -> Iterator[DirectoryEntry]:
        """Yield the entries after ``cookie`` (0: all) in the order of their offsets."""
        start = pack_key(directory_ino, KIND_ENTRY, cookie + 1)
        end = pack_key(directory_ino, KIND_ENTRY + 1, 0)
        for key, value in self._imap.scan(start, end):
            ino, file_type, name = EntryItem.unpack(value)
            yield DirectoryEntry(unpack_key(key)[2], name, ino, file_type)
