"""Values of the imap: inodes, windows, directory entries, extended attributes.

FORMAT.md has a section for each.  An item does not know its place, so errors here
name address 0.

Held by ``tests/ondisk/test_structures.py``.
"""

import struct
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Annotated, NamedTuple, Self

from lfs.ondisk.layout import I64, U8, U16, U32, U64, AfterZeros, Layout, Structure
from lfs.ondisk.seal import damage, expect

NAME_BYTES_MAX = 255
XATTR_VALUE_BYTES_MAX = 65536
SYMLINK_BYTES_MAX = 4095
LINK_COUNT_MAX = (1 << 32) - 1
FILE_BYTES_MAX = (1 << 63) - 1
TIME_NS_MIN = -(1 << 63)
TIME_NS_MAX = (1 << 63) - 1

INODE_INLINE = 1
INODE_CUT = 2
VERSION_MAX = (1 << 64) - 1
GENERATION_MAX = (1 << 32) - 1


class InodeItem(Structure):
    """An inode with its inline data, as its item has it (FORMAT.md, "Inode")."""

    mode: U32
    uid: U32
    gid: U32
    nlink: U32
    size: U64 = 0
    blocks: U64 = 0
    atime_ns: I64 = 0
    mtime_ns: I64 = 0
    ctime_ns: I64 = 0
    btime_ns: I64 = 0
    rdev: U32 = 0
    flags: U32 = 0
    version: U64 = 0
    generation: U32 = 0
    parent_ino: Annotated[U64, AfterZeros(4)] = 0
    inline: bytes = b""

    def pack(self) -> bytes:
        """Return the item's value."""
        return pack_inode(inode_numbers(self), self.inline)

    @classmethod
    def unpack(cls, raw: bytes) -> "InodeItem":
        """Read an inode item; raises DamageError when it is too short."""
        numbers, inline = unpack_inode(raw)
        return INODE.build(dict(zip(INODE.attributes, numbers, strict=True)), inline=inline)


INODE = Layout(InodeItem, 96)
INODE_BYTES = INODE.size

inode_numbers: Callable[[InodeItem], tuple[int, ...]] = attrgetter(*INODE.attributes)
"""Return the stored fields of an inode without their names: so they cost half as much."""


def pack_inode(numbers: Iterable[int], inline: bytes) -> bytes:
    """Return the value of the inode item with these fields and this inline data."""
    return INODE.struct.pack(*numbers) + inline


def unpack_inode(raw: bytes) -> tuple[tuple[int, ...], bytes]:
    """Read what ``pack_inode`` takes; raises DamageError when it is too short."""
    if len(raw) < INODE_BYTES:
        raise damage("inode item", 0, INODE_BYTES, len(raw))
    return INODE.struct.unpack_from(raw), raw[INODE_BYTES:]


ADDRESS_BITS = 48
_ADDRESS_MASK = (1 << ADDRESS_BITS) - 1


class WindowHead:
    """What a window says before its extents and the checksums of their blocks."""

    extent_count: U16


class StoredExtent:
    """How an extent is stored."""

    first: U16
    count: U16
    place: U64
    """Its address, and its flags above those ``ADDRESS_BITS``."""


