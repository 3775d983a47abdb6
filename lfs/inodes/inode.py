"""An inode in memory: its fields as on disk, and what is not on disk yet.

Invariants: an inode with inline content has no windows, but for those cut off, and no
dirty blocks.

Held by ``tests/inodes/test_table.py``.
"""

from __future__ import annotations

from lfs.alloc.dirty import DirtyFile
from lfs.common.errors import DamageError
from lfs.inodes.window import Window
from lfs.ondisk import (
    ADDRESS_BITS,
    FILE_BYTES_MAX,
    INODE,
    INODE_CUT,
    INODE_INLINE,
    KIND_INODE,
    pack_key,
)

INODE_MEMORY_BYTES = 512
"""About what an inode in memory takes, without windows and contents."""

S_IFMT = 0o170000
S_IFCHR = 0o020000
S_IFDIR = 0o040000
S_IFREG = 0o100000
S_IFLNK = 0o120000


_pack_fields = INODE.struct.pack


class Inode:
    """An inode in memory.

    ``blocks`` does not count what was cut off, and ``flags`` are what the item said that
    was read: ``pack`` tells them as they are to be stored.
    """

    __slots__ = (
        "access_list",
        "atime_ns",
        "blocks",
        "btime_ns",
        "ctime_ns",
        "cut_blocks",
        "default_list",
        "dirty",
        "flags",
        "generation",
        "gid",
        "has_attributes",
        "inline",
        "ino",
        "is_cut",
        "key",
        "mode",
        "mtime_ns",
        "nlink",
        "open_count",
        "parent_ino",
        "pinned",
        "rdev",
        "read_window",
        "size",
        "uid",
        "version",
        "windows",
    )

    def __init__(self, ino: int, numbers: tuple[int, ...], inline: bytes) -> None:
        """Take the fields of inode ``ino`` as ``unpack_inode`` returns them."""
        self.mode: int = numbers[0]
        self.uid: int = numbers[1]
        self.gid: int = numbers[2]
        self.nlink: int = numbers[3]
        self.size: int = numbers[4]
        self.blocks: int = numbers[5]
        self.atime_ns: int = numbers[6]
        self.mtime_ns: int = numbers[7]
        self.ctime_ns: int = numbers[8]
        self.btime_ns: int = numbers[9]
        self.rdev: int = numbers[10]
        self.flags: int = numbers[11]
        self.version: int = numbers[12]
        self.generation: int = numbers[13]
        self.parent_ino: int = numbers[14]
        flags = self.flags
        self.ino = ino
        self.key = pack_key(ino, KIND_INODE, 0) if ino else b""
        """Of its item."""
        self.inline: bytes | None = inline if flags & INODE_INLINE else None
        self.is_cut = bool(flags & INODE_CUT)
        """Whether there are windows that were cut off and are still mapped."""
        self.cut_blocks = 0
        """So many blocks at least are in those; ``blocks`` does not count them."""
        self.windows: dict[int, Window] = {}
        """Windows read or changed lately: a cache."""
        self.pinned: dict[int, Window] = {}
        """Windows of dirty blocks: writing those out must not have to read anything."""
        self.read_window = -1
        """The last window that was pinned for dirty blocks not yet taken; -1 for none."""
        self.dirty: DirtyFile | None = None
        """Its dirty blocks, kept by ``lfs.alloc.dirty.DirtyData``."""
        self.open_count = 0
        self.has_attributes = True
        """False only when it is known to have no extended attributes."""
        # Access control lists; None until they are asked for, empty for none.
        self.access_list: bytes | None = None
        self.default_list: bytes | None = None

    def pack(self) -> bytes:
        """Return the value of its item, as it goes to disk."""
        inline = self.inline
        flags = 0 if inline is None else INODE_INLINE
        if self.is_cut:
            flags |= INODE_CUT
        packed = _pack_fields(
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.size,
            self.blocks + self.cut_blocks,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.btime_ns,
            self.rdev,
            flags,
            self.version,
            self.generation,
            self.parent_ino,
        )
        return packed + inline if inline else packed

    def hide_cut_blocks(self, file_blocks: int) -> None:
        """Count no more than ``file_blocks`` of what is mapped: the rest is cut off."""
        mapped_blocks = self.blocks + self.cut_blocks
        self.cut_blocks = max(self.cut_blocks, mapped_blocks - file_blocks)
        self.blocks = mapped_blocks - self.cut_blocks

    def unmapped(self, blocks: int, is_cut_off: bool) -> None:
        """Count ``blocks`` less, of a window that was cut off or of another."""
        hidden_blocks = min(self.cut_blocks, blocks) if is_cut_off else 0
        self.cut_blocks -= hidden_blocks
        self.blocks -= blocks - hidden_blocks

    @property
    def is_directory(self) -> bool:
        """Tell whether this is a directory."""
        return self.mode & S_IFMT == S_IFDIR

    @property
    def is_regular(self) -> bool:
        """Tell whether this is a regular file."""
        return self.mode & S_IFMT == S_IFREG

    @property
    def is_symlink(self) -> bool:
        """Tell whether this is a symbolic link."""
        return self.mode & S_IFMT == S_IFLNK


def inode_key(ino: int) -> bytes:
    """Return the imap key of inode ``ino``."""
    return pack_key(ino, KIND_INODE, 0)


def check_inode(inode: Inode) -> None:
    """Raise DamageError when an inode item says what can't be."""
    inline = inode.inline
    if inode.mode >> 16:
        raise DamageError(f"inode {inode.ino}: {inode.mode:#o} can't be its mode")
    if inode.size > FILE_BYTES_MAX or (inline is not None and len(inline) != inode.size):
        raise DamageError(f"inode {inode.ino}: {inode.size} bytes can't be its size")
    if inode.blocks >> ADDRESS_BITS:
        raise DamageError(f"inode {inode.ino}: {inode.blocks} blocks can't be mapped")
