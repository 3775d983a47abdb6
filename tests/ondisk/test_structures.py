"""FORMAT.md against ``lfs.ondisk``, and every structure there and back."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lfs import ondisk
from lfs.common.errors import DamageError
from lfs.ondisk import (
    Branch,
    Checkpoint,
    EntryItem,
    InodeItem,
    Leaf,
    Summary,
    Superblock,
    Usage,
    UsagePage,
    WindowItem,
    XattrItem,
    block,
    checkpoint,
    items,
    node,
    summary,
    superblock,
    usage,
)
from tests.ondisk.samples import (
    ADDRESS,
    BLOCK_BYTES,
    FILESYSTEM_ID,
    OFFSET_BYTES,
    WINDOW_BLOCKS,
    checkpoints,
    entry_items,
    inode_items,
    nodes,
    summaries,
    superblocks,
    usage_pages,
    window_items,
    xattr_items,
)

FORMAT = (Path(__file__).parents[2] / "FORMAT.md").read_text()


class Field(NamedTuple):
    offset: int
    size: int
    signed: bool
    name: str


def _tables() -> dict[str, list[list[Field]]]:
    """Return the tables of offsets in FORMAT.md, by the heading they are under."""
    found: dict[str, list[list[Field]]] = {}
    heading = ""
    for line in FORMAT.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| offset | size | field |"):
            found.setdefault(heading, []).append([])
        elif row := re.match(r"\| (\d+) \| (\d+)(i?) \| (\w+) \|", line):
            offset, size, sign, name = row.groups()
            found[heading][-1].append(Field(int(offset), int(size), bool(sign), name))
    return found


TABLES = _tables()

# Heading, which of its tables, and the structs that follow one another there.
LAYOUTS = [
    ("Superblock", 0, [superblock._SUPERBLOCK]),
    ("Checkpoint region", 0, [checkpoint._CHECKPOINT]),
    ("Usage page", 0, [block.BLOCK_HEADER, usage._USAGE_HEADER]),
    ("Usage page", 1, [usage._USAGE]),
    ("Log write", 0, [summary._SUMMARY]),
    ("Log write", 1, [summary._ENTRY]),
    ("Imap", 0, [block.BLOCK_HEADER, node._NODE_HEADER]),
    ("Inode", 0, [items._INODE]),
    ("Window", 0, [items._EXTENT]),
]


def _struct_fields(structs: list[struct.Struct]) -> list[tuple[int, int, bool]]:
    """Return offset, size and signedness of every field of structs in a row."""
    fields = []
    offset = 0
    for each in structs:
        assert each.format.startswith("<"), each.format
        for code in re.findall(r"\d*[a-zA-Z]", each.format):
            size = struct.calcsize("<" + code)
            fields.append((offset, size, code in "bhiq"))
            offset += size
    return fields


def test_format_every_table_is_held_against_code() -> None:
    listed = {(heading, index) for heading, index, _ in LAYOUTS}
    written = {(heading, index) for heading, some in TABLES.items() for index in range(len(some))}
    assert listed == written


@pytest.mark.parametrize(("heading", "index", "structs"), LAYOUTS)
def test_format_table_equals_struct(heading: str, index: int, structs: list[struct.Struct]) -> None:
    rows = TABLES[heading][index]
    fields = _struct_fields(structs)
    end = sum(each.size for each in structs)
    expected_offset = 0
    for row in rows:
        assert row.offset == expected_offset, f"{row} leaves a gap or overlaps"
        expected_offset += row.size
        if row.name == "zero":
            # One row may stand for several fields, and for a tail outside the struct.
            covered = sum(
                size for offset, size, _ in fields if row.offset <= offset < row.offset + row.size
            )
            assert covered in (row.size, max(0, end - row.offset))
        else:
            assert (row.offset, row.size, row.signed) in fields
    assert expected_offset >= end


@pytest.mark.parametrize(
    ("heading", "magic"),
    [
        ("Superblock", ondisk.SUPERBLOCK_MAGIC),
        ("Checkpoint region", ondisk.CHECKPOINT_MAGIC),
        ("Usage page", ondisk.USAGE_MAGIC),
        ("Log write", ondisk.SUMMARY_MAGIC),
        ("Imap", ondisk.NODE_MAGIC),
    ],
)
def test_format_magic_equals_constant(heading: str, magic: bytes) -> None:
    section = re.split(rf"^#+ {heading}$", FORMAT, flags=re.MULTILINE)[1]
    written = re.search(r"\| 0 \| \d+ \| magic \| `(.+?)` \|", section)
    assert written is not None
    assert written[1].encode() == magic


def test_format_item_kinds_equal_constants() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (inode|extended attribute|window|directory entry|orphan|cut)\b",
        FORMAT,
        re.MULTILINE,
    )
    assert {name: int(kind) for kind, name in rows} == {
        "inode": ondisk.KIND_INODE,
        "extended attribute": ondisk.KIND_XATTR,
        "window": ondisk.KIND_WINDOW,
        "directory entry": ondisk.KIND_ENTRY,
        "orphan": ondisk.KIND_ORPHAN,
        "cut": ondisk.KIND_CUT,
    }


def _values(raw: bytes, heading: str) -> dict[str, int | bytes]:
    """Read ``raw`` by the first table under ``heading`` alone."""
    return {
        row.name: (
            int.from_bytes(raw[row.offset : row.offset + row.size], "little", signed=row.signed)
            if row.size in (1, 2, 4, 8)
            else raw[row.offset : row.offset + row.size]
        )
        for row in TABLES[heading][0]
    }


def _agree(values: dict[str, int | bytes], structure: object, but: Mapping[str, object]) -> None:
    """Hold fields read by the document against the attributes of the same names."""
    for name, value in values.items():
        if name in but:
            assert value == but[name], name
        elif name not in ("magic", "checksum", "zero"):
            assert value == getattr(structure, name), name


@given(superblocks())
def test_superblock_is_what_format_says(block: Superblock) -> None:
    raw = block.pack()
    assert len(raw) == 512
    assert Superblock.unpack(raw, block.offset_bytes) == block
    special = {
        "label": block.label.ljust(64, b"\0"),
        "filesystem_id": int.from_bytes(block.filesystem_id, "little"),
        "checkpoint_offset_0": block.checkpoint_offset_bytes[0],
        "checkpoint_offset_1": block.checkpoint_offset_bytes[1],
        "checkpoint_region_bytes": 65536,
    }
    _agree(_values(raw, "Superblock"), block, special)


@given(checkpoints)
def test_checkpoint_is_what_format_says(checkpoint: Checkpoint) -> None:
    raw = checkpoint.pack(FILESYSTEM_ID, OFFSET_BYTES)
    # A region is longer than what is used of it.
    padded = raw + b"\xff" * 100
    assert Checkpoint.unpack(padded, FILESYSTEM_ID, OFFSET_BYTES) == checkpoint
    special = {
        "length": len(raw),
        "offset_bytes": OFFSET_BYTES,
        "filesystem_id": int.from_bytes(FILESYSTEM_ID, "little"),
        "flags": int(checkpoint.clean),
        "imap_root_address": checkpoint.imap_root.address,
        "imap_root_checksum": checkpoint.imap_root.checksum,
        "usage_page_count": len(checkpoint.usage_pages),
    }
    _agree(_values(raw, "Checkpoint region"), checkpoint, special)
    for index, pointer in enumerate(checkpoint.usage_pages):
        assert struct.unpack_from("<QII", raw, 128 + 16 * index) == (*pointer, 0)


@given(summaries())
def test_summary_is_what_format_says(summary: Summary) -> None:
    raw = summary.pack(FILESYSTEM_ID)
    read = Summary.unpack(raw, FILESYSTEM_ID, summary.address)
    assert read == summary
    assert read.checksum == ondisk.summary_checksum(raw)
    special = {
        "filesystem_id": int.from_bytes(FILESYSTEM_ID, "little"),
        "summary_bytes": len(raw),
        "entry_count": len(summary.entries),
        "record_count": len(summary.records),
    }
    _agree(_values(raw, "Log write"), summary, special)


@given(summaries(), st.integers(10, 16))
def test_summary_peek_tells_the_length(summary: Summary, block_bits: int) -> None:
    block_bytes = 1 << block_bits
    raw = summary.pack(FILESYSTEM_ID)
    first_block = raw.ljust(block_bytes, b"\0")[:block_bytes]
    blocks = summary.summary_blocks
    fits = 1 <= blocks <= ondisk.SUMMARY_BLOCKS_MAX
    if fits and len(raw) <= ondisk.summary_room_bytes(blocks, block_bytes):
        assert Summary.peek_bytes(first_block, FILESYSTEM_ID, summary.address) == len(raw)
    else:
        with pytest.raises(DamageError):
            Summary.peek_bytes(first_block, FILESYSTEM_ID, summary.address)


@given(st.binary(max_size=5000), st.integers(0, 3))
@example(b"x" * 1024, 0)
@example(b"x" * 1025, 0)
@example(b"LSUM" * 510, 1)
def test_summary_blocks_come_back_and_begin_with_a_magic(raw: bytes, spare: int) -> None:
    size = 1024
    blocks = ondisk.summary_blocks(len(raw), size)
    assert ondisk.summary_room_bytes(blocks, size) >= len(raw)
    assert blocks == 1 or ondisk.summary_room_bytes(blocks - 1, size) < len(raw)
    packed = ondisk.summary_to_blocks(raw, blocks + spare, size)
    assert len(packed) == (blocks + spare) * size
    assert packed[:size] == raw[:size].ljust(size, b"\0")
    for number in range(1, blocks + spare):
        beginning = packed[number * size : number * size + 8]
        assert beginning == b"LSUC" + number.to_bytes(4, "little")
    used = packed[: blocks * size]
    assert ondisk.summary_from_blocks(used, len(raw), size, ADDRESS) == raw
    if blocks > 1:
        damaged = used[:size] + b"LSUM" + used[size + 4 :]
        with pytest.raises(DamageError):
            ondisk.summary_from_blocks(damaged, len(raw), size, ADDRESS)


@given(inode_items)
def test_inode_is_what_format_says(item: InodeItem) -> None:
    raw = item.pack()
    assert InodeItem.unpack(raw) == item
    _agree(_values(raw, "Inode"), item, {})


@given(nodes)
def test_node_comes_back(node: Leaf | Branch) -> None:
    raw = ondisk.pack_node(node, FILESYSTEM_ID, ADDRESS, 12, BLOCK_BYTES)
    assert len(raw) == BLOCK_BYTES
    assert ondisk.unpack_node(raw, FILESYSTEM_ID, ADDRESS) == node
    assert ondisk.block_seal_holds(raw)
    assert ondisk.block_sequence(raw) == 12


@given(usage_pages)
@example(UsagePage([Usage(1, 2, 1, 3)] * ondisk.usage_per_page(BLOCK_BYTES), 9, ADDRESS, 1))
def test_usage_page_comes_back(page: UsagePage) -> None:
    raw = ondisk.pack_usage_page(page, 3, FILESYSTEM_ID, ADDRESS, BLOCK_BYTES)
    assert len(raw) == BLOCK_BYTES
    assert ondisk.unpack_usage_page(raw, 3, FILESYSTEM_ID, ADDRESS) == page
    assert ondisk.block_seal_holds(raw)


@pytest.mark.parametrize("run", [(ADDRESS + 1, 64), (ADDRESS - 64, 64), (0, 0)])
def test_usage_page_outside_the_run_that_it_names_is_damage(run: tuple[int, int]) -> None:
    raw = ondisk.pack_usage_page(UsagePage([], 9, *run), 3, FILESYSTEM_ID, ADDRESS, BLOCK_BYTES)
    with pytest.raises(DamageError, match="usage page run"):
        ondisk.unpack_usage_page(raw, 3, FILESYSTEM_ID, ADDRESS)


@given(window_items())
def test_window_comes_back(item: WindowItem) -> None:
    assert WindowItem.unpack(item.pack(), WINDOW_BLOCKS) == item


@given(entry_items)
def test_directory_entry_comes_back(item: EntryItem) -> None:
    assert EntryItem.unpack(item.pack()) == item


@given(xattr_items())
def test_xattr_comes_back(item: XattrItem) -> None:
    assert XattrItem.unpack(item.pack()) == item


@given(*[st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 255), st.integers(0, 2**64 - 1))] * 2)
def test_keys_sort_as_their_parts(left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    assert ondisk.unpack_key(ondisk.pack_key(*left)) == left
    assert (ondisk.pack_key(*left) < ondisk.pack_key(*right)) == (left < right)


@given(st.integers(0, 2**64 - 1))
def test_name_hash_offsets_are_what_format_says(name_hash: int) -> None:
    entry = ondisk.entry_offset(name_hash)
    assert entry >> 62 == 1
    assert entry % 256 == 0
    assert entry - 2**62 == (name_hash >> 2) & ~(0xFF | 3 << 62)
    assert ondisk.xattr_offset(name_hash) == name_hash - name_hash % 2**16


def test_backup_superblock_is_the_last_whole_4096_bytes() -> None:
    assert ondisk.backup_superblock_offset_bytes(1 << 20) == (1 << 20) - 4096
    assert ondisk.backup_superblock_offset_bytes((1 << 20) + 4095) == (1 << 20) - 4096
    assert ondisk.backup_superblock_offset_bytes((1 << 20) + 4096) == 1 << 20
