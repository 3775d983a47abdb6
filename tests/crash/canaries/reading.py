"""Filesystems that believe what they read: no checksums, no chain, no end of the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lfs.commit.log_end import LogEnd
from lfs.commit.roll_forward import RollForward
from lfs.common.errors import DamageError
from lfs.ondisk import SUMMARY_COMMIT, Pointer, Summary
from lfs.ondisk import checkpoint as ondisk_checkpoint
from lfs.ondisk import summary as ondisk_summary
from lfs.ondisk import superblock as ondisk_superblock
from lfs.segments.reader import LogReader
from lfs.volume.volume import Volume
from tests.crash.canaries.canary import Canaries, Patch

READING = Canaries()

# ---------------------------------------------------------------------------- checksums


@READING.without("checksums of payload in roll-forward")
def _payload(patch: Patch) -> None:
    patch(LogReader, "payload_holds", lambda self, summary: True)


def _unsealed(raw: bytes, offset: int) -> bool:
    return True


@READING.without("checksum of the summary")
def _summary(patch: Patch) -> None:
    patch(ondisk_summary, "seal_holds", _unsealed)


@READING.without("checksum of the checkpoint region")
def _region(patch: Patch) -> None:
    patch(ondisk_checkpoint, "seal_holds", _unsealed)


@READING.without("checksum of the superblock")
def _superblock(patch: Patch) -> None:
    patch(ondisk_superblock, "seal_holds", _unsealed)


@READING.without("checksums of data")
def _data(patch: Patch) -> None:
    def read_data(self: Volume, address: int, checksums: Sequence[int]) -> bytes:
        return self.device.read(address * self.block_bytes, len(checksums) * self.block_bytes)

    patch(Volume, "read_data", read_data)


@READING.without("checksums of nodes and usage pages")
def _nodes(patch: Patch) -> None:
    def read_block(self: Volume, pointer: Pointer) -> bytes:
        return self.device.read(pointer.address * self.block_bytes, self.block_bytes)

    patch(Volume, "read_block", read_block)


# ------------------------------------------------------------------------- roll-forward


def _follow_without(patch: Patch, ignored: str) -> None:
    def follow(
        self: LogReader, address: int, sequence: int, previous_checksum: int
    ) -> Iterator[Summary]:
        while True:
            try:
                summary = self.read_summary(address)
            except DamageError:
                return
            if ignored != "sequence" and summary.sequence != sequence:
                return
            if ignored != "previous" and summary.previous_checksum != previous_checksum:
                return
            yield summary
            address, sequence = summary.next_address, summary.sequence + 1
            previous_checksum = summary.checksum

    patch(LogReader, "follow", follow)


@READING.without("sequence in the chain")
def _sequence(patch: Patch) -> None:
    _follow_without(patch, "sequence")


@READING.without("previous_checksum in the chain")
def _previous(patch: Patch) -> None:
    _follow_without(patch, "previous")


@READING.without("commit flag")
def _commit_flag(patch: Patch) -> None:
    whole = LogEnd.whole_log_writes

    def log_writes(self: LogEnd) -> list[Summary]:
        return [one.replaced(flags=one.flags | SUMMARY_COMMIT) for one in whole(self)]

    patch(LogEnd, "whole_log_writes", log_writes)


@READING.without("records before data")
def _records_first(patch: Patch) -> None:
    whole = RollForward.apply

    def apply(self: RollForward, committed: list[Summary], needed: list[Summary]) -> None:
        parts = [
            part
            for one in committed
            for part in (one.replaced(records=()), one.replaced(entries=()))
        ]
        whole(self, parts, needed)

    patch(RollForward, "apply", apply)


@READING.without("flushed_sequence tells damage from the end")
def _damage(patch: Patch) -> None:
    patch(LogEnd, "check", lambda self, *arguments: None)
