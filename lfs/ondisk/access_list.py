"""Values of POSIX access control lists (FORMAT.md, "Extended attribute").

They are those by which Linux passes lists on (linux/posix_acl_xattr.h): the version, then
the entries in the order of their tags; those of a tag may be in any order.

Held by ``tests/ondisk/test_format.py``.
"""

from typing import ClassVar, NamedTuple

from lfs.ondisk.layout import U16, U32, Layout

ACL_VERSION = 2
ACL_OWNER = 0x01
ACL_USER = 0x02
ACL_GROUP = 0x04
ACL_NAMED_GROUP = 0x08
ACL_MASK = 0x10
ACL_OTHERS = 0x20
ACL_NO_NUMBER = 0xFFFFFFFF
ACL_BYTES_MAX = 4096
"""The kernel passes on no more, and refuses access where a list is longer."""


class AccessListHead:
    """How a list begins."""

    version: ClassVar[U32] = ACL_VERSION


class AccessEntry(NamedTuple):
    """What one user, group or class is granted; ``number`` only counts for the first two."""

    tag: U16
    permissions: U16
    number: U32 = ACL_NO_NUMBER


ACCESS_LIST = Layout(AccessListHead, 4)
ACCESS_ENTRY = Layout(AccessEntry, 8)


def is_access_list_length(length: int) -> bool:
    """Tell whether a list of so many bytes has nothing but whole entries."""
    return length >= ACCESS_LIST.size and (length - ACCESS_LIST.size) % ACCESS_ENTRY.size == 0


def unpack_access_list(raw: bytes) -> tuple[int, list[AccessEntry]]:
    """Return the version of a list of such a length, and its entries as that version has them."""
    entries = ACCESS_ENTRY.struct.iter_unpack(raw[ACCESS_LIST.size :])
    return ACCESS_LIST.unpack(raw)["version"], [*map(AccessEntry._make, entries)]


def pack_access_list(entries: tuple[AccessEntry, ...]) -> bytes:
    """Return the value of a list."""
    return ACCESS_LIST.pack() + b"".join(map(ACCESS_ENTRY.pack, entries))
