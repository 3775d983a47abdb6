"""Background work, and the bounds that requests themselves keep.

Nothing here runs by itself: a front end calls ``tick``.  The bounds hold without
it, so that a program that never ticks can neither fill memory nor make its next
mount slow.

Held by ``tests/common/test_turns.py``.
"""

from __future__ import annotations

from lfs.alloc.admission.admission import Admission
from lfs.alloc.admission.removal import Removal
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.scattered import Search
from lfs.alloc.delayed.write_out import WriteOut
from lfs.commit.checkpoint import Checkpointer
from lfs.common.turns import Turn
from lfs.imap.map import CHANGE_MEMORY_BYTES
from lfs.inodes.table import InodeTable
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.defragment import Defragmenter
from lfs.volume.volume import Volume

_CHANGES_IDLE = 8192
_CHANGES_SOFT = 32768
_CHANGES_HELPING = 73728
"""From so many on, and from as large a part of the other bounds, requests help to keep them."""
_CHANGES_MAX = 98304
_CHECKPOINT_LOG_BYTES = 256 << 20
_UNLOGGED_BYTES_MAX = 4 << 20


class Maintenance:
    """Decides when to commit, to checkpoint, to clean and to defragment."""

    def __init__(
        self,
        volume: Volume,
        inodes: InodeTable,
        ledger: Ledger,
        admission: Admission,
        checkpointer: Checkpointer,
        cleaner: Cleaner,
        defragmenter: Defragmenter,
        removal: Removal,
        write_out: WriteOut,
    ) -> None:
        """Look after one volume."""
        self._search = Search(volume, write_out.scattered)
        self._volume = volume
        self._write_out = write_out
        self._inodes = inodes
        self._ledger = ledger
        self._admission = admission
        self._checkpointer = checkpointer
        self._cleaner = cleaner
        self._defragmenter = defragmenter
        self._removal = removal
        self._changes_bytes_max = volume.options.cache_bytes // 2
        self._changes_bytes_helping = 3 * self._changes_bytes_max // 4
        self._commit_ns = 0
        superblock = volume.superblock
        log_blocks = superblock.segment_count * superblock.segment_blocks // 8
        self._log_blocks_max = min(
            _CHECKPOINT_LOG_BYTES // volume.block_bytes, max(256, log_blocks)
        )
        self._log_blocks_helping = 2 * self._log_blocks_max

    def note_commit(self) -> None:
        """Begin the commit interval."""
        self._commit_ns = self._volume.elapsed.ns

    def write_ahead(self, now_ns: int) -> bool:
        """Write a part of the dirty data out, if there is more than that; tell whether there was.

        Until the commit that follows, requests do so too: who writes all the time does not
        keep it waiting.
        """
        if not self._write_out.place_ahead(now_ns):
            return False
        self._write_out.hurry()
        return True

    def commit_due(self) -> bool:
        """Tell whether the commit interval has passed with something to commit."""
        since_ns = self._volume.elapsed.ns - self._commit_ns
        return self._checkpointer.dirty and since_ns >= self._volume.options.commit_interval_ns

    def step(self, now_ns: int, idle: bool) -> Turn:
        """Checkpoint if the log or the time since the last one is long; else remove or clean.

        First of all, what the cleaner waits for is flushed.
        What waits to be given up goes before cleaning.  Cleans when ``idle``, when clean
        segments are scarce, or to finish what was begun; puts scattered files together
        when ``idle``.  Raises DeviceError.
        """
        if self._cleaner.is_waiting:
            return self._cleaner.step(now_ns)
        if self._checkpointer.busy or self._checkpoint_due(idle):
            return self._checkpointer.step(now_ns)
        if self._removal.is_waiting and self._admission.cover(now_ns):
            return Turn(self._removal.step(now_ns))
        if self._cleaner.busy or self._ledger.is_scarce:
            turn = self._cleaner.step(now_ns)
            if turn.more:
                return turn
        return self._idle_step(now_ns) if idle else Turn(more=False)

    def _idle_step(self, now_ns: int) -> Turn:
        """Put scattered files together, else clean, else look for more of such files.

        In that order: what is put in order leaves less to be moved by the cleaner.
        """
        turn = self._defragmenter.step(now_ns)
        if not turn.more:
            turn = self._cleaner.step(now_ns)
        if not turn.more:
            self._search.step()
        return turn

    def _checkpoint_due(self, idle: bool) -> bool:
        volume = self._volume
        if volume.log.is_broken:
            return True
        if volume.log.blocks_since_checkpoint == 0:
            return False
        changed = len(volume.imap.changes) > (_CHANGES_IDLE if idle else _CHANGES_SOFT)
        changed |= volume.imap.memory_bytes > self._changes_bytes_max // 2
        long = volume.log.blocks_since_checkpoint > self._log_blocks_max
        since_ns = volume.elapsed.ns - self._checkpointer.elapsed_ns
        return changed or long or since_ns >= volume.options.checkpoint_interval_ns

    def _shorten_log(self, now_ns: int) -> None:
        """Do a step of a checkpoint, or all of it where a bound has been reached.

        Once its nodes are written the rest follows at once: until then a crash leaves less
        room to the next mount.
        """
        volume = self._volume
        if volume.log.is_broken:
            self._checkpointer.checkpoint(now_ns)
            return
        is_urgent = (
            len(volume.imap.changes) > _CHANGES_MAX
            or volume.imap.memory_bytes > self._changes_bytes_max
            or volume.log.blocks_since_checkpoint > 3 * self._log_blocks_max
        )
        is_over = False
        while not is_over:
            turn = self._checkpointer.step(now_ns)
            if turn.flush is not None:
                volume.await_flush(turn.flush)
            is_over = not self._checkpointer.busy or not (is_urgent or turn.flush)

    def keep_bounds(self, now_ns: int) -> None:
        """Checkpoint or commit when a request has left too much to replay or in memory.

        Each request that finds too much does one step of a checkpoint, which is more than
        it adds; all of it only where that is not so.  A log that is found broken is mended
        too: no commit counts before that.
        """
        volume, inodes = self._volume, self._inodes
        log, imap = volume.log, volume.imap
        changes = len(imap.changes)
        if (
            log.is_broken
            or changes > _CHANGES_HELPING
            # ``memory_bytes``, without a call in each request.
            or imap.changed_bytes + CHANGE_MEMORY_BYTES * changes > self._changes_bytes_helping
            or log.blocks_since_checkpoint > self._log_blocks_helping
        ):
            self._shorten_log(now_ns)
            return
        if (
            len(inodes.dirty) > inodes.dirty_count_max
            or imap.unlogged_bytes + inodes.inline_bytes > _UNLOGGED_BYTES_MAX
        ) and not self.write_ahead(now_ns):
            self._checkpointer.commit(now_ns)
