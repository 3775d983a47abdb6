"""POSIX access control lists: values, and the rules that bind a list to a mode.

Theory.  An access control list (POSIX 1003.1e draft 17; acl(5)) has an entry for
the owner, one for the group and one for others, as a mode has.  It may have
entries for users and groups by number, and then has a mask, which bounds what
these and the group are granted.  Each of the three classes of permission bits in
a mode is one entry of the list: owner, others, and for the group class the mask,
or the group's entry in a list without a mask.  From that the rules follow.

- *Setting* an access list sets the permission bits to those three entries.  A
  list that has no more than a mode can say is not kept beside the mode.
- *Changing the mode* sets those three entries to the permission bits.
- *Inheriting*: something new in a directory with a default list gets that list,
  with those three entries bounded by the mode asked for, and its mode follows; a
  directory gets the default list as its own default as well.  The umask plays no
  part.  Without a default list the umask bounds the mode, and there is no list.

``lfs.ondisk.access_list`` has the values of the attributes.
"""

from __future__ import annotations

import errno

from lfs.common.errors import FilesystemError
from lfs.ondisk import (
    ACL_BYTES_MAX,
    ACL_GROUP,
    ACL_MASK,
    ACL_NAMED_GROUP,
    ACL_NO_NUMBER,
    ACL_OTHERS,
    ACL_OWNER,
    ACL_USER,
    ACL_VERSION,
    AccessEntry,
    is_access_list_length,
    pack_access_list,
    unpack_access_list,
)

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
NAMES = (ACCESS, DEFAULT)

PERMISSION_BITS = 0o777
_NUMBERED = (ACL_USER, ACL_NAMED_GROUP)
_SINGLE = (ACL_OWNER, ACL_GROUP, ACL_OTHERS)

AccessList = tuple[AccessEntry, ...]


def unpack(value: bytes) -> AccessList:
    """Read a list; an empty one means that there is none.

    Raises FilesystemError: EINVAL, E2BIG, or EOPNOTSUPP for another version.
    """
    if len(value) > ACL_BYTES_MAX:
        raise FilesystemError(errno.E2BIG)
    if not value:
        return ()
    if not is_access_list_length(len(value)):
        raise FilesystemError(errno.EINVAL, f"access list of {len(value)} bytes")
    version, found = unpack_access_list(value)
    if version != ACL_VERSION:
        raise FilesystemError(errno.EOPNOTSUPP, f"access list of version {version}")
    entries = tuple(
        entry if entry.tag in _NUMBERED else entry._replace(number=ACL_NO_NUMBER) for entry in found
    )
    if entries:
        _check(entries)
    return entries


def pack(entries: AccessList) -> bytes:
    """Return the value of a list; nothing for an empty one."""
    return pack_access_list(entries) if entries else b""


def _check(entries: AccessList) -> None:
    """Raise FilesystemError(EINVAL) unless ``entries`` are a valid list."""
    tags = [entry.tag for entry in entries]
    valid = (
        tags == sorted(tags)
        and all(tags.count(tag) == 1 for tag in _SINGLE)
        and tags.count(ACL_MASK) <= 1
        and set(tags) <= {*_SINGLE, *_NUMBERED, ACL_MASK}
        and (ACL_MASK in tags or not set(tags) & set(_NUMBERED))
        and all(entry.permissions <= 7 for entry in entries)
        and all(entry.number != ACL_NO_NUMBER for entry in entries if entry.tag in _NUMBERED)
    )
    if not valid:
        raise FilesystemError(errno.EINVAL, f"access list with the tags {tags}")


def permissions_of(entries: AccessList) -> int:
    """Return the permission bits of the mode that a list goes with."""
    shifts = _class_shifts(entries)
    return sum(entry.permissions << shifts[entry.tag] for entry in entries if entry.tag in shifts)


def with_permissions(entries: AccessList, mode: int) -> AccessList:
    """Return the list after its file got the permissions of ``mode``."""
    shifts = _class_shifts(entries)
    return tuple(
        entry._replace(permissions=mode >> shifts[entry.tag] & 7) if entry.tag in shifts else entry
        for entry in entries
    )


def is_mode(entries: AccessList) -> bool:
    """Tell whether a list says no more than a mode."""
    return len(entries) <= len(_SINGLE)


def inherited(default: AccessList, mode: int) -> tuple[int, AccessList]:
    """Return mode and access list of what is made with ``mode`` where ``default`` rules.

    The list is empty when the mode says everything.
    """
    mode &= ~PERMISSION_BITS | permissions_of(default)
    entries = with_permissions(default, mode)
    return mode, () if is_mode(entries) else entries


def _class_shifts(entries: AccessList) -> dict[int, int]:
    """Return for each tag that stands for a class where its bits are in a mode."""
    has_mask = any(entry.tag == ACL_MASK for entry in entries)
    return {ACL_OWNER: 6, ACL_MASK if has_mask else ACL_GROUP: 3, ACL_OTHERS: 0}
