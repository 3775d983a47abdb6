"""Entries of a listing that tell number and type alone, and for whom those are enough.

Theory.  A listing with attributes (FUSE_READDIRPLUS, all that pyfuse3 serves) saves whoever
asks for the attributes of each name one request per name; who wants the names only pays for
reading all inodes, and the kernel for making its own of them.  An entry with node ID 0 lets
the kernel list a name and take nothing else of it, no lookup either (linux, fs/fuse/readdir.c,
``fuse_direntplus_link``).  Any entry may be so *brief*: the kernel asks for what it lacks.

pyfuse3 sets node ID and inode number of an entry together.  ``BriefEntry`` finds the place of
the number in the object by a mark, and puts the number there and not into the node ID.  Where
the mark is not found exactly as expected, there are no brief entries.

Brief is a listing of a directory of which the kernel knows all names with their attributes
(those of a file that was written to it has to ask for anew, which ends that), and one for a
program that did not ask for the attributes in the directory it listed last.
To notice that, one entry of a longer listing with attributes is brief, the *sample*: who asks
for attributes asks for its, and that request is seen.  It has no sample in its next
``TRUSTED_LISTINGS`` then.  A guess costs time when it is wrong, and nothing else.

Held by ``tests/fuse/test_brief.py``.
"""

from __future__ import annotations

import ctypes

from pyfuse3 import EntryAttributes

SAMPLE_INDEX = 15
"""Which entry of a listing, with the dots, is the sample; shorter listings have none."""
TRUSTED_LISTINGS = 8
_READERS_MAX = 64
_KNOWN_MAX = 65536
_MARK = 0x5A17_C3E2_914B_6D08
_TYPE_SHIFT = 12


class BriefEntry:
    """A brief entry, in one object for all replies."""

    def __init__(self, entry: EntryAttributes, number: ctypes.c_uint64) -> None:
        """Fill ``entry``, in which ``number`` is the inode number but no node ID (``found``)."""
        self._entry = entry
        self._number = number
        self._file_type = 0

    @classmethod
    def found(cls) -> BriefEntry | None:
        """Return one, or None where pyfuse3's entries are not as expected."""
        entry = EntryAttributes()
        entry.entry_timeout = entry.attr_timeout = 0
        entry.st_mode = 0
        entry.st_ino = _MARK
        mark = bytes(ctypes.c_uint64(_MARK))
        pieces = ctypes.string_at(id(entry), type(entry).__basicsize__).split(mark)
        if len(pieces) != 3:  # before, between and behind two marks
            return None
        place = id(entry) + len(pieces[0]) + len(mark) + len(pieces[1])
        number = ctypes.c_uint64.from_address(place)
        entry.st_ino = 0
        number.value = _MARK
        # What pyfuse3 reads is the node ID.
        return cls(entry, number) if entry.st_ino == 0 else None

    def of(self, ino: int, file_type: int) -> EntryAttributes:
        """Return the entry of an inode of which only the type is known, until the next call."""
        self._number.value = ino
        if file_type != self._file_type:
            self._file_type = file_type
            self._entry.st_mode = file_type << _TYPE_SHIFT
        return self._entry


class _Reader:
    """What is known of a program that lists directories."""

    __slots__ = ("brief_ino", "known_ino", "sample_ino", "trusted_listings", "wants_attributes")

    def __init__(self) -> None:
        self.wants_attributes = True
        self.sample_ino = 0
        """The inode of the last sample, while nobody has asked for it."""
        self.trusted_listings = 0
        """How many of the next listings need no sample."""
        self.known_ino = 0
        """The directory that was listed last, if without attributes because they are known."""
        self.brief_ino = 0
        """The directory that was listed last without attributes, because it wants none."""


class Foresight:
    """Guesses which listings are to be brief."""

    def __init__(self) -> None:
        """Know nobody."""
        self._readers: dict[int, _Reader] = {}
        self._known: set[int] = set()

    def is_brief(self, pid: int, directory_ino: int) -> bool:
        """Tell whether process ``pid``, which begins to list a directory, will do without more."""
        reader = self._readers.get(pid)
        if reader is None:
            if len(self._readers) >= _READERS_MAX:
                del self._readers[next(iter(self._readers))]
            reader = self._readers[pid] = _Reader()
        if reader.sample_ino:
            reader.sample_ino = 0
            reader.wants_attributes = False
        reader.known_ino = 0
        if directory_ino in self._known:
            reader.known_ino = directory_ino
            return True
        if reader.wants_attributes:
            reader.brief_ino = 0
            return False
        reader.brief_ino = directory_ino
        return True

    def needs_sample(self, pid: int) -> bool:
        """Tell whether a listing with attributes that ``pid`` begins shall have a sample."""
        reader = self._readers.get(pid)
        if reader is None or not reader.trusted_listings:
            return True
        reader.trusted_listings -= 1
        return False

    def sampled(self, pid: int, ino: int) -> None:
        """Note that ``pid`` got inode ``ino`` as the sample of a listing."""
        reader = self._readers.get(pid)
        if reader is not None:
            reader.sample_ino = ino

    def told(self, directory_ino: int) -> None:
        """Note that the kernel was told the attributes of all names in a directory."""
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known.add(directory_ino)

    def looked_up(self, pid: int, directory_ino: int, ino: int) -> None:
        """Note that ``pid`` had to ask for a name in a directory, which leads to ``ino``."""
        reader = self._readers.get(pid)
        if reader is not None:
            if reader.sample_ino == ino:
                reader.sample_ino = 0
                reader.trusted_listings = TRUSTED_LISTINGS
                return
            if reader.brief_ino == directory_ino:
                reader.wants_attributes = True
        self._known.discard(directory_ino)

    def asked(self, pid: int, ino: int) -> None:
        """Note that ``pid`` had to ask for the attributes of ``ino``."""
        reader = self._readers.get(pid)
        if reader is not None and reader.known_ino and reader.known_ino != ino:
            self._known.discard(reader.known_ino)
            reader.known_ino = 0

    def forgotten(self) -> None:
        """Note that the kernel has dropped inodes that have names."""
        self._known.clear()
