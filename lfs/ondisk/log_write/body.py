"""What follows the head of a summary: entries and records (FORMAT.md, "Log write").

Held by ``tests/ondisk/test_structures.py``.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from lfs.ondisk.structure.layout import U8, U16, U32, U64, AfterZeros, Bytes17, Layout

BLOCK_DATA = 1
BLOCK_NODE = 2
BLOCK_USAGE = 3


class EntryHead:
    """What an entry says before the checksums of its payload blocks."""

    kind: U8
    count: Annotated[U32, AfterZeros(3)]
    version: U64
    owner: U64
    key: U64


ENTRY = Layout(EntryHead, 32)
ENTRY_BYTES = ENTRY.size


class Entry(NamedTuple):
    """Owner of adjacent payload blocks: ``key`` is the first file block (data),
    0 (nodes say what they are) or the usage page; ``checksums`` has one a block.
    """

    kind: int
    owner: int
    version: int
    key: int
    checksums: Sequence[int]


EntryFields = tuple[int, int, int, int, Sequence[int]]
"""What an ``Entry`` has, by position: that is made in a quarter of the time."""


class RecordHead:
    """What a record says before the value."""

    key: Bytes17
    value_bytes: U16
    """``DELETED`` where the item is no more."""


RECORD = Layout(RecordHead, 19)
RECORD_OVERHEAD_BYTES = RECORD.size
DELETED = 0xFFFF


Change = tuple[bytes, bytes | None]
"""The key of an imap item and its new value, None to delete it."""


class Record(NamedTuple):
    """A change of one imap item, as a summary has it."""

    key: bytes
    value: bytes | None
