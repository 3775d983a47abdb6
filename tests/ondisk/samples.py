"""Strategies and samples of every persistent structure, for the tests of ``lfs.ondisk``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st

from lfs.ondisk import (
    CHECKPOINT_REGION_BYTES,
    HEAD_AREA_BYTES,
    KEY_BYTES,
    SEGMENT_BLOCKS_MIN,
    Branch,
    Checkpoint,
    Entry,
    EntryItem,
    Extent,
    InodeItem,
    Leaf,
    Pointer,
    Record,
    Summary,
    Superblock,
    Usage,
    UsagePage,
    WindowItem,
    XattrItem,
    pack_node,
    pack_usage_page,
    unpack_node,
    unpack_usage_page,
    usage_per_page,
)

FILESYSTEM_ID = b"\x01\x02\x03\x04\x05\x06\x07\x08"
BLOCK_BYTES = 4096
WINDOW_BLOCKS = 128
ADDRESS = 4711
OFFSET_BYTES = 65536

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
addresses = st.integers(0, 2**48 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
pointers = st.builds(Pointer, u64, u32)


@st.composite
def superblocks(draw: st.DrawFn) -> Superblock:
    """Draw a superblock with a possible geometry."""
    block_bytes = 1 << draw(st.integers(10, 16))
    segment_blocks = draw(st.integers(SEGMENT_BLOCKS_MIN, 4096))
    segment_count = draw(st.integers(1, 1 << 20))
    areas_end = HEAD_AREA_BYTES + 2 * CHECKPOINT_REGION_BYTES
    first_segment_block = -(-areas_end // block_bytes) + draw(st.integers(0, 100))
    end_block = first_segment_block + segment_blocks * segment_count
    return Superblock(
        uuid=draw(st.binary(min_size=16, max_size=16)),
        label=draw(st.binary(max_size=64)).rstrip(b"\0"),
        block_bytes=block_bytes,
        segment_blocks=segment_blocks,
        device_blocks=end_block + draw(st.integers(0, 1000)),
        first_segment_block=first_segment_block,
        segment_count=segment_count,
        checkpoint_offset_bytes=(HEAD_AREA_BYTES, HEAD_AREA_BYTES + CHECKPOINT_REGION_BYTES),
        reserved_basis_points=draw(st.integers(0, 10_000)),
        created_ns=draw(i64),
        hash_seed=draw(st.binary(min_size=16, max_size=16)),
        filesystem_id=draw(st.binary(min_size=8, max_size=8)),
        copy_offset_bytes=4096 * (end_block * block_bytes // 4096 + draw(st.integers(1, 9))),
        generation=draw(st.integers(0, 2**63 - 1)),
        compatible=draw(u64),
        read_only_compatible=draw(u64),
        incompatible=draw(u64),
        format_version=draw(u32),
        offset_bytes=draw(u64),
    )


checkpoints = st.builds(
    Checkpoint,
    number=u64,
    next_sequence=u64,
    next_address=u64,
    previous_checksum=u32,
    flags=u32,
    imap_root=pointers,
    imap_root_level=u32,
    next_ino=u64,
    inode_count=u64,
    live_block_count=u64,
    node_count=u64,
    time_ns=i64,
    usage_pages=st.lists(pointers, max_size=20).map(tuple),
)

entries = st.builds(
    Entry,
    kind=st.integers(0, 255),
    owner=u64,
    version=u64,
    key=u64,
    checksums=st.lists(u32, max_size=8).map(tuple),
)
records = st.builds(Record, keys, st.none() | st.binary(max_size=100))


@st.composite
def summaries(draw: st.DrawFn) -> Summary:
    """Draw a summary whose payload is what its entries say."""
    some = tuple(draw(st.lists(entries, max_size=5)))
    return Summary(
        sequence=draw(u64),
        address=draw(u64),
        next_address=draw(u64),
        run_address=draw(u64),
        run_blocks=draw(u32),
        run_sequence=draw(u64),
        run_next_address=draw(u64),
        payload_address=draw(u64),
        payload_blocks=sum(len(entry.checksums) for entry in some),
        summary_blocks=draw(u32),
        previous_checksum=draw(u32),
        flushed_sequence=draw(u64),
        head=draw(u16),
        flags=draw(u16),
        time_ns=draw(i64),
        entries=some,
        records=tuple(draw(st.lists(records, max_size=5))),
    )


@st.composite
def leaves(draw: st.DrawFn) -> Leaf:
    some = sorted(draw(st.sets(keys, min_size=1, max_size=20)))
    values = draw(st.lists(st.binary(max_size=150), min_size=len(some), max_size=len(some)))
    return Leaf(some, values)


@st.composite
def branches(draw: st.DrawFn) -> Branch:
    some = sorted(draw(st.sets(keys, min_size=1, max_size=20)))
    children = draw(st.lists(pointers, min_size=len(some), max_size=len(some)))
    return Branch(draw(st.integers(1, 255)), some, children)


nodes = leaves() | branches()
usages = st.builds(Usage, u32, st.integers(0, 255), st.integers(0, 255), u16, u64)
usage_pages = st.builds(
    UsagePage,
    st.lists(usages, max_size=usage_per_page(BLOCK_BYTES)),
    u64,
    st.integers(ADDRESS - 100, ADDRESS),
    st.integers(101, (1 << 32) - 1),
)

inode_items = st.builds(
    InodeItem,
    **dict.fromkeys(["mode", "uid", "gid", "nlink", "rdev", "flags", "generation"], u32),
    **dict.fromkeys(["size", "blocks", "version", "parent_ino"], u64),
    **dict.fromkeys(["atime_ns", "mtime_ns", "ctime_ns", "btime_ns"], i64),
    inline=st.binary(max_size=1024),
)


@st.composite
def window_items(draw: st.DrawFn) -> WindowItem:
    """Draw a window: ascending extents, and a checksum for each of their blocks."""
    bounds = sorted(draw(st.sets(st.integers(0, WINDOW_BLOCKS), max_size=20)))
    extents = tuple(
        Extent(first, end - first, draw(u16), draw(addresses))
        for first, end in zip(bounds[::2], bounds[1::2], strict=False)
    )
    mapped = sum(extent.count for extent in extents)
    return WindowItem(extents, tuple(draw(st.lists(u32, min_size=mapped, max_size=mapped))))


entry_items = st.builds(EntryItem, u64, st.integers(0, 255), st.binary(min_size=1, max_size=255))


@st.composite
def xattr_items(draw: st.DrawFn) -> XattrItem:
    chunk = draw(st.binary(max_size=1024))
    value_bytes = draw(st.integers(len(chunk), 65536))
    return XattrItem(draw(st.binary(min_size=1, max_size=255)), value_bytes, chunk)


class Structure(NamedTuple):
    """How to make valid bytes of a structure, read them, and where its checksum is."""

    name: str
    packed: st.SearchStrategy[bytes]
    unpack: Callable[[bytes], object]
    checksum_offset: int | None


def _pack_node(node: Leaf | Branch) -> bytes:
    return pack_node(node, FILESYSTEM_ID, ADDRESS, 12, BLOCK_BYTES)


def _pack_usage_page(page: UsagePage) -> bytes:
    return pack_usage_page(page, 3, FILESYSTEM_ID, ADDRESS, BLOCK_BYTES)


STRUCTURES = [
    Structure(
        "superblock",
        superblocks().map(lambda block: block.at(4096).pack()),
        lambda raw: Superblock.unpack(raw, 4096),
        8,
    ),
    Structure(
        "checkpoint",
        checkpoints.map(lambda each: each.pack(FILESYSTEM_ID, OFFSET_BYTES)),
        lambda raw: Checkpoint.unpack(raw, FILESYSTEM_ID, OFFSET_BYTES),
        8,
    ),
    Structure(
        "summary",
        summaries().map(lambda each: each.pack(FILESYSTEM_ID)),
        # Its own address is in it at byte 24.
        lambda raw: Summary.unpack(raw, FILESYSTEM_ID, int.from_bytes(raw[24:32], "little")),
        4,
    ),
    Structure(
        "summary_peek",
        summaries().map(lambda each: each.pack(FILESYSTEM_ID)),
        lambda raw: Summary.peek_bytes(raw, FILESYSTEM_ID, int.from_bytes(raw[24:32], "little")),
        None,
    ),
    Structure(
        "node",
        nodes.map(_pack_node),
        lambda raw: unpack_node(raw, FILESYSTEM_ID, ADDRESS),
        None,
    ),
    Structure(
        "usage_page",
        usage_pages.map(_pack_usage_page),
        lambda raw: unpack_usage_page(raw, 3, FILESYSTEM_ID, ADDRESS),
        None,
    ),
    Structure("inode", inode_items.map(InodeItem.pack), InodeItem.unpack, None),
    Structure(
        "window",
        window_items().map(WindowItem.pack),
        lambda raw: WindowItem.unpack(raw, WINDOW_BLOCKS),
        None,
    ),
    Structure("directory_entry", entry_items.map(EntryItem.pack), EntryItem.unpack, None),
    Structure("xattr", xattr_items().map(XattrItem.pack), XattrItem.unpack, None),
]
