"""Values of the imap: inodes, windows, directory entries, extended attributes.

FORMAT.md has a section for each.  An item does not know its place, so errors here
name address 0.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from lfs.ondisk.seal import damage, expect

NAME_BYTES_MAX = 255
XATTR_VALUE_BYTES_MAX = 65536
SYMLINK_BYTES_MAX = 4095
FILE_BYTES_MAX = (1 << 63) - 1
TIME_NS_MIN = -(1 << 63)
TIME_NS_MAX = (1 << 63) - 1

INODE_INLINE = 1
INODE_CUT = 2
VERSION_MAX = (1 << 64) - 1
GENERATION_MAX = (1 << 32) - 1
_INODE = struct.Struct("<IIIIQQqqqqIIQI4xQ")
assert _INODE.size == 96
INODE_BYTES = _INODE.size


InodeFields = tuple[
    int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, bytes
]
"""The fields of an ``InodeItem`` in their order: without names they cost half as much."""


def pack_inode(fields: InodeFields) -> bytes:
    """Return the value of the inode item with these fields."""
    return _INODE.pack(*fields[:15]) + fields[15]


def unpack_inode(raw: bytes) -> InodeFields:
    """Read the fields of an inode item; raises DamageError when it is too short."""
    if len(raw) < _INODE.size:
        raise damage("inode item", 0, _INODE.size, len(raw))
    fields: InodeFields = (*_INODE.unpack_from(raw), raw[_INODE.size :])
    return fields


class InodeItem(NamedTuple):
    """The fixed part of an inode and its inline data (FORMAT.md, "Inode")."""

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    rdev: int
    flags: int
    version: int
    generation: int
    parent_ino: int
    inline: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return pack_inode(self)

    @classmethod
    def unpack(cls, raw: bytes) -> InodeItem:
        """Read an inode item; raises DamageError when it is too short."""
        return cls._make(unpack_inode(raw))


_EXTENT = struct.Struct("<HHQ")
_EXTENT_COUNT = struct.Struct("<H")
WINDOW_HEADER_BYTES = _EXTENT_COUNT.size
assert _EXTENT.size == 12
ADDRESS_BITS = 48
_ADDRESS_MASK = (1 << ADDRESS_BITS) - 1
EXTENT_BYTES = _EXTENT.size


class Extent(NamedTuple):
    """Adjacent file blocks of a window at adjacent addresses."""

    first: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody calls
    flags: int
    address: int


class WindowItem(NamedTuple):
    """The extents of one window of a file and a checksum for each mapped block."""

    extents: tuple[Extent, ...]
    checksums: tuple[int, ...]

    def pack(self) -> bytes:
        """Return the item's value."""
        return b"".join(
            (
                _EXTENT_COUNT.pack(len(self.extents)),
                *(
                    _EXTENT.pack(first, count, flags << ADDRESS_BITS | address)
                    for first, count, flags, address in self.extents
                ),
                struct.pack(f"<{len(self.checksums)}I", *self.checksums),
            )
        )

    @classmethod
    def unpack(cls, raw: bytes, window_blocks: int) -> WindowItem:
        """Read a window item; raises DamageError unless its extents fit and do not overlap."""
        expect(len(raw) >= _EXTENT_COUNT.size, "window item", 0, "an extent count", len(raw))
        count = _EXTENT_COUNT.unpack_from(raw)[0]
        end = _EXTENT_COUNT.size + count * _EXTENT.size
        expect(end <= len(raw), "window extents", 0, end, len(raw))
        extents = tuple(
            Extent(first, blocks, word >> ADDRESS_BITS, word & _ADDRESS_MASK)
            for first, blocks, word in _EXTENT.iter_unpack(raw[_EXTENT_COUNT.size : end])
        )
        mapped = sum(extent.count for extent in extents)
        expect(len(raw) == end + 4 * mapped, "window checksums", 0, end + 4 * mapped, len(raw))
        position = 0
        for extent in extents:
            follows = extent.count > 0 and extent.first >= position
            expect(follows, "window extent", 0, position, extent)
            position = extent.first + extent.count
        expect(position <= window_blocks, "window end", 0, window_blocks, position)
        return cls(extents, struct.unpack_from(f"<{mapped}I", raw, end))


