"""Writes small valid images by hand, straight from FORMAT.md, and damages them.

Nothing of the filesystem's own code is used but ``lfs.ondisk``, so that a test
of the check does not depend on what it is meant to check.  A test changes what
the builder knows before ``build`` (an inode, a count, a field of a summary) to
get an image that is wrong in that one thing and has right checksums, or flips
bytes of the finished device.

The image has 4 KiB blocks and segments of 64 blocks.  The builder holds one
state of the filesystem, which is that of its tree; ``commit`` logs what changed
since the last call, and ``checkpoint`` writes the imap and the usage table of the
state as it is.
"""

from __future__ import annotations

from typing import Any

from lfs.device.memory import MemoryDevice
from lfs.ondisk import (
    BLOCK_NODE,
    BLOCK_USAGE,
    CHECKPOINT_REGION_BYTES,
    LEAF_SLOT_BYTES,
    NO_BLOCK,
    NODE_HEADER_BYTES,
    SEGMENT_CLEAN,
    SEGMENT_CONTINUED,
    SEGMENT_RUN,
    SUMMARY_CHECKPOINT,
    SUMMARY_COMMIT,
    SUMMARY_JUMP,
    SUPERBLOCK_OFFSET_BYTES,
    Branch,
    Checkpoint,
    Leaf,
    Node,
    Pointer,
    Record,
    Summary,
    Superblock,
    Usage,
    UsagePage,
    backup_superblock_offset_bytes,
    pack_node,
    pack_usage_page,
    summary_checksum,
)
from tests.fsck.plans import (
    BACKUP_OFFSET_BYTES,
    BLOCK_BYTES,
    DEVICE_BLOCKS,
    FILESYSTEM_ID,
    FIRST_BLOCK,
    HASH_SEED,
    SEGMENT_BLOCKS,
    SEGMENT_COUNT,
    TIME_NS,
    UUID,
    Block,
    RunPlan,
    Write,
    entries_of,
)
from tests.fsck.tree import ImageTree


