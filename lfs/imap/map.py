"""The inode map: every item of metadata, by key.

Theory.  On disk the map is a copy-on-write B+tree as of the last checkpoint.
Over it, in memory, lie the items changed since (``None`` for a deleted one);
they are looked at first.  Operations and roll-forward both write there, commits
log what is there, and a checkpoint merges it into a new tree
(``lfs.imap.rebuild``).  The two layers are the C0 and C1 of a log-structured
merge tree (P. O'Neil et al., Acta Informatica 33, 1996), the lower one
copy-on-write (O. Rodeh, "B-trees, Shadowing, and Clones", ACM TOS 3(4), 2008).
Nearly every question is for one key, so the changes are in no order until one is
asked for (``lfs.imap.key_order``).

Invariants: nodes are never changed once written; a change is in ``changes``
until it is merged into the tree, and so is its key, deleted or not;
``unlogged`` names the keys changed since the last commit, in order of their first
change; ``near`` has leaves of the present tree only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from lfs.common.errors import DamageError
from lfs.imap.key_order import KeyOrder
from lfs.imap.node_cache import NodeCache
from lfs.ondisk import (
    EMPTY_LEAF,
    KEY_BYTES,
    KEY_KIND,
    NO_BLOCK,
    RECORD_OVERHEAD_BYTES,
    Branch,
    Change,
    PackedLeaf,
    Pointer,
    pack_key,
    unpack_key,
)

_BATCH_ITEMS = 512
CHANGE_MEMORY_BYTES: Final = 160
"""What a changed item takes beside its value."""
_PAST_ALL_KEYS = b"\xff" * (KEY_BYTES + 1)


class Packable:
    """A value that is kept decoded because it changes often; its owner has a class of its own."""

    __slots__ = ("counted_bytes", "stored_bytes")

    def __init__(self) -> None:
        """Begin as a value that no item has."""
        self.stored_bytes = 0
        """No more than the length that the value has in the tree."""
        self.counted_bytes = -1
        """What the map counts it as while it is among its changes, otherwise -1."""

    @property
    def packed_bytes(self) -> int:
        """Return the length of what ``pack`` returns."""
        raise NotImplementedError

    def pack(self) -> bytes:
        """Return the value as it goes to disk."""
        raise NotImplementedError


Value: TypeAlias = bytes | Packable


class Imap:
    """An ordered map from 17-byte keys to values, with its changes since the checkpoint."""

    def __init__(self, nodes: NodeCache, root: Pointer, root_level: int, node_count: int) -> None:
        """Start from the tree of a checkpoint; ``root`` may be NO_BLOCK."""
        self.nodes = nodes
        self.root = root
        self.root_level = root_level
        self.node_count = node_count
        self.changes: dict[bytes, Value | None] = {}
        """What changed since it was last merged into the tree."""
        self.touched_keys: set[bytes] = set()
        """Keys whose nodes the next checkpoint writes anew although they have not changed."""
        self._order = KeyOrder(self.changes)
        self.changed_bytes = 0
        """About how many bytes of items the next checkpoint will write."""
        self._still: set[bytes] = set()
        """The changed items that are no longer than what they replace."""
        self._still_bytes = 0
        """How many bytes of items those are."""
        self.deleted_count = 0
        """How many items have been deleted since the mount."""
        self.unlogged_bytes = 0
        """Upper bound of the length of the records that the next commit will log."""
        self._unlogged: dict[bytes, Value | None] = {}
        """What the next commit will log."""
        self.fresh_key = _PAST_ALL_KEYS
        """The tree has no key from here on: no inode had such a number at the checkpoint."""
        self._near: dict[int, tuple[bytes, bytes, PackedLeaf]] = {}

    # -------------------------------------------------------------------- items

    def get(self, key: bytes) -> bytes | None:
        """Return the value of ``key``, or None; raises DamageError."""
        value = self.changes.get(key)
        if value is None:
            return None if key in self.changes else self.get_stored(key)
        return value if isinstance(value, bytes) else value.pack()

    def changed_value(self, key: bytes) -> bytes | None:
        """Return the value of a key in ``changes``; None when it was deleted."""
        value = self.changes[key]
        return value if value is None or isinstance(value, bytes) else value.pack()

    def get_stored(self, key: bytes) -> bytes | None:
        """Return the value that ``key`` had at the last checkpoint, or None."""
        if key >= self.fresh_key:
            return None
        leaf = self._leaf(key)[2]
        return leaf.get(key) if leaf.count else None

    def put(self, key: bytes, value: bytes, may_grow: bool = True) -> None:
        """Set ``key`` to ``value``; the next commit logs it.

        Unless it ``may_grow``, the value is no longer than the one in the tree.
        """
        value_bytes = len(value)
        self._unlogged[key] = value
        self.unlogged_bytes += value_bytes + RECORD_OVERHEAD_BYTES
        self._change(key, value, value_bytes, may_grow)

    def delete(self, key: bytes) -> None:
        """Remove ``key``, which need not exist; the next commit logs it."""
        self.deleted_count += 1
        self._unlogged[key] = None
        self.unlogged_bytes += RECORD_OVERHEAD_BYTES
        self._change(key, None, 0, False)

    def apply(self, key: bytes, value: Value | None) -> None:
        """Set or delete ``key`` without a record: the log tells it in another way.

        A ``Packable`` goes on to be changed by its owner; it is packed when its
        value is asked for.  Where a record of ``key`` is still to be logged, it
        will have this value.
        """
        if value is None or isinstance(value, bytes):
            growth_bytes = self._change(key, value, len(value or b""), value is not None)
        else:
            value_bytes = value.packed_bytes
            if value.counted_bytes == value_bytes:
                # It is among the changes, and neither shorter nor longer than it was.
                growth_bytes = RECORD_OVERHEAD_BYTES
                self.changed_bytes += growth_bytes
            else:
                may_grow = value_bytes > value.stored_bytes
                growth_bytes = self._change(key, value, value_bytes, may_grow)
                value.counted_bytes = value_bytes
        if key in self._unlogged:
            self._unlogged[key] = value
            self.unlogged_bytes += max(0, growth_bytes)

    def _change(self, key: bytes, value: Value | None, value_bytes: int, may_grow: bool) -> int:
        """Change ``key``; returns by how many bytes what is changed has grown.

        Once it may have grown, it counts so until the next checkpoint.
        """
        changes = self.changes
        before = changes.get(key)
        before_bytes = 0
        if before is not None:
            is_new = False
            if isinstance(before, bytes):
                before_bytes = len(before)
            else:
                before_bytes = before.counted_bytes
                before.counted_bytes = -1
        else:
            is_new = key not in changes
        if not may_grow:
            if is_new:
                self._still.add(key)
                self._still_bytes += value_bytes + RECORD_OVERHEAD_BYTES
            elif key in self._still:
                self._still_bytes += value_bytes - before_bytes
        elif not is_new and key in self._still:
            self._still.remove(key)
            self._still_bytes -= before_bytes + RECORD_OVERHEAD_BYTES
        changes[key] = value
        size = value_bytes + RECORD_OVERHEAD_BYTES - before_bytes
        self.changed_bytes += size
        return size

    def pack_change(self, key: bytes, value: Packable) -> None:
        """Keep ``value`` packed, if that is what ``key`` was changed to: it takes less memory."""
        if self.changes.get(key) is value:
            packed = value.pack()
            # Should it be used on, and the tree have this by then.
            value.stored_bytes = min(value.stored_bytes, len(packed))
            growth_bytes = len(packed) - value.counted_bytes
            self.changed_bytes += growth_bytes
            if key in self._still:
                self._still_bytes += growth_bytes
            value.counted_bytes = -1
            self.changes[key] = packed

    @property
    def memory_bytes(self) -> int:
        """Return about how much memory the changed items take, those that are decoded apart."""
        return self.changed_bytes + CHANGE_MEMORY_BYTES * len(self.changes)

    @property
    def growing_count(self) -> int:
        """Return how many of the changed items may be longer than what they replace."""
        return len(self.changes) - len(self._still)

    @property
    def growing_bytes(self) -> int:
        """Return how much of ``changed_bytes`` is theirs."""
        return self.changed_bytes - self._still_bytes

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the items with ``start <= key < end`` in key order.

        Items may be changed meanwhile: what is yielded was true at some moment
        since the scan began.
        """
        while True:
            items, following = self.batch(start, end)
            yield from items
            if following is None:
                return
            start = following

    def batch(self, start: bytes, end: bytes) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """Return the next items from ``start`` and where to go on, or None at the end.

        A bounded piece of ``scan``; there may be none among many that were deleted.
        """
        _, bound, leaf = self._leaf(start)
        following = bound if bound < end else None
        until = following if following is not None else end
        changed = list(islice(self._order.between(start, until), _BATCH_ITEMS))
        if len(changed) == _BATCH_ITEMS:
            following = until = changed[-1] + b"\0"
        stored = leaf.between(start, until)
        if not changed:
            return stored, following
        merged: dict[bytes, bytes | None] = dict(stored)
        for key in changed:
            merged[key] = self.changed_value(key)
        items = [(key, value) for key, value in sorted(merged.items()) if value is not None]
        return items, following

    def changed_from(self, start: bytes) -> Iterator[bytes]:
        """Yield the changed keys from ``start`` on, ascending; none may come meanwhile."""
        return self._order.between(start, _PAST_ALL_KEYS)

    def is_unlogged(self, key: bytes) -> bool:
        """Tell whether the next commit will log ``key``."""
        return key in self._unlogged

    def changed_bytes_of(self, key: bytes) -> int:
        """Return what the item of a key in ``changes`` counts for."""
        value = self.changes[key]
        if value is None or isinstance(value, bytes):
            return RECORD_OVERHEAD_BYTES + len(value or b"")
        return RECORD_OVERHEAD_BYTES + value.counted_bytes

    def is_one_leaf(self, start: bytes, end: bytes) -> bool:
        """Tell whether a leaf holds all that is stored of ``start <= key < end``.

        ``batch`` returns all of that at once then.  Raises DamageError.
        """
        return end <= self._leaf(start)[1]

    def _leaf(self, key: bytes) -> tuple[bytes, bytes, PackedLeaf]:
        """Return the leaf that would hold ``key``, and its first key and the first past it.

        The last one of each kind of keys is remembered: who asks for one key often
        goes on to the one beside it.
        """
        near = self._near.get(key[KEY_KIND])
        if near is not None and near[0] <= key < near[1]:
            return near
        if key >= self.fresh_key:
            return self.fresh_key, _PAST_ALL_KEYS, EMPTY_LEAF
        low, bound, level = b"", _PAST_ALL_KEYS, self.root_level
        node = EMPTY_LEAF if self.root == NO_BLOCK else self.nodes.load(self.root)
        # Levels are counted, so no way down goes in circles, whoever made the tree.
        while level and isinstance(node, Branch):
            index = max(0, bisect_right(node.keys, key) - 1)
            if index:
                low = node.keys[index]
            if index + 1 < len(node.keys):
                bound = node.keys[index + 1]
            level -= 1
            node = self.nodes.load_child(node, index)
        if level or isinstance(node, Branch):
            raise DamageError(f"no leaf {self.root_level} levels below node {self.root.address}")
        near = self._near[key[KEY_KIND]] = low, bound, node
        return near

    def leaf_end(self, key: bytes) -> bytes:
        """Return the first key past the leaf that would hold ``key``, which is not read."""
        end, here, level = _PAST_ALL_KEYS, self.root, self.root_level
        while level and key < self.fresh_key:
            node = self.load(here, level)
            assert isinstance(node, Branch)
            index = max(0, bisect_right(node.keys, key) - 1)
            if index + 1 < len(node.keys):
                end = node.keys[index + 1]
            here = node.children[index]
            level -= 1
        return end

    def load(self, pointer: Pointer, level: int) -> Branch | PackedLeaf:
        """Return the node at ``pointer``; raises DamageError when it is of another level."""
        node = self.nodes.load(pointer)
        if node.level != level:
            raise DamageError(
                f"node {pointer.address}: expected level {level}, found level {node.level}"
            )
        return node

    def leads_to(self, key: bytes, level: int, pointer: Pointer) -> bool:
        """Tell whether the node of ``level`` on the way to ``key`` is the one at ``pointer``."""
        here, here_level = self.root, self.root_level
        while here_level > level:
            node = self.load(here, here_level)
            assert isinstance(node, Branch)
            here = node.children[max(0, bisect_right(node.keys, key) - 1)]
            here_level -= 1
        return here == pointer

    # --------------------------------------------------------- commit, checkpoint

    @property
    def unlogged_count(self) -> int:
        """Return how many keys changed since the last commit."""
        return len(self._unlogged)

    def take_unlogged(self) -> list[Change]:
        """Return what changed since the last commit; it counts as logged from now on."""
        records: list[Change] = []
        for key, value in self._unlogged.items():
            if value is None or isinstance(value, bytes):
                records.append((key, value))
            else:
                records.append((key, value.pack()))
        self._unlogged.clear()
        self.unlogged_bytes = 0
        return records

    def adopt(self, root: Pointer, root_level: int, node_count: int, next_ino: int) -> None:
        """Go over to a new tree that contains all changes, and no inode from ``next_ino`` on."""
        assert not self._unlogged
        self._turn_to(root, root_level, node_count, pack_key(next_ino, 0, 0))
        for value in self.changes.values():
            if isinstance(value, Packable):
                value.stored_bytes = value.counted_bytes
                value.counted_bytes = -1
        self._still.clear()
        self._still_bytes = 0
        self.changes.clear()
        self.touched_keys.clear()
        self._order.clear()
        self.changed_bytes = 0

    def adopt_part(
        self, keys: list[bytes], root: Pointer, root_level: int, node_count: int
    ) -> None:
        """Go over to a new tree that contains the changes of ``keys``, which have been logged.

        They are in order.  Inodes made since then are in no tree, though they have numbers.
        """
        past_key = pack_key(unpack_key(keys[-1])[0] + 1, 0, 0) if keys else b""
        self._turn_to(root, root_level, node_count, max(self.fresh_key, past_key))
        self._order.remove(keys)
        for key in keys:
            assert key not in self._unlogged
            size = self.changed_bytes_of(key)
            self.changed_bytes -= size
            if key in self._still:
                self._still.remove(key)
                self._still_bytes -= size
            value = self.changes.pop(key)
            if isinstance(value, Packable):
                value.stored_bytes = value.counted_bytes
                value.counted_bytes = -1

    def _turn_to(self, root: Pointer, root_level: int, node_count: int, fresh_key: bytes) -> None:
        self.fresh_key = fresh_key
        self.root = root
        self.root_level = root_level
        self.node_count = node_count
        self._near.clear()
