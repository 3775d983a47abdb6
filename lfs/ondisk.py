"""Every persistent structure, and nothing else.  FORMAT.md is its specification.

Each structure is a frozen-layout record with a pure ``pack`` and ``unpack``.
``unpack`` checks magic, checksum, filesystem, own address and every length
before it returns, and raises ``DamageError``: nothing above this module sees
bytes that were not checked.  Sizes are asserted when the module loads.

All integers are little-endian, except those in imap keys: keys are compared as
byte strings, so their integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from lfs.checksum import checksum
from lfs.errors import DamageError

FORMAT_VERSION = 1
FILESYSTEM_ID_BYTES = 8

BLOCK_BYTES_MIN = 1024
BLOCK_BYTES_MAX = 65536
SUPERBLOCK_BYTES = 512
SUPERBLOCK_OFFSET_BYTES = 4096
SUPERBLOCK_ALIGN_BYTES = 4096
HEAD_AREA_BYTES = 65536
CHECKPOINT_REGION_BYTES = 65536
CHECKPOINT_REGION_COUNT = 2

ROOT_INO = 1
NAME_BYTES_MAX = 255
XATTR_VALUE_BYTES_MAX = 65536
SYMLINK_BYTES_MAX = 4095

# Feature flags.  FORMAT.md, "Feature flags", lists the bits that are reserved.
COMPATIBLE_KNOWN = 0
READ_ONLY_COMPATIBLE_KNOWN = 0
INCOMPATIBLE_KNOWN = 0

_CHECKSUM_FIELD = struct.Struct("<I")
_ZERO_CHECKSUM = bytes(_CHECKSUM_FIELD.size)


def _sealed(raw: bytearray, offset: int) -> bytes:
    """Return ``raw`` with its checksum, taken over zeros there, stored at ``offset``."""
    _CHECKSUM_FIELD.pack_into(raw, offset, checksum(bytes(raw)))
    return bytes(raw)


def _seal_holds(raw: bytes, offset: int) -> bool:
    """Tell whether the checksum stored at ``offset`` is that of ``raw``."""
    stored = _CHECKSUM_FIELD.unpack_from(raw, offset)[0]
    return bool(stored == checksum(raw[:offset] + _ZERO_CHECKSUM + raw[offset + 4 :]))


def _expect(condition: bool, what: str, address: int, expected: object, found: object) -> None:
    if not condition:
        raise DamageError(f"{what} at {address}: expected {expected!r}, found {found!r}")


# --------------------------------------------------------------------- superblock

SUPERBLOCK_MAGIC = b"lfs-disk"
_SUPERBLOCK = struct.Struct("<8sIIQQ16s64sQQQIIQQQQQIIq16s")
_SUPERBLOCK_CHECKSUM_OFFSET = 8
assert _SUPERBLOCK.size == 216


@dataclass(frozen=True, slots=True)
class Superblock:
    """Identity and geometry of a filesystem (FORMAT.md, "Superblock")."""

    uuid: bytes
    label: bytes
    block_bytes: int
    segment_blocks: int
    device_blocks: int
    first_segment_block: int
    segment_count: int
    checkpoint_offset_bytes: tuple[int, int]
    reserved_basis_points: int
    created_ns: int
    hash_seed: bytes
    generation: int = 1
    compatible: int = 0
    read_only_compatible: int = 0
    incompatible: int = 0
    format_version: int = FORMAT_VERSION
    offset_bytes: int = SUPERBLOCK_OFFSET_BYTES

    @property
    def filesystem_id(self) -> bytes:
        """Return the 8 bytes that mark every structure of this filesystem."""
        return self.uuid[:FILESYSTEM_ID_BYTES]

    @property
    def end_block(self) -> int:
        """Return the address one past the last segment."""
        return self.first_segment_block + self.segment_count * self.segment_blocks

    def at(self, offset_bytes: int) -> Superblock:
        """Return the copy that belongs at ``offset_bytes``."""
        return replace(self, offset_bytes=offset_bytes)

    def pack(self) -> bytes:
        """Return the 512 bytes of this superblock."""
        raw = bytearray(SUPERBLOCK_BYTES)
        _SUPERBLOCK.pack_into(
            raw,
            0,
            SUPERBLOCK_MAGIC,
            0,
            self.format_version,
            self.offset_bytes,
            self.generation,
            self.uuid,
            self.label,
            self.compatible,
            self.read_only_compatible,
            self.incompatible,
            self.block_bytes,
            self.segment_blocks,
            self.device_blocks,
            self.first_segment_block,
            self.segment_count,
            *self.checkpoint_offset_bytes,
            CHECKPOINT_REGION_BYTES,
            self.reserved_basis_points,
            self.created_ns,
            self.hash_seed,
        )
        return _sealed(raw, _SUPERBLOCK_CHECKSUM_OFFSET)

    @classmethod
    def unpack(cls, raw: bytes, offset_bytes: int) -> Superblock:
        """Read a superblock found at ``offset_bytes``.

        Raises DamageError when magic, checksum, place or geometry are wrong.
        A newer format or an unknown feature is no damage: the caller looks at
        ``format_version`` and the flags.
        """
        _expect(len(raw) >= SUPERBLOCK_BYTES, "superblock length", offset_bytes, 512, len(raw))
        raw = raw[:SUPERBLOCK_BYTES]
        fields = _SUPERBLOCK.unpack_from(raw)
        (magic, _, version, own_offset, generation, uuid, label) = fields[:7]
        _expect(
            magic == SUPERBLOCK_MAGIC, "superblock magic", offset_bytes, SUPERBLOCK_MAGIC, magic
        )
        _expect(
            _seal_holds(raw, _SUPERBLOCK_CHECKSUM_OFFSET),
            "superblock checksum",
            offset_bytes,
            "a match",
            "a mismatch",
        )
        _expect(
            own_offset == offset_bytes, "superblock place", offset_bytes, offset_bytes, own_offset
        )
        block = cls(
            uuid=uuid,
            label=label.rstrip(b"\0"),
            compatible=fields[7],
            read_only_compatible=fields[8],
            incompatible=fields[9],
            block_bytes=fields[10],
            segment_blocks=fields[11],
            device_blocks=fields[12],
            first_segment_block=fields[13],
            segment_count=fields[14],
            checkpoint_offset_bytes=(fields[15], fields[16]),
            reserved_basis_points=fields[18],
            created_ns=fields[19],
            hash_seed=fields[20],
            generation=generation,
            format_version=version,
            offset_bytes=own_offset,
        )
        block._check_geometry(fields[17])
        return block

    def _check_geometry(self, region_bytes: int) -> None:
        block_bytes = self.block_bytes
        sane = (
            BLOCK_BYTES_MIN <= block_bytes <= BLOCK_BYTES_MAX
            and block_bytes & (block_bytes - 1) == 0
            and self.segment_blocks >= 16
            and self.segment_count >= 1
            and self.end_block <= self.device_blocks
            and self.device_blocks < 1 << 48
            and region_bytes == CHECKPOINT_REGION_BYTES
            and min(self.checkpoint_offset_bytes) >= HEAD_AREA_BYTES
            and abs(self.checkpoint_offset_bytes[0] - self.checkpoint_offset_bytes[1])
            >= CHECKPOINT_REGION_BYTES
            and max(self.checkpoint_offset_bytes) + CHECKPOINT_REGION_BYTES
            <= self.first_segment_block * block_bytes
        )
        _expect(sane, "superblock geometry", self.offset_bytes, "a possible one", self)


def backup_superblock_offset_bytes(device_bytes: int) -> int:
    """Return where the copy at the end of a device of ``device_bytes`` lies."""
    aligned = device_bytes - device_bytes % SUPERBLOCK_ALIGN_BYTES
    return aligned - SUPERBLOCK_ALIGN_BYTES


# --------------------------------------------------------------------- checkpoint

CHECKPOINT_MAGIC = b"lfs-ckpt"
CHECKPOINT_CLEAN = 1
_CHECKPOINT = struct.Struct("<8sIIQ8sQQQIIQIIQQQQqII")
_USAGE_POINTER = struct.Struct("<QII")
_CHECKPOINT_CHECKSUM_OFFSET = 8
assert _CHECKPOINT.size == 128
assert _USAGE_POINTER.size == 16
USAGE_PAGE_COUNT_MAX = (CHECKPOINT_REGION_BYTES - _CHECKPOINT.size) // _USAGE_POINTER.size


class Pointer(NamedTuple):
    """Where a block is and the checksum it must have; address 0 is no block."""

    address: int
    checksum: int


NO_BLOCK = Pointer(0, 0)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point from which the whole filesystem can be found (FORMAT.md, "Checkpoint region")."""

    number: int
    next_sequence: int
    next_address: int
    previous_checksum: int
    imap_root: Pointer
    imap_root_level: int
    next_ino: int
    inode_count: int
    live_block_count: int
    node_count: int
    time_ns: int
    clean: bool
    usage_pages: tuple[Pointer, ...]

    def pack(self, filesystem_id: bytes, offset_bytes: int) -> bytes:
        """Return the bytes of the region that starts at ``offset_bytes`` of the device."""
        length = _CHECKPOINT.size + _USAGE_POINTER.size * len(self.usage_pages)
        assert length <= CHECKPOINT_REGION_BYTES
        raw = bytearray(length)
        _CHECKPOINT.pack_into(
            raw,
            0,
            CHECKPOINT_MAGIC,
            0,
            length,
            offset_bytes,
            filesystem_id,
            self.number,
            self.next_sequence,
            self.next_address,
            self.previous_checksum,
            CHECKPOINT_CLEAN if self.clean else 0,
            self.imap_root.address,
            self.imap_root.checksum,
            self.imap_root_level,
            self.next_ino,
            self.inode_count,
            self.live_block_count,
            self.node_count,
            self.time_ns,
            len(self.usage_pages),
            0,
        )
        for index, pointer in enumerate(self.usage_pages):
            offset = _CHECKPOINT.size + index * _USAGE_POINTER.size
            _USAGE_POINTER.pack_into(raw, offset, pointer.address, pointer.checksum, 0)
        return _sealed(raw, _CHECKPOINT_CHECKSUM_OFFSET)

    @classmethod
    def unpack(cls, raw: bytes, filesystem_id: bytes, offset_bytes: int) -> Checkpoint:
        """Read a checkpoint from its region; raises DamageError when it does not hold."""
        what = "checkpoint"
        _expect(len(raw) >= _CHECKPOINT.size, f"{what} length", offset_bytes, "a header", len(raw))
        fields = _CHECKPOINT.unpack_from(raw)
        magic, _, length, own_offset, found_id = fields[:5]
        _expect(magic == CHECKPOINT_MAGIC, f"{what} magic", offset_bytes, CHECKPOINT_MAGIC, magic)
        page_count = fields[18]
        wanted = _CHECKPOINT.size + page_count * _USAGE_POINTER.size
        _expect(
            length == wanted <= len(raw), f"{what} length", offset_bytes, wanted, (length, len(raw))
        )
        raw = raw[:length]
        _expect(
            _seal_holds(raw, _CHECKPOINT_CHECKSUM_OFFSET),
            f"{what} checksum",
            offset_bytes,
            "a match",
            "a mismatch",
        )
        _expect(own_offset == offset_bytes, f"{what} place", offset_bytes, offset_bytes, own_offset)
        _expect(
            found_id == filesystem_id, f"{what} filesystem", offset_bytes, filesystem_id, found_id
        )
        pointers = [
            Pointer(address, value)
            for address, value, _ in _USAGE_POINTER.iter_unpack(raw[_CHECKPOINT.size :])
        ]
        return cls(
            number=fields[5],
            next_sequence=fields[6],
            next_address=fields[7],
            previous_checksum=fields[8],
            clean=bool(fields[9] & CHECKPOINT_CLEAN),
            imap_root=Pointer(fields[10], fields[11]),
            imap_root_level=fields[12],
            next_ino=fields[13],
            inode_count=fields[14],
            live_block_count=fields[15],
            node_count=fields[16],
            time_ns=fields[17],
            usage_pages=tuple(pointers),
        )


