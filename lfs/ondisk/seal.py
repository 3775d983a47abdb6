"""Checks that all structures share: a checksum inside what it covers, and comparisons.

A checksum stored inside a structure is taken with its own four bytes as zero.

Held by ``tests/ondisk/test_structures.py``.
"""

from __future__ import annotations

import struct

from lfs.common.checksum import checksum
from lfs.common.errors import DamageError

CHECKSUM_FIELD = struct.Struct("<I")
_ZERO_CHECKSUM = bytes(CHECKSUM_FIELD.size)


def sealed(raw: bytes, offset: int) -> bytes:
    """Return ``raw``, which has zeros at ``offset``, with its checksum stored there."""
    return raw[:offset] + CHECKSUM_FIELD.pack(checksum(raw)) + raw[offset + CHECKSUM_FIELD.size :]


def seal_holds(raw: bytes, offset: int) -> bool:
    """Tell whether the checksum stored at ``offset`` is that of ``raw``."""
    stored = CHECKSUM_FIELD.unpack_from(raw, offset)[0]
    return bool(stored == checksum(raw[:offset] + _ZERO_CHECKSUM + raw[offset + 4 :]))


def expect(condition: bool, what: str, address: int, expected: object, found: object) -> None:
    """Raise DamageError, saying what was expected and found where, unless ``condition``."""
    if not condition:
        raise damage(what, address, expected, found)


def damage(what: str, address: int, expected: object, found: object) -> DamageError:
    """Return the error that ``expect`` raises, for what is read too often to call that."""
    return DamageError(f"{what} at {address}: expected {expected!r}, found {found!r}")
