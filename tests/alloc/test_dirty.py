"""Dirty data against a dictionary of blocks: contents, extents, counts and owners in step."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st

from lfs.alloc.dirty import DirtyData, DirtyFile
from lfs.device.base import Buffer

BLOCK = 16
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "put", "drop", "take", "part"]),
        st.integers(0, 2),
        st.integers(0, 600),
        st.integers(1, 200),
    ),
    max_size=25,
)


@dataclass
class File:
    """What ``DirtyData`` must know of a file."""

    ino: int
    dirty: DirtyFile | None = None


def content_of(dirty: DirtyFile, block: int) -> bytes | None:
    content = dirty.content(block)
    return None if content is None else bytes(content).ljust(BLOCK, b"\0")


def write(dirty: DirtyData[File], file: File, offset: int, data: bytes) -> None:
    """Write as a file's owner does; what is not dirty held zeros."""
    first, end = offset // BLOCK, -(-(offset + len(data)) // BLOCK)
    head_cut, tail_cut = offset % BLOCK, -(offset + len(data)) % BLOCK
    single = end - first == 1
    head = tail = None
    if head_cut or (tail_cut and single):
        head = dirty.editable(file, first)
        head = bytearray() if head is None else head
    if tail_cut and not single:
        tail = dirty.editable(file, end - 1)
        tail = bytearray() if tail is None else tail
    dirty.write(file, first, end, offset, data, head, tail)


def check(dirty: DirtyData[File], files: list[File], model: dict[int, dict[int, bytes]]) -> None:
    """Compare all that is known of dirty data with the model."""
    assert dirty.block_count == sum(map(len, model.values()))
    assert {ino: file.ino for ino, file in dirty.owners.items()} == {
        ino: ino for ino, blocks in model.items() if blocks
    }
    for file in files:
        blocks = model[file.ino]
        assert (file.dirty is not None) == bool(blocks)
        if file.dirty is None:
            continue
        assert file.dirty.count == len(blocks)
        numbers = [n for start, count in file.dirty.extents() for n in range(start, start + count)]
        assert numbers == sorted(blocks)
        end = max(blocks) + 2
        assert {n: content_of(file.dirty, n) for n in range(end) if n in file.dirty} == blocks
        position = 0
        for start, stop, content in file.dirty.pieces(0, end):
            assert start == position
            expected = [blocks.get(number) for number in range(start, stop)]
            if content is None:
                assert not any(expected)
            else:
                assert content == b"".join(one or b"missing" for one in expected)
            position = stop
        assert position == end
        assert file.dirty.count_in(1, 7) == len({*range(1, 8)} & {*blocks})


@given(STEPS)
def test_dirty_data_is_what_was_written_last(steps: list[tuple[str, int, int, int]]) -> None:
    dirty: DirtyData[File] = DirtyData(BLOCK)
    files = [File(ino) for ino in range(3)]
    model: dict[int, dict[int, bytes]] = {file.ino: {} for file in files}
    for number, (step, ino, offset, length) in enumerate(steps):
        file, blocks = files[ino], model[ino]
        data = bytes([number + 1]) * length
        if step == "write":
            write(dirty, file, offset, data)
            for block in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
                start = block * BLOCK
                whole = bytearray(blocks.get(block, bytes(BLOCK)))
                low, high = max(offset, start), min(offset + length, start + BLOCK)
                whole[low - start : high - start] = data[: high - low]
                blocks[block] = bytes(whole)
        elif step == "put":
            dirty.put(file, offset // BLOCK, data[:BLOCK])
            blocks[offset // BLOCK] = data[:BLOCK].ljust(BLOCK, b"\0")
        elif step == "drop":
            dirty.drop(file, offset // BLOCK)
            model[ino] = {n: held for n, held in blocks.items() if n < offset // BLOCK}
        elif step == "part":
            first, end = offset // BLOCK, (offset + length) // BLOCK
            taken = {n: held for n, held in blocks.items() if first <= n < end}
            assert contents_of(dirty.take_part(file, first, end)) == taken
            model[ino] = {n: held for n, held in blocks.items() if n not in taken}
        else:
            assert contents_of(dirty.take(file)) == blocks
            model[ino] = {}
        check(dirty, files, model)


def contents_of(taken: list[tuple[int, int, list[Buffer]]]) -> dict[int, bytes]:
    """Return the blocks that were taken."""
    found: dict[int, bytes] = {}
    for start, blocks, buffers in taken:
        raw = b"".join(buffers)
        assert len(raw) == blocks * BLOCK
        for block in range(blocks):
            found[start + block] = raw[block * BLOCK : (block + 1) * BLOCK]
    return found


RUNS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=12)


@given(RUNS, st.integers(0, 300), st.integers(1, 100), st.integers(1, 40))
@example([(0, 3), (5, 30)], 0, 3, 16)
@example([(81, 60), (142, 7), (152, 1)], 0, 1, 4)
def test_part_ends_between_windows_and_amid_no_extent(
    runs: list[tuple[int, int]], first: int, wanted: int, window: int
) -> None:
    dirty_blocks = {block for start, length in runs for block in range(start, start + length)}
    dirty: DirtyData[File] = DirtyData(BLOCK)
    file = File(1)
    for block in dirty_blocks:
        dirty.put(file, block, b"x")
    if file.dirty is None:
        return
    end = file.dirty.part_end(first, wanted, window)
    if end is None:
        return
    assert end % window == 0
    assert not {end - 1, end} <= dirty_blocks
    assert any(block >= end for block in dirty_blocks)
    taken = {block for block in dirty_blocks if first <= block < end}
    assert len(taken) >= wanted
    # No earlier end would do.
    for earlier in range(first - first % window + window, end, window):
        is_amid = {earlier - 1, earlier} <= dirty_blocks
        assert is_amid or len({block for block in taken if block < earlier}) < wanted


def test_parts_are_taken_from_each_end_and_from_amid_the_only_extent() -> None:
    dirty: DirtyData[File] = DirtyData(BLOCK)
    file = File(1)

    def left(first: int, end: int) -> list[tuple[int, int]]:
        """Return the extents that stay when blocks ``first`` to ``end`` are taken."""
        taken = contents_of(dirty.take_part(file, first, end))
        assert [*taken] == [*range(first, end)]
        if file.dirty is None:
            assert not dirty.block_count
            return []
        assert file.dirty.count == dirty.block_count
        return file.dirty.extents()

    dirty.write(file, 0, 10, 0, bytes(10 * BLOCK), None, None)
    assert left(6, 10) == [(0, 6)]
    assert left(0, 2) == [(2, 4)]
    assert left(3, 4) == [(2, 1), (4, 2)]
    dirty.put(file, 3, b"x")
    assert left(2, 6) == []
