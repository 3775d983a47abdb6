"""Giving up what is no longer needed, in bounded steps (P8).

Theory.  A file may have any number of windows, so taking all of them away in one
request would keep everybody else waiting.  A request takes a bounded number away.
What is left of an inode without a name waits behind its orphan item, what is left of
a file that was cut behind cut items (``lfs.inodes.cuts``); ``step`` goes on with them, in
background turns and when a request needs the space.  Each step changes memory only,
and leaves items that say exactly what is still mapped: so any commit between two
steps is whole, and a mount after a crash goes on where the last one was.

Nobody sees the difference: no request finds an inode that is leaving, what was cut
off counts as unmapped, and ``statfs`` counts the blocks of both as free.

Invariant: a step that can't read what it should give up has changed nothing.  It
reports that once and leaves the inode or the range as it is until the next mount.
"""

from __future__ import annotations

from collections.abc import Iterator

from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import DamageError, FilesystemError
from lfs.inodes.cuts import Cut
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.inodes.window import Window, window_key
from lfs.ondisk import (
    KEY_KIND,
    KIND_ENTRY,
    KIND_ORPHAN,
    KIND_WINDOW,
    KIND_XATTR,
    SYSTEM_INO,
    pack_key,
    unpack_key,
)
from lfs.volume.volume import Volume

_CUTS_MAX = 1024
_WAITING_MAX = 256
_COMMIT_ITEMS = 2048
_STEPS_AT_ONCE = 64
_FEW_WINDOWS = 4
"""A file of so many is removed by asking for each: looking for what it has takes longer."""


