"""The summary of a log write: owners of its payload, changed items (FORMAT.md, "Log write").

A summary is a row of bytes, and on disk a row of blocks: each block but the first
begins with a magic and its number, because what follows there are names, attributes
and small files, and no block may begin as a user likes.

Held by ``tests/ondisk/test_structures.py``.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

from lfs.ondisk.layout import (
    I64,
    U8,
    U16,
    U32,
    U64,
    AfterZeros,
    Bytes4,
    Bytes8,
    Bytes17,
    Layout,
    Structure,
)
from lfs.ondisk.seal import expect, seal_holds, sealed

SUMMARY_MAGIC = b"LSUM"
SUMMARY_CONTINUATION_MAGIC = b"LSUC"
SUMMARY_BLOCKS_MAX = 512
"""So many blocks at most: whoever reads one takes no more memory, whatever it says."""
SUMMARY_COMMIT = 1
SUMMARY_JUMP = 2
SUMMARY_CHECKPOINT = 4
SUMMARY_CLEANER = 8

BLOCK_DATA = 1
BLOCK_NODE = 2
BLOCK_USAGE = 3

HEAD_MAIN = 0
"""Log heads: commits, small files, hot data that the cleaner moves."""
HEAD_BULK = 1
"""Large extents."""
HEAD_COLD = 2
"""What the cleaner moves."""
HEAD_METADATA = 3
"""Nodes and usage pages."""
HEAD_COUNT = 4


class EntryHead:
    """What an entry says before the checksums of its payload blocks."""

    kind: U8
    count: Annotated[U32, AfterZeros(3)]
    version: U64
    owner: U64
    key: U64


ENTRY = Layout(EntryHead, 32)
ENTRY_BYTES = ENTRY.size


class Entry(NamedTuple):
    """Owner of adjacent payload blocks: ``key`` is the first file block (data),
    0 (nodes say what they are) or the usage page; ``checksums`` has one a block.
    """

    kind: int
    owner: int
    version: int
    key: int
    checksums: Sequence[int]


EntryFields = tuple[int, int, int, int, Sequence[int]]
"""What an ``Entry`` has, by position: that is made in a quarter of the time."""


class RecordHead:
    """What a record says before the value."""

    key: Bytes17
    value_bytes: U16
    """``DELETED`` where the item is no more."""


RECORD = Layout(RecordHead, 19)
RECORD_OVERHEAD_BYTES = RECORD.size
DELETED = 0xFFFF


Change = tuple[bytes, bytes | None]
"""The key of an imap item and its new value, None to delete it."""


class Record(NamedTuple):
    """A change of one imap item, as a summary has it."""

    key: bytes
    value: bytes | None


class Continuation:
    """How each block of a summary but the first begins."""

    magic: ClassVar[Bytes4] = SUMMARY_CONTINUATION_MAGIC
    number: U32


CONTINUATION = Layout(Continuation, 8)


class Summary(Structure):
    """The head of a log write (FORMAT.md, "Log write")."""

    UNCOMPARED = "checksum"
    magic: ClassVar[Bytes4] = SUMMARY_MAGIC
    checksum: U32 = 0
    filesystem_id: ClassVar[Bytes8]
    sequence: U64
    address: U64
    next_address: U64
    run_address: U64
    run_sequence: U64
    run_next_address: U64
    payload_address: U64
    payload_blocks: U32
    summary_blocks: U32
    summary_bytes: ClassVar[U32]
    previous_checksum: U32
    flushed_sequence: U64
    run_blocks: U32
    head: U16
    flags: U16
    entry_count: ClassVar[U32]
    record_count: ClassVar[U32]
    time_ns: Annotated[I64, AfterZeros(8)]
    entries: Sequence[Entry] = ()
    records: Sequence[Record] = ()

    def pack(self, filesystem_id: bytes) -> bytes:
        """Return the summary's bytes, not padded to blocks (``pack_summary`` is for commits)."""
        parts: list[bytes] = []
        for kind, owner, version, key, checksums in self.entries:
            parts.append(ENTRY.struct.pack(kind, len(checksums), version, owner, key))
            parts.append(struct.pack(f"<{len(checksums)}I", *checksums))
        for record_key, value in self.records:
            length = DELETED if value is None else len(value)
            parts += RECORD.struct.pack(record_key, length), value or b""
        body = b"".join(parts)
        head = SUMMARY.pack(
            self,
            checksum=0,
            filesystem_id=filesystem_id,
            summary_bytes=SUMMARY_HEADER_BYTES + len(body),
            entry_count=len(self.entries),
            record_count=len(self.records),
        )
        return sealed(head + body, CHECKSUM_OFFSET)

    @staticmethod
    def peek_bytes(first_block: bytes, filesystem_id: bytes, address: int) -> int:
        """Return the length in bytes of the summary that starts with ``first_block``.

        Raises DamageError when no summary of this filesystem starts there; the
        length is not to be trusted before ``unpack`` has checked the whole.
        """
        length = len(first_block)
        expect(
            length >= SUMMARY_HEADER_BYTES, "summary length", address, SUMMARY_HEADER_BYTES, length
        )
        fields = SUMMARY.unpack(first_block)
        _expect_ours(fields, filesystem_id, address)
        length, blocks = int(fields["summary_bytes"]), fields["summary_blocks"]
        expect(
            1 <= blocks <= SUMMARY_BLOCKS_MAX, "summary blocks", address, SUMMARY_BLOCKS_MAX, blocks
        )
        limit = summary_room_bytes(blocks, len(first_block))
        expect(SUMMARY_HEADER_BYTES <= length <= limit, "summary length", address, limit, length)
        return length

    @classmethod
    def unpack(cls, raw: bytes, filesystem_id: bytes, address: int) -> "Summary":
        """Read a whole summary; ``raw`` has exactly the bytes ``peek_bytes`` told."""
        expect(
            len(raw) >= SUMMARY_HEADER_BYTES,
            "summary length",
            address,
            SUMMARY_HEADER_BYTES,
            len(raw),
        )
        fields = SUMMARY.unpack(raw)
        magic, wanted = fields["magic"], fields["summary_bytes"]
        expect(magic == SUMMARY_MAGIC, "summary magic", address, SUMMARY_MAGIC, magic)
        expect(wanted == len(raw), "summary length", address, wanted, len(raw))
        holds = seal_holds(raw, CHECKSUM_OFFSET)
        expect(holds, "summary checksum", address, "a match", "a mismatch")
        _expect_ours(fields, filesystem_id, address)
        entries, offset = _unpack_entries(raw, fields["entry_count"], address)
        records = _unpack_records(raw, offset, fields["record_count"], address)
        summary = SUMMARY.build(fields, entries=entries, records=records)
        counted = sum(len(entry.checksums) for entry in entries)
        expect(
            counted == summary.payload_blocks,
            "summary payload count",
            address,
            summary.payload_blocks,
            counted,
        )
        return summary


