"""How many clean blocks writing may take, whatever way it goes out.

Theory.  What is to be written is payload (data, nodes, usage pages) and records.
Clean space goes by runs, and a head takes a new run only when its log write finds no
room in the open one.  Let ``s`` be the blocks of a segment and ``b`` their bytes.

1. A run is filled before the next is opened, but for: the block kept for a jump; the
   summary, at most ``(128 + 36 p) / b`` blocks for ``p`` blocks of payload, each an entry
   of its own, rounded up; and two blocks of the front area of a bulk run.  For a run of
   one segment that leaves ``full_blocks`` for payload, and no less for each segment of a
   larger run, whose overhead grows no faster than it does.
2. Records go out in log writes that fill the open run, or at most 256 blocks.  Each
   misses less than a block at its end, because no record is longer than a block less a
   header; that is one in 256 blocks, or one in a segment.
3. A run is no larger than what is still to be written needs, rounded up to a segment,
   while there is nothing to spare (``LogWriter._open``).
4. What the open run has room for comes first, but for a rest of up to ``worth`` blocks at
   the end of a batch.  A commit in one log write may leave more of it; but that fits into
   one segment, which is what it takes then.
5. So ``n`` blocks take ``n s / full_blocks`` and a few blocks for jumps, less the room of
   the open run, rounded up to whole segments.  What is clean is whole segments, and so is
   what is kept of it: for one head the rounding does itself.  For each further head that
   needs a run, a segment is added.

Held by ``tests/alloc/delayed/test_ledger.py``.
"""

from __future__ import annotations

from lfs.common.checksum import CHECKSUM_BYTES
from lfs.ondisk import ENTRY_BYTES, SUMMARY_HEADER_BYTES

_RECORD_BLOCKS_MAX = 256
_JUMP_BLOCKS = 8


def full_blocks(segment_blocks: int, block_bytes: int) -> int:
    """Return how many blocks of payload a segment carries at least once it is full."""
    entry_bytes = ENTRY_BYTES + CHECKSUM_BYTES
    summary_blocks = -(-(SUMMARY_HEADER_BYTES + entry_bytes * segment_blocks) // block_bytes)
    return segment_blocks - 3 - segment_blocks // _RECORD_BLOCKS_MAX - summary_blocks


def worth_blocks(segment_blocks: int) -> int:
    """Return the least rest of a run that is filled with a part of what is to be written."""
    return min(16, segment_blocks // 8)


class WriteBound:
    """The bound for one geometry."""

    def __init__(self, segment_blocks: int, block_bytes: int) -> None:
        """Take the geometry."""
        self._segment_blocks = segment_blocks
        self.full_blocks = full_blocks(segment_blocks, block_bytes)
        self._rest_blocks = worth_blocks(segment_blocks) + _JUMP_BLOCKS

    def clean_blocks(self, blocks: int, room_blocks: int) -> int:
        """Return how much clean space ``blocks`` take on a head with ``room_blocks`` open.

        To be rounded up to whole segments, by whoever adds up heads.
        """
        lost_blocks = blocks * (self._segment_blocks - self.full_blocks) // self.full_blocks
        return max(0, blocks + lost_blocks + self._rest_blocks - max(0, room_blocks))