class Removal:
    """Removes orphans and what was cut off files of one volume."""

    def __init__(self, volume: Volume, inodes: InodeTable, checkpointer: Checkpointer) -> None:
        """Start with nothing to do; ``load`` finds what an earlier mount left."""
        self._volume = volume
        self._inodes = inodes
        self._checkpointer = checkpointer
        self._orphans: dict[int, bytes] = {}

    @property
    def _items_max(self) -> int:
        return self._volume.options.removal_items_max

    def load(self) -> None:
        """Line up the orphans of the last commit, which nobody has open now.

        Raises DamageError or DeviceError when they can't be read.
        """
        start = pack_key(SYSTEM_INO, KIND_ORPHAN, 0)
        end = pack_key(SYSTEM_INO, KIND_ORPHAN + 1, 0)
        for key, _ in self._volume.imap.scan(start, end):
            ino = unpack_key(key)[2]
            self._inodes.orphans.add(ino)
            self._inodes.leaving.setdefault(ino, None)
            self._orphans[ino] = pack_key(ino, KIND_XATTR, 0)

    # ------------------------------------------------------------------- inodes

    def line_up(self, inode: Inode) -> None:
        """Let an orphan that nobody has open be removed: no request finds it any more."""
        self._inodes.leave(inode)
        self._orphans[inode.ino] = pack_key(inode.ino, KIND_XATTR, 0)

    def begin(self, ino: int, now_ns: int) -> None:
        """Remove an orphan that was lined up: a small one is gone when this returns."""
        self._remove_some(ino, self._items_max)
        if len(self._orphans) > _WAITING_MAX:
            self.step(now_ns)

    def _remove_some(self, ino: int, items_max: int) -> int:
        """Take some items of an orphan away; returns how many looks that took."""
        try:
            inode = self._inodes.find(ino)
            if inode is None:
                raise DamageError("does not exist")
            if inode.nlink:
                # Whoever wrote the disk: what has a name is not taken away from under it.
                self._inodes.stay(ino)
                raise DamageError(f"has {inode.nlink} links")
            start, end = self._orphans[ino], pack_key(ino, KIND_ENTRY + 1, 0)
            following = None
            count = self._take_few(inode) if self._volume.imap.is_one_leaf(start, end) else -1
            if count < 0:
                count, following = self._take(inode, start, end, items_max)
        except FilesystemError as error:
            self._volume.report(f"orphan {ino} can't be removed: {error}")
            del self._orphans[ino]
            return 1
        if following is None:
            del self._orphans[ino]
            self._inodes.remove(inode)
        else:
            self._orphans[ino] = following
        return count + 1

    # -------------------------------------------------------------------- files

    def cut(self, inode: Inode, from_block: int, end_block: int) -> None:
        """Give up the disk blocks of ``inode`` from ``from_block`` on, of ``end_block``.

        The first of them now, the rest in steps.  Raises DamageError or DeviceError
        when a window can't be read; then nothing has changed.
        """
        if not inode.blocks:
            return
        size = self._volume.window_blocks
        index, offset = divmod(from_block, size)
        window = self._inodes.window(inode, index) if offset else None
        first, end = index + (offset > 0), -(-end_block // size)
        following = None
        if first < end:
            start = window_key(inode.ino, first)
            _, following = self._take(inode, start, window_key(inode.ino, end), self._items_max)
        if window is not None and window.mapped:
            for address, count in window.unmap(offset, size):
                self._volume.usage.drop_live(address, count)
                inode.blocks -= count
            self._inodes.store_unmapped(inode, index, window)
        if following is not None:
            self._cut_off(inode, unpack_key(following)[2], end)
        if inode.is_cut:
            inode.hide_cut_blocks(from_block)
            self._bound_cuts()

    def _cut_off(self, inode: Inode, first: int, end: int) -> None:
        """Leave windows ``first`` to ``end`` for later steps, which let go of them in memory."""
        self._inodes.cuts.add(inode.ino, first, end)
        inode.is_cut = True
        for index in [index for index in inode.pinned if index >= first]:
            self._inodes.drop_window(inode, index)
        inode.read_window = -1

    def settle(self, inode: Inode, first: int, last: int) -> None:
        """Give up what was cut off of windows ``first`` to ``last``, for new data there.

        Raises DamageError or DeviceError; the windows before the one that can't be
        read are given up then, and nothing else has changed.
        """
        cuts = self._inodes.cuts
        for index in range(first, last + 1):
            cut = cuts.find(inode.ino, index)
            if cut is not None:
                start = window_key(inode.ino, index)
                self._take(inode, start, window_key(inode.ino, index + 1), 1)
                cuts.part(cut, index)
        self._note_cuts(inode)
        self._bound_cuts()

    def _bound_cuts(self) -> None:
        """Finish the smallest ranges when there are too many to keep."""
        cuts = self._inodes.cuts
        while cuts.count - cuts.stuck_count > _CUTS_MAX:
            cut = min(self._cuts_left(), key=lambda cut: cut.end - cut.first)
            while cut in cuts.of(cut.ino) and not cut.is_stuck:
                self._cut_some(cut, self._items_max)

    def _cuts_left(self) -> Iterator[Cut]:
        return (cut for cut in self._inodes.cuts if not cut.is_stuck)

    def _cut_some(self, cut: Cut, items_max: int) -> int:
        """Give up some windows of a range; returns how many looks that took."""
        try:
            inode = self._inodes.find(cut.ino)
            if inode is None:
                raise DamageError("does not exist")
            start, end = window_key(cut.ino, cut.first), window_key(cut.ino, cut.end)
            count, following = self._take(inode, start, end, items_max)
        except FilesystemError as error:
            self._volume.report(f"inode {cut.ino}: what was cut off can't be given up: {error}")
            self._inodes.cuts.set_aside(cut)
            return 1
        self._inodes.cuts.advance(cut, cut.end if following is None else unpack_key(following)[2])
        self._note_cuts(inode)
        return count + 1

    def _note_cuts(self, inode: Inode) -> None:
        if inode.is_cut and not self._inodes.cuts.of(inode.ino):
            inode.is_cut = False
            inode.blocks += inode.cut_blocks
            inode.cut_blocks = 0
            self._inodes.mark_dirty(inode)

    # -------------------------------------------------------------------- steps

    @property
    def is_waiting(self) -> bool:
        """Tell whether ``step`` has anything to do."""
        cuts = self._inodes.cuts
        return bool(self._orphans) or cuts.count > cuts.stuck_count

    def step(self, now_ns: int) -> bool:
        """Do a bounded piece of what is waiting; returns whether there was any.

        Commits when much has changed, so that no later commit takes long.  Raises
        DeviceError when that fails.
        """
        if not self.is_waiting or self._volume.failed or self._volume.read_only:
            return False
        room = self._items_max
        while room > 0 and self.is_waiting:
            if self._orphans:
                room -= self._remove_some(next(iter(self._orphans)), room)
            else:
                room -= self._cut_some(next(self._cuts_left()), room)
        if self._volume.imap.unlogged_count > _COMMIT_ITEMS:
            self._checkpointer.commit(now_ns)
        return True

    def finish(self, now_ns: int, steps_max: int = _STEPS_AT_ONCE) -> bool:
        """Do up to ``steps_max`` steps; returns whether anything was done."""
        done = False
        while steps_max and self.step(now_ns):
            done = True
            steps_max -= 1
        return done

    def _take(
        self, inode: Inode, start: bytes, end: bytes, items_max: int
    ) -> tuple[int, bytes | None]:
        """Delete up to ``items_max`` items of ``inode``, attributes and windows, from ``start`` on.

        Returns how many those were, and where to go on before ``end``, or None.  Raises
        DamageError or DeviceError before anything has changed.
        """
        volume = self._volume
        items, following = volume.imap.batch(start, end)
        if len(items) > items_max:
            following = items[items_max][0]
            del items[items_max:]
        windows: dict[int, Window] = {}
        for key, value in items:
            if key[KEY_KIND] == KIND_WINDOW:
                index = unpack_key(key)[2]
                windows[index] = inode.windows.get(index) or self._inodes.unpacked(key, value)
        self._check_counts(inode, windows)
        for key, _ in items:
            volume.imap.delete(key)
        for index, window in windows.items():
            self._give_up(inode, index, window)
        if items:
            self._inodes.mark_dirty(inode)
        return len(items), following

    def _take_few(self, inode: Inode) -> int:
        """Delete all windows of a small ``inode`` that is known to have no other items.

        Returns how many those were, -1 where only ``_take`` can tell.  Raises as that does.
        The caller removes the inode, too.
        """
        size = self._volume.window_blocks
        end = -(-inode.size // (size * self._volume.block_bytes))
        if inode.has_attributes or inode.is_cut or inode.is_directory or end > _FEW_WINDOWS:
            return -1
        indices = range(end if inode.blocks else 0)
        windows = [self._inodes.window(inode, index) for index in indices]
        mapped = count = 0
        for window in windows:
            if window is not None:
                mapped += window.mapped
                count += 1
        if mapped != inode.blocks:
            return -1
        for index, window in enumerate(windows):
            if window is not None:
                self._volume.imap.delete(window.key)
                self._give_up(inode, index, window)
        return count

    def _give_up(self, inode: Inode, index: int, window: Window) -> None:
        """Forget a window whose item was deleted, and what lives by it."""
        self._inodes.drop_window(inode, index)
        inode.unmapped(window.mapped, inode.is_cut and self._is_cut_off(inode, index))
        for _, count, address in window.extents:
            self._volume.usage.drop_live(address, count)

    def _check_counts(self, inode: Inode, windows: dict[int, Window]) -> None:
        """Raise DamageError when ``windows`` map more blocks than ``inode`` counts."""
        blocks = own = 0
        for index, window in windows.items():
            blocks += window.mapped
            if not self._is_cut_off(inode, index):
                own += window.mapped
        if own > inode.blocks or blocks > inode.blocks + inode.cut_blocks:
            raise DamageError(f"inode {inode.ino} maps more blocks than it counts")

    def _is_cut_off(self, inode: Inode, index: int) -> bool:
        return inode.is_cut and self._inodes.cuts.find(inode.ino, index) is not None
