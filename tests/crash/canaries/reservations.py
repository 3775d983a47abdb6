"""Filesystems that promise space which they do not keep."""

from __future__ import annotations

from collections.abc import Callable

from lfs.alloc.admission.admission import Admission
from lfs.alloc.delayed import ledger as ledger_module
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.margins import cleaner_segments, slack_segments
from lfs.inodes.table import InodeTable
from lfs.segments.cleaning.rounds import Rounds
from lfs.volume.volume import Volume
from tests.crash.canaries.canary import Canaries, Patch

RESERVATIONS = Canaries()


@RESERVATIONS.without("reservation of dirty data")
def _dirty(patch: Patch) -> None:
    whole = Ledger._crude_blocks

    def crude_blocks(self: Ledger) -> int:
        # Write-out counts them, too: it is only not to be reckoned with them.
        return whole(self) - 2 * self._inodes.dirty_data.block_count

    patch(Ledger, "dirty_blocks", 0)
    patch(Ledger, "_crude_blocks", crude_blocks)


@RESERVATIONS.without("reservation of changed metadata")
def _metadata(patch: Patch) -> None:
    patch(Ledger, "metadata_blocks", 0)


@RESERVATIONS.without("reservation of commit and checkpoint")
def _pending(patch: Patch) -> None:
    patch(Ledger, "pending_blocks", lambda self, *moved: self.dirty_blocks)


def _promise_more(patch: Patch, more_segments: Callable[[int], int]) -> None:
    """Let user data have so many of the segments that are kept from it."""
    whole = Ledger.__init__

    def begin(self: Ledger, volume: Volume, inodes: InodeTable) -> None:
        whole(self, volume, inodes)
        more_blocks = more_segments(volume.superblock.segment_count) * self._bound.full_blocks
        self.limit_blocks += more_blocks
        self._open_limit_blocks += more_blocks

    patch(Ledger, "__init__", begin)


@RESERVATIONS.without("slack that user data may not use")
def _slack(patch: Patch) -> None:
    _promise_more(patch, slack_segments)


@RESERVATIONS.without("slack beyond the segments that only the cleaner may use")
def _slack_beyond(patch: Patch) -> None:
    _promise_more(patch, lambda count: slack_segments(count) - cleaner_segments(count))


@RESERVATIONS.without("segments that only the cleaner may use")
def _cleaner(patch: Patch) -> None:
    patch(ledger_module, "cleaner_segments", lambda segment_count: 0)


@RESERVATIONS.without("making room before a request")
def _cover(patch: Patch) -> None:
    patch(Ledger, "covers", lambda self, blocks: True)
    patch(Admission, "_pace", lambda self, blocks: None)


@RESERVATIONS.without("room for what is pending while the cleaner moves")
def _room(patch: Patch) -> None:
    patch(Rounds, "_needed_blocks", lambda self, found, more: 0)
