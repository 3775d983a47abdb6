"""A device in memory: what tests and programs without a disk use.

Contents are a dictionary of immutable pages; a page that is missing is zeros.
So a device of 16 TiB costs nothing until it is written, a write of whole pages
keeps references to what it was given, and ``copy`` shares every page: a test
can keep the state after each of thousands of writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lfs.device.base import BlockDevice, Buffer

PAGE_BYTES = 4096
_ZERO_PAGE = bytes(PAGE_BYTES)


class MemoryDevice(BlockDevice):
    """A sparse device in memory; everything written is durable at once."""

    def __init__(self, size_bytes: int) -> None:
        """Make a device of ``size_bytes`` zero bytes, a multiple of ``align_bytes``."""
        assert size_bytes % self.align_bytes == 0, size_bytes
        self.size_bytes = size_bytes
        self._pages: dict[int, bytes] = {}

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes the pages ever written occupy."""
        return len(self._pages) * PAGE_BYTES

    def copy(self) -> MemoryDevice:
        """Return an independent device with the same contents; pages are shared until written."""
        device = MemoryDevice(self.size_bytes)
        device._pages = self._pages.copy()
        return device

    def differing_pages(self, other: MemoryDevice) -> Iterator[tuple[int, bytes]]:
        """Yield number and contents of the pages that are not as on ``other``."""
        theirs = other._pages
        for index, page in self._pages.items():
            before = theirs.get(index, _ZERO_PAGE)
            if page is not before and page != before:
                yield index, page
        for index in theirs.keys() - self._pages.keys():
            if theirs[index] != _ZERO_PAGE:
                yield index, _ZERO_PAGE

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return the bytes of a range; raises DeviceError(EINVAL) outside the device."""
        self.check_range(offset_bytes, length_bytes)
        first, skip = divmod(offset_bytes, PAGE_BYTES)
        end = -(-(offset_bytes + length_bytes) // PAGE_BYTES)
        get = self._pages.get
        pages = [get(index, _ZERO_PAGE) for index in range(first, end)]
        joined = pages[0] if len(pages) == 1 else b"".join(pages)
        return joined[skip : skip + length_bytes]

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write ``buffers`` one after the other; raises DeviceError (EROFS, EINVAL)."""
        self.check_write(offset_bytes, sum(map(len, buffers)))
        for buffer in buffers:
            self._write_one(offset_bytes, buffer)
            offset_bytes += len(buffer)

    def _write_one(self, offset_bytes: int, buffer: Buffer) -> None:
        index, skip = divmod(offset_bytes, PAGE_BYTES)
        position = 0
        while position < len(buffer):
            piece = bytes(buffer[position : position + PAGE_BYTES - skip])
            if len(piece) < PAGE_BYTES:
                old = self._pages.get(index, _ZERO_PAGE)
                page = b"".join((old[:skip], piece, old[skip + len(piece) :]))
            else:
                page = piece
            self._pages[index] = page
            position += len(piece)
            index += 1
            skip = 0

    def flush(self) -> None:
        """Do nothing: there is no cache."""

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Forget the whole pages of a range; they read as zeros."""
        self.check_write(offset_bytes, length_bytes)
        first = -(-offset_bytes // PAGE_BYTES)
        end = (offset_bytes + length_bytes) // PAGE_BYTES
        if end - first <= len(self._pages):
            doomed = [index for index in range(first, end) if index in self._pages]
        else:
            doomed = [index for index in self._pages if first <= index < end]
        for index in doomed:
            del self._pages[index]

    def close(self) -> None:
        """Do nothing: contents live as long as the object."""
