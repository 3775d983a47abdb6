"""Mounting: superblock, checkpoint, usage table, roll-forward.

Theory.  The newer valid checkpoint gives a complete tree, and so does the older
one, which serves when a block that the newer needs is damaged.  Every whole commit
in the log after it is applied in order, by putting its records where the
operations had put them: over the tree, in memory.  The windows of the data it
wrote follow from the entries of its log writes.  Windows that changed move live
blocks from one run to another in the usage table.

The log ends at the first log write that does not hold, or at the last commit
before it.  What roll-forward needed is left untouched until the first checkpoint
after recovery is durable, so that a crash during recovery changes nothing: until
then the log goes on in other segments, outside the old chain.  What lies beyond it
counts for nothing and its segments are clean again: a checkpoint that a crash cut
short on a full disk leaves no room for another one elsewhere.

Damage.  A block that can't be read counts as damaged.  If the chain ends at
sequence number ``s`` and any later log write, or a newer checkpoint that can't be used,
says that ``s`` had been flushed, then it did not end there, and it is damage too.  At
first none is tolerated: the other checkpoint may lead around it.  If it doesn't, the
volume fails with the reason, and what can be had of it is served read-only: the tree up
to where the log is damaged; all segments as if in use where a usage page is lost;
everything but what is in a lost node.  A single wrong answer of the device is no damage:
what matters is read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nlargest
from itertools import islice

from lfs.commit.superblocks import read_superblock as read_superblock
from lfs.commit.superblocks import require_writable as require_writable
from lfs.common.errors import DamageError, FilesystemError, LogDamageError
from lfs.device.base import BlockDevice
from lfs.inodes.volume import Volume
from lfs.inodes.window import Window, shares, window_key
from lfs.ondisk import (
    BLOCK_DATA,
    CHECKPOINT_REGION_BYTES,
    INO_MAX,
    KIND_INODE,
    KIND_WINDOW,
    NO_BLOCK,
    SEQUENCE_MAX,
    SUMMARY_COMMIT,
    Checkpoint,
    Summary,
    Superblock,
    UsagePage,
    unpack_key,
    unpack_usage_page,
)
from lfs.segments.placement import Head

# How many places may be looked at for a later log write when the log has ended.
_DAMAGE_SCAN = 4096
_CLEAN_SCAN = 256
_OPEN_RUNS_MAX = 16


def read_checkpoints(device: BlockDevice, superblock: Superblock) -> list[Checkpoint]:
    """Return the valid checkpoints, newest first."""
    found: list[Checkpoint] = []
    for offset in superblock.checkpoint_offset_bytes:
        try:
            raw = device.read(offset, CHECKPOINT_REGION_BYTES)
            found.append(Checkpoint.unpack(raw, superblock.filesystem_id, offset))
        except (DamageError, FilesystemError):
            continue
    return sorted(found, key=lambda checkpoint: -checkpoint.number)


class Recovery:
    """Brings a volume to the last state that was committed."""

    def __init__(
        self, volume: Volume, tolerant: bool = False, newer: Checkpoint | None = None
    ) -> None:
        """Recover ``volume``, which was just opened.

        With ``tolerant`` damage makes the volume fail (it is read-only then) instead
        of raising DamageError, unless nothing can be had.  ``newer`` is a newer checkpoint
        that could not be used: its nodes are kept all the same, because it may be
        readable the next time.
        """
        self._volume = volume
        self._tolerant = tolerant
        self._newer = newer
        self.commit_count = 0
        self.was_clean = False
        """Whether the last mount ended with everything in its last checkpoint."""
        self.needs_checkpoint = False

    def run(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Load the first of ``checkpoints``, newest first, and roll forward.

        Raises LogDamageError when the log is damaged, DamageError when a block that
        it needs is or when the checkpoint does not fit; when damage is tolerated, only
        when the root can't be read or the checkpoint does not fit.
        """
        volume = self._volume
        checkpoint = checkpoints[0]
        _check_numbers(checkpoint)
        volume.checkpoint_number = checkpoint.number
        volume.checkpoint_sequences = (checkpoints[-1].next_sequence, checkpoint.next_sequence)
        volume.next_ino = checkpoint.next_ino
        volume.inode_count = checkpoint.inode_count
        self._load_usage(checkpoint, checkpoints[1:])
        volume.imap.adopt(
            checkpoint.imap_root,
            checkpoint.imap_root_level,
            checkpoint.node_count,
            checkpoint.next_ino,
        )
        if checkpoint.imap_root != NO_BLOCK:
            # Found now rather than at the first request: an older checkpoint may still do.
            volume.imap.load(checkpoint.imap_root, checkpoint.imap_root_level)
        if not volume.options.roll_forward:
            volume.log.start(checkpoint.next_sequence, 0, 0)
            volume.usage.finish_loading(())
            return
        self._roll_forward(checkpoint)

    def _load_usage(self, checkpoint: Checkpoint, older: Sequence[Checkpoint]) -> None:
        volume = self._volume
        if len(checkpoint.usage_pages) != volume.usage.page_count:
            raise DamageError("the checkpoint does not fit the superblock")
        try:
            self._load_pages(checkpoint, older)
        except DamageError as error:
            self._tolerate(error)
            volume.usage.lose(checkpoint.live_block_count)

    def _load_pages(self, checkpoint: Checkpoint, older: Sequence[Checkpoint]) -> None:
        volume = self._volume
        usage = volume.usage
        pages: list[tuple[int, UsagePage]] = []
        for index, pointer in enumerate(checkpoint.usage_pages):
            if pointer == NO_BLOCK:
                continue
            raw = volume.read_block(pointer)
            page = unpack_usage_page(raw, index, volume.filesystem_id, pointer.address)
            usage.load_page(index, page.entries, checkpoint.number)
            volume.usage_pages[index] = pointer
            pages.append((pointer.address, page._replace(entries=())))
        usage.dirty_pages.clear()
        for address, page in pages:
            usage.load_place(address, page)
        for pointer in older[0].usage_pages if older else ():
            usage.keep_older_page(pointer.address, checkpoint.number + 1)

    def _tolerate(self, error: DamageError) -> None:
        """Go on read-only after ``error``, or raise it."""
        if not self._tolerant:
            raise error
        self._volume.fail(error)

    # ------------------------------------------------------------- roll-forward

    def _roll_forward(self, checkpoint: Checkpoint) -> None:
        volume = self._volume
        chain = self._whole_log_writes(checkpoint)
        last = chain[-1] if chain else None
        sequence = last.sequence + 1 if last else checkpoint.next_sequence
        end_address = last.next_address if last else checkpoint.next_address
        self.was_clean = checkpoint.clean and not chain
        try:
            self._check_no_damage(checkpoint, chain, sequence, end_address)
        except LogDamageError as error:
            self._tolerate(error)
        else:
            self._tell_of_the_end(sequence, end_address)
        committed = max(
            (index + 1 for index, one in enumerate(chain) if one.flags & SUMMARY_COMMIT), default=0
        )
        needed = len(chain) if self._newer else max(committed, _flush_known_by(chain))
        self._apply(chain[:committed], chain[:needed])
        self.commit_count = sum(
            1 for summary in chain[:committed] if summary.flags & SUMMARY_COMMIT
        )
        if chain or self._newer:
            # What follows must not be hidden by a newer checkpoint that can be read again.
            self.needs_checkpoint = True
            volume.log.start(sequence, 0, 0)
            volume.log.flushed_sequence = checkpoint.next_sequence - 1
            volume.usage.finish_loading(())
        else:
            self._continue_chain(checkpoint)

    def _tell_of_the_end(self, sequence: int, end_address: int) -> None:
        """Report a log write that is not whole: a power cut leaves such, and a bad sector.

        Which of the two it was nothing can tell, as long as no later one had known it to
        be flushed.
        """
        why = self._volume.reader.torn(end_address, sequence)
        if why:
            self._volume.report(f"the log ends with what is not whole: {why}")

    def _whole_log_writes(self, checkpoint: Checkpoint) -> list[Summary]:
        """Return the log writes after the checkpoint, up to the first that is not whole."""
        volume = self._volume
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

    def _check_no_damage(
        self, checkpoint: Checkpoint, chain: list[Summary], sequence: int, end_address: int
    ) -> None:
        """Raise LogDamageError when what is later says that ``sequence`` was flushed."""
        newer = self._newer
        if newer is not None and sequence < newer.next_sequence:
            raise LogDamageError(
                f"the log is damaged at block {end_address}: log write {sequence} was flushed "
                f"but can't be read (checkpoint {newer.number} says so)"
            )
        for summary in self._later_log_writes(checkpoint, chain, sequence, end_address):
            if summary.sequence > sequence and summary.flushed_sequence >= sequence:
                raise LogDamageError(
                    f"the log is damaged at block {end_address}: log write {sequence} was flushed "
                    f"but can't be read (log write {summary.sequence} at block {summary.address} "
                    "says so)"
                )

    def _later_log_writes(
        self, checkpoint: Checkpoint, chain: list[Summary], sequence: int, end_address: int
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
        if not checkpoint.clean:
            for address in self._places_in_youngest_runs():
                yield from self._rest_of_run(address, sequence)
        place_count = _CLEAN_SCAN if self.was_clean else _DAMAGE_SCAN
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

    def _apply(self, committed: list[Summary], needed: list[Summary]) -> None:
        """Take over whole commits, and count what they change in the usage table."""
        volume = self._volume
        windows: dict[bytes, Window | None] = {}
        for summary in committed:
            for key, value in summary.records:
                windows.pop(key, None)
                volume.imap.apply(key, value)
            self._map_data(summary, windows)
        for key, window in windows.items():
            if window is not None:
                volume.imap.apply(key, window.pack())
        try:
            if not volume.usage.is_lost:
                self._count_blocks(needed)
        except DamageError as error:
            self._tolerate(error)
            volume.usage.lose(volume.usage.live_total)
        for key in volume.imap.changes:
            ino, kind, _ = unpack_key(key)
            if kind == KIND_INODE:
                existed = self._stored(key) is not None
                volume.inode_count += int(volume.imap.changes[key] is not None) - int(existed)
                if ino > INO_MAX:
                    self._tolerate(DamageError(f"the log has an inode with the number {ino}"))
                else:
                    volume.next_ino = max(volume.next_ino, ino + 1)

    def _count_blocks(self, needed: list[Summary]) -> None:
        """Count in the usage table what changed since the checkpoint.

        What the log unmapped is dropped from the runs as they were at the
        checkpoint; then come the runs of the log writes that are ``needed``; then
        what the log mapped.
        """
        volume = self._volume
        keys = [key for key in volume.imap.changes if unpack_key(key)[1] == KIND_WINDOW]
        for key in keys:
            self._move_live(self._stored(key), -1)
        for summary in needed:
            volume.usage.claim_run(summary.run_address, summary.run_blocks, summary.sequence)
        for key in keys:
            self._move_live(volume.imap.changed_value(key), 1)

    def _stored(self, key: bytes) -> bytes | None:
        """Return what the checkpoint has for ``key``; None too if that can't be read."""
        try:
            return self._volume.imap.get_stored(key)
        except DamageError as error:
            self._tolerate(error)
            return None

    def _window(self, key: bytes) -> Window | None:
        """Return a window as it is before data is mapped into it.

        None if that can't be read: the leaf goes on to say so, because a window
        of the new data alone would show the rest of it as a hole.
        """
        size = self._volume.window_blocks
        try:
            value = self._volume.imap.get(key)
            return Window.unpack(value, size) if value else Window(size)
        except DamageError as error:
            self._tolerate(error)
            return None

    def _map_data(self, summary: Summary, windows: dict[bytes, Window | None]) -> None:
        """Map the payload of a log write into the windows of its owners."""
        size = self._volume.window_blocks
        address = summary.payload_address
        for entry in summary.entries:
            count = len(entry.checksums)
            end = entry.key + (count if entry.kind == BLOCK_DATA else 0)
            for index, start, stop in shares(entry.key, end, size):
                key = window_key(entry.owner, index)
                if key not in windows:
                    windows[key] = self._window(key)
                window = windows[key]
                if window is not None:
                    position = index * size + start - entry.key
                    part = entry.checksums[position : position + stop - start]
                    window.map(start, part, address + position)
            address += count

    def _move_live(self, value: bytes | None, sign: int) -> None:
        """Count the blocks of a window as live (1) or dead (-1)."""
        if value is None:
            return
        volume = self._volume
        for _, count, address in Window.unpack(value, volume.window_blocks).runs:
            if not volume.usage.holds(address, count):
                raise DamageError(f"blocks {address}+{count} of a file are in no run in use")
            if sign > 0:
                volume.usage.add_live(address, count)
            else:
                volume.usage.drop_live(address, count)

    def _continue_chain(self, checkpoint: Checkpoint) -> None:
        """Go on where the checkpoint promised the next log write."""
        volume = self._volume
        usage = volume.usage
        address = checkpoint.next_address
        run = usage.run_of(address)
        if run < 0:
            self._tolerate(
                DamageError(f"the checkpoint promises a log write at {address}, in no run")
            )
            return
        usage.finish_loading((run,))
        volume.log.start(checkpoint.next_sequence, address, checkpoint.previous_checksum)
        run_address = usage.address_of(run)
        try:
            first = volume.reader.read_summary(run_address)
        except DamageError as error:
            volume.report(f"the open run at {run_address} has lost its first summary: {error}")
            self.needs_checkpoint = True
            volume.log.start(checkpoint.next_sequence, 0, 0)
            return
        head = Head(
            number=first.head,
            run_address=run_address,
            run_blocks=usage.run_blocks(run),
            run_sequence=first.sequence,
            summary_next=address,
            summary_end=run_address + usage.run_blocks(run),
        )
        volume.log.resume(head)


def _check_numbers(checkpoint: Checkpoint) -> None:
    """Raise DamageError when a number that is counted on has come too close to its end."""
    sequence = checkpoint.next_sequence
    for what, value, least, most in (
        ("number", checkpoint.number, 0, SEQUENCE_MAX),
        ("next_sequence", sequence, 1, SEQUENCE_MAX),
        ("next_ino", checkpoint.next_ino, 1, INO_MAX),
        ("inode_count", checkpoint.inode_count, 0, INO_MAX),
        ("node_count", checkpoint.node_count, 0, INO_MAX),
    ):
        if not least <= value <= most:
            raise DamageError(f"checkpoint {checkpoint.number}: {what} {value} is impossible")


def _flush_known_by(chain: list[Summary]) -> int:
    """Return how many log writes tell as much about what had been flushed as all of them do."""
    flushed = max((summary.flushed_sequence for summary in chain), default=0)
    known = (index for index, one in enumerate(chain, 1) if one.flushed_sequence == flushed)
    return next(known, 0)