def window_blocks(block_bytes: int) -> int:
    """Return how many file blocks one window item maps."""
    return block_bytes // 32


_CUT = struct.Struct("<QQQ")
assert _CUT.size == 24


def pack_cut(ino: int, first: int, end: int) -> bytes:
    """Return the value of the cut item of windows ``first`` to ``end`` of an inode."""
    return _CUT.pack(ino, first, end)


def unpack_cut(raw: bytes) -> tuple[int, int, int]:
    """Read a cut item; raises DamageError unless it names an inode and later windows."""
    expect(len(raw) == _CUT.size, "cut item", 0, _CUT.size, len(raw))
    ino, first, end = _CUT.unpack(raw)
    expect(ino > 0, "cut inode", 0, "an inode", ino)
    expect(0 < first < end < 1 << 63, "cut range", 0, "windows", (first, end))
    return ino, first, end


_ENTRY_ITEM = struct.Struct("<QB")


def pack_entry(ino: int, file_type: int, name: bytes) -> bytes:
    """Return the value of the directory entry with these fields."""
    return _ENTRY_ITEM.pack(ino, file_type) + name


def unpack_entry(raw: bytes) -> tuple[int, int, bytes]:
    """Read the fields of an ``EntryItem``; raises as that does."""
    name_bytes = len(raw) - _ENTRY_ITEM.size
    if not 1 <= name_bytes <= NAME_BYTES_MAX:
        raise damage("directory entry", 0, "a name", raw)
    ino, file_type = _ENTRY_ITEM.unpack_from(raw)
    return ino, file_type, raw[_ENTRY_ITEM.size :]


REMOVED_ENTRY = pack_entry(0, 0, b"")
"""What stands where a name was removed before others with the same hash."""


class EntryItem(NamedTuple):
    """A directory entry: the inode, its file type (``mode >> 12``) and its name."""

    ino: int
    file_type: int
    name: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return pack_entry(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> EntryItem:
        """Read a directory entry; raises DamageError when its name is empty or too long."""
        return cls._make(unpack_entry(raw))


_XATTR_ITEM = struct.Struct("<BI")
REMOVED_XATTR = _XATTR_ITEM.pack(0, 0)
"""What stands where an attribute was removed before others with the same hash."""


class XattrItem(NamedTuple):
    """The first chunk of an extended attribute; later chunks are bare bytes."""

    name: bytes
    value_bytes: int
    chunk: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return _XATTR_ITEM.pack(len(self.name), self.value_bytes) + self.name + self.chunk

    @classmethod
    def unpack(cls, raw: bytes) -> XattrItem:
        """Read a first chunk; raises DamageError when its lengths do not fit."""
        expect(len(raw) >= _XATTR_ITEM.size, "extended attribute", 0, "a header", raw)
        name_bytes, value_bytes = _XATTR_ITEM.unpack_from(raw)
        end = _XATTR_ITEM.size + name_bytes
        expect(name_bytes > 0 and end <= len(raw), "extended attribute name", 0, end, len(raw))
        most = XATTR_VALUE_BYTES_MAX
        expect(value_bytes <= most, "extended attribute value", 0, most, value_bytes)
        expect(len(raw) - end <= value_bytes, "attribute chunk", 0, value_bytes, len(raw) - end)
        return cls(raw[_XATTR_ITEM.size : end], value_bytes, raw[end:])


def chunk_bytes(block_bytes: int) -> int:
    """Return the most bytes of an attribute's value that one item holds."""
    return block_bytes // 4


def inline_bytes_max(block_bytes: int) -> int:
    """Return the largest file or symlink kept inside its inode."""
    return min(block_bytes // 4, 1024)
