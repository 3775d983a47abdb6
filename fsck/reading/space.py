"""Who occupies which blocks: overlaps, blocks outside runs, usage recounted.

FORMAT.md, "Usage page" and "Window".  An extent is adjacent blocks with one
owner.  It belongs to the state of the checkpoint, to the state a mount will
show, or to both; each state must be free of overlaps by itself.  The usage
table is held against the checkpoint, the only state it was written for.

Extents are rows of seven 64-bit columns in one array: a million of them take 56
MB, and NumPy sorts and counts them.

Held by ``tests/fsck/test_blocks.py``.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fsck.reading.image import Image, RunTable
from fsck.reading.report import Report
from lfs.common.checksum import checksum
from lfs.ondisk import BLOCK_DATA, BLOCK_NODE, BLOCK_USAGE, Pointer

IN_CHECKPOINT = 1
IN_MOUNTED = 2
IN_BOTH = IN_CHECKPOINT | IN_MOUNTED

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_COLUMNS = 7
_CHECKSUM = struct.Struct("<I")


class Owner(IntEnum):
    """What occupies an extent; the values for payload are those of summary entries."""

    LOG = 0
    DATA = BLOCK_DATA
    NODE = BLOCK_NODE
    USAGE = BLOCK_USAGE


class Extent(NamedTuple):
    """Adjacent blocks of one owner.

    ``owner`` is the inode of data, else 0; ``key`` the first file block of data,
    the index of a usage page, else 0; ``fingerprint`` the checksum of the
    blocks' checksums, packed; ``version`` that of the inode.
    """

    address: int
    blocks: int
    owner: int
    key: int
    fingerprint: int
    kind: Owner
    states: int
    version: int

    def __str__(self) -> str:
        end = self.address + self.blocks - 1
        place = f"block {self.address}" if self.blocks == 1 else f"blocks {self.address} to {end}"
        if self.kind == Owner.DATA:
            return f"{place} (inode {self.owner}, file block {self.key})"
        if self.kind == Owner.USAGE:
            return f"{place} (usage page {self.key})"
        return f"{place} ({'imap node' if self.kind == Owner.NODE else 'log write'})"


class Extents:
    """All extents found, in the order in which they were added."""

    def __init__(self, image: Image, report: Report) -> None:
        """Start empty; extents outside the segments of ``image`` become problems."""
        self._image = image
        self._report = report
        self._columns = array("Q")

    def add(
        self,
        kind: Owner,
        address: int,
        count: int,
        owner: int,
        key: int,
        checksums: bytes,
        states: int = IN_BOTH,
        version: int = 0,
    ) -> bool:
        """Add an extent with its packed ``checksums``; return whether it lies in segments."""
        if not self._image.is_in_segments(address, count) or key >> 63:
            self._report.add(
                "extent-range",
                f"inode {owner}, file block {key}: {count} blocks at {address}, expected within "
                f"{self._image.first_block} to {self._image.end_block - 1}",
                address,
                owner,
            )
            return False
        tag = kind | states << 8
        self._columns.extend((address, count, owner, key, checksum(checksums), tag, version))
        return True

    def add_block(self, kind: Owner, pointer: Pointer, key: int = 0) -> None:
        """Add a node or usage page that was read through ``pointer``."""
        self.add(kind, pointer.address, 1, 0, key, _CHECKSUM.pack(pointer.checksum))

    def sorted(self) -> SortedExtents:
        """Return all extents in order of their addresses."""
        rows = np.frombuffer(self._columns, dtype=np.int64).reshape(-1, _COLUMNS)
        return SortedExtents(rows[np.argsort(rows[:, 0], kind="stable")])


class SortedExtents:
    """Extents in order of their addresses, as columns over all of them."""

    def __init__(self, rows: Numbers) -> None:
        """Take ``rows`` of ``_COLUMNS`` numbers, sorted."""
        self._rows = rows
        self.starts: Numbers = rows[:, 0]
        self.ends: Numbers = rows[:, 0] + rows[:, 1]
        self.kinds: Numbers = rows[:, 5] & 0xFF
        self.states: Numbers = rows[:, 5] >> 8 & 0xFF

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Extent:
        words = [int(word) & (1 << 64) - 1 for word in self._rows[index]]
        address, count, owner, key, fingerprint, tag, version = words
        kind, states = Owner(tag & 0xFF), tag >> 8 & 0xFF
        return Extent(address, count, owner, key, fingerprint, kind, states, version)

    def select(self, chosen: Flags) -> SortedExtents:
        """Return the extents for which ``chosen`` is true, still sorted."""
        return SortedExtents(self._rows[chosen])

    def in_state(self, state: int) -> SortedExtents:
        """Return the extents that belong to ``state``."""
        return self.select((self.states & state) != 0)

    def payload(self) -> SortedExtents:
        """Return the extents that count as live: all but the log's own."""
        return self.select(self.kinds != Owner.LOG)

    def taken_before(self) -> Numbers:
        """Return for each extent where all extents before it end, 0 for the first."""
        taken = np.zeros(len(self), dtype=np.int64)
        if len(self):
            np.maximum.accumulate(self.ends[:-1], out=taken[1:])
        return taken

    def run_indices(self, image: Image, runs: RunTable) -> Numbers:
        """Return for each extent the index in ``runs`` of the run it lies in, -1 for none."""
        if not len(runs):
            return np.full(len(self), -1, dtype=np.int64)
        first = np.frombuffer(runs.first_segments, dtype=np.int64)
        end = first + np.frombuffer(runs.segment_counts, dtype=np.int64)
        segments = (self.starts - image.first_block) // image.segment_blocks
        last_segments = (self.ends - 1 - image.first_block) // image.segment_blocks
        indices = np.searchsorted(first, segments, side="right") - 1
        outside = (indices < 0) | (last_segments >= end[indices])
        indices[outside] = -1
        return indices