# ------------------------------------------------------------------------ summary

SUMMARY_MAGIC = b"LSUM"
SUMMARY_COMMIT = 1
SUMMARY_JUMP = 2
SUMMARY_CHECKPOINT = 4
SUMMARY_CLEANER = 8

BLOCK_DATA = 1
BLOCK_NODE = 2
BLOCK_USAGE = 3

_SUMMARY = struct.Struct("<4sI8sQQQQQQQIIIIQIHHIIQq")
_ENTRY = struct.Struct("<BBHIIIQQ")
_SUMMARY_CHECKSUM_OFFSET = 4
assert _SUMMARY.size == 128
assert _ENTRY.size == 32
SUMMARY_HEADER_BYTES = _SUMMARY.size
ENTRY_BYTES = _ENTRY.size
RECORD_OVERHEAD_BYTES = 19
_RECORD = struct.Struct("<17sH")
_RECORD_DELETED = 0xFFFF
assert _RECORD.size == RECORD_OVERHEAD_BYTES


class Entry(NamedTuple):
    """Owner of a run of payload blocks: ``key`` is the first file block (data),
    0 (nodes say what they are) or the usage page; ``checksums`` has one a block.
    """

    kind: int
    owner: int
    version: int
    key: int
    checksums: Sequence[int]


