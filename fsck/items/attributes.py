"""Extended attributes: chunks that fit together, names under their hashes.

FORMAT.md, "Extended attribute".  The chunks of a value are items of their own,
numbered in the low 8 bits of the offset; the first says how long the value is.

Held by ``tests/fsck/test_items.py``.
"""

from __future__ import annotations

from fsck.items.hashing import HashGroups
from fsck.reading.image import Image
from fsck.reading.report import Report
from lfs.common.errors import DamageError
from lfs.ondisk import (
    NAME_BYTES_MAX,
    REMOVED_XATTR,
    XATTR_VALUE_BYTES_MAX,
    XattrItem,
    chunk_bytes,
    xattr_offset,
)


class AttributeChecker:
    """Takes the attribute items of one inode after the other, in key order."""

    def __init__(self, image: Image, report: Report) -> None:
        """Take the image, for block size and hash key, and where problems go."""
        self._report = report
        self._chunk_bytes = chunk_bytes(image.block_bytes)
        self._groups = HashGroups("xattr", image.superblock.hash_seed, xattr_offset, report)
        self._ino = 0
        self._name = b""
        self._place = -1
        self._expected_bytes = 0
        self._found_bytes = 0
        self._last_chunk = 0
        self._last_chunk_bytes = 0

    def begin(self, ino: int) -> None:
        """Go on to the attributes of inode ``ino``."""
        self._ino = ino
        self._place = -1
        self._groups.begin(ino)

    def take(self, offset: int, value: bytes, may_have_gap: bool) -> None:
        """Take the chunk at key ``offset``; ``may_have_gap``: others may have been lost."""
        place, chunk = offset >> 8, offset & 0xFF
        if chunk == 0:
            self._end_value(may_have_gap)
            self._take_first(place, value, may_have_gap)
            return
        if place != self._place:
            self._end_value(may_have_gap)
            if not may_have_gap:
                self._bad(f"chunk {chunk} at offset {offset:#x} without a first chunk")
            return
        if chunk != self._last_chunk + 1 and not may_have_gap:
            self._bad(f"{self._name!r}: expected chunk {self._last_chunk + 1}, found {chunk}")
        if self._last_chunk and self._last_chunk_bytes != self._chunk_bytes:
            self._bad(
                f"{self._name!r}: expected {self._chunk_bytes} bytes in chunk "
                f"{self._last_chunk}, found {self._last_chunk_bytes}"
            )
        self._add_chunk(chunk, value)

    def end(self, may_have_gap: bool) -> None:
        """Take the end of the inode's attributes."""
        self._end_value(may_have_gap)
        self._groups.end(may_have_gap)

    def _end_value(self, may_have_gap: bool) -> None:
        """Take the end of the current attribute, if there is one."""
        if self._place >= 0 and self._found_bytes != self._expected_bytes and not may_have_gap:
            self._bad(
                f"{self._name!r}: expected a value of {self._expected_bytes} bytes, "
                f"found {self._found_bytes}"
            )
        self._place = -1

    def _take_first(self, place: int, value: bytes, may_have_gap: bool) -> None:
        if value == REMOVED_XATTR:
            self._groups.take(place << 8 & ~0xFFFF, place & 0xFF, b"", may_have_gap)
            return
        try:
            item = XattrItem.unpack(value)
        except DamageError as error:
            self._bad(str(error.strerror))
            return
        if not 1 <= len(item.name) <= NAME_BYTES_MAX or b"\0" in item.name:
            self._bad(f"{item.name!r} is no valid name")
        if item.value_bytes > XATTR_VALUE_BYTES_MAX:
            self._bad(
                f"{item.name!r}: expected at most {XATTR_VALUE_BYTES_MAX} bytes, "
                f"found {item.value_bytes}"
            )
        self._groups.take(place << 8 & ~0xFFFF, place & 0xFF, item.name, may_have_gap)
        self._place = place
        self._name = item.name
        self._expected_bytes = item.value_bytes
        self._found_bytes = 0
        self._add_chunk(0, item.chunk)

    def _add_chunk(self, chunk: int, value: bytes) -> None:
        if len(value) > self._chunk_bytes:
            self._bad(
                f"{self._name!r}: expected at most {self._chunk_bytes} bytes in chunk {chunk}, "
                f"found {len(value)}"
            )
        self._found_bytes += len(value)
        self._last_chunk = chunk
        self._last_chunk_bytes = len(value)

    def _bad(self, text: str) -> None:
        message = f"inode {self._ino}, extended attribute: {text}"
        self._report.add("xattr-damaged", message, ino=self._ino)
