"""What the log changes in the imap: items replaced, blocks mapped into windows.

FORMAT.md, "Commit and roll-forward".  Within a log write the records come
first: each sets or deletes an item.  Then its data entries map its payload into
the windows of their owners.  A window that only gained blocks is in no record,
so its value after the log follows from the one in the checkpoint; the tree is
read as a stream, and each window is completed when the stream comes to it.

Held by ``tests/fsck/test_log.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lfs.common.errors import DamageError
from lfs.ondisk import (
    BLOCK_DATA,
    KIND_WINDOW,
    Extent,
    Summary,
    WindowItem,
    pack_key,
    window_blocks,
)


class _Mapping(NamedTuple):
    """Blocks mapped into one window from file block ``first`` of it on."""

    first: int
    address: int
    checksums: tuple[int, ...]


class Overlay:
    """The changes of all log writes applied so far, by key."""

    def __init__(self, block_bytes: int) -> None:
        """Start without changes to a filesystem with blocks of ``block_bytes``."""
        self._window_blocks = window_blocks(block_bytes)
        self._values: dict[bytes, bytes | None] = {}
        self._mappings: dict[bytes, list[_Mapping]] = {}

    def apply(self, write: Summary) -> None:
        """Apply the records of ``write``, then its data entries."""
        for key, value in write.records:
            self._values[key] = value
            self._mappings.pop(key, None)
        address = write.payload_address
        for entry in write.entries:
            if entry.kind == BLOCK_DATA:
                self._map(entry.owner, entry.key, address, tuple(entry.checksums))
            address += len(entry.checksums)

    def _map(self, ino: int, file_block: int, address: int, checksums: tuple[int, ...]) -> None:
        position = 0
        while position < len(checksums):
            index, first = divmod(file_block + position, self._window_blocks)
            part = checksums[position : position + self._window_blocks - first]
            key = pack_key(ino, KIND_WINDOW, index)
            mapping = _Mapping(first, address + position, part)
            self._mappings.setdefault(key, []).append(mapping)
            position += len(part)

    def keys(self) -> list[bytes]:
        """Return the keys that the log touched, in ascending order."""
        return sorted(self._values.keys() | self._mappings.keys())

    def after(self, key: bytes, before: bytes | None) -> bytes | None:
        """Return the value of ``key`` after the log, when ``before`` is the one in the tree."""
        value = self._values.get(key, before)
        mappings = self._mappings.get(key)
        return value if mappings is None else self._mapped(value, mappings)

    def _mapped(self, value: bytes | None, mappings: list[_Mapping]) -> bytes:
        """Return window ``value`` with ``mappings`` applied; a damaged one stays as it is."""
        blocks: dict[int, tuple[int, int]] = {}
        if value is not None:
            try:
                blocks = _blocks_of(WindowItem.unpack(value, self._window_blocks))
            except DamageError:
                return value
        for mapping in mappings:
            for offset, checksum in enumerate(mapping.checksums):
                blocks[mapping.first + offset] = (mapping.address + offset, checksum)
        return _window_of(blocks).pack()


def _blocks_of(window: WindowItem) -> dict[int, tuple[int, int]]:
    """Return address and checksum of each mapped file block of ``window``."""
    checksums = iter(window.checksums)
    return {
        extent.first + offset: (extent.address + offset, next(checksums))
        for extent in window.extents
        for offset in range(extent.count)
    }


def _window_of(blocks: dict[int, tuple[int, int]]) -> WindowItem:
    """Return the window that maps ``blocks``."""
    extents: list[Extent] = []
    order = sorted(blocks)
    for file_block in order:
        address = blocks[file_block][0]
        if extents:
            last = extents[-1]
            if (last.first + last.count, last.address + last.count) == (file_block, address):
                extents[-1] = last._replace(count=last.count + 1)
                continue
        extents.append(Extent(file_block, 1, 0, address))
    return WindowItem(tuple(extents), tuple(blocks[file_block][1] for file_block in order))


def merged(
    items: Iterator[tuple[bytes, bytes]], overlay: Overlay
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Yield ``(key, before, after)`` in key order for every key in ``items`` or ``overlay``.

    ``before`` is the value in the tree and ``after`` the one a mount will show,
    None where there is none.
    """
    changed = iter(overlay.keys())
    pending = next(changed, None)
    for key, value in items:
        while pending is not None and pending < key:
            yield pending, None, overlay.after(pending, None)
            pending = next(changed, None)
        if pending == key:
            yield key, value, overlay.after(key, value)
            pending = next(changed, None)
        else:
            yield key, value, value
    while pending is not None:
        yield pending, None, overlay.after(pending, None)
        pending = next(changed, None)