class Record(NamedTuple):
    """A change of one imap item; ``value`` None deletes it."""

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The head of a log write (FORMAT.md, "Log write")."""

    sequence: int
    address: int
    next_address: int
    run_address: int
    run_blocks: int
    run_sequence: int
    run_next_address: int
    payload_address: int
    payload_blocks: int
    summary_blocks: int
    previous_checksum: int
    flushed_sequence: int
    head: int
    flags: int
    time_ns: int
    entries: tuple[Entry, ...] = ()
    records: tuple[Record, ...] = ()
    checksum: int = field(default=0, compare=False)

    def pack(self, filesystem_id: bytes) -> bytes:
        """Return the summary's bytes, not padded to blocks."""
        parts: list[bytes] = [b""]
        for kind, owner, version, key, checksums in self.entries:
            parts.append(_ENTRY.pack(kind, 0, 0, len(checksums), version, 0, owner, key))
            parts.append(struct.pack(f"<{len(checksums)}I", *checksums))
        for record_key, value in self.records:
            if value is None:
                parts.append(_RECORD.pack(record_key, _RECORD_DELETED))
            else:
                parts.append(_RECORD.pack(record_key, len(value)))
                parts.append(value)
        length = _SUMMARY.size + sum(map(len, parts))
        parts[0] = _SUMMARY.pack(
            SUMMARY_MAGIC,
            0,
            filesystem_id,
            self.sequence,
            self.address,
            self.next_address,
            self.run_address,
            self.run_sequence,
            self.run_next_address,
            self.payload_address,
            self.payload_blocks,
            self.summary_blocks,
            length,
            self.previous_checksum,
            self.flushed_sequence,
            self.run_blocks,
            self.head,
            self.flags,
            len(self.entries),
            len(self.records),
            0,
            self.time_ns,
        )
        return _sealed(bytearray(b"".join(parts)), _SUMMARY_CHECKSUM_OFFSET)

    @staticmethod
    def peek_bytes(first_block: bytes, filesystem_id: bytes, address: int) -> int:
        """Return the length in bytes of the summary that starts with ``first_block``.

        Raises DamageError when no summary of this filesystem starts there; the
        length is not to be trusted before ``unpack`` has checked the whole.
        """
        length = len(first_block)
        _expect(length >= _SUMMARY.size, "summary length", address, _SUMMARY.size, length)
        fields = _SUMMARY.unpack_from(first_block)
        _expect(fields[0] == SUMMARY_MAGIC, "summary magic", address, SUMMARY_MAGIC, fields[0])
        _expect(fields[2] == filesystem_id, "summary filesystem", address, filesystem_id, fields[2])
        _expect(fields[4] == address, "summary place", address, address, fields[4])
        length = int(fields[12])
        limit = fields[11] * len(first_block)
        _expect(_SUMMARY.size <= length <= limit, "summary length", address, limit, length)
        return length

    @classmethod
    def unpack(cls, raw: bytes, filesystem_id: bytes, address: int) -> Summary:
        """Read a whole summary; ``raw`` has exactly the bytes ``peek_bytes`` told."""
        _expect(len(raw) >= _SUMMARY.size, "summary length", address, _SUMMARY.size, len(raw))
        fields = _SUMMARY.unpack_from(raw)
        _expect(fields[0] == SUMMARY_MAGIC, "summary magic", address, SUMMARY_MAGIC, fields[0])
        _expect(fields[12] == len(raw), "summary length", address, fields[12], len(raw))
        _expect(
            _seal_holds(raw, _SUMMARY_CHECKSUM_OFFSET),
            "summary checksum",
            address,
            "a match",
            "a mismatch",
        )
        _expect(fields[2] == filesystem_id, "summary filesystem", address, filesystem_id, fields[2])
        _expect(fields[4] == address, "summary place", address, address, fields[4])
        entries, offset = _unpack_entries(raw, fields[18], address)
        records = _unpack_records(raw, offset, fields[19], address)
        summary = cls(
            sequence=fields[3],
            address=fields[4],
            next_address=fields[5],
            run_address=fields[6],
            run_sequence=fields[7],
            run_next_address=fields[8],
            payload_address=fields[9],
            payload_blocks=fields[10],
            summary_blocks=fields[11],
            previous_checksum=fields[13],
            flushed_sequence=fields[14],
            run_blocks=fields[15],
            head=fields[16],
            flags=fields[17],
            time_ns=fields[21],
            entries=entries,
            records=records,
            checksum=fields[1],
        )
        counted = sum(len(entry.checksums) for entry in entries)
        _expect(
            counted == summary.payload_blocks,
            "summary payload count",
            address,
            summary.payload_blocks,
            counted,
        )
        return summary


