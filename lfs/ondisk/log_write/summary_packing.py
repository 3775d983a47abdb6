"""Packing the summary of a log write by hand: each commit does.

Apart from the structure itself because it is compiled (docs/design/compiled.md).

Held by ``tests/ondisk/test_by_hand.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from lfs.ondisk.log_write.body import Change, EntryFields
from lfs.ondisk.log_write.body_packing import pack_body
from lfs.ondisk.log_write.summary import (
    CHECKSUM_OFFSET,
    CONTINUATION,
    SUMMARY,
    SUMMARY_BLOCKS_MAX,
    SUMMARY_CONTINUATION_MAGIC,
    SUMMARY_HEADER_BYTES,
    SUMMARY_MAGIC,
    summary_room_bytes,
)
from lfs.ondisk.structure.seal import CHECKSUM_FIELD, sealed

_pack_head = SUMMARY.struct.pack


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
    body = pack_body(entries, records)
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
