"""Errors the filesystem raises: each carries the errno its caller reports.

A caller's bug is an assertion.  What comes from a disk or from a user is
checked and raised from here, with the address, what was expected and what was
found.  Nothing above needs to translate: a front end passes ``errno`` on.

Held by ``tests/fuse/test_operations.py``.
"""

from __future__ import annotations

import errno as _errno
import os
from functools import cache

_text_of = cache(os.strerror)


class FilesystemError(OSError):
    """A request refused: ``errno`` says why in the terms of POSIX."""

    def __init__(self, code: int, detail: str = "") -> None:
        """Take ``code``, an errno, and ``detail``, a short text for the log."""
        super().__init__(code, detail or _text_of(code))

    def __str__(self) -> str:
        """Return the text alone: it goes into lines for people."""
        return self.strerror or ""


class DamageError(FilesystemError):
    """What a device returned fails its checksum or contradicts its owner (``EIO``)."""

    def __init__(self, detail: str) -> None:
        """Take ``detail``: the address, what was expected and what was found."""
        super().__init__(_errno.EIO, detail)


class DeviceError(FilesystemError):
    """A device refused or failed a request; ``offset_bytes`` is where."""

    def __init__(self, code: int, detail: str, offset_bytes: int = 0) -> None:
        """Take the errno, a text and the byte offset of the failed request."""
        super().__init__(code, f"{detail} at byte {offset_bytes}")
        self.offset_bytes = offset_bytes


class UnreadableError(DamageError):
    """A device can't read a place: it is as good as damaged, and handled so everywhere.

    A ``DeviceError`` that is left is one of a write, of a flush, or of a device that is
    gone altogether.
    """

    def __init__(self, error: DeviceError, place: str) -> None:
        """Take the error of a read, and what ``place`` the device was asked for."""
        super().__init__(f"{place}: {error.strerror}")
        self.offset_bytes = error.offset_bytes


class LogDamageError(DamageError):
    """The log is broken at a place known to have been flushed: damage, not its end."""


class FormatError(Exception):
    """A target that is not a usable lfs filesystem; the text is for the user."""


class UsageError(Exception):
    """A command line or a target that a tool refuses; the text is for the user."""
