"""Where the log ends after a checkpoint, and whether it ended there by itself.

Theory.  The log ends at the first log write that does not hold.  A power cut leaves that,
and so does damage.  If the chain ends at sequence number ``s`` and any later log write, or a
newer checkpoint that can't be used, says that ``s`` had been flushed, then it did not end
there, and it is damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest
from itertools import islice

from lfs.common.errors import DamageError, FilesystemError, LogDamageError
from lfs.ondisk import Checkpoint, Summary
from lfs.volume.volume import Volume

_DAMAGE_SCAN = 4096
"""How many places may be looked at for a later log write when the log has ended."""
_CLEAN_SCAN = 256
_OPEN_RUNS_MAX = 16


class LogEnd:
    """The log after one checkpoint of a volume."""

    def __init__(self, volume: Volume, checkpoint: Checkpoint, newer: Checkpoint | None) -> None:
        """Look at what follows ``checkpoint``; ``newer`` is one that could not be used."""
        self._volume = volume
        self._checkpoint = checkpoint
        self._newer = newer

    def whole_log_writes(self) -> list[Summary]:
        """Return the log writes after the checkpoint, up to the first that is not whole."""
        volume, checkpoint = self._volume, self._checkpoint
        chain = list(
            volume.reader.follow(
                checkpoint.next_address, checkpoint.next_sequence, checkpoint.previous_checksum
            )
        )
        flushed = max((summary.flushed_sequence for summary in chain), default=0)
        newer = self._newer
        for summary in chain:
            here = summary.sequence + 1, summary.checksum
            if newer and here == (newer.next_sequence, newer.previous_checksum):
                # A checkpoint is only written once the log up to it has been flushed.
                flushed = max(flushed, summary.sequence)
        for index, summary in enumerate(chain):
            if summary.sequence > flushed and not volume.reader.payload_holds(summary):
                return chain[:index]
        return chain

    def check(self, chain: list[Summary], sequence: int, end_address: int, was_clean: bool) -> None:
        """Raise LogDamageError when what is later says that ``sequence`` was flushed."""
        newer = self._newer
        if newer is not None and sequence < newer.next_sequence:
            raise LogDamageError(
                f"the log is damaged at block {end_address}: log write {sequence} was flushed "
                f"but can't be read (checkpoint {newer.number} says so)"
            )
        for summary in self._later_log_writes(chain, sequence, end_address, was_clean):
            if summary.sequence > sequence and summary.flushed_sequence >= sequence:
                raise LogDamageError(
                    f"the log is damaged at block {end_address}: log write {sequence} was flushed "
                    f"but can't be read (log write {summary.sequence} at block {summary.address} "
                    "says so)"
                )

    def report(self, sequence: int, end_address: int) -> None:
        """Report a log write that is not whole: a power cut leaves such, and a bad sector.

        Which of the two it was nothing can tell, as long as no later one had known it to
        be flushed.
        """
        why = self._volume.reader.torn(end_address, sequence)
        if why:
            self._volume.report(f"the log ends with what is not whole: {why}")

    def _later_log_writes(
        self, chain: list[Summary], sequence: int, end_address: int, was_clean: bool
    ) -> Iterator[Summary]:
        """Yield log writes that may be later than the chain's end.

        They are in the rest of the run where it ends, in a run that was open by
        then, or in a new one.  Of those, runs that the checkpoint lists as clean or
        empty come first, because most new ones begin there.
        """
        usage = self._volume.usage
        segment = usage.segment_of(end_address)
        if 0 <= segment < usage.segment_count:
            run = usage.run_of(end_address)
            end = usage.address_of(segment + 1)
            if run >= 0:
                end = usage.address_of(run) + usage.run_blocks(run)
            for address in self._volume.reader.possible_summaries(end_address + 1, end):
                yield from self._rest_of_run(address, sequence)
        for address in {one.run_address: one.run_next_address for one in chain}.values():
            yield from self._rest_of_run(address, sequence)
        if not self._checkpoint.clean:
            for address in self._places_in_youngest_runs():
                yield from self._rest_of_run(address, sequence)
        place_count = _CLEAN_SCAN if was_clean else _DAMAGE_SCAN
        for address in islice(self._first_blocks(), place_count):
            yield from self._rest_of_run(address, sequence)

    def _first_blocks(self) -> Iterator[int]:
        """Yield the first block of each segment, those in runs without live blocks first."""
        usage = self._volume.usage
        for wanted in (False, True):
            for segment in range(usage.segment_count):
                address = usage.address_of(segment)
                if usage.has_live(address) is wanted:
                    yield address

    def _places_in_youngest_runs(self) -> Iterator[int]:
        """Yield where the runs that were written last before the checkpoint may go on.

        Those that were open by then are among them.
        """
        usage = self._volume.usage
        for run in nlargest(_OPEN_RUNS_MAX, usage.runs(), key=usage.last_sequence):
            place = 0
            try:
                for summary in self._volume.reader.walk_run(
                    usage.address_of(run), usage.last_sequence(run)
                ):
                    place = summary.run_next_address
            except (DamageError, FilesystemError):
                continue
            yield place

    def _rest_of_run(self, address: int, sequence: int) -> Iterator[Summary]:
        """Yield the log writes of one run from ``address`` on that are above ``sequence``."""
        while True:
            try:
                summary = self._volume.reader.read_summary(address)
            except (DamageError, FilesystemError):
                return
            if summary.sequence <= sequence:
                return
            yield summary
            sequence, address = summary.sequence, summary.run_next_address
