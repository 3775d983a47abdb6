"""A disk of which a read fails, once or for good, and what memory holds of a filesystem.

``BadReads`` counts reads.  The one with the number ``nth`` fails: it is answered
``EIO``, or with a flipped bit.  With ``lasting`` the place stays bad until something
is written over it, as a sector of a real disk does.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from lfs.common.errors import DeviceError
from lfs.device.base import BlockDevice, Buffer
from lfs.filesystem import Filesystem
from lfs.inodes.inode import Inode
from tests.support.state import tree_state

SECTOR_BYTES = 512
KINDS = ("unreadable", "flipped")


class BadReads(BlockDevice):
    """``inner``, of which some reads fail."""

    def __init__(self, inner: BlockDevice, kind: str = "unreadable") -> None:
        """Fail nothing before ``arm``; ``kind`` is one of ``KINDS``."""
        self.inner = inner
        self.kind = kind
        self.size_bytes, self.align_bytes = inner.size_bytes, inner.align_bytes
        self.count = 0
        self.fired = False
        self.bad_sector: int | None = None
        """Where a lasting fault is, by its number."""
        self.struck_bytes = -1
        """Where the last fault struck, if one did, and how the block there began."""
        self.struck_magic = b""
        self._call_reads_left = -1
        self._nth = 0
        self._lasting = False

    def arm(self, nth: int, lasting: bool = False) -> None:
        """Let the ``nth`` read from now on fail; 0 for none."""
        self.count, self._nth, self._lasting = 0, nth, lasting
        self.fired, self.bad_sector = False, None

    def begin_call(self, reads_max: int) -> None:
        """Let no more reads than that come before the next call of this."""
        self._call_reads_left = reads_max

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Read, or fail."""
        self.count += 1
        self._call_reads_left -= 1
        assert self._call_reads_left, "one call reads and reads"
        raw = self.inner.read(offset_bytes, length_bytes)
        first, count = offset_bytes // SECTOR_BYTES, length_bytes // SECTOR_BYTES
        bad = self.bad_sector
        if self.count == self._nth:
            # The first one of a block: what says what the block is lies there.
            bad, self.fired = first, True
            self.struck_bytes, self.struck_magic = offset_bytes, raw[:4]
            self.bad_sector = bad if self._lasting else None
        if bad is None or not first <= bad < first + count:
            return raw
        if self.kind == "unreadable":
            raise DeviceError(errno.EIO, "read failed (Input/output error)", offset_bytes)
        changed = bytearray(raw)
        changed[(bad - first) * SECTOR_BYTES + 50] ^= 1
        return bytes(changed)

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write, which makes a bad place good."""
        self.inner.write(offset_bytes, buffers)
        end = offset_bytes + sum(map(len, buffers))
        if self.bad_sector is not None and offset_bytes <= self.bad_sector * SECTOR_BYTES < end:
            self.bad_sector = None

    def flush(self) -> None:
        """Flush."""
        self.inner.flush()

    def close(self) -> None:
        """Do nothing."""


def empty_caches(filesystem: Filesystem) -> None:
    """Let everything that memory need not keep be read again."""
    imap, inodes = filesystem.core.volume.imap, filesystem.core.inodes
    for address in [*imap.nodes._nodes]:
        imap.nodes.drop(address)
    imap._near.clear()
    for ino, inode in [*inodes._inodes.items()]:
        kept = inode.open_count or inode.dirty or ino in inodes.dirty
        if not kept and ino not in inodes.orphans:
            del inodes._inodes[ino]
        inode.windows.clear()
        inode.access_list = inode.default_list = None


def dirty_blocks(inode: Inode) -> dict[int, bytes]:
    """Return the dirty blocks of a file, and what they hold."""
    dirty = inode.dirty
    if dirty is None:
        return {}
    numbers = (n for start, count in dirty.extents() for n in range(start, start + count))
    return {number: bytes(dirty.content(number) or b"") for number in numbers}


def whole_state(filesystem: Filesystem) -> dict[str, Any]:
    """Return all that memory and disk together say: contents, attributes, promises."""
    volume, inodes = filesystem.core.volume, filesystem.core.inodes
    imap = volume.imap
    return {
        "tree": tree_state(filesystem, 0),
        "inodes": {ino: inode.pack() for ino, inode in inodes.dirty.items()},
        "dirty blocks": {
            ino: dirty_blocks(inode) for ino, inode in inodes.dirty_data.owners.items()
        },
        "pinned": {
            (inode.ino, index) for inode in inodes._inodes.values() for index in inode.pinned
        },
        "pinned count": (inodes.pinned_count, inodes.pinned_bytes),
        "orphans": set(inodes.orphans),
        "changes": {key: imap.changed_value(key) for key in imap.changes},
        "to be logged": list(imap._unlogged),
        "space": filesystem.statfs(),
        "promised": filesystem.core.ledger.dirty_blocks,
        "live": volume.usage.live_total,
        "next": (volume.state.next_ino, volume.state.inode_count),
    }