def summary_checksum(raw: bytes) -> int:
    """Return the checksum stored in a packed summary."""
    return int(_CHECKSUM_FIELD.unpack_from(raw, _SUMMARY_CHECKSUM_OFFSET)[0])


def _unpack_entries(raw: bytes, count: int, address: int) -> tuple[tuple[Entry, ...], int]:
    entries = []
    offset = _SUMMARY.size
    for _ in range(count):
        _expect(offset + _ENTRY.size <= len(raw), "summary entry", address, "room", offset)
        kind, _, _, blocks, version, _, owner, key = _ENTRY.unpack_from(raw, offset)
        offset += _ENTRY.size
        _expect(offset + 4 * blocks <= len(raw), "summary entry", address, "room", blocks)
        entries.append(
            Entry(kind, owner, version, key, struct.unpack_from(f"<{blocks}I", raw, offset))
        )
        offset += 4 * blocks
    return tuple(entries), offset


def _unpack_records(raw: bytes, offset: int, count: int, address: int) -> tuple[Record, ...]:
    records = []
    for _ in range(count):
        _expect(offset + _RECORD.size <= len(raw), "summary record", address, "room", offset)
        key, length = _RECORD.unpack_from(raw, offset)
        offset += _RECORD.size
        if length == _RECORD_DELETED:
            records.append(Record(key, None))
            continue
        _expect(offset + length <= len(raw), "summary record", address, "room", length)
        records.append(Record(key, raw[offset : offset + length]))
        offset += length
    _expect(offset == len(raw), "summary end", address, len(raw), offset)
    return tuple(records)


