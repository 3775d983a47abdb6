"""Nodes of the inode map in memory.

A block stays as it came until its node is asked for, and a leaf even then
(``PackedLeaf``): of the leaves that a cache can hold, most are asked for a few
items before they go.  One that is asked often gets its keys decoded, and loses
them again before any other has to go for that.

Invariant: ``bytes_kept`` is what all nodes kept take, and no more than the limit
unless a single node is larger.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from lfs.imap.read_ahead import ReadAhead
from lfs.ondisk import Branch, PackedLeaf, Pointer, read_node

_BRANCH_CHILD_BYTES = 200
_OFTEN = 8


def _read_nothing_ahead(address: int, count: int) -> None:
    """Have nobody to tell."""


class NodeCache:
    """Nodes by address, the ones used least recently dropped first."""

    def __init__(
        self,
        read_verified: Callable[[Pointer], bytes],
        filesystem_id: bytes,
        bytes_max: int,
        will_read: Callable[[int, int], None] = _read_nothing_ahead,
    ) -> None:
        """``read_verified`` returns a block that matches its pointer or raises DamageError.

        ``will_read`` is told the address of blocks that will be asked for soon, and how many.
        """
        self._ahead = ReadAhead(will_read)
        self._read_verified = read_verified
        self._filesystem_id = filesystem_id
        self._bytes_max = bytes_max
        self._nodes: OrderedDict[int, bytes | Branch | PackedLeaf] = OrderedDict()
        self.bytes_kept = 0

    def load(self, pointer: Pointer) -> Branch | PackedLeaf:
        """Return the node at ``pointer``; raises DamageError or DeviceError."""
        address = pointer.address
        node = self._nodes.get(address)
        if isinstance(node, PackedLeaf):
            self._nodes.move_to_end(address)
            if node.get_count >= _OFTEN and not node.is_unfolded:
                self._unfold(node)
        elif isinstance(node, Branch):
            self._nodes.move_to_end(address)
        else:
            raw = self._read_verified(pointer) if node is None else node
            node = read_node(raw, self._filesystem_id, address)
            self._keep(address, node)
        return node

    def load_child(self, branch: Branch, index: int) -> Branch | PackedLeaf:
        """Return a child of ``branch``; raises as ``load`` does."""
        child = branch.children[index]
        if branch.level == 1 and child.address not in self._nodes:
            self._ahead.note(branch, index)
        return self.load(child)

    def _unfold(self, leaf: PackedLeaf) -> None:
        self.bytes_kept -= leaf.memory_bytes
        leaf.unfold()
        self.bytes_kept += leaf.memory_bytes
        self._trim()

    def store(self, address: int, raw: bytes) -> None:
        """Remember the block ``raw`` as what is at ``address``."""
        self._keep(address, raw)

    def drop(self, address: int) -> None:
        """Forget the node at ``address``."""
        node = self._nodes.pop(address, None)
        if node is not None:
            self.bytes_kept -= _memory_bytes(node)

    def _keep(self, address: int, node: bytes | Branch | PackedLeaf) -> None:
        self.drop(address)
        self._nodes[address] = node
        self.bytes_kept += _memory_bytes(node)
        self._trim()

    def _trim(self) -> None:
        while self.bytes_kept > self._bytes_max and len(self._nodes) > 1:
            address, node = self._nodes.popitem(last=False)
            self.bytes_kept -= _memory_bytes(node)
            if isinstance(node, PackedLeaf) and node.is_unfolded:
                node.fold()
                self._nodes[address] = node
                self.bytes_kept += _memory_bytes(node)


def _memory_bytes(node: bytes | Branch | PackedLeaf) -> int:
    """Return about how much memory a node takes."""
    if isinstance(node, bytes):
        return len(node)
    if isinstance(node, PackedLeaf):
        return node.memory_bytes
    return _BRANCH_CHILD_BYTES * len(node.keys)
