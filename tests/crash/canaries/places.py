"""Filesystems that write over what is still needed, or move what is no longer there."""

from __future__ import annotations

from lfs.alloc.delayed.write_out import UnplacedExtent
from lfs.commit.commit import Committer
from lfs.segments.cleaning.moving import Failure, Mover, Piece
from lfs.segments.usage import UsageTable
from lfs.volume.volume import Volume
from tests.crash.canaries.canary import Canaries, Patch

PLACES = Canaries()

# ------------------------------------------------------------------------------- moving


@PLACES.without("moving only what is still in its place")
def _still_there(patch: Patch) -> None:
    def load(self: Mover, pieces: list[Piece], failures: list[Failure]) -> list[UnplacedExtent]:
        volume = self._volume
        extents = []
        for ino, first, address, count in pieces:
            inode = self._inodes.find(ino)
            if inode is not None:
                size = volume.block_bytes
                raw = volume.device.read(address * size, count * size)
                extents.append(UnplacedExtent(inode, first, count, [raw]))
        return extents

    patch(Mover, "load", load)


# -------------------------------------------------------------------------------- reuse


@PLACES.without("reuse only after a flush")
def _reuse_unflushed(patch: Patch) -> None:
    whole = Committer.log

    def log(self: Committer, now_ns: int, flags: int = 0) -> None:
        whole(self, now_ns, flags)
        volume = self._volume
        ticket = volume.log.written_sequence
        volume.usage.release(ticket, volume.state.sequences[0], volume.state.checkpoint_number)

    patch(Committer, "log", log)


@PLACES.without("reuse only of what is empty in a commit")
def _reuse_uncommitted(patch: Patch) -> None:
    whole = Volume.flushed

    def flushed(self: Volume, sequence: int) -> None:
        self.usage.note_commit(sequence, self.log.open_runs())
        whole(self, sequence)

    patch(Volume, "flushed", flushed)


@PLACES.without("reuse only of log writes before the older checkpoint")
def _reuse_log(patch: Patch) -> None:
    whole = UsageTable.release

    def release(self: UsageTable, flushed: int, log_start: int, number: int) -> None:
        whole(self, flushed, 1 << 62, number)

    patch(UsageTable, "release", release)


@PLACES.without("reuse only of metadata that no checkpoint needs")
def _reuse_metadata(patch: Patch) -> None:
    whole = UsageTable.release

    def release(self: UsageTable, flushed: int, log_start: int, number: int) -> None:
        whole(self, flushed, log_start, 1 << 62)

    patch(UsageTable, "release", release)
