"""Every structure there and back, and each field where its layout has it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lfs import ondisk
from lfs.common.errors import DamageError
from lfs.ondisk import (
    INODE,
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
)
from lfs.ondisk.checkpoint import CHECKPOINT
from lfs.ondisk.summary import SUMMARY
from lfs.ondisk.superblock import SUPERBLOCK
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


def _agree(found: Mapping[str, object], structure: object, but: Mapping[str, object]) -> None:
    """Hold fields that were unpacked against the attributes of the same names."""
    for name, value in found.items():
        if name in but:
            assert value == but[name], name
        elif name not in ("magic", "checksum"):
            assert value == getattr(structure, name), name


@given(superblocks())
def test_superblock_is_what_format_says(block: Superblock) -> None:
    raw = block.pack()
    assert len(raw) == 512
    assert Superblock.unpack(raw, block.offset_bytes) == block
    special = {
        "label": block.label.ljust(64, b"\0"),
        "checkpoint_region_bytes": 65536,
    }
    _agree(SUPERBLOCK.unpack(raw), block, special)


@given(checkpoints)
def test_checkpoint_is_what_format_says(checkpoint: Checkpoint) -> None:
    raw = checkpoint.pack(FILESYSTEM_ID, OFFSET_BYTES)
    # A region is longer than what is used of it.
    padded = raw + b"\xff" * 100
    assert Checkpoint.unpack(padded, FILESYSTEM_ID, OFFSET_BYTES) == checkpoint
    special = {
        "length": len(raw),
        "offset_bytes": OFFSET_BYTES,
        "filesystem_id": FILESYSTEM_ID,
        "usage_page_count": len(checkpoint.usage_pages),
    }
    _agree(CHECKPOINT.unpack(raw), checkpoint, special)
    assert checkpoint.clean == bool(checkpoint.flags & 1)
    for index, pointer in enumerate(checkpoint.usage_pages):
        assert struct.unpack_from("<QII", raw, 128 + 16 * index) == (*pointer, 0)


@given(summaries())
def test_summary_is_what_format_says(summary: Summary) -> None:
    raw = summary.pack(FILESYSTEM_ID)
    read = Summary.unpack(raw, FILESYSTEM_ID, summary.address)
    assert read == summary
    assert read.checksum == ondisk.summary_checksum(raw)
    special = {
        "filesystem_id": FILESYSTEM_ID,
        "summary_bytes": len(raw),
        "entry_count": len(summary.entries),
        "record_count": len(summary.records),
    }
    _agree(SUMMARY.unpack(raw), summary, special)


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
    _agree(INODE.unpack(raw), item, {})


@given(nodes)
def test_node_comes_back(node: Leaf | Branch) -> None:
    raw = ondisk.pack_node(node, FILESYSTEM_ID, ADDRESS, 12, BLOCK_BYTES)
    assert len(raw) == BLOCK_BYTES
    assert ondisk.unpack_node(raw, FILESYSTEM_ID, ADDRESS) == node
    assert ondisk.block_seal_holds(raw)
    assert ondisk.block_sequence(raw) == 12


@given(usage_pages)
@example(UsagePage([Usage(1, 2, 1, 0, 3)] * ondisk.usage_per_page(BLOCK_BYTES), 9, ADDRESS, 1))
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