# --------------------------------------------------------------- imap nodes, keys

NODE_MAGIC = b"LNOD"
_BLOCK_HEADER = struct.Struct("<4sI8sQQ")
_NODE_HEADER = struct.Struct("<BBHI")
_LEAF_SLOT = struct.Struct("<17sH")
_BRANCH_SLOT = struct.Struct("<17sQI")
_BLOCK_CHECKSUM_OFFSET = 4
assert _BLOCK_HEADER.size == 32
assert _NODE_HEADER.size == 8
assert _LEAF_SLOT.size == 19
assert _BRANCH_SLOT.size == 29
NODE_HEADER_BYTES = _BLOCK_HEADER.size + _NODE_HEADER.size
LEAF_SLOT_BYTES = _LEAF_SLOT.size
BRANCH_SLOT_BYTES = _BRANCH_SLOT.size

KEY_BYTES = 17
_KEY = struct.Struct(">QBQ")
assert _KEY.size == KEY_BYTES

KIND_INODE = 0
KIND_XATTR = 1
KIND_WINDOW = 2
KIND_ENTRY = 3
KIND_ORPHAN = 4
SYSTEM_INO = 0


def pack_key(ino: int, kind: int, offset: int) -> bytes:
    """Return the imap key of item ``kind`` at ``offset`` of inode ``ino``."""
    return _KEY.pack(ino, kind, offset)


def unpack_key(key: bytes) -> tuple[int, int, int]:
    """Return ``(ino, kind, offset)`` of an imap key."""
    ino, kind, offset = _KEY.unpack(key)
    return ino, kind, offset


