"""Commits: all of memory, as of one moment, into the log.

Theory.  A commit is a row of log writes, the last of which has the commit flag.
Until that one is whole on disk, none of it counts (FORMAT.md, "Commit and
roll-forward"); so the tree after a crash is the tree at the last commit that
reached the disk (P1).  Committing takes no flush; whoever promised durability
flushes the device afterwards (P2).

A small commit, the usual ``fsync``, is a single log write: the inode and the
names among its records, the data in its payload, the extents told by its entries.

Where the log is broken (``lfs.segments.writer``), a commit is no commit: nothing
leads to it.  Then a checkpoint takes its place (``Checkpointer.commit``) before anybody
is told that it lasts.
"""

from __future__ import annotations

from collections.abc import Iterator

from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.write_out import UnplacedExtent, WriteOut
from lfs.inodes.table import InodeTable
from lfs.ondisk import HEAD_MAIN, RECORD_OVERHEAD_BYTES, SUMMARY_COMMIT, Change
from lfs.segments.placement import BULK_BLOCKS
from lfs.volume.volume import Volume

_TOGETHER_BLOCKS_MAX = 256
_PARTS_SHARE = 8
"""A part has at least one in so many of its blocks from what is dirty."""


class Committer:
    """Writes commits."""

    def __init__(
        self, volume: Volume, inodes: InodeTable, ledger: Ledger, write_out: WriteOut
    ) -> None:
        """Commit what the parts of one volume hold in memory."""
        self._volume = volume
        self._inodes = inodes
        self._ledger = ledger
        self._write_out = write_out
        superblock = volume.superblock
        # One log write has to fit into one segment, whatever else is in use.
        self._room_blocks = min(_TOGETHER_BLOCKS_MAX, superblock.segment_blocks // 2)
        self._record_room_bytes = self._room_blocks // 4 * superblock.block_bytes

    @property
    def has_unlogged(self) -> bool:
        """Tell whether memory holds anything that no commit has logged."""
        inodes = self._inodes
        return bool(inodes.dirty or inodes.dirty_data.owners or self._volume.imap.unlogged_count)

    def write_ahead(self, now_ns: int) -> Iterator[None]:
        """Write in parts what is dirty now, ahead of ``log``; yields after each.

        With what goes along, a part may have few of the dirty blocks; and more come meanwhile.
        """
        for _ in range(_PARTS_SHARE * self._ledger.dirty_blocks // self._write_out.part_blocks):
            if not self._write_out.place_ahead(now_ns):
                return
            yield

    def log(self, now_ns: int, flags: int = 0) -> None:
        """Write a commit.

        Raises DeviceError; then the last one counts, and the volume has failed, as
        it has after any other exception.
        """
        volume = self._volume
        self._write_out.end_hurry()
        if not self.has_unlogged:
            return
        try:
            extents = self._write_out.take_dirty([*self._inodes.dirty_data.owners.values()])
            counts = [extent.count for extent in extents]
            blocks = sum(counts)
            record_bytes = self._inodes.dirty_record_bytes() + volume.imap.unlogged_bytes
            is_large = blocks >= BULK_BLOCKS and max(counts) >= BULK_BLOCKS
            has_room = blocks <= self._room_blocks and record_bytes <= self._record_room_bytes
            if has_room and not is_large:
                self._commit_together(extents, blocks, record_bytes, now_ns, flags)
            else:
                self._write_out.place_all(extents, now_ns, flags)
                self._inodes.log_dirty()
                record_bytes = volume.imap.unlogged_bytes
                self._log_records(volume.imap.take_unlogged(), record_bytes, now_ns, flags)
        except BaseException as error:
            volume.fail(error)
            raise
        if volume.usage.has_emptied:
            volume.usage.note_commit(volume.log.written_sequence, volume.log.open_runs())

    def _commit_together(
        self, extents: list[UnplacedExtent], blocks: int, record_bytes: int, now_ns: int, flags: int
    ) -> None:
        """Write data and records as one log write."""
        volume = self._volume
        placement = volume.reserve(HEAD_MAIN, blocks, record_bytes, len(extents))
        # Windows go as they were before this payload: its entries tell the rest.
        records = volume.imap.take_unlogged()
        entries, buffers = self._write_out.map(extents, placement)
        self._inodes.log_dirty()
        records += volume.imap.take_unlogged()
        if not volume.emit(placement, entries, buffers, records, flags | SUMMARY_COMMIT, now_ns):
            # The data needs another place; the rest is for the checkpoint that must follow.
            self._write_out.place_all(extents, now_ns, flags)
            self._inodes.log_dirty()
            volume.imap.take_unlogged()
        else:
            self._ledger.written(blocks)

    def _log_records(
        self, records: list[Change], record_bytes: int, now_ns: int, flags: int
    ) -> None:
        """Write records in as many log writes as it takes; the last one commits."""
        volume = self._volume
        position = 0
        record_blocks = record_bytes // volume.block_bytes + 1
        self._ledger.take_in_hand(record_blocks)
        while True:
            room_bytes = volume.log.record_bytes_max(HEAD_MAIN)
            batch: list[Change] = []
            used_bytes = 0
            while position < len(records):
                length = RECORD_OVERHEAD_BYTES + len(records[position][1] or b"")
                if used_bytes + length > room_bytes:
                    break
                batch.append(records[position])
                used_bytes += length
                position += 1
            done = position == len(records)
            placement = volume.reserve(HEAD_MAIN, 0, used_bytes, 0)
            last = SUMMARY_COMMIT if done else 0
            volume.emit(placement, (), (), batch, flags | last, now_ns)
            if done:
                break
        self._ledger.written(record_blocks)
