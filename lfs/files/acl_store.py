"""Access control lists of inodes: kept as attributes, bound to the mode by ``lfs.files.acl``.

A list is an attribute like any other on disk (FORMAT.md, "Extended attribute").
What differs is that one request changes list and mode together, and that every
creation asks for the default list of its directory, every check of permissions
for the list of an inode.  Next to no inode has one.  So each inode in memory
keeps its lists, or that it has none, once they were asked for: for a new inode
from the start, for others after one look into the inode map.

Invariants: a stored access list says more than a mode does, and the permission
bits of the mode are those of the list; only directories have default lists.

Held by ``tests/mounted/test_acls.py``.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from lfs.common.errors import DamageError, FilesystemError
from lfs.files import acl
from lfs.files.acl import AccessList
from lfs.files.attributes import Attributes, check_flags
from lfs.inodes.inode import S_IFDIR, S_IFMT, Inode
from lfs.inodes.table import InodeTable

_S_ISGID = 0o2000


class ModeChange(NamedTuple):
    """A new mode, and the access list that goes with it if that changes: its place and value."""

    mode: int
    place: int = 0
    access_list: bytes = b""


class AccessLists:
    """The access control lists of all inodes."""

    def __init__(self, inodes: InodeTable, attributes: Attributes) -> None:
        """Keep lists among ``attributes``."""
        self._inodes = inodes
        self._attributes = attributes

    def get(self, inode: Inode, name: bytes) -> bytes:
        """Return the value of a list; raises FilesystemError(ENODATA)."""
        value = self._value(inode, name)
        if not value:
            raise FilesystemError(errno.ENODATA)
        return value

    def set(
        self,
        inode: Inode,
        name: bytes,
        value: bytes,
        now_ns: int,
        flags: int,
        clear_setgid: bool,
        privileged: bool,
    ) -> None:
        """Set a list, and the mode by it; an empty one removes, a missing one is not missed.

        Raises EACCES for a default list of what is no directory, EOPNOTSUPP for a
        symlink, what ``acl.unpack`` raises, and EEXIST, ENODATA, ENOSPC.
        """
        entries = acl.unpack(value)
        if inode.is_symlink:
            raise FilesystemError(errno.EOPNOTSUPP)
        if name == acl.DEFAULT and entries and not inode.is_directory:
            raise FilesystemError(errno.EACCES)
        before = self._value(inode, name)
        check_flags(bool(before), flags)
        mode, kept = inode.mode, entries
        if name == acl.ACCESS and entries:
            mode = mode & ~acl.PERMISSION_BITS | acl.permissions_of(entries)
            mode &= ~_S_ISGID if clear_setgid else ~0
            kept = () if acl.is_mode(entries) else entries
        value = acl.pack(kept)
        if value:
            self._attributes.set(inode, name, value, now_ns, 0, privileged)
        elif before:
            self._attributes.remove(inode, name, now_ns)
        self._remember(inode, name, value)
        inode.mode = mode
        inode.ctime_ns = now_ns
        self._inodes.mark_dirty(inode)

    def remove(self, inode: Inode, name: bytes, now_ns: int) -> None:
        """Remove a list and leave the mode; raises ENODATA."""
        self._attributes.remove(inode, name, now_ns)
        self._remember(inode, name, b"")

    def mode_change(self, inode: Inode, mode: int) -> ModeChange:
        """Return what ``change_mode`` has to do; raises DamageError, and nothing has changed."""
        entries = self._stored(inode, acl.ACCESS)
        changed = acl.with_permissions(entries, mode)
        if changed == entries:
            return ModeChange(mode)
        value = acl.pack(changed)
        return ModeChange(mode, self._attributes.place(inode, acl.ACCESS, len(value)), value)

    def change_mode(self, inode: Inode, change: ModeChange) -> None:
        """Set all but the type of the inode's mode, and its list by that; can't fail.

        The list keeps its length: this needs no space.  The caller marks the inode.
        """
        if change.access_list:
            self._attributes.replace(inode, change.place, acl.ACCESS, change.access_list)
            self._remember(inode, acl.ACCESS, change.access_list)
        inode.mode = inode.mode & S_IFMT | change.mode & ~S_IFMT

    def for_new(self, parent: Inode, mode: int, umask: int) -> tuple[int, dict[bytes, bytes]]:
        """Return mode and lists of what is made in ``parent`` with ``mode``."""
        # Nearly always known and empty.
        if parent.default_list == b"" or not (default := self._stored(parent, acl.DEFAULT)):
            return mode & ~(umask & acl.PERMISSION_BITS), {}
        mode, access = acl.inherited(default, mode)
        lists = {acl.ACCESS: acl.pack(access)} if access else {}
        if mode & S_IFMT == S_IFDIR:
            lists[acl.DEFAULT] = acl.pack(default)
        return mode, lists

    def blocks(self, lists: dict[bytes, bytes]) -> int:
        """Return the blocks to ask for before a new inode is given ``lists``."""
        return sum(self._attributes.blocks(value) for value in lists.values())

    def give(self, inode: Inode, lists: dict[bytes, bytes]) -> None:
        """Give a new inode the lists that ``for_new`` returned; cannot fail."""
        self._attributes.give(inode, lists)
        for name, value in lists.items():
            self._remember(inode, name, value)

    def _stored(self, inode: Inode, name: bytes) -> AccessList:
        """Return a list of the inode, an empty one for none; raises DamageError."""
        value = self._value(inode, name)
        if not value:
            return ()
        try:
            return acl.unpack(value)
        except FilesystemError as error:
            raise DamageError(f"inode {inode.ino}: {name!r} is invalid: {error}") from error

    def _value(self, inode: Inode, name: bytes) -> bytes:
        """Return the value of a list, which is empty when there is none."""
        known = inode.access_list if name == acl.ACCESS else inode.default_list
        if known is not None:
            return known
        try:
            value = self._attributes.get(inode, name)
        except FilesystemError as error:
            if error.errno != errno.ENODATA:
                raise
            value = b""
        self._remember(inode, name, value)
        return value

    def _remember(self, inode: Inode, name: bytes, value: bytes) -> None:
        if name == acl.ACCESS:
            inode.access_list = value
        else:
            inode.default_list = value
