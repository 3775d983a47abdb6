"""How a mounted filesystem tells where the blocks of a file are: both ends of it.

FUSE as pyfuse3 offers it has no ``ioctl``, and so no FIEMAP.  Instead every file
has an extended attribute ``system.lfs.extents`` that no listing shows.  It holds
a line ``file_block address count`` for each extent, in file order, as many as
fit into the 64 KiB that an attribute may have, and no more than can be told at once;
``system.lfs.extents.N`` begins at file block N.  It is empty after the last one.  An
extent may be told in parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from lfs.ondisk import XATTR_VALUE_BYTES_MAX

EXTENTS_ATTRIBUTE = b"system.lfs.extents"

Extent = tuple[int, int, int]
"""File block, address, and how many blocks: all counted in blocks of the filesystem."""


def extents_attribute_start(name: bytes) -> int | None:
    """Return the file block that the attribute ``name`` begins with, or None if it is another."""
    if name == EXTENTS_ATTRIBUTE:
        return 0
    base, _, start = name.rpartition(b".")
    if base != EXTENTS_ATTRIBUTE or not (start.isdigit() and len(start) < 20):
        return None
    return int(start)


def format_extents(extents: Iterable[Extent]) -> bytes:
    """Return the value of the attribute that begins with the first of ``extents``."""
    text = bytearray()
    for extent in extents:
        line = b"%d %d %d\n" % extent
        if len(text) + len(line) > XATTR_VALUE_BYTES_MAX:
            break
        text += line
    return bytes(text)


def read_extents(path: str) -> list[Extent]:
    """Return the extents of a file on a mounted lfs; raises OSError (EOPNOTSUPP elsewhere)."""
    extents: list[Extent] = []
    end = end_address = 0
    while True:
        text = os.getxattr(path, EXTENTS_ATTRIBUTE + b".%d" % end)
        if not text:
            return extents
        for line in text.splitlines():
            file_block, address, count = map(int, line.split())
            if extents and (file_block, address) == (end, end_address):
                first, at, before = extents[-1]
                extents[-1] = first, at, before + count
            else:
                extents.append((file_block, address, count))
            end, end_address = file_block + count, address + count
