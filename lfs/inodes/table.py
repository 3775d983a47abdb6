"""The inodes that are in memory, and the way to the others.

Their windows (``lfs.inodes.window``) are written through to the inode map whenever
they change; inodes are collected in ``InodeTable.dirty`` and written by the next
commit.

Some inodes and windows are given up in steps (``lfs.alloc.admission.removal``).  An inode that is
*leaving* is in no table but ``leaving``: no request finds it any more.  A window that
was cut off (``lfs.inodes.cuts``) is unmapped for everybody.

Invariant: an inode that is dirty, open, an orphan, cut or has dirty blocks stays in
memory.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lfs.alloc.dirty import DirtyData
from lfs.common.errors import DamageError, FilesystemError
from lfs.inodes.cuts import Cuts
from lfs.inodes.inode import INODE_MEMORY_BYTES, Inode, check_inode
from lfs.inodes.window import Window, window_key
from lfs.inodes.window_cache import WindowCache
from lfs.ondisk import (
    INO_MAX,
    INODE_BYTES,
    KIND_INODE,
    KIND_ORPHAN,
    KIND_WINDOW,
    RECORD_OVERHEAD_BYTES,
    SYSTEM_INO,
    pack_key,
    unpack_inode,
    unpack_key,
)
from lfs.volume.arguments import check_integer
from lfs.volume.volume import Volume

_DIRTY_INODES_MAX = 512


class InodeTable:
    """The inodes in memory, and the way to the others."""

    def __init__(self, volume: Volume) -> None:
        """Start with no inode in memory."""
        self._volume = volume
        self._inodes: dict[int, Inode] = {}
        self.dirty: dict[int, Inode] = {}
        self.dirty_data: DirtyData[Inode] = DirtyData(volume.block_bytes)
        self.generation = 0
        """Of the inodes that this mount makes: a number that a crash took back is used again."""
        self.orphans: set[int] = set()
        self.cuts = Cuts(volume.imap)
        share_bytes = volume.options.cache_bytes // 4
        self.cache = WindowCache(volume.imap, share_bytes)
        self.count_max = min(
            volume.options.inode_count_max, max(16, share_bytes // (2 * INODE_MEMORY_BYTES))
        )
        self.leaving: dict[int, Inode | None] = {}
        """Orphans that nobody has open, None before they were asked for."""
        self._evict_above = 2 * self.count_max
        self.dirty_count_max = min(_DIRTY_INODES_MAX, self.count_max)
        """More dirty inodes are committed."""
        self.pinned_bytes = 0
        """About what the windows of dirty blocks take."""
        self.pinned_bytes_max = share_bytes
        """So much of these is kept before dirty data is written out."""
        self.pinned_count = 0
        """How many of these there are."""
        self._new_pins: list[tuple[Inode, int]] = []
        """Those that may have no dirty blocks: whoever pinned them may have failed."""
        self.inline_bytes = 0
        """Upper bound of the inline content in dirty inodes."""

    def get(self, ino: int) -> Inode:
        """Return inode ``ino``; raises FilesystemError(ESTALE) when there is none."""
        inode = self._inodes.get(ino)
        if inode is None:
            inode = None if ino in self.leaving else self.find(ino)
            if inode is None:
                raise FilesystemError(errno.ESTALE, f"no inode {ino}")
        return inode

    def begin(self, ino: int) -> Inode:
        """Return inode ``ino`` as ``get`` does, at the beginning of a request (``trim``)."""
        if self._new_pins or len(self._inodes) > self._evict_above:
            self.trim()
        return self._inodes.get(ino) or self.get(ino)

    def find(self, ino: int) -> Inode | None:
        """Return inode ``ino``, leaving or not, or None."""
        inode = self._inodes.get(ino) or self.leaving.get(ino)
        if inode is not None:
            return inode
        check_integer("inode number", ino)
        value = self._volume.imap.get(pack_key(ino, KIND_INODE, 0)) if 0 <= ino <= INO_MAX else None
        if value is None:
            return None
        inode = Inode(ino, *unpack_inode(value))
        check_inode(inode)
        if inode.is_cut:
            inode.hide_cut_blocks(-(-inode.size // self._volume.block_bytes))
        if ino in self.leaving:
            self.leaving[ino] = inode
        else:
            self._inodes[ino] = inode
        return inode

    def parent_of(self, ino: int) -> int:
        """Return the parent of directory ``ino``, which is not kept in memory for that."""
        inode = self._inodes.get(ino)
        if inode is None:
            value = self._volume.imap.get(pack_key(ino, KIND_INODE, 0))
            if value is None:
                raise DamageError(f"directory {ino} does not exist")
            inode = Inode(ino, *unpack_inode(value))
            check_inode(inode)
        return inode.parent_ino

    def add(self, inode: Inode) -> None:
        """Give a new inode the next number and this mount's generation; it is dirty."""
        volume = self._volume
        inode.ino = ino = volume.state.next_ino
        inode.key = pack_key(ino, KIND_INODE, 0)
        inode.generation = self.generation
        volume.state.next_ino += 1
        volume.state.inode_count += 1
        inode.access_list = inode.default_list = b""
        inode.has_attributes = False
        self._inodes[ino] = self.dirty[ino] = inode
        if inode.inline:
            self.inline_bytes += len(inode.inline)

    def mark_dirty(self, inode: Inode) -> None:
        """Let the next commit write ``inode``."""
        ino = inode.ino
        if ino not in self.dirty:
            self.dirty[ino] = inode
            if ino not in self.leaving:
                self._inodes[ino] = inode
            if inode.inline:
                self.inline_bytes += len(inode.inline)

    def remove(self, inode: Inode) -> None:
        """Remove an inode that is leaving and has no content left."""
        assert not inode.dirty
        imap = self._volume.imap
        ino = inode.ino
        if inode.is_cut:
            for cut in [*self.cuts.of(ino)]:
                self.cuts.drop(cut)
        imap.delete(inode.key)
        imap.delete(pack_key(SYSTEM_INO, KIND_ORPHAN, ino))
        self.orphans.discard(ino)
        self.dirty.pop(ino, None)
        del self.leaving[ino]
        if inode.windows:
            self.cache.forget(ino, inode.windows)
        self._volume.state.inode_count = max(0, self._volume.state.inode_count - 1)

    def leave(self, inode: Inode) -> None:
        """Let no request find ``inode``, an orphan without dirty blocks, any more.

        Its windows stay in memory until they are given up: they may be many.
        """
        self._inodes.pop(inode.ino, None)
        if inode.pinned:
            for index in [*inode.pinned]:
                self._drop_pinned(inode, index)
        self.leaving[inode.ino] = inode

    def stay(self, ino: int) -> None:
        """Let requests find inode ``ino`` again: it is no orphan, whatever its item says."""
        self.leaving.pop(ino, None)
        self.orphans.discard(ino)

    def add_orphan(self, inode: Inode) -> None:
        """Note that ``inode`` has lost its last name."""
        self.orphans.add(inode.ino)
        self._volume.imap.put(pack_key(SYSTEM_INO, KIND_ORPHAN, inode.ino), b"")

    @property
    def open_orphans(self) -> list[Inode]:
        """Return the orphans that somebody has open: those stay in memory."""
        inodes = (self._inodes.get(ino) for ino in self.orphans)
        return [inode for inode in inodes if inode is not None and inode.open_count]

    @property
    def leaving_blocks(self) -> int:
        """Return the blocks that will be free once all that is given up in steps is gone."""
        leaving = sum(inode.blocks + inode.cut_blocks for inode in self.leaving.values() if inode)
        inodes = (self._inodes.get(ino) for ino in self.cuts.inos())
        return leaving + sum(inode.cut_blocks for inode in inodes if inode is not None)

    def dirty_record_bytes(self) -> int:
        """Return an upper bound of the records that dirty inodes will need."""
        return len(self.dirty) * (INODE_BYTES + RECORD_OVERHEAD_BYTES) + self.inline_bytes

    def log_dirty(self) -> None:
        """Put every dirty inode into the inode map."""
        imap = self._volume.imap
        fresh_key, size = imap.fresh_key, INODE_BYTES
        for inode in self.dirty.values():
            key, value = inode.key, inode.pack()
            # Only data in it makes an inode longer that was there at the checkpoint.
            imap.put(key, value, len(value) > size or key >= fresh_key)
        self.dirty.clear()
        self.inline_bytes = 0
        self._evict_above = 2 * self.count_max

    def window(self, inode: Inode, index: int) -> Window | None:
        """Return window ``index`` of ``inode``, or None when nothing in it is mapped."""
        if inode.is_cut and self.cuts.find(inode.ino, index):
            return None
        window = inode.windows.get(index)
        if window is None:
            window = inode.pinned.get(index)
            if window is not None or not inode.blocks:
                return window
            key = window_key(inode.ino, index)
            value = self._volume.imap.get(key)
            if value is None:
                return None
            window = self.unpacked(key, value)
            self.cache.keep(inode.ino, inode.windows, index, window)
        return window

    def pin_window(self, inode: Inode, index: int) -> Window:
        """Return window ``index`` of ``inode``, which stays in memory until it is unpinned."""
        window = inode.pinned.get(index)
        if window is None:
            window = self.window(inode, index)
            if window is None:
                window = Window(self._volume.window_blocks, window_key(inode.ino, index))
            inode.pinned[index] = window
            window.pinned_bytes = pinned_bytes = window.memory_bytes
            self.pinned_bytes += pinned_bytes
            self.pinned_count += 1
            self._new_pins.append((inode, index))
        return window

    def new_pins(self) -> int:
        """Return a mark: what is pinned from now on may turn out to have been in vain."""
        return len(self._new_pins)

    def keep_pins(self, mark: int) -> None:
        """Note that the windows that were pinned since ``mark`` have dirty blocks now."""
        del self._new_pins[mark:]

    def unpin_window(self, inode: Inode, index: int) -> None:
        """Let go of window ``index`` unless there are dirty blocks in it."""
        dirty = inode.dirty
        if dirty is not None:
            size = self._volume.window_blocks
            if dirty.count_in(index * size, size):
                return
        self._drop_pinned(inode, index)
        inode.read_window = -1

    def _drop_pinned(self, inode: Inode, index: int) -> None:
        window = inode.pinned.pop(index, None)
        if window is not None:
            self.pinned_bytes -= window.pinned_bytes
            self.pinned_count -= 1

    def drop_window(self, inode: Inode, index: int) -> None:
        """Forget window ``index`` of ``inode``, which is given up."""
        self.cache.drop(inode.ino, inode.windows, index)
        if inode.pinned:
            self._drop_pinned(inode, index)
        if inode.read_window == index:
            inode.read_window = -1

    def unpacked(self, key: bytes, value: bytes) -> Window:
        """Return the window of an item that lies in segments in use; raises DamageError."""
        window = Window.unpack(value, self._volume.window_blocks, key)
        self._volume.check_in_use(window.extents)
        return window

    def windows(self, inode: Inode, first: int) -> Iterator[tuple[int, Window]]:
        """Yield the windows of ``inode`` from window ``first`` on, each with its index."""
        start = window_key(inode.ino, first)
        end = pack_key(inode.ino, KIND_WINDOW + 1, 0)
        for key, value in self._volume.imap.scan(start, end):
            index = unpack_key(key)[2]
            if not (inode.is_cut and self.cuts.find(inode.ino, index)):
                yield index, self.unpacked(key, value)

    def store_mapped(self, inode: Inode, index: int, window: Window) -> None:
        """Write a window that gained blocks through to the map; their log write tells it."""
        self.cache.keep(inode.ino, inode.windows, index, window)
        self._volume.imap.apply(window.key, window)

    def store_unmapped(self, inode: Inode, index: int, window: Window) -> None:
        """Write a window that lost blocks through to the map; the next commit logs it."""
        key = window.key
        if window.extents:
            self.cache.keep(inode.ino, inode.windows, index, window)
            value = window.pack()
            self._volume.imap.put(key, value, len(value) > window.stored_bytes)
            window.stored_bytes = min(window.stored_bytes, len(value))
        else:
            self.cache.drop(inode.ino, inode.windows, index)
            self._volume.imap.delete(key)
            window.stored_bytes = 0

    def trim(self) -> None:
        """Let go of windows pinned in vain, and of inodes when twice as many as are to be kept.

        Only between requests: a request holds inodes, and there must be one object for
        each.
        """
        if self._new_pins:
            for inode, index in self._new_pins:
                self.unpin_window(inode, index)
            self._new_pins.clear()
        if len(self._inodes) > self._evict_above:
            self._evict()

    def _evict(self) -> None:
        """Drop the inodes that came first until no more than the limit is kept.

        What has to stay, because a commit is yet to come, is not looked at again
        before as many have come to it.
        """
        limit = self.count_max
        excess = len(self._inodes) - limit
        for ino in [*self._inodes] if excess > 0 else []:
            inode = self._inodes[ino]
            if inode.open_count or inode.dirty or inode.is_cut:
                continue
            if ino in self.dirty or ino in self.orphans:
                continue
            self.cache.forget(ino, inode.windows)
            for index in [*inode.pinned]:
                self._drop_pinned(inode, index)
            del self._inodes[ino]
            excess -= 1
            if excess <= 0:
                break
        self._evict_above = len(self._inodes) + limit
