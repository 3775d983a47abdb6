"""The summary of a log write: owners of its payload, changed items (FORMAT.md, "Log write").

A summary is a row of bytes, and on disk a row of blocks: each block but the first
begins with a magic and its number, because what follows there are names, attributes
and small files, and no block may begin as a user likes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lfs.ondisk.seal import CHECKSUM_FIELD, expect, seal_holds, sealed

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

_SUMMARY = struct.Struct("<4sI8sQQQQQQQIIIIQIHHIIQq")
_ENTRY = struct.Struct("<BBHIQQQ")
_CONTINUATION = struct.Struct("<4sI")
_SUMMARY_CHECKSUM_OFFSET = 4
assert _SUMMARY.size == 128
assert _ENTRY.size == 32
assert _CONTINUATION.size == 8
SUMMARY_HEADER_BYTES = _SUMMARY.size
ENTRY_BYTES = _ENTRY.size
HEAD_MAIN = 0
"""Log heads: commits, small files, hot data that the cleaner moves."""
HEAD_BULK = 1
"""Large extents."""
HEAD_COLD = 2
"""What the cleaner moves."""
HEAD_METADATA = 3
"""Nodes and usage pages."""
HEAD_COUNT = 4
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


@dataclass(slots=True)
class Summary:
    """The head of a log write (FORMAT.md, "Log write").

    Nobody changes one; it is not frozen because each commit would pay for that.
    """

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
    entries: Sequence[Entry] = ()
    records: Sequence[Record] = ()
    checksum: int = field(default=0, compare=False)

    def pack(self, filesystem_id: bytes) -> bytes:
        """Return the summary's bytes, not padded to blocks."""
        parts: list[bytes] = []
        for kind, owner, version, key, checksums in self.entries:
            parts.append(_ENTRY.pack(kind, 0, 0, len(checksums), version, owner, key))
            parts.append(struct.pack(f"<{len(checksums)}I", *checksums))
        for record_key, value in self.records:
            if value is None:
                parts.append(_RECORD.pack(record_key, _RECORD_DELETED))
            else:
                parts.append(_RECORD.pack(record_key, len(value)))
                parts.append(value)
        body = b"".join(parts)
        head = _SUMMARY.pack(
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
            _SUMMARY.size + len(body),
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
        return sealed(head + body, _SUMMARY_CHECKSUM_OFFSET)

    @staticmethod
    def peek_bytes(first_block: bytes, filesystem_id: bytes, address: int) -> int:
        """Return the length in bytes of the summary that starts with ``first_block``.

        Raises DamageError when no summary of this filesystem starts there; the
        length is not to be trusted before ``unpack`` has checked the whole.
        """
        length = len(first_block)
        expect(length >= _SUMMARY.size, "summary length", address, _SUMMARY.size, length)
        fields = _SUMMARY.unpack_from(first_block)
        expect(fields[0] == SUMMARY_MAGIC, "summary magic", address, SUMMARY_MAGIC, fields[0])
        expect(fields[2] == filesystem_id, "summary filesystem", address, filesystem_id, fields[2])
        expect(fields[4] == address, "summary place", address, address, fields[4])
        length, blocks = int(fields[12]), fields[11]
        expect(
            1 <= blocks <= SUMMARY_BLOCKS_MAX, "summary blocks", address, SUMMARY_BLOCKS_MAX, blocks
        )
        limit = summary_room_bytes(blocks, len(first_block))
        expect(_SUMMARY.size <= length <= limit, "summary length", address, limit, length)
        return length

    @classmethod
    def unpack(cls, raw: bytes, filesystem_id: bytes, address: int) -> Summary:
        """Read a whole summary; ``raw`` has exactly the bytes ``peek_bytes`` told."""
        expect(len(raw) >= _SUMMARY.size, "summary length", address, _SUMMARY.size, len(raw))
        fields = _SUMMARY.unpack_from(raw)
        expect(fields[0] == SUMMARY_MAGIC, "summary magic", address, SUMMARY_MAGIC, fields[0])
        expect(fields[12] == len(raw), "summary length", address, fields[12], len(raw))
        expect(
            seal_holds(raw, _SUMMARY_CHECKSUM_OFFSET),
            "summary checksum",
            address,
            "a match",
            "a mismatch",
        )
        expect(fields[2] == filesystem_id, "summary filesystem", address, filesystem_id, fields[2])
        expect(fields[4] == address, "summary place", address, address, fields[4])
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
        expect(
            counted == summary.payload_blocks,
            "summary payload count",
            address,
            summary.payload_blocks,
            counted,
        )
        return summary


def summary_blocks(length: int, block_bytes: int) -> int:
    """Return how many blocks a summary of ``length`` bytes takes."""
    if length <= block_bytes:
        return 1
    return 1 - (block_bytes - length) // (block_bytes - _CONTINUATION.size)


def summary_room_bytes(blocks: int, block_bytes: int) -> int:
    """Return how many bytes of a summary ``blocks`` blocks hold."""
    return blocks * block_bytes - (blocks - 1) * _CONTINUATION.size


def summary_to_blocks(raw: bytes, blocks: int, block_bytes: int) -> bytes:
    """Return a packed summary as it goes to the ``blocks`` blocks set aside for it."""
    assert len(raw) <= summary_room_bytes(blocks, block_bytes)
    assert blocks <= SUMMARY_BLOCKS_MAX
    if blocks == 1:
        return raw.ljust(block_bytes, b"\0")
    parts = [raw[:block_bytes].ljust(block_bytes, b"\0")]
    room = block_bytes - _CONTINUATION.size
    for number in range(1, blocks):
        start = block_bytes + (number - 1) * room
        parts.append(_CONTINUATION.pack(SUMMARY_CONTINUATION_MAGIC, number))
        parts.append(raw[start : start + room].ljust(room, b"\0"))
    return b"".join(parts)


def summary_from_blocks(raw: bytes, length: int, block_bytes: int, address: int) -> bytes:
    """Return the ``length`` bytes of the summary in the blocks ``raw`` found at ``address``.

    Raises DamageError when one of the blocks is none of a summary.
    """
    parts = [raw[:block_bytes]]
    for number, start in enumerate(range(block_bytes, len(raw), block_bytes), 1):
        found = _CONTINUATION.unpack_from(raw, start)
        wanted = (SUMMARY_CONTINUATION_MAGIC, number)
        expect(found == wanted, "summary continuation", address + number, wanted, found)
        parts.append(raw[start + _CONTINUATION.size : start + block_bytes])
    return b"".join(parts)[:length]


def summary_checksum(raw: bytes) -> int:
    """Return the checksum stored in a packed summary."""
    return int(CHECKSUM_FIELD.unpack_from(raw, _SUMMARY_CHECKSUM_OFFSET)[0])


def _unpack_entries(raw: bytes, count: int, address: int) -> tuple[tuple[Entry, ...], int]:
    entries = []
    offset = _SUMMARY.size
    for _ in range(count):
        expect(offset + _ENTRY.size <= len(raw), "summary entry", address, "room", offset)
        kind, _, _, blocks, version, owner, key = _ENTRY.unpack_from(raw, offset)
        offset += _ENTRY.size
        expect(offset + 4 * blocks <= len(raw), "summary entry", address, "room", blocks)
        entries.append(
            Entry(kind, owner, version, key, struct.unpack_from(f"<{blocks}I", raw, offset))
        )
        offset += 4 * blocks
    return tuple(entries), offset


def _unpack_records(raw: bytes, offset: int, count: int, address: int) -> tuple[Record, ...]:
    records = []
    for _ in range(count):
        expect(offset + _RECORD.size <= len(raw), "summary record", address, "room", offset)
        key, length = _RECORD.unpack_from(raw, offset)
        offset += _RECORD.size
        if length == _RECORD_DELETED:
            records.append(Record(key, None))
            continue
        expect(offset + length <= len(raw), "summary record", address, "room", length)
        records.append(Record(key, raw[offset : offset + length]))
        offset += length
    expect(offset == len(raw), "summary end", address, len(raw), offset)
    return tuple(records)
