"""Directories: entries by name hash.

An entry is an imap item of its directory, at an offset that the keyed hash of
its name gives (FORMAT.md, "Keys").  Looking one up, adding or removing it costs
one item however large the directory is, and the offset is a readdir position
that stays true while other entries come and go.

Invariants: entries with the same hash, and the marks of those removed before others of
them (``lfs.files.collisions``), have collision indices 0, 1, 2, ... without gaps, and an entry
is the last; an entry never moves; ``.`` and ``..`` are not stored.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lfs.common.errors import DamageError
from lfs.files.collisions import apply, removal
from lfs.files.places import Place, RecentPlaces
from lfs.imap.map import Imap
from lfs.ondisk import (
    HASH_COLLISIONS,
    KIND_ENTRY,
    REMOVED_ENTRY,
    entry_offset,
    pack_entry,
    pack_key,
    unpack_entry,
    unpack_key,
)
from lfs.volume.arguments import check_bytes

_DOTS = frozenset((b".", b".."))
_unpack_hash = struct.Struct("<Q").unpack
_SLASH = ord("/")
_DOT = ord(".")


class DirectoryEntry(NamedTuple):
    """An entry as ``readdir`` gives it; ``cookie`` is where the listing goes on after it."""

    cookie: int
    name: bytes
    ino: int
    file_type: int


_new_tuple = tuple.__new__
"""Makes a ``DirectoryEntry`` in half the time that its own constructor takes."""


class NameHash:
    """The keyed hash of names: BLAKE2b (RFC 7693) with an 8-byte digest."""

    def __init__(self, seed: bytes) -> None:
        """Use ``seed``, 16 bytes, as the key."""
        self._keyed = hashlib.blake2b(digest_size=8, key=seed)

    def __call__(self, name: bytes) -> int:
        """Return the 64-bit hash of ``name``; raises TypeError unless it is bytes."""
        if type(name) is not bytes:
            check_bytes("name", name)
        state = self._keyed.copy()
        state.update(name)
        value: int = _unpack_hash(state.digest())[0]
        return value


class Directories:
    """The entries of all directories of a filesystem.

    ``find`` says where a name is or belongs, and the others take that *place*, which
    is true until another entry of the directory changes.  Where a name is that leads
    somewhere stays true until it is removed: such places are remembered.  Of those that lead
    nowhere the last one is, until any entry changes.
    """

    def __init__(self, imap: Imap, name_hash: NameHash) -> None:
        """Keep entries in ``imap``."""
        self._imap = imap
        self._hash = name_hash
        self._recent = RecentPlaces()
        self._absent: Place | None = None
        """Of the name that was looked for last and leads nowhere: it is often made next."""

    def find(self, directory_ino: int, name: bytes) -> tuple[Place, int | None]:
        """Return the place of ``name`` and the inode it leads to, None when it leads nowhere.

        The place has no key when there are too many names with the same hash.
        """
        place = self._recent.get(directory_ino, name)
        if place is None:
            place = self._absent
            if place is None or place.name != name or place.directory_ino != directory_ino:
                place = self._look(directory_ino, name)
                if place.ino is None:
                    self._absent = place
                else:
                    self._recent.keep(place)
        return place, place.ino

    def _look(self, directory_ino: int, name: bytes) -> Place:
        offset = entry_offset(self._hash(name))
        end = offset + HASH_COLLISIONS
        free = b""
        while offset < end:
            key = pack_key(directory_ino, KIND_ENTRY, offset)
            value = self._imap.get(key)
            if value is None:
                return Place(directory_ino, name, free or key, None)
            if value == REMOVED_ENTRY:
                free = free or key
            else:
                ino, _, found = unpack_entry(value)
                if found == name:
                    return Place(directory_ino, name, key, ino)
            offset += 1
        return Place(directory_ino, name, free, None)

    def put(self, place: Place, ino: int, file_type: int) -> None:
        """Let the name of a place lead to an inode."""
        self._absent = None
        self._imap.put(place.key, pack_entry(ino, file_type, place.name))
        place.ino = ino
        self._recent.keep(place)

    def remove(self, place: Place) -> None:
        """Remove the entry at a place."""
        changes = removal(self._imap, place.key, 1, REMOVED_ENTRY)
        self._absent = None
        self._recent.forget(place)
        apply(self._imap, changes)

    def move(self, place: Place, new_place: Place, ino: int, file_type: int) -> None:
        """Remove the entry at ``place`` and let the name of ``new_place`` lead to its inode.

        Everything that may be unreadable is read before anything changes.
        """
        changes = removal(self._imap, place.key, 1, REMOVED_ENTRY, new_place.key)
        self._recent.forget(place)
        self.put(new_place, ino, file_type)
        apply(self._imap, changes)

    def listing(
        self,
        directory_ino: int,
        cookie: int = 0,
        on_damage: Callable[[DamageError], None] | None = None,
    ) -> Iterator[DirectoryEntry]:
        """Yield the entries after ``cookie`` (0: all) in the order of their offsets.

        An entry that is none, or whose name leads elsewhere, is left out: ``on_damage`` is
        told, and where there is none, the first such DamageError comes after all others.
        """
        failure: DamageError | None = None
        following: bytes | None = pack_key(directory_ino, KIND_ENTRY, cookie + 1)
        end = pack_key(directory_ino, KIND_ENTRY + 1, 0)
        while following is not None:
            items, following = self._imap.batch(following, end)
            for key, value in items:
                if value == REMOVED_ENTRY:
                    continue
                try:
                    ino, file_type, name = unpack_entry(value)
                    if _SLASH in name or 0 in name or (name[0] == _DOT and name in _DOTS):
                        # Whoever uses it as part of a path would be led elsewhere.
                        raise DamageError(f"directory {directory_ino} has an entry called {name!r}")
                except DamageError as error:
                    if on_damage is not None:
                        on_damage(error)
                    failure = failure or error
                    continue
                yield _new_tuple(DirectoryEntry, (unpack_key(key)[2], name, ino, file_type))
        if failure is not None and on_damage is None:
            raise failure
