"""Contents of files: read, write, truncate.

A write keeps whole blocks in memory, as part of the inode, after space for them
has been promised; ``lfs.alloc.delayed.write_out`` gives them a place later.  Small files stay
inside their inode.  Reads see dirty blocks first, then verified blocks from
disk, then zeros.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from itertools import islice

from lfs.alloc.admission.admission import Admission, Demand
from lfs.alloc.admission.removal import Removal
from lfs.alloc.delayed.write_out import WriteOut
from lfs.common.errors import FilesystemError
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.inodes.window import shares
from lfs.ondisk import FILE_BYTES_MAX, VERSION_MAX
from lfs.volume.volume import Volume


class FileData:
    """Reads and writes the contents of inodes."""

    def __init__(
        self,
        volume: Volume,
        inodes: InodeTable,
        admission: Admission,
        write_out: WriteOut,
        removal: Removal,
    ) -> None:
        """Serve the inodes of one volume."""
        self._volume = volume
        self._inodes = inodes
        self._admission = admission
        self._write_out = write_out
        self._removal = removal

    # ------------------------------------------------------------------ reading

    def read(self, inode: Inode, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``; raises DamageError, DeviceError."""
        end = min(offset + size, inode.size)
        if offset >= end:
            return b""
        if inode.inline is not None:
            return inode.inline[offset:end]
        block_bytes = self._volume.block_bytes
        first, last = offset // block_bytes, (end - 1) // block_bytes
        parts = self._read_blocks(inode, first, last + 1)
        raw = parts[0] if len(parts) == 1 else b"".join(parts)
        skip = offset - first * block_bytes
        if skip == 0 and len(raw) == end - offset:
            return raw
        return raw[skip : skip + end - offset]

    def _read_blocks(self, inode: Inode, first: int, end: int) -> list[bytes]:
        """Return the bytes of file blocks ``first`` to ``end`` in parts of whole blocks."""
        if inode.dirty is None:
            return self._read_stored(inode, first, end)
        parts: list[bytes] = []
        for start, stop, content in inode.dirty.pieces(first, end):
            if content is None:
                parts += self._read_stored(inode, start, stop)
            else:
                parts.append(content)
        return parts

    def _read_stored(self, inode: Inode, first: int, end: int) -> list[bytes]:
        """Return file blocks from disk, adjacent ones in one device request."""
        volume = self._volume
        index, start = first // volume.window_blocks, first % volume.window_blocks
        stop = start + end - first
        if stop <= volume.window_blocks:
            # The usual case: all of it lies side by side.
            window = self._inodes.window(inode, index)
            address = window.place_of(start, stop) if window is not None else 0
            if window is not None and address:
                if stop - start == 1:
                    return [volume.read_data(address, [window.checksums[start]])]
                return [volume.read_data(address, window.checksums[start:stop])]
        pending: list[int] = []
        pending_address = 0
        parts: list[bytes] = []
        for index, start, stop in shares(first, end, volume.window_blocks):
            window = self._inodes.window(inode, index)
            pieces = window.pieces(start, stop) if window else [(start, stop - start, 0)]
            for block, count, address in pieces:
                if pending and address != pending_address + len(pending):
                    parts.append(volume.read_data(pending_address, pending))
                    pending = []
                if address == 0:
                    parts.append(bytes(count * volume.block_bytes))
                    continue
                if not pending:
                    pending_address = address
                assert window is not None
                pending += window.checksums[block : block + count]
        if pending:
            parts.append(volume.read_data(pending_address, pending))
        return parts

    # ------------------------------------------------------------------ writing

    def write(
        self,
        inode: Inode,
        offset: int,
        data: bytes,
        now_ns: int,
        privileged: bool,
        stamp: bool = True,
    ) -> int:
        """Write ``data`` at ``offset``; returns its length.  Without ``stamp`` times stay.

        Nothing of it is on disk when this returns; space for it is.  Raises
        FilesystemError ENOSPC or EFBIG, before anything has changed.
        """
        size = len(data)
        if size == 0:
            return 0
        end = offset + size
        if end > FILE_BYTES_MAX:
            raise FilesystemError(errno.EFBIG)
        volume, inodes = self._volume, self._inodes
        inline = inode.inline
        if inline is not None and end <= volume.inline_bytes_max:
            self._write_inline(inode, inline, offset, data, privileged)
        else:
            self._write_blocks(inode, offset, data, privileged)
            if end > inode.size:
                inode.size = end
        if stamp:
            inode.mtime_ns = inode.ctime_ns = now_ns
        inodes.mark_dirty(inode)
        block_bytes, options, dirty = volume.block_bytes, volume.options, inode.dirty
        if dirty is not None and dirty.count * block_bytes >= options.extent_bytes_max:
            self.write_out([inode], now_ns)
        return size

    def fill(self, inode: Inode, data: bytes) -> None:
        """Give a new inode its content, for which the caller was promised space."""
        inode.size = len(data)
        if inode.size <= self._volume.inline_bytes_max:
            inode.inline = data
            self._inodes.inline_bytes += inode.size
        else:
            inode.inline = None
            end = -(-inode.size // self._volume.block_bytes)
            self._inodes.dirty_data.write(inode, 0, end, 0, data, None, None)
        self._inodes.mark_dirty(inode)

    def _write_inline(
        self,
        inode: Inode,
        inline: bytes,
        offset: int,
        data: bytes,
        privileged: bool,
    ) -> None:
        if offset + len(data) <= len(inline):
            self._admission.admit_change(1)
        else:
            self._admission.admit(1, privileged)
        if offset or len(data) < len(inline):
            after = inline[offset + len(data) :]
            data = inline[:offset].ljust(offset, b"\0") + data + after
        inode.inline = data
        inode.size = max(inode.size, len(data))
        self._inodes.inline_bytes += len(data)

    def _write_blocks(self, inode: Inode, offset: int, data: bytes, privileged: bool) -> None:
        volume, inodes = self._volume, self._inodes
        block_bytes, size = volume.block_bytes, volume.window_blocks
        first, end = offset // block_bytes, -(-(offset + len(data)) // block_bytes)
        converting = inode.inline is not None
        blocks = end - first + converting
        if inode.dirty is not None:
            blocks = _clean_count(inode, first, end) + converting
        if blocks and not self._admission.allows(blocks):
            self._admission.admit(
                blocks,
                privileged,
                lambda: Demand(
                    _clean_count(inode, first, end) + converting,
                    self._unmapped(inode, first, end) + converting,
                ),
            )
        index, last = first // size, (end - 1) // size
        mark = -1
        # Of a file without blocks there is none to be read; write-out knows (``WriteOut``).
        has_windows = inode.blocks or inode.is_cut
        if has_windows and (index != inode.read_window or index != last):
            mark = inodes.new_pins()
            self._load_windows(inode, index, last)
        if converting:
            self._leave_inline(inode)
        head_cut = offset - first * block_bytes
        tail_cut = end * block_bytes - offset - len(data)
        # What must be read may be damaged: find out before anything changes.
        single = end - first == 1
        head = self._base(inode, first) if head_cut or (tail_cut and single) else None
        tail = self._base(inode, end - 1) if tail_cut and not single else None
        try:
            inodes.dirty_data.write(inode, first, end, offset, data, head, tail)
        except BaseException as error:
            # Some of it may count as dirty, and not be there.
            self._volume.fail(error)
            raise
        if mark >= 0:
            inodes.keep_pins(mark)

    def _load_windows(self, inode: Inode, first: int, last: int) -> None:
        """Read windows ``first`` to ``last``, and keep them until their blocks are taken.

        One that can't be read fails this request, and not the commit of all files.
        What was cut off there is given up.
        """
        if inode.is_cut:
            self._removal.settle(inode, first, last)
        for index in range(first, last + 1):
            self._inodes.pin_window(inode, index)
            inode.read_window = index

    def _unmapped(self, inode: Inode, first: int, end: int) -> int:
        """Count the blocks from ``first`` to ``end`` that have no place on disk."""
        unmapped = 0
        for index, start, stop in shares(first, end, self._volume.window_blocks):
            window = self._inodes.window(inode, index)
            pieces = window.pieces(start, stop) if window else [(start, stop - start, 0)]
            unmapped += sum(count for _, count, address in pieces if address == 0)
        return unmapped

    def _base(self, inode: Inode, block: int) -> bytearray:
        """Return a block that will be partly overwritten, ready to be changed in place."""
        dirty = self._inodes.dirty_data.editable(inode, block)
        if dirty is not None:
            return dirty
        if block * self._volume.block_bytes >= inode.size:
            return bytearray()
        return bytearray(b"".join(self._read_stored(inode, block, block + 1)))

    def _leave_inline(self, inode: Inode) -> None:
        """Turn inline content into a dirty block; one block more was promised for it.

        Raises DamageError before anything has changed.
        """
        inline = inode.inline
        if inline and inode.is_cut:
            # What is cut off counts among its blocks: the commit would look for this window.
            self._inodes.pin_window(inode, 0)
        inode.inline = None
        if inline:
            self._inodes.dirty_data.put(inode, 0, bytearray(inline))

    def write_out(self, inodes: Sequence[Inode], now_ns: int) -> None:
        """Give the dirty data of files its place now, all of it together."""
        self._write_out.place_all(self._write_out.take_dirty(inodes), now_ns)

    # --------------------------------------------------------------- truncating

    def truncate(self, inode: Inode, size: int, now_ns: int, privileged: bool = False) -> None:
        """Cut or extend ``inode`` to ``size`` bytes; extending makes a hole.

        Works on a full filesystem.  Raises EFBIG, or DamageError when the block
        that is cut can't be read; then nothing has changed.
        """
        if size > FILE_BYTES_MAX:
            raise FilesystemError(errno.EFBIG)
        if size < inode.size:
            self._shrink(inode, size)
        elif size > inode.size:
            self._extend(inode, size, privileged)
        inode.mtime_ns = inode.ctime_ns = now_ns
        self._inodes.mark_dirty(inode)

    def _shrink(self, inode: Inode, size: int) -> None:
        if inode.inline is not None:
            inode.inline = inode.inline[:size]
            inode.size = size
            return
        block_bytes = self._volume.block_bytes
        kept_blocks, cut = divmod(size, block_bytes)
        # What must be read may be damaged: find out before anything changes.
        kept = self._kept_part(inode, kept_blocks, cut) if cut else None
        from_block = kept_blocks + bool(cut)
        self._removal.cut(inode, from_block, -(-inode.size // block_bytes))
        if kept is not None:
            self._inodes.dirty_data.put(inode, kept_blocks, kept)
        self._drop_dirty(inode, from_block)
        inode.version = min(inode.version + 1, VERSION_MAX)
        inode.size = size
        if size == 0:
            inode.inline = b""

    def _kept_part(self, inode: Inode, block: int, cut: int) -> bytearray | None:
        """Return the first ``cut`` bytes of ``block``; None for a hole."""
        dirty = inode.dirty.content(block) if inode.dirty else None
        if dirty is not None:
            return bytearray(dirty[:cut])
        index, offset = divmod(block, self._volume.window_blocks)
        window = self._inodes.window(inode, index)
        if window is None or not window.address(offset):
            return None
        self._inodes.pin_window(inode, index)
        return bytearray(b"".join(self._read_stored(inode, block, block + 1))[:cut])

    def _drop_dirty(self, inode: Inode, from_block: int) -> None:
        if inode.dirty:
            self._inodes.dirty_data.drop(inode, from_block)
            for index in [*inode.pinned]:
                self._inodes.unpin_window(inode, index)

    def _extend(self, inode: Inode, size: int, privileged: bool) -> None:
        self._admission.admit(1, privileged)
        inline = inode.inline
        if inline is not None:
            if size <= self._volume.inline_bytes_max:
                inode.inline = inline.ljust(size, b"\0")
                self._inodes.inline_bytes += size
            else:
                # The first window is never cut off: a cut gives it up at once.
                self._leave_inline(inode)
        inode.size = size

    def drop_dirty(self, inode: Inode) -> None:
        """Give up what has no place yet of an inode that is being removed."""
        self._drop_dirty(inode, 0)

    # ------------------------------------------------------------------ extents

    def extents(
        self, inode: Inode, first_block: int, windows_max: int | None
    ) -> list[tuple[int, int, int]]:
        """Return ``(file_block, address, count)`` of what is mapped from ``first_block`` on.

        Joined where adjacent; of no more than ``windows_max`` windows.
        """
        size = self._volume.window_blocks
        joined: list[tuple[int, int, int]] = []
        for index, window in islice(self._inodes.windows(inode, first_block // size), windows_max):
            for first, blocks, at in window.extents:
                block, address, count = index * size + first, at, blocks
                skipped = max(0, first_block - block)
                if skipped >= count:
                    continue
                block, address, count = block + skipped, address + skipped, count - skipped
                if joined:
                    last_block, last_address, last_count = joined[-1]
                    if (last_block + last_count, last_address + last_count) == (block, address):
                        joined[-1] = last_block, last_address, last_count + count
                        continue
                joined.append((block, address, count))
        return joined


def _clean_count(inode: Inode, first: int, end: int) -> int:
    """Count the blocks from ``first`` to ``end`` that are not dirty."""
    count = end - first
    if inode.dirty is None:
        return count
    return first not in inode.dirty if count == 1 else count - inode.dirty.count_in(first, count)
