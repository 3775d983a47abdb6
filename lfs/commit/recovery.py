"""Mounting: superblock, checkpoint, usage table, roll-forward.

Theory.  The newer valid checkpoint gives a complete tree, and so does the older
one, which serves when a block that the newer needs is damaged.  Every whole commit
in the log after it is applied in order (``lfs.commit.roll_forward``).

The log ends at the first log write that does not hold, or at the last commit
before it.  What roll-forward needed is left untouched until the first checkpoint
after recovery is durable, so that a crash during recovery changes nothing: until
then the log goes on in other segments, outside the old chain.  What lies beyond it
counts for nothing and its segments are clean again: a checkpoint that a crash cut
short on a full disk leaves no room for another one elsewhere.

Damage.  A block that can't be read counts as damaged, and so does a log that did not end
by itself (``lfs.commit.log_end``).  At first none is tolerated: the other checkpoint may
lead around it.  If it doesn't, the
volume fails with the reason, and what can be had of it is served read-only: the tree up
to where the log is damaged; all segments as if in use where a usage page is lost;
everything but what is in a lost node.  A single wrong answer of the device is no damage:
what matters is read again.
"""

from __future__ import annotations

from collections.abc import Sequence

from lfs.commit.log_end import LogEnd
from lfs.commit.roll_forward import RollForward
from lfs.common.errors import DamageError, LogDamageError
from lfs.ondisk import (
    HEAD_BULK,
    INO_MAX,
    NO_BLOCK,
    SEQUENCE_MAX,
    SUMMARY_COMMIT,
    Checkpoint,
    Summary,
    UsagePage,
    unpack_usage_page,
)
from lfs.segments import usage_loading
from lfs.segments.placement import Head
from lfs.volume.volume import Volume


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
        volume.state.checkpoint_number = checkpoint.number
        volume.state.sequences = (checkpoints[-1].next_sequence, checkpoint.next_sequence)
        volume.state.next_ino = checkpoint.next_ino
        volume.state.inode_count = checkpoint.inode_count
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
            usage_loading.finish_loading(volume.usage, ())
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
            usage_loading.lose(volume.usage, checkpoint.live_block_count)

    def _load_pages(self, checkpoint: Checkpoint, older: Sequence[Checkpoint]) -> None:
        volume = self._volume
        usage = volume.usage
        pages: list[tuple[int, UsagePage]] = []
        for index, pointer in enumerate(checkpoint.usage_pages):
            if pointer == NO_BLOCK:
                continue
            raw = volume.read_block(pointer)
            page = unpack_usage_page(raw, index, volume.filesystem_id, pointer.address)
            usage_loading.load_page(usage, index, page.entries, checkpoint.number)
            volume.state.usage_pages[index] = pointer
            pages.append((pointer.address, page._replace(entries=())))
        usage.dirty_pages.clear()
        for address, page in pages:
            usage_loading.load_place(usage, address, page)
        for pointer in older[0].usage_pages if older else ():
            usage_loading.keep_older_page(usage, pointer.address, checkpoint.number + 1)

    def _tolerate(self, error: DamageError) -> None:
        """Go on read-only after ``error``, or raise it."""
        if not self._tolerant:
            raise error
        self._volume.fail(error)

    # ------------------------------------------------------------- roll-forward

    def _roll_forward(self, checkpoint: Checkpoint) -> None:
        volume = self._volume
        log_end = LogEnd(volume, checkpoint, self._newer)
        chain = log_end.whole_log_writes()
        last = chain[-1] if chain else None
        sequence = last.sequence + 1 if last else checkpoint.next_sequence
        end_address = last.next_address if last else checkpoint.next_address
        self.was_clean = checkpoint.clean and not chain
        try:
            log_end.check(chain, sequence, end_address, self.was_clean)
        except LogDamageError as error:
            self._tolerate(error)
        else:
            log_end.report(sequence, end_address)
        committed = max(
            (index + 1 for index, one in enumerate(chain) if one.flags & SUMMARY_COMMIT), default=0
        )
        needed = len(chain) if self._newer else max(committed, _flush_known_by(chain))
        RollForward(volume, self._tolerate).apply(chain[:committed], chain[:needed])
        self.commit_count = sum(
            1 for summary in chain[:committed] if summary.flags & SUMMARY_COMMIT
        )
        if chain or self._newer:
            # What follows must not be hidden by a newer checkpoint that can be read again.
            self.needs_checkpoint = True
            volume.log.start(sequence, 0, 0)
            volume.log.flushed_sequence = checkpoint.next_sequence - 1
            usage_loading.finish_loading(volume.usage, ())
        else:
            self._continue_chain(checkpoint)

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
        usage_loading.finish_loading(usage, (run,))
        volume.log.start(checkpoint.next_sequence, address, checkpoint.previous_checksum)
        run_address = usage.address_of(run)
        try:
            first = volume.reader.read_summary(run_address)
            if first.head == HEAD_BULK:
                # What the log goes on in is filled with summaries and payload in turn.
                raise DamageError("it says that only large extents go there")
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
