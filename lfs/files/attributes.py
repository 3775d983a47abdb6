"""Extended attributes: names with values of up to 64 KiB, beside their inode.

An attribute is one imap item, or several chunks when its value is long
(FORMAT.md, "Extended attribute").

Held by ``tests/files/test_directory.py`` and ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno

from lfs.alloc.admission.admission import Admission
from lfs.common.errors import DamageError, FilesystemError
from lfs.files.collisions import apply, removal
from lfs.files.directory import NameHash
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import (
    HASH_COLLISIONS,
    KIND_XATTR,
    NAME_BYTES_MAX,
    REMOVED_XATTR,
    XATTR_CHUNKS,
    XATTR_VALUE_BYTES_MAX,
    XattrItem,
    chunk_bytes,
    pack_key,
    unpack_key,
    xattr_offset,
)
from lfs.volume.volume import Volume

XATTR_CREATE = 1
XATTR_REPLACE = 2


def check_flags(exists: bool, flags: int) -> None:
    """Raise EEXIST or ENODATA when ``flags`` ask for an attribute to be new, or not to be."""
    if exists and flags & XATTR_CREATE:
        raise FilesystemError(errno.EEXIST)
    if not exists and flags & XATTR_REPLACE:
        raise FilesystemError(errno.ENODATA)


class Attributes:
    """The extended attributes of all inodes."""

    def __init__(
        self, volume: Volume, inodes: InodeTable, admission: Admission, name_hash: NameHash
    ) -> None:
        """Keep attributes in the inode map of ``volume``."""
        self._imap = volume.imap
        self._inodes = inodes
        self._admission = admission
        self._hash = name_hash
        self._block_bytes = volume.block_bytes
        self._chunk_bytes = chunk_bytes(volume.block_bytes)

    def get(self, inode: Inode, name: bytes) -> bytes:
        """Return a value; raises FilesystemError(ENODATA)."""
        if not inode.has_attributes:
            raise FilesystemError(errno.ENODATA)
        offset, item = self._locate(inode.ino, name)
        if item is None:
            raise FilesystemError(errno.ENODATA)
        parts = [item.chunk]
        for chunk in range(1, -(-item.value_bytes // self._chunk_bytes)):
            part = self._imap.get(pack_key(inode.ino, KIND_XATTR, offset + chunk))
            if part is None:
                raise DamageError(f"attribute of inode {inode.ino} lacks chunk {chunk}")
            parts.append(part)
        value = b"".join(parts)
        if len(value) != item.value_bytes:
            raise DamageError(
                f"attribute {name!r} of inode {inode.ino} has {len(value)} bytes instead of "
                f"{item.value_bytes}"
            )
        return value

    def set(
        self,
        inode: Inode,
        name: bytes,
        value: bytes,
        now_ns: int,
        flags: int,
        privileged: bool = False,
    ) -> None:
        """Set an attribute; raises EEXIST, ENODATA (by ``flags``), ERANGE, E2BIG, ENOSPC."""
        if not name or len(name) > NAME_BYTES_MAX:
            raise FilesystemError(errno.ERANGE)
        if b"\0" in name:
            raise FilesystemError(errno.EINVAL, "an attribute's name has a NUL")
        if len(value) > XATTR_VALUE_BYTES_MAX:
            raise FilesystemError(errno.E2BIG)
        offset, item = self._locate(inode.ino, name)
        check_flags(item is not None, flags)
        if offset < 0:
            raise FilesystemError(errno.ENOSPC, "too many attributes with the same hash")
        if item is not None and len(value) <= item.value_bytes:
            self._admission.admit_change(self.blocks(value))
        else:
            self._admission.admit(self.blocks(value), privileged)
        if item is not None:
            self._delete_chunks(inode.ino, offset, item)
        self._put(inode.ino, offset, name, value)
        inode.has_attributes = True
        inode.ctime_ns = now_ns
        self._inodes.mark_dirty(inode)

    def blocks(self, value: bytes) -> int:
        """Return the blocks to ask for before an attribute is set to ``value``."""
        return 2 + 2 * len(value) // self._block_bytes

    def place(self, inode: Inode, name: bytes, value_bytes: int) -> int:
        """Return where an attribute of that length is, for ``replace``; raises DamageError."""
        offset, item = self._locate(inode.ino, name)
        if item is None or item.value_bytes != value_bytes:
            raise DamageError(f"inode {inode.ino}: attribute {name!r} has not {value_bytes} bytes")
        return offset

    def replace(self, inode: Inode, place: int, name: bytes, value: bytes) -> None:
        """Put ``value`` at a ``place`` of the same length; needs no space and can't fail.

        The caller marks the inode.
        """
        self._put(inode.ino, place, name, value)

    def give(self, inode: Inode, values: dict[bytes, bytes]) -> None:
        """Set the first attributes of a new inode, for which space has been admitted.

        Cannot fail: nothing is looked up, as a new inode number was never used.
        """
        taken = set()
        inode.has_attributes = True
        for name, value in values.items():
            offset = xattr_offset(self._hash(name))
            while offset in taken:
                offset += XATTR_CHUNKS
            taken.add(offset)
            self._put(inode.ino, offset, name, value)

    def remove(self, inode: Inode, name: bytes, now_ns: int) -> None:
        """Remove an attribute; raises ENODATA."""
        offset, item = self._locate(inode.ino, name)
        if item is None:
            raise FilesystemError(errno.ENODATA)
        first = pack_key(inode.ino, KIND_XATTR, offset)
        changes = removal(self._imap, first, XATTR_CHUNKS, REMOVED_XATTR)
        self._delete_chunks(inode.ino, offset, item)
        apply(self._imap, changes)
        inode.ctime_ns = now_ns
        self._inodes.mark_dirty(inode)

    def names(self, inode: Inode) -> list[bytes]:
        """Return the names of all attributes."""
        found: list[bytes] = []
        if not inode.has_attributes:
            return found
        for key, value in self._imap.scan(*self._range(inode.ino)):
            if unpack_key(key)[2] % XATTR_CHUNKS == 0 and value != REMOVED_XATTR:
                found.append(XattrItem.unpack(value).name)
        return found

    def _put(self, ino: int, offset: int, name: bytes, value: bytes) -> None:
        size = self._chunk_bytes
        first = XattrItem(name, len(value), value[:size])
        self._imap.put(pack_key(ino, KIND_XATTR, offset), first.pack())
        for chunk in range(1, -(-len(value) // size)):
            part = value[chunk * size : (chunk + 1) * size]
            self._imap.put(pack_key(ino, KIND_XATTR, offset + chunk), part)

    def _range(self, ino: int) -> tuple[bytes, bytes]:
        return pack_key(ino, KIND_XATTR, 0), pack_key(ino, KIND_XATTR + 1, 0)

    def _locate(self, ino: int, name: bytes) -> tuple[int, XattrItem | None]:
        """Return where ``name`` is or belongs, -1 for nowhere, and its first chunk if it is."""
        base = xattr_offset(self._hash(name))
        free = -1
        for index in range(HASH_COLLISIONS):
            offset = base + index * XATTR_CHUNKS
            value = self._imap.get(pack_key(ino, KIND_XATTR, offset))
            if value is None:
                return (offset if free < 0 else free), None
            if value == REMOVED_XATTR:
                free = offset if free < 0 else free
            else:
                item = XattrItem.unpack(value)
                if item.name == name:
                    return offset, item
        return free, None

    def _chunk_count(self, item: XattrItem) -> int:
        return max(1, -(-item.value_bytes // self._chunk_bytes))

    def _delete_chunks(self, ino: int, offset: int, item: XattrItem) -> None:
        for chunk in range(self._chunk_count(item)):
            self._imap.delete(pack_key(ino, KIND_XATTR, offset + chunk))
