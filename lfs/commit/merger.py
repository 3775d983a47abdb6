"""Merging changed items into the tree on disk: the nodes are built and written.

The tree goes over to the new nodes at once, and the disk does with the region of the next
checkpoint (``lfs.commit.checkpoint``), until which the old ones are kept.  Nodes that can't
be written in one place are written in another.

Held by ``tests/commit/test_checkpoint.py`` and ``tests/commit/test_merging_ahead.py``.
"""

from __future__ import annotations

from lfs.alloc.delayed.ledger import Ledger
from lfs.common.checksum import checksum
from lfs.imap.rebuild import NewNode, Rebuild, Rebuilt
from lfs.ondisk import (
    BLOCK_NODE,
    HEAD_METADATA,
    KEY_BYTES,
    SUMMARY_CHECKPOINT,
    Entry,
    Pointer,
    pack_node,
)
from lfs.volume.volume import Volume

_NODES_AT_ONCE = 256
_FIRST_KEY = bytes(KEY_BYTES)


class Merger:
    """Merges the changes of one volume's inode map."""

    def __init__(self, volume: Volume, ledger: Ledger) -> None:
        """Write to ``volume``, whose space ``ledger`` counts."""
        self._volume = volume
        self._ledger = ledger
        self.ahead_blocks = 0
        """So many blocks the parts took since a region was written: a mount takes them again."""

    def rebuilt(self) -> Rebuilt:
        """Return the tree with all changes; raises DamageError when a node can't be read."""
        imap = self._volume.imap
        if not imap.changes and not imap.touched_keys:
            # The two checkpoints never share a root, so that one bad block can't take both.
            imap.touched_keys.add(_FIRST_KEY)
        keys = imap.touched_keys.union(imap.changes)
        return Rebuild(imap, self._volume.block_bytes, keys).run()

    def write(self, rebuilt: Rebuilt, now_ns: int) -> None:
        """Write the nodes of the tree with all changes; raises DeviceError."""
        self._write_nodes(rebuilt, now_ns)
        volume = self._volume
        volume.imap.adopt(*self._outcome(rebuilt), volume.state.next_ino)

    def merge_part(self, keys: list[bytes], now_ns: int) -> None:
        """Merge the changes of some keys, which have been logged.

        Raises DamageError when a node can't be read, and nothing has changed.  Raises
        DeviceError when one can't be written, and the volume has failed.
        """
        volume = self._volume
        rebuilt = Rebuild(volume.imap, volume.block_bytes, keys).run()
        try:
            self._write_nodes(rebuilt, now_ns)
        except BaseException as error:
            volume.fail(error)
            raise
        self.ahead_blocks += len(rebuilt.new_nodes)
        volume.imap.adopt_part(keys, *self._outcome(rebuilt))

    def _outcome(self, rebuilt: Rebuilt) -> tuple[Pointer, int, int]:
        """Return what the map is told of its new tree, which has been written."""
        grown_by = len(rebuilt.new_nodes) - len(rebuilt.freed_addresses)
        node_count = max(0, self._volume.imap.node_count + grown_by)
        root = rebuilt.root.pointer if isinstance(rebuilt.root, NewNode) else rebuilt.root
        return root, rebuilt.root_level, node_count

    def _write_nodes(self, rebuilt: Rebuilt, now_ns: int) -> None:
        """Write the new nodes, and give the others up once no checkpoint leads to them."""
        volume = self._volume
        nodes = rebuilt.new_nodes
        for start in range(0, len(nodes), _NODES_AT_ONCE):
            self._place_nodes(nodes[start : start + _NODES_AT_ONCE], now_ns)
        for address in rebuilt.freed_addresses:
            volume.usage.drop_metadata(address, volume.state.checkpoint_number + 2)
            volume.imap.nodes.drop(address)

    def _place_nodes(self, nodes: list[NewNode], now_ns: int) -> None:
        """Write nodes, children first, in as many log writes as it takes."""
        volume = self._volume
        while nodes:
            placement = volume.reserve(
                HEAD_METADATA, len(nodes), 0, 1, spare_blocks=self._ledger.log_spare_blocks
            )
            now = nodes[: placement.payload_blocks]
            blocks: list[bytes] = []
            checksums: list[int] = []
            for address, new in enumerate(now, placement.payload_address):
                raw = pack_node(
                    new.finished(),
                    volume.filesystem_id,
                    address,
                    placement.sequence,
                    volume.block_bytes,
                )
                new.pointer = Pointer(address, checksum(raw))
                blocks.append(raw)
                checksums.append(new.pointer.checksum)
            entry = Entry(BLOCK_NODE, 0, 0, 0, checksums)
            if not volume.emit(placement, [entry], blocks, (), SUMMARY_CHECKPOINT, now_ns):
                volume.usage.drop_live(placement.payload_address, len(now))
                continue
            for new, raw in zip(now, blocks, strict=True):
                volume.imap.nodes.store(new.pointer.address, raw)
            nodes = nodes[placement.payload_blocks :]
