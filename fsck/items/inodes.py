"""Checking each inode with everything that belongs to it.

FORMAT.md, "Keys", "Inode", "Window", "Directory entry", "Orphan".  Items come in
key order, so those of one inode come together: the inode, its attributes, its
windows, its entries.  Rules that need other inodes are left to ``names``, rules
about blocks to ``space`` and ``data``, which get here what they need.

Held by ``tests/fsck/test_items.py``.
"""

from __future__ import annotations

import stat

from fsck.items.attributes import AttributeChecker
from fsck.items.cuts import CutItems
from fsck.items.data import DataExtent, DataVerifier
from fsck.items.hashing import HashGroups
from fsck.items.names import Names
from fsck.reading.image import Image
from fsck.reading.report import Report
from fsck.reading.space import IN_BOTH, IN_CHECKPOINT, IN_MOUNTED, Extents, Owner
from fsck.reading.tree import TreeWalk
from lfs.common.errors import DamageError
from lfs.ondisk import (
    FILE_BYTES_MAX,
    HASH_COLLISIONS,
    INODE_CUT,
    INODE_INLINE,
    KIND_CUT,
    KIND_ENTRY,
    KIND_INODE,
    KIND_ORPHAN,
    KIND_WINDOW,
    KIND_XATTR,
    NAME_BYTES_MAX,
    REMOVED_ENTRY,
    ROOT_INO,
    SYMLINK_BYTES_MAX,
    SYSTEM_INO,
    EntryItem,
    Extent,
    InodeItem,
    WindowItem,
    entry_offset,
    inline_bytes_max,
    pack_key,
    unpack_key,
    window_blocks,
)

_TYPES = {
    stat.S_IFREG: "files",
    stat.S_IFDIR: "directories",
    stat.S_IFLNK: "symlinks",
    stat.S_IFCHR: "device nodes",
    stat.S_IFBLK: "device nodes",
    stat.S_IFIFO: "pipes",
    stat.S_IFSOCK: "sockets",
}
_TYPES_WITH_CONTENT = (stat.S_IFREG, stat.S_IFLNK)
DIRECTORY_FILE_TYPE = stat.S_IFDIR >> 12


