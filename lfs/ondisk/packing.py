"""Packing the summary of a log write by hand: each commit does, with hundreds of entries.

Apart from the structure itself because it is compiled (docs/design/compiled.md).

Held by ``tests/ondisk/test_by_hand.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lfs.ondisk.seal import CHECKSUM_FIELD, sealed
from lfs.ondisk.summary import (
    CHECKSUM_OFFSET,
    CONTINUATION,
    DELETED,
    ENTRY,
    RECORD,
    SUMMARY,
    SUMMARY_BLOCKS_MAX,
    SUMMARY_CONTINUATION_MAGIC,
    SUMMARY_HEADER_BYTES,
    SUMMARY_MAGIC,
    Change,
    EntryFields,
    summary_room_bytes,
)

_pack_head = SUMMARY.struct.pack
_pack_entry = ENTRY.struct.pack
_pack_entry_of_one = struct.Struct(ENTRY.struct.format + "I").pack
"""An entry of one block, with its checksum."""
_pack_record = RECORD.struct.pack


def _pack_body(entries: Sequence[EntryFields], records: Sequence[Change]) -> bytes:
    """Return what follows the head of a summary."""
    parts: list[bytes] = []
    pack_one, pack_record = _pack_entry_of_one, _pack_record
    for kind, owner, version, key, checksums in entries:
        if len(checksums) == 1:
            parts.append(pack_one(kind, 1, version, owner, key, checksums[0]))
        else:
            parts.append(_pack_entry(kind, len(checksums), version, owner, key))
            parts.append(struct.pack(f"<{len(checksums)}I", *checksums))
    for record_key, value in records:
        if value is None:
            parts.append(pack_record(record_key, DELETED))
        else:
            parts.append(pack_record(record_key, len(value)))
            parts.append(value)
    return b"".join(parts)


def pack_summary(
    filesystem_id: bytes,
    sequence: int,
    address: int,
    next_address: int,
    run_address: int,
    run_sequence: int,
    run_next_address: int,
    payload_address: int,
    payload_blocks: int,
    blocks: int,
    previous_checksum: int,
    flushed_sequence: int,
    run_blocks: int,
    head: int,
    flags: int,
    time_ns: int,
    entries: Sequence[EntryFields],
    records: Sequence[Change],
) -> bytes:
    """Return the bytes of a ``Summary`` with these fields, not padded to blocks."""
    body = _pack_body(entries, records)
    packed = _pack_head(
        SUMMARY_MAGIC,
        0,
        filesystem_id,
        sequence,
        address,
        next_address,
        run_address,
        run_sequence,
        run_next_address,
        payload_address,
        payload_blocks,
        blocks,
        SUMMARY_HEADER_BYTES + len(body),
        previous_checksum,
        flushed_sequence,
        run_blocks,
        head,
        flags,
        len(entries),
        len(records),
        time_ns,
    )
    return sealed(packed + body, CHECKSUM_OFFSET)


def summary_to_blocks(raw: bytes, blocks: int, block_bytes: int) -> bytes:
    """Return a packed summary as it goes to the ``blocks`` blocks set aside for it."""
    if blocks == 1:
        assert len(raw) <= block_bytes
        return raw.ljust(block_bytes, b"\0")
    assert len(raw) <= summary_room_bytes(blocks, block_bytes)
    assert blocks <= SUMMARY_BLOCKS_MAX
    parts = [raw[:block_bytes].ljust(block_bytes, b"\0")]
    room = block_bytes - CONTINUATION.size
    for number in range(1, blocks):
        start = block_bytes + (number - 1) * room
        parts.append(CONTINUATION.struct.pack(SUMMARY_CONTINUATION_MAGIC, number))
        parts.append(raw[start : start + room].ljust(room, b"\0"))
    return b"".join(parts)


def summary_checksum(raw: bytes) -> int:
    """Return the checksum stored in a packed summary."""
    return int(CHECKSUM_FIELD.unpack_from(raw, CHECKSUM_OFFSET)[0])
