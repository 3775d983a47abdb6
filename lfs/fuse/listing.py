"""Open directories, and cookies of 31 bits for places in them.

Theory.  The core's cookies are offsets of entries, of 63 bits (FORMAT.md, "Keys").
Programs of 32 bits without large-file support take no more than 31, and what the
kernel returns beyond is an error to them: directories look empty.  So the kernel is
told an offset's upper 31 bits, which mean "after all entries whose offsets begin so".
That is right for the last such entry of a directory, and nearly every one is the
only one: of a million, about 500 share their bits with another.  Any other gets a number
of its own, which leads to its whole offset; numbers are small and cookies are not, as
bit 62 of every offset is set.

POSIX wants a cookie to be good until the directory is closed or rewound; so long the
numbers are kept.  All other cookies are good for ever, even for who opens the directory
anew with one, as an NFS server does.

Invariants: no two entries of one listing have the same cookie; a listing from a
cookie has each entry behind it that was there since the last rewind exactly once,
whatever else comes and goes.

An entry that is damaged hides no other: it is left out, and the listing ends with the
error once it has passed all of them, in whichever part of it the entry was.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator

from lfs.common.errors import DamageError, FilesystemError
from lfs.filesystem import Filesystem

DOT_COOKIE = 1
DOT_DOT_COOKIE = 2
_DIRECTORY_TYPE = stat.S_IFDIR >> 12
_SHIFT = 32
_LOW_BITS = (1 << _SHIFT) - 1
_FIRST_NUMBER = 3
_LEAST_COOKIE = 1 << 30
_COOKIE_END = 1 << 31

Listed = tuple[int, bytes, int, int]
"""Cookie, name, inode number and file type of an entry."""


class OpenDirectory:
    """One open directory: which it is, and the numbers of entries that need one."""

    __slots__ = ("_failure", "_numbers", "_offsets", "ino", "is_brief", "pid", "told_cookie")

    def __init__(self, ino: int, pid: int = 0) -> None:
        """Open directory ``ino`` for process ``pid``."""
        self.ino = ino
        self.pid = pid
        self.is_brief = False
        """Whether the listing has no attributes (``lfs.fuse.brief``)."""
        self.told_cookie = -1
        """Up to there the kernel has been told all attributes since the last rewind."""
        self._offsets: list[int] = []
        self._numbers: dict[int, int] = {}
        self._failure: DamageError | None = None

    def rewind(self) -> None:
        """Forget the numbers and what was damaged: the listing begins anew."""
        self._failure = None
        if self._offsets:
            self._offsets = []
            self._numbers = {}

    def listing(self, filesystem: Filesystem, cookie: int) -> Iterator[Listed]:
        """Yield the entries after ``cookie`` (0: all), ``.`` and ``..`` first, with our cookies.

        Raises EINVAL for what is no cookie, and what the core raises, after all entries
        before it; for a damaged entry, even one that an earlier call passed, after all.
        """
        place = self._place(cookie)
        if cookie < DOT_DOT_COOKIE:
            parent_ino = filesystem.getattr(self.ino).parent_ino or self.ino
            dots = (DOT_COOKIE, b".", self.ino), (DOT_DOT_COOKIE, b"..", parent_ino)
            for dot, name, ino in dots[cookie:]:
                yield dot, name, ino, _DIRECTORY_TYPE
        held: Listed | None = None
        try:
            for entry in filesystem.readdir(self.ino, place, self._note):
                if held is not None:
                    offset, name, ino, file_type = held
                    short = offset >> _SHIFT
                    if entry[0] >> _SHIFT == short:
                        short = self._number(offset)
                    yield short, name, ino, file_type
                held = entry
        except FilesystemError:
            if held is not None:
                # Nobody knows what follows.
                yield self._number(held[0]), *held[1:]
            raise
        if held is not None:
            yield held[0] >> _SHIFT, *held[1:]
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    def _note(self, failure: DamageError) -> None:
        self._failure = failure

    def _place(self, cookie: int) -> int:
        """Return the core's cookie for one of ours."""
        if 0 <= cookie <= DOT_DOT_COOKIE:
            return 0
        if _LEAST_COOKIE <= cookie < _COOKIE_END:
            return cookie << _SHIFT | _LOW_BITS
        index = cookie - _FIRST_NUMBER
        if 0 <= index < len(self._offsets):
            return self._offsets[index]
        raise FilesystemError(errno.EINVAL, f"{cookie} is no place in an open directory")

    def _number(self, offset: int) -> int:
        number = self._numbers.get(offset)
        if number is None:
            number = self._numbers[offset] = _FIRST_NUMBER + len(self._offsets)
            self._offsets.append(offset)
        return number


class OpenDirectories:
    """The open directories of one mounted filesystem, by their handles."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_handle: dict[int, OpenDirectory] = {}
        self._count = 0

    def __getitem__(self, handle: int) -> OpenDirectory:
        """Return the one that ``open`` gave ``handle`` to."""
        return self._by_handle[handle]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_handle)

    def open(self, ino: int, pid: int) -> int:
        """Open directory ``ino`` for process ``pid``; returns a handle that no other has had."""
        self._count += 1
        self._by_handle[self._count] = OpenDirectory(ino, pid)
        return self._count

    def close(self, handle: int) -> None:
        """Close one."""
        del self._by_handle[handle]
