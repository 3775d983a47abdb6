"""Walking the imap of a checkpoint: every node verified, every item in key order.

FORMAT.md, "Imap".  Pointers are distrusted: levels must fall by one, so that
depth is bounded, and no node is visited twice, so that the walk ends.  A subtree
that cannot be read or is out of order is a problem and a lost range of keys;
the walk goes on behind it.

Held by ``tests/fsck/test_structure.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fsck.reading.image import Image
from fsck.reading.report import Report
from fsck.reading.space import Extents, Owner
from lfs.common.errors import DamageError, DeviceError
from lfs.ondisk import (
    KEY_BYTES,
    Branch,
    Checkpoint,
    Leaf,
    Node,
    Pointer,
    block_seal_holds,
    block_sequence,
    unpack_node,
)

LEVEL_MAX = 32
_LOWEST_KEY = b""
_ABOVE_ALL_KEYS = b"\xff" * (KEY_BYTES + 1)


class _Step(NamedTuple):
    """A node to visit, and the keys it may hold: from ``low`` up to, not including, ``high``."""

    pointer: Pointer
    level: int
    low: bytes
    high: bytes


class TreeWalk:
    """One pass over the imap of ``checkpoint``.

    ``node_count`` and ``lost``, ranges ``(low, high)`` of keys in ascending
    order, grow as ``items`` goes on and are up to date for the keys it has
    passed.
    """

    def __init__(
        self, image: Image, checkpoint: Checkpoint, extents: Extents, report: Report
    ) -> None:
        """Prepare a walk that adds its nodes to ``extents`` and its problems to ``report``."""
        self._image = image
        self._checkpoint = checkpoint
        self._extents = extents
        self._report = report
        self._visited: set[int] = set()
        self.lost: list[tuple[bytes, bytes]] = []

    @property
    def node_count(self) -> int:
        """Return how many nodes were visited so far."""
        return len(self._visited)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of every item that can be read, in ascending order of keys."""
        root, level = self._checkpoint.imap_root, self._checkpoint.imap_root_level
        if root.address == 0:
            return
        if level > LEVEL_MAX:
            message = f"imap root level: expected at most {LEVEL_MAX}, found {level}"
            self._report.add("node-level", message, root.address)
            self.lost.append((_LOWEST_KEY, _ABOVE_ALL_KEYS))
            return
        stack = [_Step(root, level, _LOWEST_KEY, _ABOVE_ALL_KEYS)]
        while stack:
            step = stack.pop()
            node = self._visit(step)
            if node is None:
                self.lost.append((step.low, step.high))
            elif isinstance(node, Leaf):
                yield from zip(node.keys, node.values, strict=True)
            else:
                stack.extend(reversed(_children(node, step)))

    def is_lost(self, low: bytes, high: bytes) -> bool:
        """Tell whether keys from ``low`` up to ``high``, all passed, may have been lost."""
        for lost_low, lost_high in reversed(self.lost):
            if lost_high <= low:
                return False
            if lost_low < high:
                return True
        return False

    def _visit(self, step: _Step) -> Node | None:
        """Return the node of ``step``; None, and a problem, when nothing below it can be used."""
        address = step.pointer.address
        if address in self._visited:
            self._report.add(
                "node-shared", f"node {address}: expected one pointer to it, found two", address
            )
            return None
        try:
            raw = self._image.read_verified(step.pointer)
            node = unpack_node(raw, self._image.filesystem_id, address)
        except (DamageError, DeviceError) as error:
            self._report.add("node-damaged", f"imap node: {error.strerror}", address)
            return None
        self._visited.add(address)
        self._extents.add_block(Owner.NODE, step.pointer)
        if not block_seal_holds(raw):
            self._report.add("node-seal", f"node {address}: own checksum is wrong", address)
        if block_sequence(raw) >= self._checkpoint.next_sequence:
            self._report.add(
                "node-sequence",
                f"node {address}: expected a sequence number below "
                f"{self._checkpoint.next_sequence}, found {block_sequence(raw)}",
                address,
            )
        return node if self._is_in_place(node, step) else None

    def _is_in_place(self, node: Node, step: _Step) -> bool:
        """Tell whether level and keys are what the path to ``node`` demands."""
        address = step.pointer.address
        if node.level != step.level:
            self._report.add(
                "node-level",
                f"node {address}: expected level {step.level}, found {node.level}",
                address,
            )
            return False
        if not node.keys:
            if isinstance(node, Leaf):
                return True
            self._report.add("node-order", f"node {address}: a branch without slots", address)
            return False
        if node.keys[0] < step.low or node.keys[-1] >= step.high:
            self._report.add(
                "node-order",
                f"node {address}: expected keys from {step.low.hex() or 'the lowest'} up to "
                f"{step.high.hex()}, found {node.keys[0].hex()} to {node.keys[-1].hex()}",
                address,
            )
            return False
        return True


def _children(node: Branch, step: _Step) -> list[_Step]:
    """Return the steps below ``node``; its first child also takes keys below its slot."""
    lows = [step.low, *node.keys[1:]]
    highs = [*node.keys[1:], step.high]
    return [
        _Step(pointer, step.level - 1, low, high)
        for pointer, low, high in zip(node.children, lows, highs, strict=True)
    ]
