"""Moving live data: reading it, verified, and writing it to another place.

The cleaner moves what keeps a run from being free, the defragmenter what is
scattered.  Neither changes what a file holds: a log write names the same owners,
blocks and checksums, and after a crash it counts only if a commit followed it.

Who moves looked up earlier where a piece was, and requests came between: every
piece is moved only as far as its file still has it there.  A block that can't be
verified stays where it is, under the checksum that convicts it.

Held by ``tests/segments/cleaning/test_cleaner.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from lfs.alloc.delayed.write_out import UnplacedExtent, WriteOut
from lfs.common.errors import DamageError, FilesystemError
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.inodes.window import shares
from lfs.ondisk import SUMMARY_CLEANER
from lfs.volume.volume import Volume

STEP_BLOCKS = 256
"""So much the cleaner moves at once, so that no request waits long."""

Piece = tuple[int, int, int, int]
"""What is to be moved of one extent: inode number, file block, address, count."""

Failure = tuple[int, Exception]
"""An inode number, and why a part of it could not be read."""


class Mover:
    """Moves data of one volume."""

    def __init__(self, volume: Volume, inodes: InodeTable, write_out: WriteOut) -> None:
        """Move by way of ``write_out``."""
        self._volume = volume
        self._inodes = inodes
        self._write_out = write_out

    def load(self, pieces: list[Piece], failures: list[Failure]) -> list[UnplacedExtent]:
        """Read what is still live of ``pieces``; what can't be read goes to ``failures``."""
        extents: list[UnplacedExtent] = []
        for ino, first, address, count in pieces:
            try:
                inode = self._inodes.find(ino)
                if inode is not None:
                    extents += self._load(inode, first, address, count, failures)
            except DamageError as error:
                failures.append((ino, error))
        return extents

    def _load(
        self, inode: Inode, first: int, address: int, count: int, failures: list[Failure]
    ) -> Iterator[UnplacedExtent]:
        """Read what ``inode`` still has at ``address`` of blocks ``first`` to ``first + count``."""
        size = self._volume.window_blocks
        base = address - first
        for index, start, stop in shares(first, first + count, size):
            window = self._inodes.window(inode, index)
            if window is None:
                continue
            for block, blocks, at in window.pieces(start, stop):
                if at == 0 or at - (index * size + block) != base:
                    continue
                try:
                    raw = self._volume.read_data(at, window.checksums[block : block + blocks])
                except (DamageError, FilesystemError) as error:
                    failures.append((inode.ino, error))
                    continue
                self._inodes.pin_window(inode, index)
                yield UnplacedExtent(inode, index * size + block, blocks, [raw])

    def check(self, pieces: list[Piece]) -> None:
        """Read what is still live of ``pieces``; raises what keeps one from being read."""
        failures: list[Failure] = []
        for piece in pieces:
            self.drop(self.load([piece], failures))
            if failures:
                raise failures[0][1]

    def drop(self, extents: list[UnplacedExtent]) -> None:
        """Let go of what was loaded and stays where it is."""
        size = self._volume.window_blocks
        for extent in extents:
            self._inodes.unpin_window(extent.inode, extent.first // size)

    def place(self, extents: list[UnplacedExtent], head: int, now_ns: int) -> int:
        """Write what was loaded to log head ``head``; returns how many blocks that were."""
        extents = _joined(extents)
        self._write_out.place(extents, head, now_ns, SUMMARY_CLEANER)
        return sum(extent.count for extent in extents)


def batches(pieces: list[Piece], step_blocks: int) -> Iterator[list[Piece]]:
    """Cut pieces into what is moved in one step, about ``step_blocks``."""
    batch: list[Piece] = []
    blocks = 0
    for piece in pieces:
        batch.append(piece)
        blocks += piece[3]
        if blocks >= step_blocks:
            yield batch
            batch, blocks = [], 0
    if batch:
        yield batch


def _joined(extents: list[UnplacedExtent]) -> list[UnplacedExtent]:
    """Join extents that follow each other in the same file."""
    joined: list[UnplacedExtent] = []
    for extent in extents:
        last = joined[-1] if joined else None
        follows = (
            last is not None
            and last.inode is extent.inode
            and last.first + last.count == extent.first
        )
        if follows and last is not None:
            last.count += extent.count
            last.buffers += extent.buffers
        else:
            joined.append(extent)
    return joined
