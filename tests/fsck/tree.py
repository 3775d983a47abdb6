"""What a hand-made image holds: inodes, names and contents, and the items they come to."""

from __future__ import annotations

from typing import Any

from lfs.ondisk import (
    BLOCK_DATA,
    INODE_INLINE,
    KIND_ENTRY,
    KIND_INODE,
    KIND_ORPHAN,
    KIND_WINDOW,
    KIND_XATTR,
    ROOT_INO,
    EntryItem,
    InodeItem,
    XattrItem,
    chunk_bytes,
    entry_offset,
    pack_key,
    unpack_key,
    xattr_offset,
)
from tests.fsck.plans import (
    BLOCK_BYTES,
    DIRECTORY_MODE,
    FILE_MODE,
    SYMLINK_MODE,
    TIME_NS,
    WINDOW_BLOCKS,
    Block,
    name_hash,
    window_of,
)


class ImageTree:
    """A tree of files in the making; the root directory exists from the start."""

    def __init__(self) -> None:
        self.inodes: dict[int, InodeItem] = {}
        self.entries: dict[int, list[tuple[int, EntryItem]]] = {}
        self.extra: dict[bytes, bytes] = {}
        self.overrides: dict[bytes, bytes] = {}
        self.blocks: dict[int, dict[int, Block]] = {}
        self.pending: list[Block] = []
        self.add_inode(ROOT_INO, DIRECTORY_MODE, parent=ROOT_INO, nlink=2)

    def add_inode(
        self, ino: int, mode: int, nlink: int = 1, parent: int = 0, size: int = 0
    ) -> None:
        self.inodes[ino] = InodeItem(
            mode=mode,
            uid=0,
            gid=0,
            nlink=nlink,
            size=size,
            blocks=0,
            atime_ns=TIME_NS,
            mtime_ns=TIME_NS,
            ctime_ns=TIME_NS,
            btime_ns=TIME_NS,
            rdev=0,
            flags=0,
            version=0,
            generation=0,
            parent_ino=parent,
            inline=b"",
        )

    def change(self, ino: int, **fields: Any) -> None:
        self.inodes[ino] = self.inodes[ino].replaced(**fields)

    def link(self, parent: int, name: bytes, ino: int, index: int = 0) -> None:
        """Add an entry and count it in the size of ``parent``."""
        entry = EntryItem(ino, self.inodes[ino].mode >> 12, name)
        self.entries.setdefault(parent, []).append((entry_offset(name_hash(name)) + index, entry))
        self.change(parent, size=self.inodes[parent].size + 1)

    def add_directory(self, ino: int, parent: int, name: bytes) -> None:
        self.add_inode(ino, DIRECTORY_MODE, nlink=2, parent=parent)
        self.link(parent, name, ino)
        self.change(parent, nlink=self.inodes[parent].nlink + 1)

    def add_file(self, ino: int, parent: int, name: bytes, content: bytes = b"") -> None:
        """Add a file with inline content."""
        self.add_inode(ino, FILE_MODE)
        self.change(ino, size=len(content), flags=INODE_INLINE, inline=content)
        self.link(parent, name, ino)

    def remove_file(self, ino: int, parent: int, name: bytes) -> None:
        del self.inodes[ino]
        self.blocks.pop(ino, None)
        self.entries[parent] = [each for each in self.entries[parent] if each[1].name != name]
        self.change(parent, size=len(self.entries[parent]))

    def add_symlink(self, ino: int, parent: int, name: bytes, target: bytes) -> None:
        self.add_inode(ino, SYMLINK_MODE)
        self.change(ino, size=len(target), flags=INODE_INLINE, inline=target)
        self.link(parent, name, ino)

    def write_blocks(self, ino: int, first: int, contents: list[bytes]) -> None:
        """Map file blocks from ``first`` on; the size grows to their end."""
        version = self.inodes[ino].version
        mapped = self.blocks.setdefault(ino, {})
        for file_block, content in enumerate(contents, first):
            assert len(content) == BLOCK_BYTES
            mapped[file_block] = Block(BLOCK_DATA, content, ino, file_block, version)
            self.pending.append(mapped[file_block])
        size = max(self.inodes[ino].size, (first + len(contents)) * BLOCK_BYTES)
        self.change(ino, flags=0, inline=b"", size=size, blocks=len(mapped))

    def set_xattr(self, ino: int, name: bytes, value: bytes, index: int = 0) -> None:
        limit = chunk_bytes(BLOCK_BYTES)
        base = xattr_offset(name_hash(name)) + 256 * index
        first = XattrItem(name, len(value), value[:limit]).pack()
        self.extra[pack_key(ino, KIND_XATTR, base)] = first
        for chunk, start in enumerate(range(limit, len(value), limit), 1):
            key = pack_key(ino, KIND_XATTR, base + chunk)
            self.extra[key] = value[start : start + limit]

    def add_orphan(self, ino: int) -> None:
        self.extra[pack_key(0, KIND_ORPHAN, ino)] = b""

    def items(self) -> dict[bytes, bytes]:
        """Return every item of the imap for the state as it is."""
        items = dict(self.extra)
        for ino, inode in self.inodes.items():
            items[pack_key(ino, KIND_INODE, 0)] = inode.pack()
        for directory, entries in self.entries.items():
            for offset, entry in entries:
                items[pack_key(directory, KIND_ENTRY, offset)] = entry.pack()
        for ino, mapped in self.blocks.items():
            for index in {file_block // WINDOW_BLOCKS for file_block in mapped}:
                value = window_of(index, mapped).pack()
                items.setdefault(pack_key(ino, KIND_WINDOW, index), value)
        return items | self.overrides

    def is_mapped(self, key: bytes) -> bool:
        """Tell whether an item is a window that follows from the blocks written."""
        ino, kind, _ = unpack_key(key)
        written = key not in self.extra and key not in self.overrides
        return kind == KIND_WINDOW and written and ino in self.blocks
