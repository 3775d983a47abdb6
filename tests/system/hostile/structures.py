"""The structures of an image, field by field, and how their checksums are made right again."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.checksum import checksum
from lfs.device.memory import MemoryDevice
from lfs.ondisk import (
    BRANCH_SLOT_BYTES,
    CHECKPOINT_REGION_BYTES,
    KEY_BYTES,
    KIND_CUT,
    KIND_ENTRY,
    KIND_INODE,
    KIND_ORPHAN,
    KIND_WINDOW,
    KIND_XATTR,
    LEAF_SLOT_BYTES,
    NODE_HEADER_BYTES,
    SUMMARY_HEADER_BYTES,
    Branch,
    backup_superblock_offset_bytes,
    items,
    node,
    read_node,
    summary,
    superblock,
    unpack_key,
    usage,
)
from lfs.ondisk import block as block_module
from lfs.ondisk import checkpoint as checkpoint_module
from lfs.segments.reader import LogReader
from tests.system.hostile.cases import (
    BLOCK_BYTES,
    DEVICE_BYTES,
    Field,
    Sample,
    fields_of,
    peek,
    poke,
)

_POINTER_CHECKSUM = struct.Struct("<I")


def _seal(device: MemoryDevice, start: int, length: int, checksum_at: int) -> None:
    """Store the checksum of ``length`` bytes from ``start`` on inside them."""
    raw = peek(device, start, length)
    zeroed = raw[:checksum_at] + bytes(4) + raw[checksum_at + 4 :]
    poke(device, start + checksum_at, _POINTER_CHECKSUM.pack(checksum(zeroed)))


def add_superblocks(sample: Sample) -> None:
    """Both copies say the same, each at its own place."""
    offsets = (4096, backup_superblock_offset_bytes(DEVICE_BYTES))

    def reseal(device: MemoryDevice) -> None:
        # Whatever was changed in the first one, but for its place, is in the copy too.
        raw = peek(device, offsets[0], 512)
        poke(device, offsets[1], raw[:16] + peek(device, offsets[1] + 16, 8) + raw[24:])
        for offset in offsets:
            _seal(device, offset, 512, 8)

    sample.add("superblock", fields_of(superblock.SUPERBLOCK.struct, 4096), reseal)


def add_checkpoint(sample: Sample) -> None:
    """The newer region is all there is: nothing better is left to fall back to."""
    device = sample.device
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    at = layout.checkpoint_offset_bytes[newest.number % 2]
    other = layout.checkpoint_offset_bytes[1 - newest.number % 2]
    device.write(other, [bytes(CHECKPOINT_REGION_BYTES)])
    length = int.from_bytes(peek(device, at + 12, 4), "little")

    def reseal(device: MemoryDevice) -> None:
        _seal(device, at, length, 8)

    header = checkpoint_module.CHECKPOINT.struct
    sample.add("checkpoint", fields_of(header, at), reseal)
    pointer = checkpoint_module.USAGE_POINTER.struct
    sample.add("usage-pointer", fields_of(pointer, at + header.size), reseal)
    address = newest.usage_pages[0].address
    start = address * BLOCK_BYTES

    def reseal_page(device: MemoryDevice) -> None:
        _seal(device, start, BLOCK_BYTES, block_module.BLOCK_CHECKSUM_OFFSET)
        _point(device, at + header.size + 8, start)
        reseal(device)

    head = block_module.BLOCK_HEADER.struct
    sample.add("usage-block", fields_of(head, start), reseal_page)
    inner = usage.USAGE_HEADER.struct
    sample.add("usage-header", fields_of(inner, start + head.size), reseal_page)
    used = [n for n, entry in enumerate(_states(device, start + head.size + inner.size)) if entry]
    for number in (used[0], used[-1], used[-1] + 1):
        place = start + head.size + inner.size + number * usage.USAGE.struct.size
        sample.add(f"usage-{number}", fields_of(usage.USAGE.struct, place), reseal_page)


def _states(device: MemoryDevice, start: int) -> list[int]:
    size = usage.USAGE.struct.size
    layout = read_superblock(device)
    return [peek(device, start + n * size + 5, 1)[0] for n in range(layout.segment_count)]


def _point(device: MemoryDevice, checksum_at: int, start: int) -> None:
    """Store the checksum of the block at byte ``start`` in the pointer to it."""
    raw = device.read(start, BLOCK_BYTES)
    poke(device, checksum_at, _POINTER_CHECKSUM.pack(checksum(raw)))


def add_tree(sample: Sample) -> None:
    device = sample.device
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    at = layout.checkpoint_offset_bytes[newest.number % 2]
    reseal_region = sample.reseal["checkpoint"]
    seen: dict[tuple[int, int], int] = {}

    def add(address: int, checksum_at: int, above: Callable[[MemoryDevice], None]) -> None:
        start = address * BLOCK_BYTES
        raw = device.read(start, BLOCK_BYTES)
        found = read_node(raw, layout.filesystem_id, address)

        def reseal(device: MemoryDevice) -> None:
            _seal(device, start, BLOCK_BYTES, block_module.BLOCK_CHECKSUM_OFFSET)
            _point(device, checksum_at, start)
            above(device)

        name = "root" if above is reseal_region else "leaf"
        header = block_module.BLOCK_HEADER.struct
        inner = start + header.size
        first_of_kind = not any(each.startswith(f"{name}-block") for each in sample.structures)
        if first_of_kind:
            sample.add(f"{name}-block", fields_of(header, start), reseal)
            sample.add(f"{name}-header", fields_of(node.NODE_HEADER.struct, inner), reseal)
        if isinstance(found, Branch):
            for number, child in enumerate(found.children):
                slot = start + NODE_HEADER_BYTES + number * BRANCH_SLOT_BYTES
                if number < 2:
                    sample.add(f"slot-{number}", _slot_fields(slot, "<QI"), reseal)
                add(child.address, slot + KEY_BYTES + 8, reseal)
            return
        if first_of_kind:
            slot = start + NODE_HEADER_BYTES
            sample.add("leaf-slot", _slot_fields(slot, "<H"), reseal)
        value_at = start + NODE_HEADER_BYTES + found.count * LEAF_SLOT_BYTES
        for key, value in zip(found.keys, found.values, strict=True):
            _add_item(sample, seen, key, value, value_at, reseal)
            value_at += len(value)

    add(newest.imap_root.address, at + 72, reseal_region)


def _slot_fields(start: int, rest: str) -> Iterator[Field]:
    yield from fields_of(struct.Struct(">QBQ"), start)
    yield from fields_of(struct.Struct(rest), start + KEY_BYTES)


def _add_item(
    sample: Sample,
    seen: dict[tuple[int, int], int],
    key: bytes,
    value: bytes,
    at: int,
    reseal: Callable[[MemoryDevice], None],
) -> None:
    """Add the first items of each kind, of inodes of each type."""
    ino, kind, offset = unpack_key(key)
    layouts = {
        KIND_INODE: items.INODE.struct,
        KIND_WINDOW: struct.Struct("<HHHQI"),
        KIND_ENTRY: struct.Struct("<QB2s"),
        KIND_XATTR: struct.Struct("<BI5s"),
        KIND_ORPHAN: struct.Struct("<"),
        KIND_CUT: struct.Struct("<QQQ"),
    }
    subtype = int.from_bytes(value[:4], "little") >> 12 if kind == KIND_INODE else 0
    number = seen.get((kind, subtype), 0)
    is_first_chunk = kind != KIND_XATTR or offset % 256 == 0
    if number >= 2 or not is_first_chunk or len(value) < layouts[kind].size:
        return
    seen[kind, subtype] = number + 1
    sample.add(f"item-{kind}-{ino}-{offset:x}", fields_of(layouts[kind], at), reseal)


def add_log(sample: Sample) -> None:
    """The log writes after the checkpoint, which are chained by their checksums."""
    device = sample.device
    layout = read_superblock(device)
    newest = read_checkpoints(device, layout)[0]
    reader = LogReader(device, layout)
    chain = list(reader.follow(newest.next_address, newest.next_sequence, newest.previous_checksum))
    for number in {0, len(chain) // 2, len(chain) - 1}:
        start = chain[number].address * BLOCK_BYTES
        following = [one.address * BLOCK_BYTES for one in chain[number:]]
        lengths = [_summary_bytes(device, each) for each in following]

        def reseal(
            device: MemoryDevice,
            following: list[int] = following,
            lengths: list[int] = lengths,
        ) -> None:
            before = None
            for at, length in zip(following, lengths, strict=True):
                if before is not None:
                    poke(device, at + 84, before)
                before = _seal_summary(device, at, length)

        sample.add(f"summary-{number}", fields_of(summary.SUMMARY.struct, start), reseal)
        if chain[number].entries:
            entry = start + SUMMARY_HEADER_BYTES
            sample.add(f"entry-{number}", fields_of(summary.ENTRY.struct, entry), reseal)
        if chain[number].records:
            record = (
                start
                + SUMMARY_HEADER_BYTES
                + sum(32 + 4 * len(one.checksums) for one in chain[number].entries)
            )
            sample.add(f"record-{number}", _slot_fields(record, "<HQQQQ"), reseal)


def _summary_bytes(device: MemoryDevice, start: int) -> int:
    return int.from_bytes(peek(device, start + 80, 4), "little")


def _seal_summary(device: MemoryDevice, start: int, length: int) -> bytes:
    """Seal a summary of several blocks; return its checksum."""
    blocks = summary.summary_blocks(length, BLOCK_BYTES)
    raw = device.read(start, blocks * BLOCK_BYTES)
    whole = summary.summary_from_blocks(raw, length, BLOCK_BYTES, 0)
    value = checksum(whole[:4] + bytes(4) + whole[8:])
    poke(device, start + 4, _POINTER_CHECKSUM.pack(value))
    return _POINTER_CHECKSUM.pack(value)
