"""Arguments of the library's calls: what is none is refused before anything happens.

Theory.  What a request puts into memory a commit packs later, together with what all
others have done.  A number that does not fit its field, or a text instead of bytes, would
fail there: too late to say whose it was, and all of it would be lost.  So each call
looks at its arguments first.  The kernel's are right, so the usual case has to be cheap:
callers compare types and bounds in place, and come here when that fails.

A value that is out of bounds is refused with EINVAL, one of another type with TypeError.
"""

from __future__ import annotations

import errno

from lfs.common.errors import FilesystemError
from lfs.ondisk import TIME_NS_MAX, TIME_NS_MIN

NUMBER_MAX = (1 << 32) - 1
OFFSET_MAX = (1 << 63) - 1
MODE_MAX = 0o177777
_SIZE_MAX = (1 << 64) - 1


def check_bytes(what: str, value: object) -> None:
    """Raise TypeError unless ``value`` is bytes, which nobody changes later."""
    if not isinstance(value, bytes):
        raise TypeError(f"{what} must be bytes, not {type(value).__name__}")


def check_integer(what: str, value: object) -> None:
    """Raise TypeError unless ``value`` is an integer."""
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}")


def check_number(what: str, value: int, low: int = 0, high: int = NUMBER_MAX) -> None:
    """Raise FilesystemError(EINVAL) unless ``low <= value <= high``; TypeError for no integer."""
    check_integer(what, value)
    if not low <= value <= high:
        raise FilesystemError(errno.EINVAL, f"{what} {value} is not in {low} to {high}")


def check_time(now_ns: int) -> None:
    """Raise as ``check_number`` unless ``now_ns`` is a time that the format can hold."""
    check_number("time in nanoseconds", now_ns, TIME_NS_MIN, TIME_NS_MAX)


def check_owner(mode: int, uid: int, gid: int) -> None:
    """Raise as ``check_number`` unless all three are what an inode can have."""
    if not (
        type(mode) is type(uid) is type(gid) is int
        and 0 <= mode <= MODE_MAX
        and 0 <= uid | gid <= NUMBER_MAX
    ):
        check_number("mode", mode, 0, MODE_MAX)
        check_number("user", uid)
        check_number("group", gid)


def check_changes(
    mode: int | None, uid: int | None, gid: int | None, size: int | None, *times_ns: int | None
) -> None:
    """Raise as ``check_number`` for what no inode can have, None for what stays.

    A size may be more than a file can have, and a time more than fits.
    """
    for what, number, most in (
        ("mode", mode, MODE_MAX),
        ("user", uid, NUMBER_MAX),
        ("group", gid, NUMBER_MAX),
    ):
        if number is not None:
            check_number(what, number, 0, most)
    if size is not None:
        check_number("size", size, 0, _SIZE_MAX)
    for time_ns in times_ns:
        if time_ns is not None:
            check_integer("time in nanoseconds", time_ns)
