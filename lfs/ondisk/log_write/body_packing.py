"""Packing the entries and records of a log write, of which a commit may have hundreds.

Apart from the structures themselves because it is compiled (docs/design/compiled.md).

Held by ``tests/ondisk/test_by_hand.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lfs.ondisk.log_write.body import DELETED, ENTRY, RECORD, Change, EntryFields

_pack_entry = ENTRY.struct.pack
_pack_entry_of_one = struct.Struct(ENTRY.struct.format + "I").pack
"""An entry of one block, with its checksum."""
_pack_record = RECORD.struct.pack


def pack_body(entries: Sequence[EntryFields], records: Sequence[Change]) -> bytes:
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
