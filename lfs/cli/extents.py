"""How a mounted filesystem tells where the blocks of a file are: both ends of it.

FUSE as pyfuse3 offers it has no ``ioctl``, and so no FIEMAP.  Instead every file
has an extended attribute ``system.lfs.extents`` that no listing shows.  It holds
a line ``file_block address count`` for each extent, in file order, as many as
fit into the 64 KiB that an attribute may have; ``system.lfs.extents.N`` goes on
with the N-th extent, counted from 0.  It is empty after the last one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from lfs.ondisk import XATTR_VALUE_BYTES_MAX

EXTENTS_ATTRIBUTE = b"system.lfs.extents"

Extent = tuple[int, int, int]
"""File block, address, and how many blocks: all counted in blocks of the filesystem."""


def extents_attribute_start(name: bytes) -> int | None:
    """Return the extent that the attribute ``name`` begins with, or None if it is another."""
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
    while True:
        text = os.getxattr(path, EXTENTS_ATTRIBUTE + b".%d" % len(extents))
        if not text:
            return extents
        for line in text.splitlines():
            file_block, address, count = map(int, line.split())
            extents.append((file_block, address, count))
