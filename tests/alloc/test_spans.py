"""The contents of dirty blocks: large writes are kept whole, and never for longer than dirty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.alloc.spans import (
    SPAN_BLOCKS_MIN,
    DirtyBlocks,
    Span,
    buffers_of,
    bytes_of,
    cut_around,
    put_blocks,
)
from tests.support.disks import BLOCK_BYTES, Disk, data

BLOCK = 16
STEPS = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 40),
        st.integers(1, 12),
        st.integers(0, BLOCK - 1),
        st.integers(0, BLOCK - 1),
    ),
    max_size=15,
)


def kept_bytes(blocks: DirtyBlocks) -> int:
    """Return how much memory the contents of ``blocks`` take."""
    buffers = {
        id(part): len(part)
        for held in blocks.values()
        for part in (held.data if isinstance(held, Span) else held,)
    }
    return sum(buffers.values())


@given(STEPS)
def test_spans_hold_what_was_put_there_last(
    steps: list[tuple[bool, int, int, int, int]],
) -> None:
    blocks: DirtyBlocks = {}
    model: dict[int, bytes] = {}
    for number, (drops, first, count, skipped, missing) in enumerate(steps):
        if drops:
            cut_around(blocks, first, 1 << 40, BLOCK)
            for block in [block for block in blocks if block >= first]:
                del blocks[block]
            model = {block: held for block, held in model.items() if block < first}
        else:
            raw = data(number, skipped + count * BLOCK - missing)
            cut_around(blocks, first, first + count, BLOCK)
            put_blocks(blocks, first, first + count, raw, skipped, BLOCK)
            for block in range(first, first + count):
                start = skipped + (block - first) * BLOCK
                model[block] = raw[start : start + BLOCK]
        assert {block: bytes_of(held, block, BLOCK) for block, held in blocks.items()} == model
        for block, held in blocks.items():
            if isinstance(held, Span):
                assert held.first <= block < held.first + held.count
                # All of it leads there: nothing is kept for a few of its blocks.
                assert all(
                    blocks[other] is held for other in range(held.first, held.first + held.count)
                )
        assert kept_bytes(blocks) <= 2 * BLOCK * len(blocks)
    for first in model:
        held = blocks[first]
        if first - 1 in model or (isinstance(held, Span) and held.first != first):
            continue
        count = next(n for n in range(1, 99) if first + n not in model)
        found = b"".join(buffers_of(blocks, first, count, BLOCK))
        expected = (model[block].ljust(BLOCK, b"\0") for block in range(first, first + count))
        assert found == b"".join(expected)


def test_spans_are_neither_copied_nor_cut_up() -> None:
    blocks: DirtyBlocks = {}
    whole, part = data(1, 8 * BLOCK), data(2, 9 * BLOCK)
    put_blocks(blocks, 0, 8, whole, 0, BLOCK)
    put_blocks(blocks, 8, 16, part, 5, BLOCK)
    first, second = buffers_of(blocks, 0, 16, BLOCK)
    assert first is whole
    assert isinstance(second, memoryview)
    assert second.obj is part
    assert kept_bytes(blocks) == len(whole) + len(part)


@pytest.mark.pure_core
def test_spans_of_what_may_change_are_copied() -> None:
    blocks: DirtyBlocks = {}
    changing = bytearray(data(1, SPAN_BLOCKS_MIN * BLOCK))
    before = bytes(changing)
    # The type says bytes; nothing at run time keeps others from coming.
    put_blocks(blocks, 0, SPAN_BLOCKS_MIN, changing, 0, BLOCK)  # type: ignore[arg-type]
    changing[:] = bytes(len(changing))
    assert b"".join(buffers_of(blocks, 0, SPAN_BLOCKS_MIN, BLOCK)) == before


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "truncate", "read", "sync"]),
        st.integers(0, 20),
        st.integers(0, 12),
        st.sampled_from([0, 0, 0, 1, BLOCK_BYTES - 1]),
    ),
    max_size=20,
)


@given(OPERATIONS)
def test_files_written_in_spans_hold_what_was_written(
    operations: list[tuple[str, int, int, int]],
) -> None:
    disk = Disk()
    ino = disk.make_file(b"file", data(0, 6 * BLOCK_BYTES))
    model = bytearray(data(0, 6 * BLOCK_BYTES))
    for number, (operation, first, count, shift) in enumerate(operations):
        offset = first * BLOCK_BYTES + shift
        if operation == "write" and count:
            content = data(number, count * BLOCK_BYTES - shift % 7)
            disk.write(ino, offset, content)
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + len(content)] = content
        elif operation == "truncate":
            disk.truncate(ino, offset)
            model[offset:] = bytes(max(0, offset - len(model)))
        elif operation == "read":
            size = count * BLOCK_BYTES
            found = disk.filesystem.read(ino, offset, size, disk.now_ns)
            assert found == model[offset : offset + size]
        elif operation == "sync":
            disk.sync()
    assert disk.read(ino) == model
    disk.sync()
    disk.mount()
    assert disk.read(ino) == model
