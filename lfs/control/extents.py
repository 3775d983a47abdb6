"""How a mounted filesystem tells where the blocks of a file are: both ends of it.

FUSE as pyfuse3 offers it has no ``ioctl``, and so no FIEMAP.  Instead a file is asked for
its extents from a file block on.  The answer has as many as fit, in file order, and no more
than can be told at once; it has none after the last one.  An extent may be told in parts.

Held by ``tests/control/test_door.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from lfs.control.door import ANSWER_BYTES_MAX, Answer, ask
from lfs.control.questions import EXTENTS

Extent = tuple[int, int, int]
"""File block, address, and how many blocks: all counted in blocks of the filesystem."""

_FRAME_BYTES = len('{"extents":[]}')


def extents_answer(extents: Iterable[Extent]) -> Answer:
    """Return the answer that begins with the first of ``extents``."""
    told: list[Extent] = []
    room_bytes = ANSWER_BYTES_MAX - _FRAME_BYTES
    for extent in extents:
        room_bytes -= len(b"[%d,%d,%d]," % extent)
        if room_bytes < 0:
            break
        told.append(extent)
    return {"extents": told}


def read_extents(path: str) -> list[Extent]:
    """Return the extents of a file on a mounted lfs; raises OSError."""
    extents: list[Extent] = []
    end = end_address = 0
    while True:
        told = ask(path, EXTENTS, str(end))["extents"]
        if not told:
            return extents
        for file_block, address, count in told:
            if extents and (file_block, address) == (end, end_address):
                first, at, before = extents[-1]
                extents[-1] = first, at, before + count
            else:
                extents.append((file_block, address, count))
            end, end_address = file_block + count, address + count