class Branch(NamedTuple):
    """A decoded inner node: children in key order."""

    level: int
    keys: list[bytes]
    children: list[Pointer]


class Leaf(NamedTuple):
    """A decoded leaf: items in key order."""

    keys: list[bytes]
    values: list[bytes]

    @property
    def level(self) -> int:
        """Return 0."""
        return 0


Node = Branch | Leaf


def pack_node(
    node: Node, filesystem_id: bytes, address: int, sequence: int, block_bytes: int
) -> bytes:
    """Return the block of ``node`` for ``address``, padded to ``block_bytes``."""
    count = len(node.keys)
    if isinstance(node, Leaf):
        slots = b"".join(map(_LEAF_SLOT.pack, node.keys, map(len, node.values)))
        body = slots + b"".join(node.values)
    else:
        body = b"".join(
            _BRANCH_SLOT.pack(key, child.address, child.checksum)
            for key, child in zip(node.keys, node.children, strict=True)
        )
    used = NODE_HEADER_BYTES + len(body)
    assert used <= block_bytes, (used, block_bytes)
    header = _BLOCK_HEADER.pack(NODE_MAGIC, 0, filesystem_id, address, sequence)
    raw = header + _NODE_HEADER.pack(node.level, 0, count, used) + body
    return _sealed(bytearray(raw.ljust(block_bytes, b"\0")), _BLOCK_CHECKSUM_OFFSET)


def unpack_node(raw: bytes, filesystem_id: bytes, address: int) -> Node:
    """Read a node whose bytes the caller has verified against its pointer.

    Raises DamageError when they are none, another filesystem's, or belong elsewhere.
    """
    _expect(len(raw) >= NODE_HEADER_BYTES, "node length", address, NODE_HEADER_BYTES, len(raw))
    magic, _, found_id, own_address, _ = _BLOCK_HEADER.unpack_from(raw)
    _expect(magic == NODE_MAGIC, "node magic", address, NODE_MAGIC, magic)
    _expect(found_id == filesystem_id, "node filesystem", address, filesystem_id, found_id)
    _expect(own_address == address, "node place", address, address, own_address)
    level, _, count, used = _NODE_HEADER.unpack_from(raw, _BLOCK_HEADER.size)
    _expect(NODE_HEADER_BYTES <= used <= len(raw), "node length", address, len(raw), used)
    slot = _BRANCH_SLOT if level else _LEAF_SLOT
    values_offset = NODE_HEADER_BYTES + count * slot.size
    _expect(values_offset <= used, "node slots", address, used, values_offset)
    slots = raw[NODE_HEADER_BYTES:values_offset]
    if level:
        branch_slots = list(_BRANCH_SLOT.iter_unpack(slots))
        keys = [key for key, _, _ in branch_slots]
        node: Node = Branch(
            level, keys, [Pointer(child, value) for _, child, value in branch_slots]
        )
    else:
        leaf_slots = list(_LEAF_SLOT.iter_unpack(slots))
        keys = [key for key, _ in leaf_slots]
        values = list(_split(raw, values_offset, [length for _, length in leaf_slots]))
        _expect(
            values_offset + sum(map(len, values)) == used,
            "leaf values",
            address,
            used,
            values_offset,
        )
        node = Leaf(keys, values)
    ordered = all(left < right for left, right in pairwise(keys))
    _expect(ordered, "node key order", address, "ascending keys", "others")
    return node


def block_seal_holds(raw: bytes) -> bool:
    """Tell whether a node's or usage page's own checksum holds."""
    return _seal_holds(raw, _BLOCK_CHECKSUM_OFFSET)


def block_sequence(raw: bytes) -> int:
    """Return the sequence number a node or usage page was written with."""
    return int(_BLOCK_HEADER.unpack_from(raw)[4])


def _split(raw: bytes, offset: int, lengths: Sequence[int]) -> Iterator[bytes]:
    for length in lengths:
        yield raw[offset : offset + length]
        offset += length


# -------------------------------------------------------------------- usage table

USAGE_MAGIC = b"LUSE"
_USAGE_HEADER = struct.Struct("<II")
_USAGE = struct.Struct("<IBBHQ")
assert _USAGE.size == 16
USAGE_BYTES = _USAGE.size

SEGMENT_CLEAN = 0
SEGMENT_RUN = 1
SEGMENT_CONTINUED = 2

