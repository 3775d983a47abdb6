"""What packs and unpacks by hand, because it is hot, does as the layouts do.

A value packed by hand has the bytes that its layout gives, field by field and by name.
So what comes back from there (``test_structures``) was unpacked as the layout does it.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from lfs import ondisk
from lfs.ondisk import (
    INODE,
    Branch,
    Entry,
    EntryItem,
    InodeItem,
    Leaf,
    Summary,
    UsagePage,
    WindowItem,
    XattrItem,
    block,
    items,
    key,
    node,
    summary,
    usage,
)
from tests.ondisk.samples import (
    ADDRESS,
    BLOCK_BYTES,
    FILESYSTEM_ID,
    entry_items,
    inode_items,
    keys,
    nodes,
    summaries,
    usage_pages,
    window_items,
    xattr_items,
)


def _unsealed(raw: bytes) -> bytes:
    """Return a structure of the log or the imap with zeros for its checksum."""
    return raw[:4] + bytes(4) + raw[8:]


def _checksums(values: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


@given(summaries())
def test_summary_packs_as_its_layouts(value: Summary) -> None:
    rest = b"".join(
        summary.ENTRY.pack(
            kind=entry.kind,
            count=len(entry.checksums),
            version=entry.version,
            owner=entry.owner,
            key=entry.key,
        )
        + _checksums(tuple(entry.checksums))
        for entry in value.entries
    ) + b"".join(
        summary.RECORD.pack(
            key=record.key, value_bytes=0xFFFF if record.value is None else len(record.value)
        )
        + (record.value or b"")
        for record in value.records
    )
    head = summary.SUMMARY.pack(
        value,
        checksum=0,
        filesystem_id=FILESYSTEM_ID,
        summary_bytes=summary.SUMMARY.size + len(rest),
        entry_count=len(value.entries),
        record_count=len(value.records),
    )
    assert _unsealed(value.pack(FILESYSTEM_ID)) == head + rest
    fields = [getattr(value, name) for name in summary.SUMMARY.attributes if name != "checksum"]
    fields += [value.entries, value.records]
    assert ondisk.pack_summary(FILESYSTEM_ID, *fields) == value.pack(FILESYSTEM_ID)


def test_entry_has_the_fields_of_its_layout() -> None:
    stored = {row.name for row in summary.ENTRY.rows} - {"zero", "count"}
    assert {*Entry._fields} - {"checksums"} == stored


@given(st.binary(max_size=4000), st.integers(1, 3))
def test_further_blocks_of_a_summary_begin_as_their_layout(raw: bytes, spare: int) -> None:
    blocks = ondisk.summary_blocks(len(raw), 1024) + spare
    packed = ondisk.summary_to_blocks(raw, blocks, 1024)
    for number in range(1, blocks):
        beginning = packed[number * 1024 :][: summary.CONTINUATION.size]
        assert beginning == summary.CONTINUATION.pack(number=number)


@given(nodes)
def test_node_packs_as_its_layouts(value: Leaf | Branch) -> None:
    if isinstance(value, Leaf):
        body = b"".join(
            node.LEAF_SLOT.pack(key=each, value_bytes=len(item))
            for each, item in zip(value.keys, value.values, strict=True)
        ) + b"".join(value.values)
    else:
        body = b"".join(
            node.BRANCH_SLOT.pack(key=each, child=child)
            for each, child in zip(value.keys, value.children, strict=True)
        )
    header = block.BlockHeader(ondisk.NODE_MAGIC, 0, FILESYSTEM_ID, ADDRESS, 12)
    used_bytes = block.BLOCK_HEADER.size + node.NODE_HEADER.size + len(body)
    own = node.NODE_HEADER.pack(level=value.level, count=len(value.keys), used_bytes=used_bytes)
    expected = (block.BLOCK_HEADER.pack(header) + own + body).ljust(BLOCK_BYTES, b"\0")
    raw = ondisk.pack_node(value, FILESYSTEM_ID, ADDRESS, 12, BLOCK_BYTES)
    assert _unsealed(raw) == expected


@given(usage_pages)
def test_usage_page_packs_as_its_layouts(page: UsagePage) -> None:
    header = block.BlockHeader(ondisk.USAGE_MAGIC, 0, FILESYSTEM_ID, ADDRESS, page.sequence)
    own = usage.USAGE_HEADER.pack(
        index=3,
        count=len(page.entries),
        run_address=page.run_address,
        run_blocks=page.run_blocks,
    )
    entries = b"".join(usage.USAGE.pack(each) for each in page.entries)
    expected = (block.BLOCK_HEADER.pack(header) + own + entries).ljust(BLOCK_BYTES, b"\0")
    raw = ondisk.pack_usage_page(page, 3, FILESYSTEM_ID, ADDRESS, BLOCK_BYTES)
    assert _unsealed(raw) == expected
    assert ondisk.block_sequence(raw) == block.BLOCK_HEADER.unpack(raw)["sequence"]


@given(st.integers(0, 2**64 - 1), st.integers(0, 255), st.integers(0, 2**64 - 1))
def test_key_packs_as_its_layout(ino: int, kind: int, offset: int) -> None:
    assert ondisk.pack_key(ino, kind, offset) == key.KEY.pack(ino=ino, kind=kind, offset=offset)


@given(keys)
def test_key_unpacks_as_its_layout(raw: bytes) -> None:
    assert ondisk.unpack_key(raw) == tuple(key.KEY.unpack(raw).values())
    assert raw[ondisk.KEY_KIND] == key.KEY.unpack(raw)["kind"]


@given(inode_items)
def test_inode_packs_and_unpacks_as_its_layout(item: InodeItem) -> None:
    raw = INODE.pack(item) + item.inline
    assert ondisk.pack_inode(ondisk.inode_numbers(item), item.inline) == raw
    numbers, inline = ondisk.unpack_inode(raw)
    assert dict(zip(INODE.attributes, numbers, strict=True)) == INODE.unpack(raw)
    assert inline == item.inline


@given(window_items())
def test_window_packs_as_its_layouts(item: WindowItem) -> None:
    extents = b"".join(
        items.EXTENT.pack(first=each.first, count=each.count, place=each.flags << 48 | each.address)
        for each in item.extents
    )
    head = items.WINDOW.pack(extent_count=len(item.extents))
    assert item.pack() == head + extents + _checksums(item.checksums)


@given(entry_items)
def test_directory_entry_packs_and_unpacks_as_its_layout(item: EntryItem) -> None:
    raw = items.ENTRY_ITEM.pack(item) + item.name
    assert ondisk.pack_entry(*item) == raw
    fields = items.ENTRY_ITEM.unpack(raw)
    assert ondisk.unpack_entry(raw) == (fields["ino"], fields["file_type"], item.name)


@given(xattr_items())
def test_xattr_packs_as_its_layout(item: XattrItem) -> None:
    head = items.XATTR.pack(name_bytes=len(item.name), value_bytes=item.value_bytes)
    assert item.pack() == head + item.name + item.chunk


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**62), st.integers(1, 2**61))
def test_cut_packs_and_unpacks_as_its_layout(ino: int, first: int, count: int) -> None:
    raw = items.CUT.pack(items.CutItem(ino=ino, first_window=first, end_window=first + count))
    assert ondisk.pack_cut(ino, first, first + count) == raw
    assert ondisk.unpack_cut(raw) == (ino, first, first + count)
