"""Access control lists, written down the way acl(5) does, and what must become of them.

An independent account of ``lfs.files.acl``: a list is a dictionary from the name of an
entry to its letters' worth of permissions, and the rules are those of POSIX
1003.1e, class by class.
"""

from __future__ import annotations

import struct

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

# Names of entries, in the order in which they are stored.
USER_OBJ = ("user", None)
GROUP_OBJ = ("group", None)
MASK = ("mask", None)
OTHER = ("other", None)

Name = tuple[str, int | None]
Lists = dict[Name, int]

_TAGS = {
    ("user", False): 1,
    ("user", True): 2,
    ("group", False): 4,
    ("group", True): 8,
    ("mask", False): 16,
    ("other", False): 32,
}
_KINDS = {tag: kind for kind, tag in _TAGS.items()}


def user(number: int) -> Name:
    """Return the name of a user's entry."""
    return "user", number


def group(number: int) -> Name:
    """Return the name of a group's entry."""
    return "group", number


def value_of(entries: Lists) -> bytes:
    """Return the attribute's value for ``entries``."""
    value = struct.pack("<I", 2)
    kinds = sorted((_TAGS[kind, number is not None], kind, number) for kind, number in entries)
    for tag, kind, number in kinds:
        at = 2**32 - 1 if number is None else number
        value += struct.pack("<HHI", tag, entries[kind, number], at)
    return value


def entries_of(value: bytes) -> Lists:
    """Return the entries in the attribute's value."""
    entries: Lists = {}
    for offset in range(4, len(value), 8):
        tag, permissions, number = struct.unpack_from("<HHI", value, offset)
        kind, is_named = _KINDS[tag]
        entries[kind, number if is_named else None] = permissions
    return entries


def group_class(entries: Lists) -> Name:
    """Return the entry that the group bits of a mode stand for."""
    return MASK if MASK in entries else GROUP_OBJ


def mode_of(entries: Lists) -> int:
    """Return the permission bits that go with a list."""
    return entries[USER_OBJ] << 6 | entries[group_class(entries)] << 3 | entries[OTHER]


def after_chmod(entries: Lists, mode: int) -> Lists:
    """Return the list of a file whose mode was changed."""
    changed = dict(entries)
    changed[USER_OBJ] = mode >> 6 & 7
    changed[group_class(entries)] = mode >> 3 & 7
    changed[OTHER] = mode & 7
    return changed


def inherited_mode(default: Lists, mode: int) -> int:
    """Return the mode of what was made with ``mode`` where ``default`` rules."""
    return mode & ~0o777 | mode & mode_of(default)


def inherited_list(default: Lists, mode: int) -> Lists:
    """Return the access list of what was made with ``mode`` where ``default`` rules."""
    entries = dict(default)
    entries[USER_OBJ] &= mode >> 6
    entries[group_class(default)] &= mode >> 3
    entries[OTHER] &= mode
    return entries


def says_more_than_a_mode(entries: Lists) -> bool:
    """Tell whether a list is worth keeping beside a mode."""
    return set(entries) != {USER_OBJ, GROUP_OBJ, OTHER}
