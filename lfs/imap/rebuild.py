"""Merging the changes of the inode map into a new tree.

Theory.  One pass from the root down visits only the nodes whose keys changed.
The contents of adjacent changed children are joined into one stream and cut
into new nodes of even fill, so that growing and shrinking need no rules of
their own; a stream that has changed and is too short takes an unchanged neighbour in.  New
nodes are numbered children first: when their blocks are built in that order,
every child's address and checksum are known.

A node that can't be read stays as it is where it need not be read: as a neighbour, as a
mere wish, and where everything that would go to it is new, which gets nodes of its own
behind it.

A node may also be rewritten without a change of its keys, because the cleaner
wants it elsewhere: that is what ``touched`` keys are for.  It takes no neighbour in, so that
moving nodes takes no more room than they do: nodes touched side by side come to no more
than they were.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from math import inf
from typing import cast

from lfs.common.errors import DamageError
from lfs.imap.map import Imap
from lfs.ondisk import (
    BRANCH_SLOT_BYTES,
    LEAF_SLOT_BYTES,
    NO_BLOCK,
    NODE_HEADER_BYTES,
    Branch,
    Leaf,
    Node,
    PackedLeaf,
    Pointer,
)


class NewNode:
    """A node of the new tree; ``pointer`` is set when its block has been built."""

    __slots__ = ("contents", "keys", "level", "pointer")

    def __init__(self, level: int, keys: list[bytes], contents: list[Content]) -> None:
        """Take what its slots hold."""
        self.level = level
        self.keys = keys
        self.contents = contents
        self.pointer = NO_BLOCK

    def finished(self) -> Node:
        """Return the node with its children's pointers; they must be set."""
        if self.level == 0:
            return Leaf(self.keys, cast("list[bytes]", self.contents))
        children = [c.pointer if isinstance(c, NewNode) else c for c in self.contents]
        return Branch(self.level, self.keys, cast("list[Pointer]", children))


Child = Pointer | NewNode
Content = bytes | Child
"""What a slot holds: a value in a leaf, a child in a branch."""
Slots = list[tuple[bytes, Content]]


class Rebuilt:
    """The outcome: new nodes (children first), blocks no longer used, the new root."""

    def __init__(self) -> None:
        """Begin without a tree."""
        self.new_nodes: list[NewNode] = []
        self.freed_addresses: list[int] = []
        self.root: Child = NO_BLOCK
        self.root_level = 0


