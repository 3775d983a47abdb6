"""Giving dirty data its place on disk.

This is the end of delayed allocation: until here a file's dirty blocks were
numbers and bytes in memory.  ``WriteOut`` takes them in file order, asks the log
for a place, writes them with their owners and checksums, and points the file's
windows there.  Roll-forward derives the same windows from the owners in the log
write; after a crash the data is there if a commit followed it.

Where there is too much dirty data, or there soon has to be a commit of it, it goes a
part after the other, so that nobody waits for all of it: each part is what follows the
last one in the order of files and their blocks, as a lift goes through a house.  So parts
have what belongs together, however it came.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.neighbours import Neighbours
from lfs.alloc.delayed.scattered import ScatteredFiles
from lfs.device.base import Buffer
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.inodes.window import Window
from lfs.ondisk import BLOCK_DATA, HEAD_BULK, HEAD_MAIN, EntryFields, stored_data
from lfs.segments.placement import BULK_BLOCKS, Placement
from lfs.volume.volume import Volume

_PAST_ALL_BLOCKS = 1 << 62
_PART_BYTES = 1 << 20
_PARTS_MIN = 4
"""Into so many parts goes what may be dirty, at least."""
_STEPS = 4
"""In so many steps a part is taken, at least."""
_PART_BLOCKS_MIN = 32
"""Each part has a summary: that must come to little."""


class UnplacedExtent:
    """``count`` adjacent blocks of one file that go to one place, in buffers of whole blocks."""

    __slots__ = ("buffers", "count", "first", "inode")

    def __init__(self, inode: Inode, first: int, count: int, buffers: list[Buffer]) -> None:
        """Take ``count`` blocks of ``inode`` from file block ``first`` on."""
        self.inode = inode
        self.first = first
        self.count = count
        self.buffers = buffers


class WriteOut:
    """Writes dirty data to the log and maps it."""

    def __init__(self, volume: Volume, inodes: InodeTable, ledger: Ledger) -> None:
        """Serve the inodes of one volume."""
        self._volume = volume
        self._inodes = inodes
        self._ledger = ledger
        part_bytes = min(_PART_BYTES, volume.options.dirty_bytes_max // _PARTS_MIN)
        self.part_blocks = max(_PART_BLOCKS_MIN, part_bytes // volume.block_bytes)
        """A part of the dirty data has so many blocks, or what more it takes to end well."""
        self._dirty_blocks_max = max(1, -(-volume.options.dirty_bytes_max // volume.block_bytes))
        self.dirty_blocks_max = self._dirty_blocks_max
        """From so many dirty blocks on, whoever writes more writes a part of them out."""
        self._position = 0, 0
        """Inode number and file block where the next part begins."""
        self.scattered = ScatteredFiles()
        self._neighbours = Neighbours(volume, inodes, ledger, self.scattered)

    # --------------------------------------------------------------- collecting

    def take_dirty(self, inodes: Sequence[Inode]) -> list[UnplacedExtent]:
        """Return the dirty data of ``inodes`` in file order; it counts as clean from now on.

        Whoever made a block dirty pinned its window, so nothing has to be read but
        neighbours, which may fail.
        """
        self._neighbours.spare_blocks = None
        return self._take(inodes, 0, _PAST_ALL_BLOCKS)

    def take_part(self) -> list[UnplacedExtent]:
        """Return the next part of all dirty data, as ``take_dirty`` does; none if there is none."""
        self._neighbours.spare_blocks = None
        owners = self._inodes.dirty_data.owners
        position = self._position
        inos = sorted(owners)
        start = bisect_left(inos, position[0])
        begins = [(ino, 0) for ino in [*inos[start:], *inos[:start]]]
        if begins and begins[0][0] == position[0]:
            begins = [position, *begins[1:], begins[0]]
        extents: list[UnplacedExtent] = []
        left_blocks = self.part_blocks
        for ino, begin in begins:
            first: int | None = begin
            while first is not None and left_blocks > 0 and ino in owners:
                # Neighbours that go along may be several times as many as the dirty blocks.
                step_blocks = min(left_blocks, self.part_blocks // _STEPS)
                taken, first = self._take_some(owners[ino], first, step_blocks)
                extents += taken
                left_blocks -= sum([extent.count for extent in taken])
                self._position = (ino + 1, 0) if first is None else (ino, first)
            if left_blocks <= 0:
                break
        return extents

    def _take_some(
        self, inode: Inode, first: int, blocks: int
    ) -> tuple[list[UnplacedExtent], int | None]:
        """Return about ``blocks`` dirty blocks from block ``first`` on, and where they end.

        That is between two windows; None at the end of the file.
        """
        dirty = inode.dirty
        assert dirty is not None
        size = self._volume.window_blocks
        end = dirty.part_end(first, blocks, size)
        if end is None:
            return self._take([inode], first, _PAST_ALL_BLOCKS), None
        if not inode.blocks:
            # Nothing was pinned for a file that had none; from now on they would be read.
            mark = self._inodes.new_pins()
            for start, count in dirty.extents():
                for index in range(start // size, (start + count - 1) // size + 1):
                    self._inodes.pin_window(inode, index)
            self._inodes.keep_pins(mark)
        return self._take([inode], first, end), end

    def _take(self, inodes: Sequence[Inode], first: int, stop: int) -> list[UnplacedExtent]:
        """Return what is dirty in blocks ``first`` to ``stop`` of each inode; it is in hand now."""
        dirty_data = self._inodes.dirty_data
        is_whole = not first and stop == _PAST_ALL_BLOCKS
        mark = self._inodes.new_pins()
        for inode in inodes:
            dirty = inode.dirty
            if dirty is not None:
                pairs = dirty.extents() if is_whole else [*dirty.extents_between(first, stop)]
                self._neighbours.take(inode, pairs)
            if self.scattered:
                self.scattered.wrote(inode.ino, self._volume.elapsed.ns)
        # Each has dirty blocks, or is unpinned with the last of them.
        self._inodes.keep_pins(mark)
        extents: list[UnplacedExtent] = []
        blocks = 0
        try:
            for inode in inodes:
                if is_whole:
                    taken = dirty_data.take(inode)
                else:
                    taken = dirty_data.take_part(inode, first, stop)
                for start, count, buffers in taken:
                    extents.append(UnplacedExtent(inode, start, count, buffers))
                    blocks += count
                inode.read_window = -1
                self._inodes.mark_dirty(inode)
        except BaseException as error:
            # What has been taken is in memory no more.
            self._volume.fail(error)
            raise
        self._ledger.take_in_hand(blocks)
        return extents

    # ----------------------------------------------------------------- placing

    def place_part(self, time_ns: int) -> None:
        """Give the next part of all dirty data its place."""
        self.place_all(self.take_part(), time_ns)

    def place_ahead(self, time_ns: int) -> bool:
        """Give a part its place if more than that is dirty; tell whether it was."""
        if self._inodes.dirty_data.block_count <= self.part_blocks:
            return False
        self.place_part(time_ns)
        return True

    def hurry(self) -> None:
        """Let whoever writes write a part out, too, until ``end_hurry``: a commit is due."""
        self.dirty_blocks_max = min(self.dirty_blocks_max, self.part_blocks)

    def end_hurry(self) -> None:
        """Let dirty data wait again: it has been committed."""
        self.dirty_blocks_max = self._dirty_blocks_max

    def keep_limits(self, time_ns: int) -> None:
        """Write a part of the dirty data out, or as many as it takes to keep the limits."""
        inodes = self._inodes
        while inodes.dirty_data.block_count:
            self.place_part(time_ns)
            is_little = inodes.dirty_data.block_count < self._dirty_blocks_max
            if is_little and inodes.pinned_bytes < inodes.pinned_bytes_max:
                return

    def place_all(self, extents: Sequence[UnplacedExtent], time_ns: int, flags: int = 0) -> None:
        """Write extents without records: large ones to the bulk head, the others to main."""
        large = [extent for extent in extents if extent.count >= BULK_BLOCKS]
        small = extents
        if large:
            self.place(large, HEAD_BULK, time_ns, flags)
            small = [extent for extent in extents if extent.count < BULK_BLOCKS]
        self.place(small, HEAD_MAIN, time_ns, flags)

    def place(self, extents: Sequence[UnplacedExtent], head: int, time_ns: int, flags: int) -> None:
        """Write extents to log head ``head`` in as many log writes as it takes.

        What could not be written in one place is written and mapped in another.
        """
        try:
            self._place(extents, head, time_ns, flags)
        except BaseException as error:
            # It is in memory no more, and may be nowhere.
            self._volume.fail(error)
            raise

    def _place(
        self, extents: Sequence[UnplacedExtent], head: int, time_ns: int, flags: int
    ) -> None:
        rest = [*extents]
        wanted = 0
        for extent in rest:
            wanted += extent.count
        while rest:
            expected = 0
            if head == HEAD_BULK:
                # A large file is likely to grow further: expect as much again as it has.
                expected = sum({e.inode.ino: e.inode.blocks for e in rest}.values())
            placement = self._volume.reserve(
                head,
                wanted,
                0,
                len(rest),
                spare_blocks=self._ledger.log_spare_blocks,
                expected_blocks=expected,
            )
            now, later = _split(rest, placement.payload_blocks, self._volume.block_bytes)
            entries, buffers = self.map(now, placement)
            if self._volume.emit(placement, entries, buffers, (), flags, time_ns):
                blocks = min(wanted, placement.payload_blocks)
                self._ledger.written(blocks)
                wanted -= blocks
                rest = later
            else:
                rest = now + later

    def map(
        self, extents: Sequence[UnplacedExtent], placement: Placement
    ) -> tuple[list[EntryFields], list[Buffer]]:
        """Point the windows of ``extents`` to a placement.

        Returns the entries and buffers that the log write there must have.  The windows
        are pinned: nothing is read.
        """
        address = placement.payload_address
        entries: list[EntryFields] = []
        buffers: list[Buffer] = []
        block_bytes, size = self._volume.block_bytes, self._volume.window_blocks
        owner: Inode | None = None
        window: Window | None = None
        current = -1
        for extent in extents:
            inode, first, count = extent.inode, extent.first, extent.count
            if len(extent.buffers) == 1:
                stored, checksums = stored_data(extent.buffers[0], block_bytes)
                buffers.append(stored)
            else:
                checksums = []
                for buffer in extent.buffers:
                    stored, values = stored_data(buffer, block_bytes)
                    checksums += values
                    buffers.append(stored)
            entries.append((BLOCK_DATA, inode.ino, inode.version, first, checksums))
            position = 0
            while position < count:
                index = (first + position) // size
                if inode is not owner or index != current or window is None:
                    # Extents are in file order: one window after the other is through.
                    if owner is not None and window is not None:
                        self._mapped(owner, current, window)
                    owner, current = inode, index
                    window = self._inodes.pin_window(inode, index)
                start = first + position - index * size
                stop = start + count - position
                part: Sequence[int] = checksums
                if stop > size or position:
                    stop = min(stop, size)
                    part = checksums[position : position + stop - start]
                self._map_part(inode, window, start, part, address + position)
                position += stop - start
            address += count
        if owner is not None and window is not None:
            self._mapped(owner, current, window)
        return entries, buffers

    def _map_part(
        self, inode: Inode, window: Window, start: int, checksums: Sequence[int], address: int
    ) -> None:
        """Point blocks of a window to ``address``; what was there before is dead."""
        inode.blocks += len(checksums)
        for old_address, old_count in window.map(start, checksums, address):
            self._volume.usage.drop_live(old_address, old_count)
            inode.blocks = max(0, inode.blocks - old_count)

    def _mapped(self, inode: Inode, index: int, window: Window) -> None:
        """Take a window that is mapped over into the inode map, and let go of it."""
        inodes = self._inodes
        inodes.store_mapped(inode, index, window)
        inodes.unpin_window(inode, index)
        inodes.mark_dirty(inode)


def _split(
    extents: list[UnplacedExtent], blocks: int, block_bytes: int
) -> tuple[list[UnplacedExtent], list[UnplacedExtent]]:
    """Return the extents that make up the first ``blocks`` blocks, and the rest."""
    wanted = 0
    for extent in extents:
        wanted += extent.count
    if wanted <= blocks:
        return extents, []
    taken: list[UnplacedExtent] = []
    for position, extent in enumerate(extents):
        if extent.count > blocks:
            head, tail = _split_buffers(extent.buffers, blocks * block_bytes)
            inode, first = extent.inode, extent.first
            rest = [UnplacedExtent(inode, first + blocks, extent.count - blocks, tail)]
            if blocks:
                taken.append(UnplacedExtent(inode, first, blocks, head))
            return taken, rest + extents[position + 1 :]
        taken.append(extent)
        blocks -= extent.count
    return taken, []


def _split_buffers(buffers: list[Buffer], length: int) -> tuple[list[Buffer], list[Buffer]]:
    """Return the buffers that hold the first ``length`` bytes, and the rest."""
    for index, buffer in enumerate(buffers):
        if length < len(buffer):
            view = memoryview(buffer)
            return [*buffers[:index], view[:length]], [view[length:], *buffers[index + 1 :]]
        length -= len(buffer)
    return buffers, []