USAGE_OLD_METADATA = 1


class Usage(NamedTuple):
    """Usage of one segment.

    A run is 2**order adjacent segments filled and cleaned as one; its first
    segment carries the counts, the others are ``SEGMENT_CONTINUED``.
    """

    live_blocks: int
    order: int
    state: int
    last_sequence: int
    flags: int = 0


def usage_per_page(block_bytes: int) -> int:
    """Return how many segments a usage page of ``block_bytes`` describes."""
    return (block_bytes - _BLOCK_HEADER.size - _USAGE_HEADER.size) // _USAGE.size


def pack_usage_page(
    entries: Sequence[Usage],
    index: int,
    filesystem_id: bytes,
    address: int,
    sequence: int,
    block_bytes: int,
) -> bytes:
    """Return the block of usage page ``index`` for ``address``."""
    body = b"".join(
        _USAGE.pack(live, order, state, flags, last) for live, order, state, last, flags in entries
    )
    header = _BLOCK_HEADER.pack(USAGE_MAGIC, 0, filesystem_id, address, sequence)
    raw = header + _USAGE_HEADER.pack(index, len(entries)) + body
    return _sealed(bytearray(raw.ljust(block_bytes, b"\0")), _BLOCK_CHECKSUM_OFFSET)


def unpack_usage_page(raw: bytes, index: int, filesystem_id: bytes, address: int) -> list[Usage]:
    """Read usage page ``index`` whose bytes were verified against its pointer.

    Raises DamageError when they are none, another filesystem's, or belong elsewhere.
    """
    header_bytes = _BLOCK_HEADER.size + _USAGE_HEADER.size
    _expect(len(raw) >= header_bytes, "usage page length", address, header_bytes, len(raw))
    magic, _, found_id, own_address, _ = _BLOCK_HEADER.unpack_from(raw)
    _expect(magic == USAGE_MAGIC, "usage page magic", address, USAGE_MAGIC, magic)
    _expect(found_id == filesystem_id, "usage page filesystem", address, filesystem_id, found_id)
    _expect(own_address == address, "usage page place", address, address, own_address)
    own_index, count = _USAGE_HEADER.unpack_from(raw, _BLOCK_HEADER.size)
    _expect(own_index == index, "usage page index", address, index, own_index)
    end = header_bytes + count * _USAGE.size
    _expect(end <= len(raw), "usage page count", address, len(raw), count)
    return [
        Usage(live, order, state, last, flags)
        for live, order, state, flags, last in _USAGE.iter_unpack(raw[header_bytes:end])
    ]


# --------------------------------------------------------------------- imap items

INODE_INLINE = 1
_INODE = struct.Struct("<IIIIQQqqqqIIIIQ")
assert _INODE.size == 88
INODE_BYTES = _INODE.size


class InodeItem(NamedTuple):
    """The fixed part of an inode and its inline data (FORMAT.md, "Inode")."""

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    rdev: int
    flags: int
    version: int
    generation: int
    parent_ino: int
    inline: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return _INODE.pack(*self[:15]) + self.inline

    @classmethod
    def unpack(cls, raw: bytes) -> InodeItem:
        """Read an inode item; raises DamageError when it is too short."""
        _expect(len(raw) >= _INODE.size, "inode item", 0, _INODE.size, len(raw))
        return cls._make((*_INODE.unpack_from(raw), raw[_INODE.size :]))


_RUN = struct.Struct("<HHQ")
_RUN_COUNT = struct.Struct("<H")
assert _RUN.size == 12
ADDRESS_BITS = 48
_ADDRESS_MASK = (1 << ADDRESS_BITS) - 1
RUN_BYTES = _RUN.size


class Run(NamedTuple):
    """Adjacent file blocks of a window at adjacent addresses."""

    first: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody calls
    flags: int
    address: int


