"""Packing the summary of a log write by hand: each commit does.

Apart from the structure itself because it is compiled (docs/design/compiled.md).

Held by ``tests/ondisk/test_by_hand.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from lfs.ondisk.body import Change, Entry
from lfs.ondisk.packing import pack_body
from lfs.ondisk.seal import sealed
from lfs.ondisk.summary import CHECKSUM_OFFSET, SUMMARY, SUMMARY_HEADER_BYTES, SUMMARY_MAGIC

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
    entries: Sequence[Entry],
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
