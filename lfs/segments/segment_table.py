"""What is known of each segment, packed: 30 bytes for each.

Only the first segment of a run says anything of the run; the others tell which that is.

Held by ``tests/segments/test_usage.py``.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from itertools import compress

from lfs.ondisk import SEGMENT_CLEAN, SEGMENT_CONTINUED, SEGMENT_RUN

_CLEAN = re.compile(re.escape(bytes([SEGMENT_CLEAN])) + b"+")


class SegmentTable:
    """States, runs and counts of all segments, by their numbers."""

    def __init__(self, segment_count: int) -> None:
        """Start with clean segments."""
        self.state = bytearray(segment_count)
        self.first = array("i", [-1]) * segment_count
        """The first segment of the run that a segment belongs to, or -1."""
        self.order = bytearray(segment_count)
        """A run has 2**order segments."""
        self.live = array("q", bytes(8 * segment_count))
        """Live blocks of a run."""
        self.last_sequence = array("q", bytes(8 * segment_count))
        """Of the youngest log write in a run."""
        self.metadata_until = array("q", bytes(8 * segment_count))
        """The checkpoint that must be durable before nothing refers to the run any more."""

    def runs(self, start: int, count: int) -> Iterator[int]:
        """Yield the first segment of every run in use, of ``count`` segments from ``start`` on."""
        states = bytes(self.state[start : start + count])
        return compress(range(start, start + len(states)), map(SEGMENT_RUN.__eq__, states))

    def clean_ranges(self) -> Iterator[range]:
        """Yield the segments in no run, those side by side together."""
        for found in _CLEAN.finditer(self.state):
            yield range(found.start(), found.end())

    def set_run(self, run: int, order: int, sequence: int) -> range:
        """Make a run without live blocks of segments that are in no other; returns them."""
        segments = range(run, run + (1 << order))
        for segment in segments:
            self.state[segment] = SEGMENT_CONTINUED
            self.order[segment] = 0
            self.first[segment] = run
            self.live[segment] = 0
            self.last_sequence[segment] = 0
            self.metadata_until[segment] = 0
        self.state[run] = SEGMENT_RUN
        self.order[run] = order
        self.last_sequence[run] = sequence
        return segments

    def clear_run(self, run: int) -> range:
        """Make the segments of an empty run clean; returns them."""
        segments = range(run, run + (1 << self.order[run]))
        for segment in segments:
            self.state[segment] = SEGMENT_CLEAN
            self.order[segment] = 0
            self.first[segment] = -1
            self.last_sequence[segment] = 0
            self.metadata_until[segment] = 0
        return segments