SUMMARY = Layout(Summary, 128)
SUMMARY_HEADER_BYTES = SUMMARY.size
CHECKSUM_OFFSET = SUMMARY.offset("checksum")


def _expect_ours(fields: Mapping[str, Any], filesystem_id: bytes, address: int) -> None:
    """Raise DamageError unless a summary says of itself that it belongs to ``address`` here."""
    found_id, found = fields["filesystem_id"], fields["address"]
    expect(found_id == filesystem_id, "summary filesystem", address, filesystem_id, found_id)
    expect(found == address, "summary place", address, address, found)


def summary_blocks(length: int, block_bytes: int) -> int:
    """Return how many blocks a summary of ``length`` bytes takes."""
    if length <= block_bytes:
        return 1
    return 1 - (block_bytes - length) // (block_bytes - CONTINUATION.size)


def summary_room_bytes(blocks: int, block_bytes: int) -> int:
    """Return how many bytes of a summary ``blocks`` blocks hold."""
    return blocks * block_bytes - (blocks - 1) * CONTINUATION.size


def summary_from_blocks(raw: bytes, length: int, block_bytes: int, address: int) -> bytes:
    """Return the ``length`` bytes of the summary in the blocks ``raw`` found at ``address``.

    Raises DamageError when one of the blocks is none of a summary.
    """
    parts = [raw[:block_bytes]]
    for number, start in enumerate(range(block_bytes, len(raw), block_bytes), 1):
        found = CONTINUATION.struct.unpack_from(raw, start)
        wanted = (SUMMARY_CONTINUATION_MAGIC, number)
        expect(found == wanted, "summary continuation", address + number, wanted, found)
        parts.append(raw[start + CONTINUATION.size : start + block_bytes])
    return b"".join(parts)[:length]


def _unpack_entries(raw: bytes, count: int, address: int) -> tuple[tuple[Entry, ...], int]:
    entries = []
    offset = SUMMARY_HEADER_BYTES
    for _ in range(count):
        expect(offset + ENTRY_BYTES <= len(raw), "summary entry", address, "room", offset)
        kind, blocks, version, owner, key = ENTRY.struct.unpack_from(raw, offset)
        offset += ENTRY_BYTES
        expect(offset + 4 * blocks <= len(raw), "summary entry", address, "room", blocks)
        entries.append(
            Entry(kind, owner, version, key, struct.unpack_from(f"<{blocks}I", raw, offset))
        )
        offset += 4 * blocks
    return tuple(entries), offset


def _unpack_records(raw: bytes, offset: int, count: int, address: int) -> tuple[Record, ...]:
    records = []
    for _ in range(count):
        expect(
            offset + RECORD_OVERHEAD_BYTES <= len(raw), "summary record", address, "room", offset
        )
        key, length = RECORD.struct.unpack_from(raw, offset)
        offset += RECORD_OVERHEAD_BYTES
        if length == DELETED:
            records.append(Record(key, None))
            continue
        expect(offset + length <= len(raw), "summary record", address, "room", length)
        records.append(Record(key, raw[offset : offset + length]))
        offset += length
    expect(offset == len(raw), "summary end", address, len(raw), offset)
    return tuple(records)