WINDOW = Layout(WindowHead, 2)
WINDOW_HEADER_BYTES = WINDOW.size
EXTENT = Layout(StoredExtent, 12)
EXTENT_BYTES = EXTENT.size


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
                WINDOW.struct.pack(len(self.extents)),
                *(
                    EXTENT.struct.pack(first, count, flags << ADDRESS_BITS | address)
                    for first, count, flags, address in self.extents
                ),
                struct.pack(f"<{len(self.checksums)}I", *self.checksums),
            )
        )

    @classmethod
    def unpack(cls, raw: bytes, window_blocks: int) -> Self:
        """Read a window item; raises DamageError unless its extents fit and do not overlap."""
        expect(len(raw) >= WINDOW_HEADER_BYTES, "window item", 0, "an extent count", len(raw))
        count = WINDOW.struct.unpack_from(raw)[0]
        end = WINDOW_HEADER_BYTES + count * EXTENT_BYTES
        expect(end <= len(raw), "window extents", 0, end, len(raw))
        extents = tuple(
            Extent(first, blocks, word >> ADDRESS_BITS, word & _ADDRESS_MASK)
            for first, blocks, word in EXTENT.struct.iter_unpack(raw[WINDOW_HEADER_BYTES:end])
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


class CutItem(NamedTuple):
    """Windows of an inode that were cut off and are still to be given up."""

    ino: U64
    first_window: U64
    end_window: U64


CUT = Layout(CutItem, 24)


def pack_cut(ino: int, first: int, end: int) -> bytes:
    """Return the value of the cut item of windows ``first`` to ``end`` of an inode."""
    return CUT.pack(CutItem(ino, first, end))


def unpack_cut(raw: bytes) -> CutItem:
    """Read a cut item; raises DamageError unless it names an inode and later windows."""
    expect(len(raw) == CUT.size, "cut item", 0, CUT.size, len(raw))
    ino, first, end = cut = CUT.build(CUT.unpack(raw))
    expect(ino > 0, "cut inode", 0, "an inode", ino)
    expect(0 < first < end < 1 << 63, "cut range", 0, "windows", (first, end))
    return cut


class EntryItem(NamedTuple):
    """A directory entry: the inode, its file type (``mode >> 12``) and its name."""

    ino: U64
    file_type: U8
    name: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return pack_entry(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read a directory entry; raises DamageError when its name is empty or too long."""
        return cls._make(unpack_entry(raw))


ENTRY_ITEM = Layout(EntryItem, 9)
_ENTRY_HEAD_BYTES = ENTRY_ITEM.size


def pack_entry(ino: int, file_type: int, name: bytes) -> bytes:
    """Return the value of the directory entry with these fields."""
    return ENTRY_ITEM.struct.pack(ino, file_type) + name


def unpack_entry(raw: bytes) -> tuple[int, int, bytes]:
    """Read the fields of an ``EntryItem``; raises as that does."""
    name_bytes = len(raw) - _ENTRY_HEAD_BYTES
    if not 1 <= name_bytes <= NAME_BYTES_MAX:
        raise damage("directory entry", 0, "a name", raw)
    ino, file_type = ENTRY_ITEM.struct.unpack_from(raw)
    return ino, file_type, raw[_ENTRY_HEAD_BYTES:]


REMOVED_ENTRY = pack_entry(0, 0, b"")
"""What stands where a name was removed before others with the same hash."""


class XattrHead:
    """What the first chunk of an attribute says before its name."""

    name_bytes: U8
    value_bytes: U32


XATTR = Layout(XattrHead, 5)
REMOVED_XATTR = XATTR.pack(name_bytes=0, value_bytes=0)
"""What stands where an attribute was removed before others with the same hash."""


class XattrItem(NamedTuple):
    """The first chunk of an extended attribute; later chunks are bare bytes."""

    name: bytes
    value_bytes: int
    chunk: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return XATTR.struct.pack(len(self.name), self.value_bytes) + self.name + self.chunk

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read a first chunk; raises DamageError when its lengths do not fit."""
        expect(len(raw) >= XATTR.size, "extended attribute", 0, "a header", raw)
        name_bytes, value_bytes = XATTR.struct.unpack_from(raw)
        end = XATTR.size + name_bytes
        expect(name_bytes > 0 and end <= len(raw), "extended attribute name", 0, end, len(raw))
        most = XATTR_VALUE_BYTES_MAX
        expect(value_bytes <= most, "extended attribute value", 0, most, value_bytes)
        expect(len(raw) - end <= value_bytes, "attribute chunk", 0, value_bytes, len(raw) - end)
        return cls(raw[XATTR.size : end], value_bytes, raw[end:])


def chunk_bytes(block_bytes: int) -> int:
    """Return the most bytes of an attribute's value that one item holds."""
    return block_bytes // 4


def inline_bytes_max(block_bytes: int) -> int:
    """Return the largest file or symlink kept inside its inode."""
    return min(block_bytes // 4, 1024)
