"""Blocks of data as they are stored: none looks like a summary (FORMAT.md, "Escaped data").

Whoever searches the log takes a block for a summary by how it begins, and data is
what users choose.  So a block of data that begins with one of the magics of a summary
is stored with another first byte, and its checksum, which is kept apart from it, is
that of the stored block with some bits inverted.  A block that begins with the
changed bytes by itself has its plain checksum: every block comes back as it was.

Held by ``tests/ondisk/test_stored_data.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from lfs.common.checksum import block_checksums, checksum
from lfs.ondisk.summary import SUMMARY_CONTINUATION_MAGIC, SUMMARY_MAGIC

RESERVED_MAGICS = (SUMMARY_MAGIC, SUMMARY_CONTINUATION_MAGIC)
ESCAPE_CHECKSUM_BITS = 0x5CA9ED17
_FIRST = SUMMARY_MAGIC[0]
_ESCAPED_FIRST = _FIRST | 0x80
_ESCAPED_MAGICS = tuple(bytes([_ESCAPED_FIRST]) + magic[1:] for magic in RESERVED_MAGICS)
assert {magic[0] for magic in RESERVED_MAGICS} == {_FIRST}


def stored_data(
    buffer: bytes | memoryview, block_bytes: int
) -> tuple[bytes | memoryview, list[int]]:
    """Return whole blocks of data as they go to disk, and the checksum of each.

    The buffer is the same unless a block had to be escaped.
    """
    if len(buffer) == block_bytes and isinstance(buffer, bytes) and buffer[0] != _FIRST:
        return buffer, [checksum(buffer)]
    if _FIRST not in bytes(buffer[::block_bytes]):
        return buffer, block_checksums(buffer, block_bytes)
    starts = [
        start
        for start in range(0, len(buffer), block_bytes)
        if bytes(buffer[start : start + len(SUMMARY_MAGIC)]) in RESERVED_MAGICS
    ]
    if not starts:
        return buffer, block_checksums(buffer, block_bytes)
    changed = bytearray(buffer)
    for start in starts:
        changed[start] = _ESCAPED_FIRST
    stored = bytes(changed)
    checksums = block_checksums(stored, block_bytes)
    for start in starts:
        checksums[start // block_bytes] ^= ESCAPE_CHECKSUM_BITS
    return stored, checksums


def original_data(
    raw: bytes, checksums: Sequence[int], block_bytes: int
) -> tuple[bytes, list[int]]:
    """Return stored blocks as they were before, and which of them fail their checksums."""
    found = block_checksums(raw, block_bytes)
    if found == [*checksums]:
        return raw, []
    failed: list[int] = []
    changed = bytearray(raw)
    for index, (value, expected) in enumerate(zip(found, checksums, strict=True)):
        start = index * block_bytes
        if value == expected:
            continue
        is_escaped = raw.startswith(_ESCAPED_MAGICS, start)
        if is_escaped and value ^ ESCAPE_CHECKSUM_BITS == expected:
            changed[start] = _FIRST
        else:
            failed.append(index)
    return bytes(changed), failed


def is_reserved(raw: bytes, start: int = 0) -> bool:
    """Tell whether a block begins as only blocks of a summary may."""
    return raw.startswith(RESERVED_MAGICS, start)
