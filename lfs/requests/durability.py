"""Space, and what is left after a crash: commits, checkpoints, and the flushes they need.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lfs.alloc.delayed.ledger import Space
from lfs.common.errors import FilesystemError
from lfs.common.turns import Flush
from lfs.ondisk import TIME_NS_MAX, TIME_NS_MIN
from lfs.requests.core import Core
from lfs.volume.arguments import check_number, check_time


class DurabilityRequests:
    """Space, and what a crash leaves."""

    core: Core

    @property
    def write_bytes_max(self) -> int:
        """Return how much one request may write and be sure of room where it overwrites."""
        return self.core.ledger.write_bytes_max

    def statfs(self) -> Space:
        """Return total, free and available blocks, and the number of inodes."""
        return self.core.ledger.statistics()

    @property
    def dirty(self) -> bool:
        """Tell whether there is anything that no commit has logged."""
        return self.core.checkpointer.dirty and not self.core.read_only

    def write_ahead(self, now_ns: int) -> bool:
        """Write a bounded part of much dirty data out, ahead of ``begin_commit``.

        Returns whether there was more than that, and this should be called again: a commit
        takes as long as what it finds is much.  Nothing is durable by it.  Raises
        DeviceError.
        """
        check_time(now_ns)
        core = self.core
        return not core.read_only and core.maintenance.write_ahead(now_ns)

    def begin_commit(self, now_ns: int) -> int:
        """Log everything up to now; returns a ticket for ``finish_commit``.

        It lasts once the device has been flushed after this.  Where the log could not
        be written in its place, everything is durable already.  Raises DeviceError.
        """
        core = self.core
        volume = core.volume
        if volume.failed:
            raise FilesystemError(errno.EIO, "the log could not be written")
        if type(now_ns) is not int or not TIME_NS_MIN <= now_ns <= TIME_NS_MAX:
            check_time(now_ns)
        core.now_ns = max(core.now_ns, now_ns)
        if volume.read_only:
            return volume.log.written_sequence
        volume.elapsed.advance(now_ns)
        core.maintenance.note_commit()
        return core.checkpointer.commit(now_ns)

    def finish_commit(self, ticket: int) -> None:
        """Note that the device was flushed after ``begin_commit`` returned ``ticket``."""
        check_number("ticket", ticket, 0, self.core.volume.log.written_sequence)
        self.core.volume.flushed(ticket)

    def fail(self, error: Exception) -> None:
        """Write nothing any more: a flush failed, or memory can't be trusted."""
        self.core.volume.fail(error)

    def sync(self, now_ns: int) -> None:
        """Make everything up to now durable; raises DeviceError when that fails."""
        ticket = self.begin_commit(now_ns)
        if ticket > self.core.volume.log.flushed_sequence:
            self.core.volume.flush(ticket)

    def checkpoint(self, now_ns: int) -> None:
        """Write a checkpoint: everything is durable, and a mount has no log to replay."""
        check_time(now_ns)
        self.core.volume.check_writable()
        self.core.checkpointer.checkpoint(now_ns)

    def checkpoint_steps(self, now_ns: int) -> Iterator[Flush | None]:
        """Do what ``checkpoint`` does in bounded steps; flushes are yielded (``begin_tick``)."""
        check_time(now_ns)
        self.core.volume.check_writable()
        return self.core.checkpointer.steps(now_ns)
