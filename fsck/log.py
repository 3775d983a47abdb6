"""The log after the checkpoint: its chain, its end or its damage, its commits.

FORMAT.md, "Log write" and "Commit and roll-forward".  The chain is followed as
far as every summary holds.  Where it ends, a later log write may prove that
what is missing had been flushed: then this is damage, not the end.  Of the log
writes that nobody knows to be flushed, only those with intact payload count,
and of all only those up to the last commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fsck.reading.image import Image, Run, RunTable
from fsck.reading.overlay import Overlay
from fsck.reading.report import Report
from fsck.reading.space import IN_MOUNTED, Extents, Owner
from lfs.common.errors import DamageError, DeviceError
from lfs.ondisk import (
    SUMMARY_COMMIT,
    SUMMARY_JUMP,
    SUMMARY_MAGIC,
    Checkpoint,
    Summary,
    original_data,
)

SCAN_SEGMENTS_MAX = 4096
SCAN_READ_BYTES = 1 << 20


@dataclass
class Log:
    """What the log after a checkpoint adds to it.

    ``writes`` are the log writes of complete commits, ``overlay`` holds what
    they change in the imap.
    """

    overlay: Overlay
    writes: list[Summary] = field(default_factory=list)
    commit_count: int = 0


@dataclass
class _Chain:
    """The summaries found, and what was expected behind the last of them."""

    writes: list[Summary]
    next_sequence: int
    next_address: int
    previous_checksum: int
    flushed_sequence: int


def read_log(
    image: Image, checkpoint: Checkpoint, runs: RunTable | None, extents: Extents, report: Report
) -> Log:
    """Return the commits after ``checkpoint`` and report damage of the log.

    ``runs`` is the usage table; the summaries of the log join ``extents``,
    because nothing that a mount will show may lie there.
    """
    chain = _follow_chain(image, checkpoint, report)
    _look_for_damage(image, chain, runs, report)
    for write in chain.writes:
        if runs is not None:
            _check_run(image, write, checkpoint, runs, report)
        extents.add(Owner.LOG, write.address, write.summary_blocks, 0, 0, b"", IN_MOUNTED)
    report.count("log_writes", len(chain.writes))
    return _complete_commits(image, _with_payload(image, chain, report))


def probe_log(image: Image, checkpoint: Checkpoint) -> bool:
    """Tell whether anything was logged after ``checkpoint``."""
    return bool(_follow_chain(image, checkpoint, Report(), limit=1).writes)


# ---------------------------------------------------------------------- the chain


def _follow_chain(
    image: Image, checkpoint: Checkpoint, report: Report, limit: int | None = None
) -> _Chain:
    """Return the summaries from ``checkpoint`` on, at most ``limit``, while every one holds."""
    chain = _Chain(
        writes=[],
        next_sequence=checkpoint.next_sequence,
        next_address=checkpoint.next_address,
        previous_checksum=checkpoint.previous_checksum,
        flushed_sequence=checkpoint.next_sequence - 1,
    )
    while limit is None or len(chain.writes) < limit:
        write = _next_write(image, chain, report)
        if write is None:
            break
        chain.writes.append(write)
        chain.next_sequence += 1
        chain.next_address = write.next_address
        chain.previous_checksum = write.checksum
        chain.flushed_sequence = max(chain.flushed_sequence, write.flushed_sequence)
    return chain


def _next_write(image: Image, chain: _Chain, report: Report) -> Summary | None:
    """Return the log write that ``chain`` promises, None when it is not there."""
    address, sequence = chain.next_address, chain.next_sequence
    if not image.is_in_segments(address):
        report.add(
            "log-next-address",
            f"log write {sequence} was promised at address {address}, expected within "
            f"{image.first_block} to {image.end_block - 1}",
            address,
        )
        return None
    try:
        write = image.read_summary(address)
    except DamageError:
        return None
    except DeviceError as error:
        report.add("log-unreadable", f"log write {sequence}: {error.strerror}", address)
        return None
    found = (write.sequence, write.previous_checksum)
    if found != (sequence, chain.previous_checksum) or not _is_sound(image, write, report):
        return None
    return write


def _is_sound(image: Image, write: Summary, report: Report) -> bool:
    """Tell whether ``write`` says nothing impossible; what it says is a problem otherwise."""
    error = geometry_error(image, write)
    if error is None and write.flushed_sequence >= write.sequence:
        error = f"expected flushed below {write.sequence}, found {write.flushed_sequence}"
    if error is not None:
        report.add("log-write", f"log write {write.sequence}: {error}", write.address)
    return error is None


def geometry_error(image: Image, write: Summary) -> str | None:
    """Return what is wrong with the places ``write`` names, or None."""
    segment_count, partial = divmod(write.run_blocks, image.segment_blocks)
    start, end = write.run_address, write.run_address + write.run_blocks
    if partial or segment_count == 0 or segment_count & (segment_count - 1):
        return f"impossible run of {write.run_blocks} blocks"
    if not image.is_in_segments(start, write.run_blocks):
        return f"its run of {write.run_blocks} blocks at {start} is outside the segments"
    if (start - image.first_block) % write.run_blocks:
        return f"its run of {write.run_blocks} blocks at {start} is not aligned"
    summary_end = write.address + write.summary_blocks
    if not start <= write.address < summary_end <= end:
        return f"its summary at {write.address} is outside its run at {start}"
    if write.flags & SUMMARY_JUMP and write.payload_blocks:
        return f"a jump with {write.payload_blocks} payload blocks"
    if write.payload_blocks == 0:
        return None
    payload_end = write.payload_address + write.payload_blocks
    if not start <= write.payload_address < payload_end <= end:
        return f"its payload at {write.payload_address} is outside its run at {start}"
    if write.payload_address < summary_end and write.address < payload_end:
        return f"its payload at {write.payload_address} overlaps its summary"
    return None


def _check_run(
    image: Image, write: Summary, checkpoint: Checkpoint, runs: RunTable, report: Report
) -> None:
    """Report ``write`` when it goes on in a run of before the checkpoint that was not there."""
    if write.run_sequence >= checkpoint.next_sequence:
        return
    segment = image.segment(write.run_address)
    segment_count = write.run_blocks // image.segment_blocks
    index = runs.find(segment)
    found = None if index is None else runs[index]
    if found is None or (found.first_segment, found.segment_count) != (segment, segment_count):
        report.add(
            "log-run",
            f"log write {write.sequence}: continues a run of {segment_count} segments from "
            f"segment {segment}, which is not in the usage table",
            write.address,
        )


# ------------------------------------------------------------------ end or damage


def _look_for_damage(image: Image, chain: _Chain, runs: RunTable | None, report: Report) -> None:
    """Report damage when a log write behind the end of ``chain`` says the end was flushed."""
    for address in _likely_summaries(image, chain, runs):
        try:
            write = image.read_summary(address)
        except (DamageError, DeviceError):
            continue
        if write.sequence <= chain.next_sequence:
            continue
        if write.flushed_sequence >= chain.next_sequence:
            report.add(
                "log-damaged",
                f"the log ends at address {chain.next_address} before log write "
                f"{chain.next_sequence}, but log write {write.sequence} at {address} says that "
                f"up to {write.flushed_sequence} all had been flushed",
                chain.next_address,
            )
            return


def _likely_summaries(image: Image, chain: _Chain, runs: RunTable | None) -> Iterator[int]:
    """Yield addresses where the log may go on: behind its end, and in segments without use."""
    touched = {write.run_address: write for write in chain.writes}
    yield from (write.run_next_address for write in touched.values())
    if image.is_in_segments(chain.next_address):
        start, end = _rest_of_run(image, chain, runs)
        yield from _marked_blocks(image, start, end)
    begun = {image.segment(address) for address in touched}
    segments = [s for s in range(image.superblock.segment_count) if s not in begun]
    # What the log freed may have been taken again, so no segment is beyond suspicion.
    segments.sort(key=lambda segment: runs is not None and runs.has_live_blocks(segment))
    yield from map(image.segment_address, segments[:SCAN_SEGMENTS_MAX])


def _rest_of_run(image: Image, chain: _Chain, runs: RunTable | None) -> tuple[int, int]:
    """Return the blocks behind the promised place up to the end of its run or segment."""
    address = chain.next_address
    for write in reversed(chain.writes):
        if write.run_address <= address < write.run_address + write.run_blocks:
            return address + 1, write.run_address + write.run_blocks
    segment = image.segment(address)
    index = None if runs is None else runs.find(segment)
    if index is not None and runs is not None:
        run = runs[index]
        return address + 1, image.segment_address(run.first_segment + run.segment_count)
    return address + 1, image.segment_address(segment + 1)


def _marked_blocks(image: Image, start: int, end: int) -> Iterator[int]:
    """Yield the addresses from ``start`` to ``end`` whose block begins like a summary."""
    step = max(1, SCAN_READ_BYTES // image.block_bytes)
    for address in range(start, end, step):
        count = min(step, end - address)
        try:
            raw = image.read(address, count)
        except (DamageError, DeviceError):
            continue
        for index in range(count):
            if raw.startswith(SUMMARY_MAGIC, index * image.block_bytes):
                yield address + index


# ------------------------------------------------------------------------ commits


def _with_payload(image: Image, chain: _Chain, report: Report) -> list[Summary]:
    """Return the log writes up to the first that was not flushed and lacks its payload."""
    for index, write in enumerate(chain.writes):
        if write.sequence > chain.flushed_sequence and not _payload_holds(image, write):
            report.note(f"the log ends before log write {write.sequence}, whose payload was torn")
            return chain.writes[:index]
    return chain.writes


def _payload_holds(image: Image, write: Summary) -> bool:
    if write.payload_blocks == 0:
        return True
    try:
        raw = image.read(write.payload_address, write.payload_blocks)
    except (DamageError, DeviceError):
        return False
    expected = [value for entry in write.entries for value in entry.checksums]
    return not original_data(raw, expected, image.block_bytes)[1]


def _complete_commits(image: Image, writes: list[Summary]) -> Log:
    """Return the log of those ``writes`` that belong to a complete commit."""
    log = Log(Overlay(image.block_bytes))
    pending: list[Summary] = []
    for write in writes:
        pending.append(write)
        if write.flags & SUMMARY_COMMIT:
            log.commit_count += 1
            log.writes += pending
            for part in pending:
                log.overlay.apply(part)
            pending = []
    return log


def runs_with_log(image: Image, runs: RunTable, log: Log) -> RunTable:
    """Return ``runs`` as they are after ``log``: old ones grown, new ones in place of dead ones."""
    if not log.writes:
        return runs
    known = {runs.first_segments[index]: runs[index] for index in range(len(runs))}
    # First segment of the latest new run that each retaken segment belonged to.
    retaken: dict[int, int] = {}
    for write in log.writes:
        segment = image.segment(write.run_address)
        segment_count = write.run_blocks // image.segment_blocks
        if write.run_sequence == write.sequence:
            for taken in range(segment, segment + segment_count):
                index = runs.find(taken)
                before = taken if index is None else runs.first_segments[index]
                for first in (before, retaken.get(taken, taken)):
                    if first in known and taken < first + known[first].segment_count:
                        del known[first]
                retaken[taken] = segment
        known[segment] = Run(segment, segment_count, 0, write.sequence)
    table = RunTable()
    for segment in sorted(known):
        table.append(known[segment])
    return table
