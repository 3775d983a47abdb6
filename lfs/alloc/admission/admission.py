"""Admission: every accepted request can be stored (P4).

Theory.  A request that takes something is held against the ledger before anything of it is
done.  When what is clean does not cover it and all that is pending, room is made first, so
that write-out never finds the disk full.  Each request begins with the crude bound: while
much of the disk is free, it says how many blocks the request may ask for, and nothing
else is computed.

Held by ``tests/alloc/delayed/test_ledger.py`` and ``tests/system/full``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

from lfs.alloc.admission.removal import Removal
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.margins import CRUDE_BLOCKS
from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import FilesystemError
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.compacting import Compactor
from lfs.segments.cleaning.moving import STEP_BLOCKS
from lfs.volume.volume import Volume

_RECLAIM_STEPS = 8
_PACE = 16
"""While clean blocks are scarce, a request moves so many for each that it takes."""


class Demand(NamedTuple):
    """What a request takes, in blocks."""

    blocks: int
    """What it makes dirty that is not."""
    new_blocks: int
    """What takes no other's place."""


class Admission:
    """Accepts or refuses requests by the space they need."""

    def __init__(
        self,
        volume: Volume,
        ledger: Ledger,
        checkpointer: Checkpointer,
        removal: Removal,
        cleaner: Cleaner,
        compactor: Compactor,
    ) -> None:
        """Guard the space that ``ledger`` counts; the others make room."""
        self._volume = volume
        self._ledger = ledger
        self._checkpointer = checkpointer
        self._removal = removal
        self._cleaner = cleaner
        self._compactor = compactor
        self._now_ns = 0
        self._allowance_blocks = 0
        """What may be accepted in this request without another look; negative for nothing."""
        self._due_blocks = 0
        """So much is to be moved by requests, and has not been."""

    def cover(self, now_ns: int) -> bool:
        """Make sure that what is pending can be written, before more comes to it.

        Every request that changes something starts with this.  One that only
        takes away goes on even if no room can be made: the slack is for that.  Returns
        whether it may; if not, so little is clean that what came to it might not be
        written, and nothing that was accepted may be put at risk.
        """
        self._now_ns = now_ns
        spare_blocks = self._ledger.crude_spare_blocks()
        if spare_blocks <= self._ledger.paced_blocks:
            self._pace(1)
            spare_blocks = self._ledger.crude_spare_blocks()
        self._allowance_blocks = spare_blocks // CRUDE_BLOCKS
        if spare_blocks > 0 or self._ledger.covers(0):
            return True
        self.make_room(0, is_urgent=False)
        if not self._ledger.has_last_room:
            self.make_room(0)
        return self._ledger.has_last_room

    def allows(self, blocks: int) -> bool:
        """Accept a request if it needs no closer look; otherwise ``admit`` takes one."""
        if blocks < self._allowance_blocks:
            self._allowance_blocks -= blocks
            return True
        return False

    def admit(
        self,
        blocks: int,
        privileged: bool = False,
        anew: Callable[[], Demand] | None = None,
    ) -> None:
        """Accept a request that will write ``blocks`` blocks.

        ``anew`` tells, when it comes to that, what it takes as things are then: a full
        filesystem can still be overwritten.  Raises FilesystemError(ENOSPC) when the
        request can't be promised.
        """
        if blocks < self._allowance_blocks:
            self._allowance_blocks -= blocks
            return
        self._allowance_blocks = 0
        self._pace(blocks)
        demand = anew or (lambda: Demand(blocks, blocks))
        if self._ledger.available_blocks(privileged) < blocks and demand().new_blocks:
            self._require(
                lambda: demand().new_blocks, lambda: self._ledger.available_blocks(privileged)
            )
        self._make_room_for(lambda: demand().blocks)

    def admit_change(self, blocks: int, is_longer: bool = False) -> None:
        """Accept a request that replaces something, such as a name, by something else.

        Unless that ``is_longer`` it takes nothing in the end, and is accepted as long as
        there is a way to make room.  What is longer takes a few bytes, for which there is
        a part of the slack; raises FilesystemError(ENOSPC) when that is used up.
        """
        if blocks < self._allowance_blocks:
            self._allowance_blocks -= blocks
            return
        self._allowance_blocks = 0
        if is_longer:
            self._require(lambda: blocks, self._ledger.change_blocks)
        elif self._ledger.change_blocks() < blocks:
            # Another place for what is as long may make the map larger, for a while.
            self._compact()
        self._make_room_for(lambda: blocks)

    def _require(self, needed: Callable[[], int], available: Callable[[], int]) -> None:
        """Raise ENOSPC unless as much is available as is needed, or is when work is done.

        Dirty data may replace other blocks, and the bound on pending metadata is
        generous: a checkpoint shows what they come to.  What was dirty may be all that
        is to be replaced.
        """
        blocks = needed()
        while available() < blocks and self._reclaim():
            pass
        if available() < blocks:
            if self._ledger.dirty_blocks or self._ledger.metadata_blocks > 1:
                self._checkpointer.checkpoint(self._now_ns)
                blocks = needed()
            # One part of the map: each costs a checkpoint, and what is missing may be much.
            if available() < blocks and not (self._compact() and available() >= blocks):
                raise FilesystemError(errno.ENOSPC)

    def _make_room_for(self, needed: Callable[[], int]) -> None:
        """Let what is clean cover what is needed; raises ENOSPC when that can't be.

        Making room writes what is dirty.  What would only have changed it takes blocks of
        its own then.
        """
        tried_blocks = -1
        while not self._ledger.covers(blocks := needed()):
            if blocks <= tried_blocks and not self._compact(thoroughly=True):
                raise FilesystemError(errno.ENOSPC)
            self.make_room(blocks)
            tried_blocks = blocks

    # ----------------------------------------------------------------- making room

    def _pace(self, blocks: int) -> None:
        """Clean a little, by what a request takes, before one has to wait for all of it.

        What waits to be given up goes first: to move it would be for nothing.
        """
        spare_blocks = -self._ledger.shortage_blocks(0)
        paced_blocks = self._ledger.paced_blocks
        if spare_blocks > paced_blocks:
            self._due_blocks = 0
            return
        # The less is left, the more: what makes room comes at the end of a round, and in segments.
        left_blocks = max(1, spare_blocks)
        pace = min(STEP_BLOCKS, _PACE * paced_blocks**2 // left_blocks**2)
        self._due_blocks += pace * blocks
        while self._due_blocks >= STEP_BLOCKS:
            self._due_blocks -= STEP_BLOCKS
            if self._removal.step(self._now_ns):
                continue
            if not self._cleaner.help(self._now_ns):
                self._due_blocks = 0
                break

    def make_room(self, blocks: int, is_urgent: bool = True) -> None:
        """Turn dead blocks into clean ones, those of what waits to be given up first.

        Unless it ``is_urgent``, only if that is likely to be worth it.
        """
        self._volume.elapsed.advance(self._now_ns)
        while self._removal.finish(self._now_ns, _RECLAIM_STEPS):
            self._volume.flush(self._checkpointer.commit(self._now_ns))
            if self._ledger.shortage_blocks(blocks) <= 0:
                return
        self._cleaner.make_room(blocks, self._now_ns, is_urgent)

    def _reclaim(self) -> bool:
        """Give up some of what waits for that; returns whether there was any.

        After that, see whether what could not be read can be now.
        """
        self._volume.elapsed.advance(self._now_ns)
        done = self._removal.finish(self._now_ns, _RECLAIM_STEPS)
        if done and not self._ledger.is_covered:
            self.make_room(0)
        return done or self._cleaner.try_again(self._now_ns)

    def _compact(self, thoroughly: bool = False) -> bool:
        """Make nodes fewer; returns whether that could be done.

        What is refused otherwise can be asked for again, and then another part of the map
        is looked through.  ``thoroughly`` goes through all of it.
        """
        while True:
            compacted = self._compactor.compact(self._now_ns)
            if compacted is None:
                self.make_room(0)
                compacted = self._compactor.compact(self._now_ns)
            if compacted is not False or not thoroughly or self._compactor.is_done:
                return bool(compacted)
