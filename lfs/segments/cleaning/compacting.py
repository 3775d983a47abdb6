"""Compacting leaves: filling those of the inode map that changes have left part empty.

Theory.  A leaf is cut in two when it is full, and joined to another when it is nearly
empty.  Keys that come and go at random, as those of names do, leave leaves about two
thirds full (A. C. Yao, "On random 2-3 trees", Acta Informatica 9, 1978), and fewer items
that are long fit worse.  So renaming alone, which takes nothing, makes the map larger
until it is in that state, and a full disk may have no room for it.

Leaves side by side that are rewritten together are cut anew, as full as they can be
(``lfs.imap.rebuild``).  Compacting lets the next checkpoint rewrite those of a few side by
side that would be one fewer.  It goes on from where it stopped, so that the whole map has
its turn before any part has another.

How full leaves are is known only by reading them.  So each look goes through a bounded
part of the map, and who asks decides whether to wait for the next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain

from lfs.alloc.delayed.ledger import Ledger
from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import DamageError, FilesystemError
from lfs.imap.rebuild import fewest_nodes
from lfs.ondisk import NODE_HEADER_BYTES, Branch, Pointer
from lfs.volume.volume import Volume

_GAIN_BLOCKS = 64
"""So many blocks are gained with one checkpoint, where there are as many to gain."""
_CHANGED_SHARE = 16
"""The map is looked through again when so many nodes have come, or items have gone: a share."""
_LOOK_LEAVES = 1024
"""So many leaves are read in one look, and what is left of their branch."""
_TOGETHER = 8
"""So many leaves side by side are compacted at most to make them one fewer."""


class Compactor:
    """Compacts the inode map of one volume."""

    def __init__(self, volume: Volume, ledger: Ledger, checkpointer: Checkpointer) -> None:
        """Compact when asked to; nothing runs by itself."""
        self._volume = volume
        self._ledger = ledger
        self._checkpointer = checkpointer
        self._cursor = b""
        self._compact_count = 0
        """The nodes there were when little was left to compact, or fewer since."""
        self._deleted_count = 0
        """The items that had been deleted by then."""
        self._barren_count = 0
        """The nodes looked at since one was found that could go."""

    @property
    def is_done(self) -> bool:
        """Tell whether another look would be for nothing.

        Once all of the map has been looked through and little was found, it is looked
        through no more until it has grown, or until items have gone, which leaves leaves
        part empty.
        """
        imap = self._volume.imap
        compact_count = min(self._compact_count, imap.node_count)
        change = max(imap.node_count - compact_count, imap.deleted_count - self._deleted_count)
        return change <= compact_count // _CHANGED_SHARE

    def compact(self, now_ns: int) -> bool | None:
        """Compact a part of the map and write a checkpoint; returns whether nodes became fewer.

        None where there is no room to write what would be fewer.  If not, the next part may
        have more, unless it ``is_done``.  Raises as ``Checkpointer.checkpoint``.
        """
        imap = self._volume.imap
        before_count = imap.node_count
        self._compact_count = min(self._compact_count, before_count)
        if self.is_done:
            return False
        keys = self._keys_to_compact()
        if keys is None:
            return None
        if keys:
            imap.touched_keys.update(keys)
            self._checkpointer.checkpoint(now_ns)
        is_for_nothing = bool(keys) and imap.node_count >= before_count
        if is_for_nothing or self._barren_count >= imap.node_count:
            self._compact_count = imap.node_count
            self._deleted_count = imap.deleted_count
            self._barren_count = 0
        return imap.node_count < before_count

    def _keys_to_compact(self) -> list[bytes] | None:
        """Return the first keys of leaves to be compacted, as many as there is room to rewrite.

        None if there is room for none.
        """
        keys: list[bytes] = []
        gained = looked = 0
        imap = self._volume.imap
        while not keys and self._barren_count < imap.node_count:
            is_from_start = not self._cursor
            self._barren_count += 1
            for branch in self._branches(imap.root, imap.root_level, self._cursor):
                self._cursor = branch.keys[0]
                if gained >= _GAIN_BLOCKS or looked >= _LOOK_LEAVES:
                    return keys
                looked += len(branch.children)
                self._barren_count += 1 + len(branch.children)
                for group in self._groups(branch):
                    self._barren_count = 0
                    if not self._ledger.can_rewrite(len(keys) + len(group)):
                        return keys or None
                    keys += group
                    gained += 1
            self._cursor = b""
            if is_from_start and not looked:
                # There is no branch above leaves, or none that can be read.
                self._barren_count = imap.node_count
            if looked >= _LOOK_LEAVES:
                break
        return keys

    def _branches(self, pointer: Pointer, level: int, start: bytes) -> Iterator[Branch]:
        """Yield the branches above leaves, from the one that leads to ``start``, in order."""
        if not level:
            return
        try:
            node = self._volume.imap.load(pointer, level)
        except (DamageError, FilesystemError):
            return
        assert isinstance(node, Branch)
        if level == 1:
            yield node
            return
        for child in node.children[max(0, bisect_right(node.keys, start) - 1) :]:
            yield from self._branches(child, level - 1, start)

    def _groups(self, branch: Branch) -> Iterator[list[bytes]]:
        """Yield the first keys of leaves side by side that would be one fewer."""
        imap = self._volume.imap
        leaves: list[list[int]] = []
        try:
            for child in branch.children:
                leaf = imap.load(child, 0)
                assert not isinstance(leaf, Branch)
                leaves.append(leaf.item_sizes)
        except (DamageError, FilesystemError):
            return
        filled_bytes = [sum(sizes) for sizes in leaves]
        capacity_bytes = self._volume.block_bytes - NODE_HEADER_BYTES
        start = 0
        while start < len(leaves):
            for end in range(start + 2, min(start + _TOGETHER, len(leaves)) + 1):
                count = end - start - 1
                if sum(filled_bytes[start:end]) <= count * capacity_bytes:
                    sizes = [*chain.from_iterable(leaves[start:end])]
                    if fewest_nodes(sizes, capacity_bytes) <= count:
                        yield [*branch.keys[start:end]]
                        start = end - 1
                        break
            start += 1
