"""Parts of what has changed, each so small that merging it keeps nobody waiting (P8).

Theory.  A checkpoint needs all changes merged, but not at once: a part of them, in key
order, can be merged into nodes before it.  Nothing leads to those nodes from the disk
before the checkpoint's region does, and the log before it tells the same; so a crash
amid the parts is one before the checkpoint.  A step reads and writes as many nodes as
its keys lie in, which is what bounds it.

Only what has been logged can go: the others' records are still to be taken from the
changes.

Held by ``tests/commit/test_merging_ahead.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from lfs.imap.map import Imap

PART_LEAVES = 64
PART_BLOCKS = 4 * PART_LEAVES
"""More than a part writes: its leaves, each cut in two or with a neighbour, and branches."""


class Part(NamedTuple):
    """Keys whose changes are merged together, in order, and where the next part begins."""

    keys: list[bytes]
    following: bytes | None


def is_one_part(imap: Imap, items_max: int, block_bytes: int) -> bool:
    """Tell whether all changes are no more than what a part may have."""
    return len(imap.changes) <= items_max and imap.changed_bytes <= PART_LEAVES * block_bytes


def next_part(imap: Imap, start: bytes, items_max: int, block_bytes: int) -> Part:
    """Return the first part of the changes from ``start`` on; raises DamageError.

    It has at most ``items_max`` keys and about ``PART_LEAVES`` blocks of items, and there is
    always a key in it while there are any that have been logged.
    """
    keys: list[bytes] = []
    leaf_end = b""
    leaf_count = 0
    left_bytes = PART_LEAVES * block_bytes
    for key in imap.changed_from(start):
        if imap.is_unlogged(key):
            continue
        if key >= leaf_end:
            leaf_count += 1
            leaf_end = imap.leaf_end(key)
        if len(keys) == items_max or leaf_count > PART_LEAVES or left_bytes <= 0:
            return Part(keys, key)
        keys.append(key)
        left_bytes -= imap.changed_bytes_of(key)
    return Part(keys, None)
