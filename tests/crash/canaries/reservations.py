"""Filesystems that promise space which they do not keep."""

from __future__ import annotations

from lfs.alloc import margins as margins_module
from lfs.alloc.delayed import ledger as ledger_module
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.dirty import DirtyData
from lfs.alloc.margins import cleaner_segments
from lfs.segments.cleaning.rounds import Rounds
from tests.crash.canaries.canary import Canaries, Patch

RESERVATIONS = Canaries()


@RESERVATIONS.without("reservation of dirty data")
def _dirty(patch: Patch) -> None:
    patch(DirtyData, "block_count", 0)


@RESERVATIONS.without("reservation of changed metadata")
def _metadata(patch: Patch) -> None:
    patch(Ledger, "metadata_blocks", 0)


@RESERVATIONS.without("reservation of commit and checkpoint")
def _pending(patch: Patch) -> None:
    patch(Ledger, "pending_blocks", lambda self, *moved: self.dirty_blocks)


@RESERVATIONS.without("slack that user data may not use")
def _slack(patch: Patch) -> None:
    patch(margins_module, "slack_segments", lambda segment_count: 0)
    patch(ledger_module, "slack_segments", lambda segment_count: 0)


@RESERVATIONS.without("slack beyond the segments that only the cleaner may use")
def _slack_beyond(patch: Patch) -> None:
    patch(ledger_module, "slack_segments", cleaner_segments)


@RESERVATIONS.without("segments that only the cleaner may use")
def _cleaner(patch: Patch) -> None:
    patch(ledger_module, "cleaner_segments", lambda segment_count: 0)


@RESERVATIONS.without("making room before a request")
def _cover(patch: Patch) -> None:
    patch(Ledger, "covers", lambda self, blocks: True)


@RESERVATIONS.without("room for what is pending while the cleaner moves")
def _room(patch: Patch) -> None:
    patch(Rounds, "_have_room", lambda self, found, more: True)