class InodeChecker:
    """Takes every item of the imap, as it is in the checkpoint and as a mount will show it.

    ``inode_count`` counts the inodes of the checkpoint.
    """

    def __init__(
        self,
        image: Image,
        walk: TreeWalk,
        next_ino: int,
        extents: Extents,
        names: Names,
        data: DataVerifier | None,
        report: Report,
    ) -> None:
        """Take the collectors; ``next_ino`` is the checkpoint's, ``data`` None to skip data."""
        self._image = image
        self._walk = walk
        self._next_ino = next_ino
        self._extents = extents
        self._names = names
        self._data = data
        self._report = report
        self._window_blocks = window_blocks(image.block_bytes)
        self._attributes = AttributeChecker(image, report)
        self._cuts = CutItems(report)
        self._entry_groups = HashGroups("entry", image.superblock.hash_seed, entry_offset, report)
        self.inode_count = 0
        self._damaged = False
        self._begin(SYSTEM_INO)

    def take(self, key: bytes, before: bytes | None, after: bytes | None) -> None:
        """Take the item ``key`` with its value in the checkpoint and its value after the log."""
        ino, kind, offset = unpack_key(key)
        if ino != self._ino:
            self.finish()
            self._begin(ino)
        if ino == SYSTEM_INO:
            self._take_system(kind, offset, after)
        elif kind == KIND_INODE and offset == 0:
            self._take_inode(before, after)
        elif kind == KIND_WINDOW:
            self._take_windows(offset, before, after)
        elif after is not None:
            if self._item is None:
                self._stray = not self._damaged
            elif kind == KIND_XATTR:
                self._attributes.take(offset, after, self._may_lack_attributes())
            elif kind == KIND_ENTRY:
                self._take_entry(offset, after)
            else:
                self._unknown_item(kind, offset)

    def finish(self) -> None:
        """Apply the rules that need all items of the current inode."""
        may_have_gap = self._is_lossy()
        self._attributes.end(self._may_lack_attributes())
        self._entry_groups.end(may_have_gap)
        if self._ino == SYSTEM_INO:
            self._cuts.finish_items(may_have_gap)
        if may_have_gap or self._ino == SYSTEM_INO:
            return
        if self._stray:
            self._bad("item-stray", "it has items but no inode item")
        item = self._item
        if item is None:
            return
        if item.blocks != self._mapped_blocks:
            self._bad("inode-blocks", f"expected {self._mapped_blocks} blocks, found {item.blocks}")
        if stat.S_ISDIR(item.mode):
            self._finish_directory(item)

    def finish_all(self) -> None:
        """Apply the rules that need all inodes, of which none was lost."""
        self._cuts.finish()

    # ------------------------------------------------------------------ one inode

    def _begin(self, ino: int) -> None:
        self._ino = ino
        self._low_key = pack_key(ino, 0, 0)
        self._high_key = pack_key(ino, 0xFF, (1 << 64) - 1)
        self._item: InodeItem | None = None
        self._version_before = 0
        self._stray = False
        self._damaged = False
        self._mapped_blocks = 0
        self._entry_count = 0
        self._subdirectory_count = 0
        self._attributes.begin(ino)
        self._entry_groups.begin(ino)

    def _is_lossy(self) -> bool:
        """Tell whether items of this inode, up to the current one, may be missing."""
        if self._damaged:
            return True
        return bool(self._walk.lost) and self._walk.is_lost(self._low_key, self._high_key)

    def _may_lack_attributes(self) -> bool:
        """Tell whether some may be missing: an inode without a name goes in steps."""
        return self._is_lossy() or (self._item is not None and self._item.nlink == 0)

    def _bad(self, code: str, text: str, address: int | None = None) -> None:
        self._report.add(code, f"inode {self._ino}: {text}", address, self._ino)

    def _unknown_item(self, kind: int, offset: int) -> None:
        superblock = self._image.superblock
        if not (superblock.compatible or superblock.read_only_compatible):
            self._bad("item-kind", f"unexpected item of kind {kind} at offset {offset}")

    def _take_system(self, kind: int, offset: int, after: bytes | None) -> None:
        if after is None:
            return
        if kind == KIND_CUT:
            self._cuts.take(offset, after)
            return
        if kind != KIND_ORPHAN:
            self._unknown_item(kind, offset)
            return
        if after:
            self._bad("orphan-value", f"orphan item of inode {offset} has {len(after)} bytes")
        self._names.add_orphan(offset)

    def _take_inode(self, before: bytes | None, after: bytes | None) -> None:
        if before is not None:
            self.inode_count += 1
            if self._ino >= self._next_ino:
                self._bad(
                    "next-ino",
                    f"expected a number below {self._next_ino}, next_ino of the checkpoint",
                )
        if after is None:
            return
        try:
            item = InodeItem.unpack(after)
        except DamageError as error:
            self._damaged = True
            self._bad("inode-damaged", str(error.strerror))
            self._names.add_unreadable(self._ino)
            return
        self._item = item
        self._report.count("inodes")
        self._report.count(_TYPES.get(stat.S_IFMT(item.mode), "inodes of unknown type"))
        self._check_content(item)
        self._names.add_inode(self._ino, item)

    def _check_content(self, item: InodeItem) -> None:
        """Check the fields of ``item`` that need no other item."""
        file_type = stat.S_IFMT(item.mode)
        if file_type not in _TYPES or item.mode >> 16:
            self._bad("inode-mode", f"impossible mode {item.mode:#o}")
            return
        if item.flags & ~(INODE_INLINE | INODE_CUT):
            self._bad("inode-flags", f"unknown flags {item.flags:#x}")
        self._cuts.check_inode(self._ino, item)
        is_inline = bool(item.flags & INODE_INLINE)
        if item.size > FILE_BYTES_MAX:
            self._bad("inode-size", f"impossible size {item.size}")
        elif file_type == stat.S_IFLNK and not 1 <= item.size <= SYMLINK_BYTES_MAX:
            self._bad("inode-size", f"a symlink of {item.size} bytes")
        elif file_type not in (*_TYPES_WITH_CONTENT, stat.S_IFDIR) and item.size:
            self._bad("inode-size", f"expected size 0 for its type, found {item.size}")
        if is_inline and file_type not in _TYPES_WITH_CONTENT:
            self._bad("inode-inline", "inline content in an inode that has no content")
        inline_expected = item.size if is_inline else 0
        if len(item.inline) != inline_expected:
            self._bad(
                "inode-inline", f"expected {inline_expected} inline bytes, found {len(item.inline)}"
            )
        elif is_inline and item.size > inline_bytes_max(self._image.block_bytes):
            self._bad("inode-inline", f"too large for inline content: {item.size} bytes")

    # -------------------------------------------------------------------- windows

    def _take_windows(self, index: int, before: bytes | None, after: bytes | None) -> None:
        """Take window ``index``; what is the same in both states is looked at once."""
        if after is not None:
            if self._item is None:
                self._stray = not self._damaged
            states = IN_BOTH if before == after else IN_MOUNTED
            self._take_window(index, after, states)
        if before is not None and before != after:
            self._take_window(index, before, IN_CHECKPOINT)

    def _take_window(self, index: int, value: bytes, states: int) -> None:
        try:
            window = WindowItem.unpack(value, self._window_blocks)
        except DamageError as error:
            self._damaged = True
            self._bad("window-damaged", f"window {index}: {error.strerror}")
            return
        if states & IN_MOUNTED:
            self._check_window(index, window)
        checksums = value[len(value) - 4 * len(window.checksums) :]
        position = 0
        for extent in window.extents:
            packed = checksums[4 * position : 4 * (position + extent.count)]
            self._take_extent(index * self._window_blocks + extent.first, extent, packed, states)
            position += extent.count

    def _check_window(self, index: int, window: WindowItem) -> None:
        self._mapped_blocks += len(window.checksums)
        if not window.extents:
            self._bad("window-damaged", f"window {index}: an item without mapped blocks")
            return
        if any(extent.flags for extent in window.extents):
            self._bad("window-damaged", f"window {index}: an extent with unknown flags")
        item = self._item
        if item is None or self._cuts.covers(self._ino, index):
            return
        if stat.S_IFMT(item.mode) not in _TYPES_WITH_CONTENT or item.flags & INODE_INLINE:
            self._bad("window-unexpected", f"window {index} of an inode that maps no blocks")
            return
        last = index * self._window_blocks + window.extents[-1].first + window.extents[-1].count - 1
        if last * self._image.block_bytes >= item.size:
            self._bad(
                "window-past-size",
                f"file block {last} is mapped, the size is {item.size} bytes",
                window.extents[-1].address,
            )

    def _take_extent(self, file_block: int, extent: Extent, packed: bytes, states: int) -> None:
        """Pass the blocks of ``extent`` with their ``packed`` checksums on."""
        version = self._item.version if self._item else 0
        added = self._extents.add(
            Owner.DATA,
            extent.address,
            extent.count,
            self._ino,
            file_block,
            packed,
            states,
            version,
        )
        if not added or not states & IN_MOUNTED:
            return
        self._report.count("data_blocks", extent.count)
        if self._data is not None:
            zero_bytes = self._zero_bytes(file_block + extent.count)
            self._data.add(
                DataExtent(extent.address, extent.count, self._ino, file_block, packed, zero_bytes)
            )

    def _zero_bytes(self, end_block: int) -> int:
        """Return how many bytes before file block ``end_block`` are in a block cut by the size."""
        index = (end_block - 1) // self._window_blocks
        if self._item is None or self._cuts.covers(self._ino, index):
            return 0
        if not self._item.nlink:
            # Nobody reads what is being removed, and what it still held in memory was dropped.
            return 0
        past = end_block * self._image.block_bytes - self._item.size
        return past if 0 < past < self._image.block_bytes else 0

    # ---------------------------------------------------------------- directories

    def _take_entry(self, offset: int, value: bytes) -> None:
        assert self._item is not None
        if not stat.S_ISDIR(self._item.mode):
            self._bad("entry-unexpected", "a directory entry of an inode that is no directory")
            return
        index = offset % HASH_COLLISIONS
        if value == REMOVED_ENTRY:
            self._entry_groups.take(offset - index, index, b"", self._is_lossy())
            return
        self._entry_count += 1
        try:
            entry = EntryItem.unpack(value)
        except DamageError as error:
            self._damaged = True
            self._bad("entry-damaged", str(error.strerror))
            return
        name = entry.name
        if len(name) > NAME_BYTES_MAX or name in (b".", b"..") or b"/" in name or b"\0" in name:
            self._bad("entry-name", f"{name!r} is no valid name")
        self._entry_groups.take(offset - index, index, name, self._is_lossy())
        if entry.file_type == DIRECTORY_FILE_TYPE:
            self._subdirectory_count += 1
        self._names.add_entry(self._ino, entry)

    def _finish_directory(self, item: InodeItem) -> None:
        if item.size != self._entry_count:
            self._bad(
                "directory-size",
                f"expected size {self._entry_count}, its entries, found {item.size}",
            )
        links = 2 + self._subdirectory_count
        if item.nlink != links and not (item.nlink == 0 and self._ino != ROOT_INO):
            self._bad("link-count", f"expected {links} links, found {item.nlink}")
