"""CRC-32C, the checksum of every persistent structure.

The polynomial is Castagnoli's (RFC 3720, appendix B.4).  crcmod is the
reference and the fallback; google-crc32c does the work where it has its
compiled extension, because it is over twenty times faster.  A test holds the
two against each other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import crcmod.predefined
import google_crc32c

CHECKSUM_BYTES = 4

reference: Callable[[bytes], int] = crcmod.predefined.mkPredefinedCrcFun("crc-32c")
"""The reference implementation: takes bytes, returns an unsigned 32-bit value."""

checksum: Callable[[bytes], int] = (
    google_crc32c.value if google_crc32c.implementation == "c" else reference
)
"""CRC-32C of ``bytes`` (no other buffer type) as an unsigned 32-bit value."""


def block_checksums(raw: bytes | memoryview, block_bytes: int) -> list[int]:
    """Return the checksum of each block of ``block_bytes`` in ``raw``, which holds whole ones.

    Each is copied for that, to the same place: only ``bytes`` have a checksum.
    """
    return [checksum(block) for (block,) in struct.iter_unpack(f"{block_bytes}s", raw)]