class Rebuild:
    """One merge; use ``run`` once."""

    def __init__(self, imap: Imap, block_bytes: int, keys: Iterable[bytes]) -> None:
        """Rewrite the paths to ``keys``, with those of ``imap.changes`` that are among them."""
        self._imap = imap
        self._capacity_bytes = block_bytes - NODE_HEADER_BYTES
        self._keys: list[bytes] = sorted(keys)
        self._result = Rebuilt()

    def run(self) -> Rebuilt:
        """Return the new tree; raises DamageError when an old node can't be read."""
        result = self._result
        imap = self._imap
        if not self._keys:
            result.root, result.root_level = imap.root, imap.root_level
            return result
        level = imap.root_level
        if imap.root == NO_BLOCK:
            slots: Slots = self._merge([], [], 0, len(self._keys))
        else:
            slots = self._contents(imap.root, level, 0, len(self._keys))
        result.root_level = level
        nodes = self._cut(slots, level)
        while len(nodes) > 1:
            result.root_level += 1
            nodes = self._cut(nodes, result.root_level)
        if nodes:
            result.root = cast("Child", nodes[0][1])
            self._drop_single_roots()
        else:
            result.root_level = 0
        return result

    def _drop_single_roots(self) -> None:
        """Let a root with a single child give way to it."""
        result = self._result
        while isinstance(result.root, NewNode) and result.root_level and len(result.root.keys) == 1:
            last = result.new_nodes.pop()
            assert last is result.root
            result.root = cast("Child", last.contents[0])
            result.root_level -= 1

    def _contents(self, pointer: Pointer, level: int, low: int, high: int) -> Slots:
        """Return the new slots of the node at ``pointer`` for changes ``low`` to ``high``."""
        node = self._imap.load(pointer, level)
        self._result.freed_addresses.append(pointer.address)
        if isinstance(node, PackedLeaf):
            return self._merge(node.keys, node.values, low, high)
        slots: Slots = []
        children = self._changed_children(node, low, high)
        index = 0
        while index < len(children):
            if children[index][0] == children[index][1]:
                slots.append((node.keys[index], node.children[index]))
                index += 1
                continue
            if self._stays(node.children[index], children[index], level - 1):
                slots.append((node.keys[index], node.children[index]))
                slots += self._built_anew(level - 1, *children[index])
                index += 1
                continue
            index = self._join(node, children, index, slots)
        return slots

    def _join(self, node: Branch, children: list[tuple[int, int]], index: int, slots: Slots) -> int:
        """Append what the stream from child ``index`` on is cut into; return where it ended."""
        level = node.level - 1
        joined: Slots = []
        is_wanting = has_changed = False
        while index < len(children) and self._joins(
            children[index], node.children[index], is_wanting, level
        ):
            joined += self._contents(node.children[index], level, *children[index])
            has_changed = has_changed or self._has_changed(*children[index])
            is_wanting = has_changed and bool(joined) and self._is_short(joined, level)
            index += 1
        if is_wanting and slots:
            neighbour = slots[-1][1]
            if isinstance(neighbour, Pointer) and self._is_readable(neighbour, level):
                slots.pop()
                joined = self._contents(neighbour, level, 0, 0) + joined
        slots += self._cut(joined, level)
        return index

    def _has_changed(self, low: int, high: int) -> bool:
        """Tell whether any of these keys was not merely touched."""
        return any(key in self._imap.changes for key in self._keys[low:high])

    def _stays(self, child: Pointer, span: tuple[int, int], level: int) -> bool:
        """Tell whether a child can't be read and need not be: what changes in it is all new.

        So damage to the last leaf, where new inodes would go, ends nothing.
        """
        if self._is_readable(child, level):
            return False
        changed = (key for key in self._keys[span[0] : span[1]] if key in self._imap.changes)
        first = next(changed, None)
        return first is None or first >= self._imap.fresh_key

    def _built_anew(self, level: int, low: int, high: int) -> Slots:
        """Return nodes of ``level`` for the changes ``low`` to ``high`` alone."""
        slots = self._merge([], [], low, high)
        for below in range(level + 1):
            slots = self._cut(slots, below)
        return slots

    def _joins(self, span: tuple[int, int], child: Pointer, is_wanting: bool, level: int) -> bool:
        """Tell whether the next child belongs to the stream: rewritten, or the stream is short."""
        if span[0] != span[1]:
            return not self._stays(child, span, level)
        return is_wanting and self._is_readable(child, level)

    def _is_readable(self, neighbour: Pointer, level: int) -> bool:
        """Tell whether a node that need not change can be taken in."""
        try:
            self._imap.load(neighbour, level)
        except DamageError:
            return False
        return True

    def _changed_children(self, node: Branch, low: int, high: int) -> list[tuple[int, int]]:
        """Return for each child of ``node`` the range of changes that fall into it."""
        cuts = [low]
        cuts += [bisect_left(self._keys, key, low, high) for key in node.keys[1:]]
        cuts.append(high)
        return list(pairwise(cuts))

    def _merge(self, keys: list[bytes], values: list[bytes], low: int, high: int) -> Slots:
        """Return the items of a leaf with changes ``low`` to ``high`` applied."""
        changes = self._imap.changes
        merged: dict[bytes, Content] = dict(zip(keys, values, strict=True))
        for key in self._keys[low:high]:
            if key not in changes:
                continue
            value = self._imap.changed_value(key)
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        return sorted(merged.items())

    def _sizes(self, slots: Slots, level: int) -> list[int]:
        if level:
            return [BRANCH_SLOT_BYTES] * len(slots)
        return [
            LEAF_SLOT_BYTES + len(value) for _, value in cast("list[tuple[bytes, bytes]]", slots)
        ]

    def _is_short(self, slots: Slots, level: int) -> bool:
        return sum(self._sizes(slots, level)) < self._capacity_bytes // 3

    def _cut(self, slots: Slots, level: int) -> Slots:
        """Cut slots into new nodes of about even fill; returns them with their first keys.

        Cuts are where an even share would end, counted from the first slot: what
        single nodes miss or exceed must not add up to a last one with next to nothing.
        Where long items make that more nodes than it takes to fill one after the other,
        they are filled so: then slots that fitted into so many nodes still do.
        """
        sizes = self._sizes(slots, level)
        total = sum(sizes)
        node_count = -(-total // self._capacity_bytes)
        cuts = _cuts(sizes, self._capacity_bytes, total / node_count if node_count else 0)
        if len(cuts) > node_count:
            filled = _cuts(sizes, self._capacity_bytes)
            cuts = filled if len(filled) < len(cuts) else cuts
        return [self._new(slots[low:high], level) for low, high in pairwise([*cuts, len(sizes)])]

    def _new(self, slots: Slots, level: int) -> tuple[bytes, Content]:
        node = NewNode(level, [key for key, _ in slots], [content for _, content in slots])
        self._result.new_nodes.append(node)
        return node.keys[0], node


def _cuts(sizes: list[int], capacity_bytes: int, share: float = inf) -> list[int]:
    """Return where nodes begin that end at multiples of ``share``, or are full before."""
    cuts: list[int] = []
    used = position = 0
    for index, size in enumerate(sizes):
        is_full = used + size > capacity_bytes
        if not index or is_full or position + size / 2 > share * len(cuts):
            cuts.append(index)
            used = 0
        used += size
        position += size
    return cuts


def fewest_nodes(sizes: list[int], capacity_bytes: int) -> int:
    """Return how many nodes hold slots of these sizes, in order, when each is filled."""
    return len(_cuts(sizes, capacity_bytes))