def _positions(chosen: Flags) -> Iterator[int]:
    return (int(position) for position in np.flatnonzero(chosen))


def check_overlaps(extents: SortedExtents, report: Report) -> None:
    """Report blocks that two owners claim in the checkpoint or in what a mount will show."""
    _check_overlaps_in(extents.in_state(IN_CHECKPOINT), 0, report)
    if np.any(extents.states != IN_BOTH):
        # What overlaps in the checkpoint already was reported above.
        _check_overlaps_in(extents.in_state(IN_MOUNTED), IN_CHECKPOINT, report)


def _check_overlaps_in(extents: SortedExtents, known_state: int, report: Report) -> None:
    starts, ends = extents.starts, extents.ends
    for position in _positions(starts < extents.taken_before()):
        other = position - 1
        while ends[other] <= starts[position]:
            other -= 1
        first, second = extents[other], extents[position]
        if first.states & second.states & known_state:
            continue
        code = "log-overlap" if Owner.LOG in (first.kind, second.kind) else "extent-overlap"
        report.add(
            code,
            f"block {second.address} is occupied twice: by {first} and by {second}",
            second.address,
            second.owner or first.owner or None,
        )


def check_places(
    image: Image, extents: SortedExtents, runs: RunTable, grown: RunTable, report: Report
) -> None:
    """Report extents outside runs: ``runs`` at the checkpoint, ``grown`` after the log."""
    live = extents.payload()
    outside = (live.run_indices(image, runs) < 0) & ((live.states & IN_CHECKPOINT) != 0)
    if grown is not runs:
        outside |= (live.run_indices(image, grown) < 0) & ((live.states & IN_MOUNTED) != 0)
    for position in _positions(outside):
        extent = live[position]
        report.add(
            "extent-clean",
            f"{extent}: expected inside a run, found in clean segments",
            extent.address,
            extent.owner or None,
        )


def check_usage(
    image: Image, extents: SortedExtents, runs: RunTable, live_block_count: int, report: Report
) -> None:
    """Hold the usage table ``runs`` against those of ``extents`` that its checkpoint has.

    ``live_block_count`` is what the checkpoint says the table adds up to.
    """
    live = extents.in_state(IN_CHECKPOINT)
    indices = live.run_indices(image, runs)
    # A block claimed twice counts once.
    lengths = live.ends - np.maximum(live.starts, live.taken_before())
    counted = (indices >= 0) & (lengths > 0)
    expected = np.bincount(indices[counted], weights=lengths[counted], minlength=len(runs)).astype(
        np.int64
    )
    found = np.frombuffer(runs.live_blocks, dtype=np.int64)
    for index in _positions(expected != found):
        run = runs[index]
        address = image.segment_address(run.first_segment)
        report.add(
            "usage-live-count",
            f"run of {run.segment_count} segments from segment {run.first_segment} "
            f"(address {address}): expected {expected[index]} live blocks, "
            f"found {run.live_blocks} in the usage table",
            address,
        )
    total = int(found.sum())
    if total != live_block_count:
        report.add(
            "live-block-count",
            f"checkpoint: expected {total} live blocks, the sum of the usage table, "
            f"found {live_block_count}",
        )
