"""What hand-made images are made of: their geometry, runs, log writes and blocks."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from lfs.common.checksum import checksum
from lfs.ondisk import (
    BLOCK_DATA,
    Entry,
    Extent,
    Pointer,
    Summary,
    WindowItem,
    backup_superblock_offset_bytes,
    window_blocks,
)

BLOCK_BYTES = 4096
SEGMENT_BLOCKS = 64
SEGMENT_COUNT = 32
FIRST_BLOCK = 64
DEVICE_BLOCKS = FIRST_BLOCK + SEGMENT_COUNT * SEGMENT_BLOCKS + 1
UUID = bytes(range(16))
FILESYSTEM_ID = UUID[:8]
HASH_SEED = b"seed of the hash"
WINDOW_BLOCKS = window_blocks(BLOCK_BYTES)
BACKUP_OFFSET_BYTES = backup_superblock_offset_bytes(DEVICE_BLOCKS * BLOCK_BYTES)
TIME_NS = 1_700_000_000_000_000_000

FILE_MODE = stat.S_IFREG | 0o644
DIRECTORY_MODE = stat.S_IFDIR | 0o755
SYMLINK_MODE = stat.S_IFLNK | 0o777


def name_hash(name: bytes) -> int:
    digest = blake2b(name, digest_size=8, key=HASH_SEED).digest()
    return int.from_bytes(digest, "little")


def block(text: bytes) -> bytes:
    """Return a block that begins with ``text`` and ends in zeros."""
    return text.ljust(BLOCK_BYTES, b"\0")


@dataclass
class RunPlan:
    """A run being filled; with ``area`` > 0 its summaries share that many first blocks."""

    segment: int
    order: int
    area: int = 0
    sequence: int = 0
    used: int = 0
    summaries: int = 0

    @property
    def address(self) -> int:
        return FIRST_BLOCK + self.segment * SEGMENT_BLOCKS

    @property
    def blocks(self) -> int:
        return SEGMENT_BLOCKS << self.order

    @property
    def next_summary(self) -> int:
        return self.address + (self.summaries if self.area else self.used)

    def place(self, payload: int) -> tuple[int, int]:
        """Return the addresses of a summary of one block and of its payload."""
        if self.area:
            self.used = max(self.used, self.area)
            summary = self.address + self.summaries
            at = self.address + self.used
            self.used += payload
        else:
            summary = self.address + self.used
            at = summary + 1
            self.used += 1 + payload
        self.summaries += 1
        return summary, at


@dataclass
class Block:
    """A payload block and what its entry says."""

    kind: int
    content: bytes
    owner: int = 0
    key: int = 0
    version: int = 0
    address: int = 0

    @property
    def pointer(self) -> Pointer:
        return Pointer(self.address, checksum(self.content))


@dataclass
class Write:
    """A planned log write; ``changes`` replace fields of its summary."""

    summary: Summary
    payload: list[Block]
    changes: dict[str, Any] = field(default_factory=dict)


def window_of(index: int, mapped: dict[int, Block]) -> WindowItem:
    base = index * WINDOW_BLOCKS
    inside = [number for number in sorted(mapped) if base <= number < base + WINDOW_BLOCKS]
    extents: list[Extent] = []
    for number in inside:
        address = mapped[number].address
        if extents:
            last = extents[-1]
            if (last.first + last.count, last.address + last.count) == (number - base, address):
                extents[-1] = last._replace(count=last.count + 1)
                continue
        extents.append(Extent(number - base, 1, 0, address))
    return WindowItem(tuple(extents), tuple(checksum(mapped[number].content) for number in inside))


def entries_of(payload: list[Block]) -> list[Entry]:
    entries: list[Entry] = []
    for each in payload:
        value = checksum(each.content)
        if entries and each.kind == BLOCK_DATA:
            kind, owner, version, key, checksums = entries[-1]
            end = key + len(checksums)
            if (kind, owner, version, end) == (each.kind, each.owner, each.version, each.key):
                entries[-1] = Entry(kind, owner, version, key, (*checksums, value))
                continue
        entries.append(Entry(each.kind, each.owner, each.version, each.key, (value,)))
    return entries
