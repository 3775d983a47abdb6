"""Inodes and windows in memory.

An ``Inode`` is the decoded inode item plus what is not on disk yet: its dirty
blocks.  A ``Window`` is the decoded extent map of 128 file blocks or so.
Windows are written through to the inode map whenever they change; inodes are
collected in ``InodeTable.dirty`` and written by the next commit.

Invariants: an inode with inline content has no windows and no dirty blocks; an
inode that is dirty, open, an orphan or has dirty blocks stays in memory.
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from lfs.alloc.dirty import DirtyExtents
from lfs.checksum import CHECKSUM_BYTES
from lfs.errors import DamageError, FilesystemError
from lfs.ondisk import (
    ADDRESS_BITS,
    FILE_BYTES_MAX,
    INO_MAX,
    INODE_BYTES,
    INODE_INLINE,
    KIND_INODE,
    KIND_ORPHAN,
    KIND_WINDOW,
    RECORD_OVERHEAD_BYTES,
    RUN_BYTES,
    SYSTEM_INO,
    WINDOW_HEADER_BYTES,
    InodeFields,
    Run,
    WindowItem,
    pack_inode,
    pack_key,
    unpack_inode,
)
from lfs.spans import DirtyBlocks
from lfs.volume import Volume

_WINDOWS_MAX = 4096

S_IFMT = 0o170000
S_IFDIR = 0o040000
S_IFREG = 0o100000
S_IFLNK = 0o120000


class Window:
    """Where the blocks of one window are: runs in file order, a checksum for each block."""

    __slots__ = ("checksums", "mapped", "runs")

    def __init__(self, block_count: int) -> None:
        """Map nothing of ``block_count`` file blocks."""
        self.runs: list[tuple[int, int, int]] = []
        self.checksums = array("I", bytes(4 * block_count))
        self.mapped = 0

    @classmethod
    def unpack(cls, raw: bytes, block_count: int) -> Window:
        """Read a window item; raises DamageError."""
        item = WindowItem.unpack(raw, block_count)
        window = cls(block_count)
        position = 0
        for first, count, _, address in item.runs:
            window.runs.append((first, count, address))
            window.checksums[first : first + count] = array(
                "I", item.checksums[position : position + count]
            )
            position += count
        window.mapped = position
        return window

    @property
    def packed_bytes(self) -> int:
        """Return the length of what ``pack`` returns."""
        return WINDOW_HEADER_BYTES + RUN_BYTES * len(self.runs) + CHECKSUM_BYTES * self.mapped

    def pack(self) -> bytes:
        """Return the window item's value."""
        runs = tuple(Run(first, count, 0, address) for first, count, address in self.runs)
        checksums: list[int] = []
        for first, count, _ in self.runs:
            checksums += self.checksums[first : first + count]
        return WindowItem(runs, tuple(checksums)).pack()

    def map(self, first: int, checksums: Sequence[int], address: int) -> list[tuple[int, int]]:
        """Map ``len(checksums)`` blocks from ``first`` on to ``address``.

        Returns the ``(address, count)`` of what was there before.
        """
        count = len(checksums)
        runs = self.runs
        past_end = not runs or runs[-1][0] + runs[-1][1] <= first
        replaced = [] if past_end else self.unmap(first, first + count)
        self.checksums[first : first + count] = array("I", checksums)
        self.mapped += count
        index = bisect_left(runs, (first,))
        if index:
            start, length, at = runs[index - 1]
            if start + length == first and at + length == address:
                index -= 1
                first, count, address = start, length + count, at
                del runs[index]
        if index < len(runs):
            start, length, at = runs[index]
            if first + count == start and address + count == at:
                count += length
                del runs[index]
        runs.insert(index, (first, count, address))
        return replaced

    def unmap(self, first: int, end: int) -> list[tuple[int, int]]:
        """Unmap blocks ``first`` to ``end``; returns the ``(address, count)`` they had."""
        runs = self.runs
        low_index = bisect_left(runs, (first,))
        if low_index:
            start, count, _ = runs[low_index - 1]
            low_index -= start + count > first
        high_index = bisect_left(runs, (end,), low_index)
        if low_index == high_index:
            return []
        replaced: list[tuple[int, int]] = []
        kept: list[tuple[int, int, int]] = []
        for start, count, address in runs[low_index:high_index]:
            low, high = max(start, first), min(start + count, end)
            replaced.append((address + low - start, high - low))
            if start < low:
                kept.append((start, low - start, address))
            if high < start + count:
                kept.append((high, start + count - high, address + high - start))
            self.mapped -= high - low
        runs[low_index:high_index] = kept
        return replaced

    def extent_count(self, count_max: int) -> int:
        """Return in how many places on disk the blocks lie; a hole alone parts nothing.

        Counts no further than ``count_max``, which is at least 1.
        """
        found, end = 0, -1
        for _, count, address in self.runs:
            if address != end:
                found += 1
                if found == count_max:
                    break
            end = address + count
        return found

    def address(self, block: int) -> int:
        """Return the address of ``block`` of this window, or 0."""
        for first, count, address in self.runs:
            if first <= block < first + count:
                return address + block - first
        return 0

    def pieces(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield ``(block, count, address)`` covering ``first`` to ``end``; address 0 is a hole."""
        position = first
        for start, count, address in self.runs:
            if start + count <= position:
                continue
            if start >= end:
                break
            if start > position:
                yield position, start - position, 0
                position = start
            high = min(start + count, end)
            yield position, high - position, address + position - start
            position = high
        if position < end:
            yield position, end - position, 0


class Inode:
    """An inode in memory.  Fields are those of FORMAT.md, "Inode"."""

    __slots__ = (
        "_dirty_extents",
        "access_list",
        "atime_ns",
        "blocks",
        "btime_ns",
        "ctime_ns",
        "default_list",
        "dirty_blocks",
        "generation",
        "gid",
        "has_attributes",
        "inline",
        "ino",
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

    def __init__(self, ino: int, fields: InodeFields) -> None:
        """Take the ``fields`` of inode ``ino``."""
        self.ino = ino
        (
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.size,
            self.blocks,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.btime_ns,
            self.rdev,
            flags,
            self.version,
            self.generation,
            self.parent_ino,
            inline,
        ) = fields
        self.inline: bytes | None = inline if flags & INODE_INLINE else None
        self.windows: dict[int, Window] = {}
        """Windows read or changed lately: a cache."""
        self.pinned: dict[int, Window] = {}
        """Windows of dirty blocks: writing those out must not have to read anything."""
        self.read_window = -1
        """The last window that was pinned for dirty blocks not yet taken; -1 for none."""
        self.dirty_blocks: DirtyBlocks = {}
        self._dirty_extents: DirtyExtents | None = None
        self.open_count = 0
        self.has_attributes = True
        """False only when it is known to have no extended attributes."""
        # Access control lists; None until they are asked for, empty for none.
        self.access_list: bytes | None = None
        self.default_list: bytes | None = None

    def fields(self) -> InodeFields:
        """Return the fields of the item as it goes to disk."""
        inline = self.inline
        return (
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.size,
            self.blocks,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.btime_ns,
            self.rdev,
            0 if inline is None else INODE_INLINE,
            self.version,
            self.generation,
            self.parent_ino,
            inline or b"",
        )

    @property
    def dirty_extents(self) -> DirtyExtents:
        """Return the numbers of the dirty blocks; most inodes never have any."""
        extents = self._dirty_extents
        if extents is None:
            extents = self._dirty_extents = DirtyExtents()
        return extents

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


def window_key(ino: int, index: int) -> bytes:
    """Return the imap key of window ``index`` of inode ``ino``."""
    return pack_key(ino, KIND_WINDOW, index)


def orphan_key(ino: int) -> bytes:
    """Return the imap key that marks ``ino`` as an orphan."""
    return pack_key(SYSTEM_INO, KIND_ORPHAN, ino)


class InodeTable:
    """The inodes in memory, and the way to the others."""

    def __init__(self, volume: Volume) -> None:
        """Start with no inode in memory."""
        self._volume = volume
        self._inodes: dict[int, Inode] = {}
        self.dirty: dict[int, Inode] = {}
        self.with_dirty_blocks: dict[int, Inode] = {}
        self.orphans: set[int] = set()
        self._evict_above = 2 * volume.options.inode_count_max
        self.inline_bytes = 0
        """Upper bound of the inline content in dirty inodes."""

    def get(self, ino: int) -> Inode:
        """Return inode ``ino``; raises FilesystemError(ESTALE) when there is none."""
        inode = self._inodes.get(ino)
        if inode is None:
            inode = self.find(ino)
            if inode is None:
                raise FilesystemError(errno.ESTALE, f"no inode {ino}")
        return inode

    def find(self, ino: int) -> Inode | None:
        """Return inode ``ino`` or None."""
        inode = self._inodes.get(ino)
        if inode is not None:
            return inode
        value = self._volume.imap.get(inode_key(ino)) if 0 <= ino <= INO_MAX else None
        if value is None:
            return None
        inode = Inode(ino, unpack_inode(value))
        _check(inode)
        self._remember(inode)
        return inode

    def create(self, fields: InodeFields) -> Inode:
        """Make a new inode with the next number and this mount's generation; it is dirty."""
        volume = self._volume
        inode = Inode(volume.next_ino, fields)
        inode.generation = volume.generation
        volume.next_ino += 1
        volume.inode_count += 1
        inode.access_list = inode.default_list = b""
        inode.has_attributes = False
        self._remember(inode)
        self.mark_dirty(inode)
        return inode

    def mark_dirty(self, inode: Inode) -> None:
        """Let the next commit write ``inode``."""
        ino = inode.ino
        if ino not in self.dirty:
            self.dirty[ino] = self._inodes[ino] = inode
            if inode.inline:
                self.inline_bytes += len(inode.inline)

    def remove(self, inode: Inode) -> None:
        """Remove an inode that has no content left."""
        assert not inode.dirty_blocks
        imap = self._volume.imap
        ino = inode.ino
        imap.delete(inode_key(ino))
        if ino in self.orphans:
            imap.delete(orphan_key(ino))
            self.orphans.discard(ino)
        self.dirty.pop(ino, None)
        self._inodes.pop(ino, None)
        self._volume.inode_count = max(0, self._volume.inode_count - 1)

    def add_orphan(self, inode: Inode) -> None:
        """Note that ``inode`` has lost its last name."""
        self.orphans.add(inode.ino)
        self._volume.imap.put(orphan_key(inode.ino), b"")

    def dirty_record_bytes(self) -> int:
        """Return an upper bound of the records that dirty inodes will need."""
        return len(self.dirty) * (INODE_BYTES + RECORD_OVERHEAD_BYTES) + self.inline_bytes

    def log_dirty(self) -> None:
        """Put every dirty inode into the inode map."""
        imap = self._volume.imap
        for ino, inode in self.dirty.items():
            imap.put(pack_key(ino, KIND_INODE, 0), pack_inode(inode.fields()))
        self.dirty.clear()
        self.inline_bytes = 0
        self._evict_above = 2 * self._volume.options.inode_count_max

    def window(self, inode: Inode, index: int) -> Window | None:
        """Return window ``index`` of ``inode``, or None when nothing in it is mapped."""
        window = inode.windows.get(index)
        if window is None:
            window = inode.pinned.get(index)
            if window is not None or not inode.blocks:
                return window
            value = self._volume.imap.get(window_key(inode.ino, index))
            if value is None:
                return None
            window = self.unpacked(value)
            _keep_window(inode, index, window)
        return window

    def pin_window(self, inode: Inode, index: int) -> Window:
        """Return window ``index`` of ``inode``, which stays in memory until it is unpinned."""
        window = inode.pinned.get(index)
        if window is None:
            window = self.window(inode, index) or Window(self._volume.window_blocks)
            inode.pinned[index] = window
        return window

    def unpin_window(self, inode: Inode, index: int) -> None:
        """Let go of window ``index`` unless there are dirty blocks in it."""
        size = self._volume.window_blocks
        if not inode.dirty_blocks or not inode.dirty_extents.count_in(index * size, size):
            inode.pinned.pop(index, None)
            inode.read_window = -1

    def unpacked(self, value: bytes) -> Window:
        """Return the window of an item that lies in segments in use; raises DamageError."""
        window = Window.unpack(value, self._volume.window_blocks)
        self._volume.check_in_use(window.runs)
        return window

    def store_mapped(self, inode: Inode, index: int, window: Window) -> None:
        """Write a window that gained blocks through to the map; their log write tells it."""
        _keep_window(inode, index, window)
        self._volume.imap.apply(window_key(inode.ino, index), window)

    def store_unmapped(self, inode: Inode, index: int, window: Window) -> None:
        """Write a window that lost blocks through to the map; the next commit logs it."""
        key = window_key(inode.ino, index)
        if window.runs:
            inode.windows[index] = window
            self._volume.imap.put(key, window.pack())
        else:
            inode.windows.pop(index, None)
            self._volume.imap.delete(key)

    def _remember(self, inode: Inode) -> None:
        self._inodes[inode.ino] = inode

    def trim(self) -> None:
        """Drop inodes when there are twice as many as are to be kept.

        Only between requests: a request holds inodes, and there must be one object for
        each.
        """
        if len(self._inodes) > self._evict_above:
            self._evict()

    def _evict(self) -> None:
        """Drop the inodes that came first until no more than the limit is kept.

        What has to stay, because a commit is yet to come, is not looked at again
        before as many have come to it.
        """
        limit = self._volume.options.inode_count_max
        excess = len(self._inodes) - limit
        for ino in [*self._inodes] if excess > 0 else []:
            inode = self._inodes[ino]
            if inode.open_count or inode.dirty_blocks or ino in self.dirty or ino in self.orphans:
                continue
            del self._inodes[ino]
            excess -= 1
            if excess <= 0:
                break
        self._evict_above = len(self._inodes) + limit


def _check(inode: Inode) -> None:
    """Raise DamageError when an inode item says what can't be."""
    inline = inode.inline
    if inode.mode >> 16:
        raise DamageError(f"inode {inode.ino}: {inode.mode:#o} can't be its mode")
    if inode.size > FILE_BYTES_MAX or (inline is not None and len(inline) != inode.size):
        raise DamageError(f"inode {inode.ino}: {inode.size} bytes can't be its size")
    if inode.blocks >> ADDRESS_BITS:
        raise DamageError(f"inode {inode.ino}: {inode.blocks} blocks can't be mapped")


def _keep_window(inode: Inode, index: int, window: Window) -> None:
    if len(inode.windows) >= _WINDOWS_MAX and index not in inode.windows:
        # All of them are in the inode map, too.
        inode.windows.clear()
    inode.windows[index] = window
