"""Every live block is described by a summary of its run.

FORMAT.md, "Log write".  The cleaner and a rebuild without an index know the
owner of a block only from the summaries, so each run with live blocks is walked
from its first summary on, and each live block must be found with the kind,
owner, key and checksum that the imap has for it.

Held by ``tests/fsck/test_log.py``.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fsck.log import geometry_error
from fsck.reading.image import Image, Run, RunTable
from fsck.reading.report import Report
from fsck.reading.space import IN_MOUNTED, Extent, Owner, SortedExtents
from lfs.common.checksum import checksum
from lfs.common.errors import DamageError, DeviceError
from lfs.ondisk import Summary


class _Piece(NamedTuple):
    """Adjacent blocks as an entry of a summary describes them."""

    address: int
    kind: int
    owner: int
    version: int
    key: int
    checksums: bytes

    @property
    def end(self) -> int:
        return self.address + len(self.checksums) // 4


class _Walk(NamedTuple):
    """What the summaries of a run describe, sorted by address, and why the walk ended early."""

    pieces: list[_Piece]
    failure: str | None


def check_summaries(image: Image, extents: SortedExtents, runs: RunTable, report: Report) -> None:
    """Report live ``extents`` that no summary of their run describes, or not rightly."""
    live = extents.in_state(IN_MOUNTED).payload()
    indices = live.run_indices(image, runs)
    inside = np.flatnonzero(indices >= 0)
    boundaries = np.flatnonzero(np.diff(indices[inside])) + 1
    groups = np.split(inside, boundaries) if len(inside) else []
    for group in groups:
        run = runs[int(indices[group[0]])]
        walk = _walk_run(image, run, report)
        _check_run(image, run, walk, [live[int(index)] for index in group], report)
    report.count("runs_in_use", len(groups))


def _walk_run(image: Image, run: Run, report: Report) -> _Walk:
    """Follow the summaries of ``run`` up to its youngest log write."""
    start = image.segment_address(run.first_segment)
    end = image.segment_address(run.first_segment + run.segment_count)
    pieces: list[_Piece] = []
    taken: list[tuple[int, int, int]] = []
    address, sequence, run_sequence = start, -1, None
    failure = None
    while sequence != run.last_sequence:
        if not start <= address < end:
            failure = f"the next summary is promised at {address}, outside the run"
            break
        try:
            write = image.read_summary(address)
        except (DamageError, DeviceError) as error:
            failure = str(error.strerror)
            break
        failure = _out_of_walk(write, run, sequence, run_sequence) or geometry_error(image, write)
        if failure is None and (write.run_address, write.run_blocks) != (start, end - start):
            failure = f"it says its run has {write.run_blocks} blocks from {write.run_address}"
        if failure is not None:
            failure = f"summary at {address}: {failure}"
            break
        sequence, run_sequence = write.sequence, write.run_sequence
        report.count("summaries")
        taken.append((write.address, write.address + write.summary_blocks, sequence))
        if write.payload_blocks:
            payload_end = write.payload_address + write.payload_blocks
            taken.append((write.payload_address, payload_end, sequence))
        pieces += _pieces(write)
        address = write.run_next_address
    _check_taken(taken, report)
    pieces.sort(key=lambda piece: piece.address)
    return _Walk(pieces, failure)


def _out_of_walk(write: Summary, run: Run, sequence: int, run_sequence: int | None) -> str | None:
    """Return why ``write`` does not follow log write ``sequence`` in ``run``, or None."""
    expected = write.sequence if run_sequence is None else run_sequence
    if write.run_sequence != expected:
        return f"expected run sequence {expected}, found {write.run_sequence}"
    if not sequence < write.sequence <= run.last_sequence:
        return (
            f"expected a sequence number above {sequence} and up to {run.last_sequence}, "
            f"found {write.sequence}"
        )
    return None


def _pieces(write: Summary) -> list[_Piece]:
    pieces = []
    address = write.payload_address
    for kind, owner, version, key, checksums in write.entries:
        packed = struct.pack(f"<{len(checksums)}I", *checksums)
        pieces.append(_Piece(address, kind, owner, version, key, packed))
        address += len(checksums)
    return pieces


def _check_taken(taken: list[tuple[int, int, int]], report: Report) -> None:
    """Report blocks that two log writes of one run both used."""
    taken.sort()
    for (start, end, sequence), (next_start, _, next_sequence) in pairwise(taken):
        if next_start < end:
            report.add(
                "summary-overlap",
                f"block {next_start}: log write {sequence} has blocks {start} to {end - 1}, "
                f"log write {next_sequence} begins within them",
                next_start,
            )


def _check_run(image: Image, run: Run, walk: _Walk, extents: list[Extent], report: Report) -> None:
    missing: list[Extent] = []
    for extent in extents:
        mismatch = _describe_mismatch(extent, walk.pieces)
        if mismatch is None:
            continue
        if mismatch:
            report.add(
                "summary-mismatch", f"{extent}: {mismatch}", extent.address, extent.owner or None
            )
        else:
            missing.append(extent)
    address = image.segment_address(run.first_segment)
    reason = f"; the walk through the run ended early: {walk.failure}" if walk.failure else ""
    if missing:
        count = sum(extent.blocks for extent in missing)
        report.add(
            "summary-missing",
            f"run at {address}: no summary describes {count} live blocks, "
            f"the first of them {missing[0]}{reason}",
            missing[0].address,
            missing[0].owner or None,
        )
    elif walk.failure:
        report.add(
            "summary-walk",
            f"run at {address}: expected summaries up to log write {run.last_sequence}{reason}",
            address,
        )


def _describe_mismatch(extent: Extent, pieces: list[_Piece]) -> str | None:
    """Return what summaries say of ``extent`` that is wrong, "" for nothing at all, None if right.

    An extent may be covered by several log writes next to each other.
    """
    position = extent.address
    end = extent.address + extent.blocks
    index = bisect_right(pieces, position, key=lambda piece: piece.address) - 1
    collected: list[bytes] = []
    while position < end:
        if (
            not 0 <= index < len(pieces)
            or not pieces[index].address <= position < pieces[index].end
        ):
            return ""
        piece = pieces[index]
        error = _describe_piece(extent, piece, position)
        if error is not None:
            return error
        stop = min(end, piece.end)
        first = 4 * (position - piece.address)
        collected.append(piece.checksums[first : first + 4 * (stop - position)])
        position = stop
        index += 1
    found = checksum(b"".join(collected))
    return None if found == extent.fingerprint else "the summary has other checksums than the imap"


def _describe_piece(extent: Extent, piece: _Piece, position: int) -> str | None:
    """Return how ``piece`` contradicts ``extent`` at block ``position``, or None."""
    if piece.kind != extent.kind:
        return f"expected kind {int(extent.kind)} in the summary, found {piece.kind}"
    if piece.owner != extent.owner:
        return f"expected owner {extent.owner} in the summary, found {piece.owner}"
    # A block that a truncation left alone keeps the version it was written with.
    if piece.version > extent.version:
        return f"expected version {extent.version} or below in the summary, found {piece.version}"
    if extent.kind == Owner.NODE:
        expected, found = 0, piece.key
    else:
        expected = extent.key + position - extent.address
        found = piece.key + position - piece.address
    return None if found == expected else f"expected key {expected} in the summary, found {found}"