class ImageBuilder(ImageTree):
    """A filesystem in the making: a tree, its log, and its checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[bytes, bytes] = {}
        self.writes: list[Write] = []
        self.runs = [RunPlan(0, 0)]
        self.current = self.runs[0]
        self.flushed_sequence = 0
        self.checkpoint_value: Checkpoint | None = None
        self.checkpoint_after = 0
        self.items_per_leaf = 12
        self.checkpoint_changes: dict[str, Any] = {}
        self.usage_changes: dict[int, Usage] = {}
        self.superblock_changes: dict[str, Any] = {}

    # -------------------------------------------------------------------- the log

    @property
    def next_sequence(self) -> int:
        return len(self.writes) + 1

    def commit(self, flags: int = SUMMARY_COMMIT, flushed: bool = True) -> Write:
        """Log what changed since the last call; ``flushed``: later writes know it durable."""
        payload, self.pending = self.pending, []
        address, at = self.current.place(len(payload))
        for index, each in enumerate(payload):
            each.address = at + index
        items = self.items()
        # Windows that only gained blocks follow from the data entries.
        changed = [
            Record(key, items.get(key))
            for key in sorted(items.keys() | self.logged.keys())
            if items.get(key) != self.logged.get(key) and not self.is_mapped(key)
        ]
        self.logged = items
        return self._write(address, at, payload, tuple(changed), flags, flushed)

    def open_run(self, segment: int, order: int = 0, area: int = 0, jump: bool = True) -> None:
        """Go on in a new run; the jump to it is written at the promised place."""
        if jump:
            address, _ = self.current.place(0)
            self._write(address, 0, [], (), SUMMARY_JUMP, False)
        self.current = RunPlan(segment, order, area)
        self.runs.append(self.current)

    def _write(
        self,
        address: int,
        at: int,
        payload: list[Block],
        records: tuple[Record, ...],
        flags: int,
        flushed: bool,
    ) -> Write:
        run = self.current
        run.sequence = run.sequence or self.next_sequence
        summary = Summary(
            sequence=self.next_sequence,
            address=address,
            next_address=0,
            run_address=run.address,
            run_blocks=run.blocks,
            run_sequence=run.sequence,
            run_next_address=run.next_summary,
            payload_address=at if payload else 0,
            payload_blocks=len(payload),
            summary_blocks=1,
            previous_checksum=0,
            flushed_sequence=self.flushed_sequence,
            head=1 if run.area else 0,
            flags=flags,
            time_ns=TIME_NS,
            records=records,
        )
        self.writes.append(Write(summary, payload))
        if flushed:
            self.flushed_sequence = summary.sequence
        return self.writes[-1]

    def checkpoint(self) -> None:
        """Commit, then write the imap and the usage table."""
        self.commit()
        levels = self._plan_nodes(self.items())
        nodes = [Block(BLOCK_NODE, b"") for level in levels for _ in level]
        page = Block(BLOCK_USAGE, b"")
        payload = [*nodes, page]
        address, at = self.current.place(len(payload))
        for index, each in enumerate(payload):
            each.address = at + index
        sequence = self.next_sequence
        root = self._fill_nodes(levels, nodes, sequence)
        self._write(address, at, payload, (), SUMMARY_CHECKPOINT, True)
        usages = self._usages(nodes)
        run = self.current
        packed = UsagePage(usages, sequence, run.address, run.blocks)
        page.content = pack_usage_page(packed, 0, FILESYSTEM_ID, page.address, BLOCK_BYTES)
        self.checkpoint_after = len(self.writes)
        self.checkpoint_value = Checkpoint(
            number=1,
            next_sequence=self.next_sequence,
            next_address=self.current.next_summary,
            previous_checksum=0,
            imap_root=root,
            imap_root_level=len(levels) - 1,
            next_ino=max(self.inodes, default=0) + 1,
            inode_count=len(self.inodes),
            live_block_count=sum(usage.live_blocks for usage in usages) + 1,
            node_count=len(nodes),
            time_ns=TIME_NS,
            flags=0,
            usage_pages=(page.pointer,),
        )

    def _plan_nodes(self, items: dict[bytes, bytes]) -> list[list[Node]]:
        """Return the nodes by level, leaves first, with empty pointers."""
        groups: list[list[bytes]] = [[]]
        room = BLOCK_BYTES - NODE_HEADER_BYTES
        for key in sorted(items):
            size = LEAF_SLOT_BYTES + len(items[key])
            if len(groups[-1]) == self.items_per_leaf or size > room:
                groups.append([])
                room = BLOCK_BYTES - NODE_HEADER_BYTES
            groups[-1].append(key)
            room -= size
        levels: list[list[Node]] = [[Leaf(group, [items[k] for k in group]) for group in groups]]
        while len(levels[-1]) > 1:
            below = levels[-1]
            parts = [below[start : start + 4] for start in range(0, len(below), 4)]
            levels.append(
                [
                    Branch(len(levels), [node.keys[0] for node in part], [NO_BLOCK] * len(part))
                    for part in parts
                ]
            )
        return levels

    def _fill_nodes(self, levels: list[list[Node]], blocks: list[Block], sequence: int) -> Pointer:
        """Give ``blocks`` the contents of the nodes; return the pointer to the root."""
        remaining = iter(blocks)
        below: list[Pointer] = []
        for level in levels:
            pointers = []
            taken = iter(below)
            for node, each in zip(level, remaining, strict=False):
                if isinstance(node, Branch):
                    node.children[:] = [next(taken) for _ in node.keys]
                each.content = pack_node(node, FILESYSTEM_ID, each.address, sequence, BLOCK_BYTES)
                pointers.append(each.pointer)
                if len(pointers) == len(level):
                    break
            below = pointers
        return below[0]

    def _usages(self, nodes: list[Block]) -> list[Usage]:
        """Return the usage table; no page counts itself."""
        usages = [Usage(0, 0, SEGMENT_CLEAN, 0, 0)] * SEGMENT_COUNT
        mapped = [each for blocks in self.blocks.values() for each in blocks.values()]
        live = [each.address for each in (*mapped, *nodes)]
        for run in self.runs:
            end = run.address + run.blocks
            count = sum(run.address <= address < end for address in live)
            inside = [write for write in self.writes if write.summary.run_address == run.address]
            last = max(write.summary.sequence for write in inside)
            for offset in range(1, 1 << run.order):
                usages[run.segment + offset] = Usage(0, 0, SEGMENT_CONTINUED, 0, 0)
            usages[run.segment] = Usage(count, run.order, SEGMENT_RUN, 0, last)
        for segment, usage in self.usage_changes.items():
            usages[segment] = usage
        return usages

    # ----------------------------------------------------------------- the device

    def superblock(self) -> Superblock:
        value = Superblock(
            uuid=UUID,
            label=b"test",
            block_bytes=BLOCK_BYTES,
            segment_blocks=SEGMENT_BLOCKS,
            device_blocks=DEVICE_BLOCKS,
            first_segment_block=FIRST_BLOCK,
            segment_count=SEGMENT_COUNT,
            checkpoint_offset_bytes=(65536, 131072),
            reserved_basis_points=0,
            created_ns=TIME_NS,
            hash_seed=HASH_SEED,
            filesystem_id=FILESYSTEM_ID,
            copy_offset_bytes=BACKUP_OFFSET_BYTES,
        )
        return value.replaced(**self.superblock_changes)

    def build(self) -> MemoryDevice:
        """Return a device with the image."""
        device = MemoryDevice(DEVICE_BLOCKS * BLOCK_BYTES)
        assert self.checkpoint_value is not None
        value = self.checkpoint_value.replaced(previous_checksum=self._write_log(device))
        value = value.replaced(**self.checkpoint_changes)
        write_checkpoint(device, value)
        superblock = self.superblock()
        for offset in (SUPERBLOCK_OFFSET_BYTES, backup_superblock_offset_bytes(device.size_bytes)):
            device.write(offset, [superblock.at(offset).pack()])
        return device

    def _write_log(self, device: MemoryDevice) -> int:
        """Write the log; return the checksum of the last summary before the checkpoint."""
        previous = before_checkpoint = 0
        following = [write.summary.address for write in self.writes[1:]]
        following.append(self.current.next_summary)
        for index, write in enumerate(self.writes):
            summary = write.summary.replaced(
                next_address=following[index],
                previous_checksum=previous,
                entries=tuple(entries_of(write.payload)),
            )
            raw = summary.replaced(**write.changes).pack(FILESYSTEM_ID)
            device.write(summary.address * BLOCK_BYTES, [raw.ljust(BLOCK_BYTES, b"\0")])
            for each in write.payload:
                device.write(each.address * BLOCK_BYTES, [each.content])
            previous = summary_checksum(raw)
            if index + 1 == self.checkpoint_after:
                before_checkpoint = previous
        return before_checkpoint


def write_checkpoint(device: MemoryDevice, value: Checkpoint) -> None:
    """Write ``value`` to its region, and nothing else."""
    offset = 65536 * (1 + value.number % 2)
    raw = value.pack(FILESYSTEM_ID, offset)
    device.write(offset, [raw.ljust(CHECKPOINT_REGION_BYTES, b"\0")])