class WindowItem(NamedTuple):
    """The extents of one window of a file and a checksum for each mapped block."""

    runs: tuple[Run, ...]
    checksums: tuple[int, ...]

    def pack(self) -> bytes:
        """Return the item's value."""
        return b"".join(
            (
                _RUN_COUNT.pack(len(self.runs)),
                *(
                    _RUN.pack(first, count, flags << ADDRESS_BITS | address)
                    for first, count, flags, address in self.runs
                ),
                struct.pack(f"<{len(self.checksums)}I", *self.checksums),
            )
        )

    @classmethod
    def unpack(cls, raw: bytes, window_blocks: int) -> WindowItem:
        """Read a window item; raises DamageError unless its runs fit and do not overlap."""
        _expect(len(raw) >= _RUN_COUNT.size, "window item", 0, "a run count", len(raw))
        count = _RUN_COUNT.unpack_from(raw)[0]
        end = _RUN_COUNT.size + count * _RUN.size
        _expect(end <= len(raw), "window runs", 0, end, len(raw))
        runs = tuple(
            Run(first, blocks, word >> ADDRESS_BITS, word & _ADDRESS_MASK)
            for first, blocks, word in _RUN.iter_unpack(raw[_RUN_COUNT.size : end])
        )
        mapped = sum(run.count for run in runs)
        _expect(len(raw) == end + 4 * mapped, "window checksums", 0, end + 4 * mapped, len(raw))
        position = 0
        for run in runs:
            _expect(run.count > 0 and run.first >= position, "window run", 0, position, run)
            position = run.first + run.count
        _expect(position <= window_blocks, "window end", 0, window_blocks, position)
        return cls(runs, struct.unpack_from(f"<{mapped}I", raw, end))


def window_blocks(block_bytes: int) -> int:
    """Return how many file blocks one window item maps."""
    return block_bytes // 32


_ENTRY_ITEM = struct.Struct("<QB")


class EntryItem(NamedTuple):
    """A directory entry: the inode, its file type (``mode >> 12``) and its name."""

    ino: int
    file_type: int
    name: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return _ENTRY_ITEM.pack(self.ino, self.file_type) + self.name

    @classmethod
    def unpack(cls, raw: bytes) -> EntryItem:
        """Read a directory entry; raises DamageError when its name is empty or too long."""
        name_bytes = len(raw) - _ENTRY_ITEM.size
        _expect(1 <= name_bytes <= NAME_BYTES_MAX, "directory entry", 0, "a name", raw)
        ino, file_type = _ENTRY_ITEM.unpack_from(raw)
        return cls(ino, file_type, raw[_ENTRY_ITEM.size :])


_XATTR_ITEM = struct.Struct("<BI")


class XattrItem(NamedTuple):
    """The first chunk of an extended attribute; later chunks are bare bytes."""

    name: bytes
    value_bytes: int
    chunk: bytes

    def pack(self) -> bytes:
        """Return the item's value."""
        return _XATTR_ITEM.pack(len(self.name), self.value_bytes) + self.name + self.chunk

    @classmethod
    def unpack(cls, raw: bytes) -> XattrItem:
        """Read a first chunk; raises DamageError when its lengths do not fit."""
        _expect(len(raw) >= _XATTR_ITEM.size, "extended attribute", 0, "a header", raw)
        name_bytes, value_bytes = _XATTR_ITEM.unpack_from(raw)
        end = _XATTR_ITEM.size + name_bytes
        _expect(name_bytes > 0 and end <= len(raw), "extended attribute name", 0, end, len(raw))
        most = min(value_bytes, XATTR_VALUE_BYTES_MAX)
        _expect(len(raw) - end <= most, "extended attribute value", 0, most, len(raw) - end)
        return cls(raw[_XATTR_ITEM.size : end], value_bytes, raw[end:])


# Hashes leave the low 8 bits of a key's offset to colliding names.  Offsets of
# entries stay positive as signed 63-bit values, because readdir returns them.
HASH_COLLISIONS = 256
ENTRY_OFFSET_FLAG = 1 << 62


def entry_offset(name_hash: int) -> int:
    """Return the key offset of the first directory entry whose name has this 64-bit hash."""
    return ENTRY_OFFSET_FLAG | (name_hash >> 2 & ~0xFF & (ENTRY_OFFSET_FLAG - 1))


def xattr_offset(name_hash: int) -> int:
    """Return the key offset of the first chunk of the first attribute with this hash."""
    return name_hash & ~0xFFFF


XATTR_CHUNKS = 256


def chunk_bytes(block_bytes: int) -> int:
    """Return the most bytes of an attribute's value that one item holds."""
    return block_bytes // 4


def inline_bytes_max(block_bytes: int) -> int:
    """Return the largest file or symlink kept inside its inode."""
    return min(block_bytes // 4, 1024)
