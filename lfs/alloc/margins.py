"""The margins of space: every share and factor that keeps room, with the argument for it.

docs/design/space.md and docs/design/cleaning.md tell how they work together.  What
follows from layouts on disk is reckoned where it is needed.

Held by ``tests/alloc/delayed/test_ledger.py`` and ``tests/system/full``.
"""

from __future__ import annotations

_SLACK_SEGMENTS_MIN = 16
_SLACK_SHARE = 20
"""A twentieth of the segments: the fewer, the more is moved for each that is gained."""
_RUN_BYTES_MAX = 128 << 20
_LARGE_RUN_SHARE = 16
"""No run takes more of the disk: it would have to be spare all at once."""
_TAIL_SEGMENTS = 3.3
"""What the open runs of three heads may leave unused when something is moved."""
_MOVING_COST = 1.85
"""Moving a block takes so many, its leaf included but for what is kept for companions."""
BRANCH_FILL = 4
"""A branch has one in so many of its slots filled: those with less than a third are joined to
others, and compacting takes an eighth of what is below one."""
NODE_SURCHARGE = 0.25
"""A node counts for so much more than a block: segments of nodes are four fifths full then."""
COMPANION = 0.75
"""So much is kept for a node that data takes along when it moves, and counts as used."""
CHANGE_SHARE = 8
"""One in so many blocks of the slack is for what replaces something by what is longer."""
LAST_SEGMENTS = 2
"""So many clean ones are left for one request and the last checkpoint."""
CRUDE_BLOCKS = 4
"""The crude bound takes so many for each block that comes to it."""
MARGIN_SEGMENTS = 1
"""So many are left beside what is moved and pending: its heads may need another run."""
CLEAN_SHARE_LOW = 8
"""The cleaner works ahead of need while less than one in so many segments is clean."""


def slack_segments(segment_count: int) -> int:
    """Return how many segments stay free of user data, so that cleaning always gains."""
    return max(_SLACK_SEGMENTS_MIN, segment_count // _SLACK_SHARE)


def cleaner_segments(segment_count: int) -> int:
    """Return how many clean segments only the cleaner, commits and checkpoints may use.

    Less than half of the slack: the rest is what a request finds clean on a full disk.
    """
    return slack_segments(segment_count) * 3 // 8


def order_max(segment_count: int, segment_bytes: int) -> int:
    """Return the order of the largest run: the cleaner must be able to move it whole.

    It has its own segments for that, less the tails of the open runs.  Beside each block
    goes a part of a summary and, if each is in another window, as many leaves as are not
    kept for companions anyway.
    """
    room_segments = int((cleaner_segments(segment_count) - _TAIL_SEGMENTS) / _MOVING_COST)
    by_room = max(1, room_segments).bit_length() - 1
    by_size = (_RUN_BYTES_MAX // segment_bytes).bit_length() - 1
    return max(0, min(by_room, by_size))


def order_most(segment_count: int, segment_bytes: int) -> int:
    """Return the order of the largest run that is ever opened, on purpose and to spare."""
    by_share = max(1, segment_count // _LARGE_RUN_SHARE).bit_length() - 1
    by_size = (_RUN_BYTES_MAX // segment_bytes).bit_length() - 1
    return max(order_max(segment_count, segment_bytes), min(by_share, by_size))


def breakup_blocks(run_blocks: int) -> int:
    """Return how many clean blocks it takes to empty a large run, its owners' metadata included.

    A quarter for that: what lies in large runs are long extents, many to a window.
    """
    return run_blocks * 5 // 4
