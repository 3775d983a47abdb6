"""Places of names in directories, and those that were found or made lately.

Theory.  Who creates a name often looks it up, renames it or removes it soon.  A name that
leads somewhere stays at its place, and leads to the same inode, until it is changed by way
of ``lfs.files.directory``; so what was found once is true as long, and neither the name has
to be hashed nor the inode map to be asked again.  What leads nowhere is not kept here: its
place may be taken by another name with the same hash.

Invariant: no more than twice ``_KEPT_MAX`` places are kept, in two generations: when the
younger one is full, it becomes the older one, and what was that is forgotten.

Held by ``tests/files/test_places.py``.
"""

from __future__ import annotations

_KEPT_MAX = 4096


class Place:
    """Where a name of a directory is or belongs, and what it leads to."""

    __slots__ = ("directory_ino", "ino", "key", "name")

    def __init__(self, directory_ino: int, name: bytes, key: bytes, ino: int | None) -> None:
        """Let ``name`` lead to inode ``ino``, or nowhere, by the item at ``key``."""
        self.directory_ino = directory_ino
        self.name = name
        self.key = key
        self.ino = ino


class RecentPlaces:
    """Some places of names that lead somewhere."""

    def __init__(self) -> None:
        """Start with none."""
        self._young: dict[tuple[int, bytes], Place] = {}
        self._old: dict[tuple[int, bytes], Place] = {}

    def get(self, directory_ino: int, name: bytes) -> Place | None:
        """Return the place of a name, or None when it is not known."""
        which = directory_ino, name
        place = self._young.get(which)
        return self._old.get(which) if place is None else place

    def keep(self, place: Place) -> None:
        """Remember a place, instead of what is known of this name."""
        if len(self._young) >= _KEPT_MAX:
            self._old = self._young
            self._young = {}
        self._young[place.directory_ino, place.name] = place

    def forget(self, place: Place) -> None:
        """Note that the name of a place leads nowhere any more."""
        which = place.directory_ino, place.name
        self._young.pop(which, None)
        self._old.pop(which, None)
