"""Which leaves are read next, told to the device.

Theory.  Who lists a directory asks for its inodes, in the order of their names' hashes, and
their leaves lie side by side, as files of a directory are made together and a tree is written
in key order.  Each leaf read by itself waits for the device once; so when a second one of a
*group* of neighbouring leaves has to be read, all of the group are going to be.  The
device is told and reads them together; each is still read and verified when it is asked for.
A single question, as a look at one file, reads no more than it needs.

Held by ``tests/imap/test_read_ahead.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from lfs.ondisk import Branch

GROUP_LEAVES = 32
_GROUPS_MAX = 64


class ReadAhead:
    """Notes which leaves are read, and says which will be."""

    def __init__(self, will_read: Callable[[int, int], None]) -> None:
        """Tell ``will_read`` an address and how many blocks from there on will be read."""
        self._will_read = will_read
        self._counts: dict[int, int] = {}

    def note(self, parent: Branch, index: int) -> None:
        """Note that child ``index`` of ``parent``, a leaf, has to be read."""
        children = parent.children
        first = index - index % GROUP_LEAVES
        which = children[first].address
        counts = self._counts
        count = counts.pop(which, 0) % GROUP_LEAVES + 1
        # The group that was read from last is forgotten last.
        counts[which] = count
        if count == 2:
            self._tell([child.address for child in children[first : first + GROUP_LEAVES]])
        elif len(counts) > _GROUPS_MAX:
            del counts[next(iter(counts))]

    def _tell(self, addresses: list[int]) -> None:
        """Tell of blocks, those side by side at once."""
        addresses.sort()
        start = end = addresses[0]
        for address in addresses:
            if address > end:
                self._will_read(start, end - start)
                start = address
            end = address + 1
        self._will_read(start, end - start)
