"""Nothing but ``DamageError`` comes out of a parser, whatever goes in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.checksum import checksum
from lfs.common.errors import DamageError
from lfs.ondisk import (
    Checkpoint,
    Entry,
    Leaf,
    Pointer,
    Record,
    Summary,
    Superblock,
    Usage,
    UsagePage,
    block_seal_holds,
    pack_node,
    pack_usage_page,
)
from tests.ondisk.samples import ADDRESS, FILESYSTEM_ID, STRUCTURES, Structure

each_structure = pytest.mark.parametrize(
    "structure", STRUCTURES, ids=[structure.name for structure in STRUCTURES]
)

SUPERBLOCK = Superblock(
    uuid=bytes(range(16)),
    label=b"work",
    block_bytes=4096,
    segment_blocks=64,
    device_blocks=4096,
    first_segment_block=64,
    segment_count=62,
    checkpoint_offset_bytes=(65536, 131072),
    reserved_basis_points=500,
    created_ns=-1,
    hash_seed=bytes(range(16, 32)),
    filesystem_id=bytes(range(32, 40)),
    copy_offset_bytes=4095 * 4096,
)
CHECKPOINT = Checkpoint(
    number=7,
    next_sequence=100,
    next_address=200,
    previous_checksum=0xDEADBEEF,
    flags=1,
    imap_root=Pointer(300, 0xCAFE),
    imap_root_level=1,
    next_ino=50,
    inode_count=40,
    live_block_count=1000,
    node_count=3,
    time_ns=123456789,
    usage_pages=(Pointer(301, 1), Pointer(0, 0)),
)
SUMMARY = Summary(
    sequence=5,
    address=ADDRESS,
    next_address=ADDRESS + 3,
    run_address=4700,
    run_blocks=64,
    run_sequence=4,
    run_next_address=ADDRESS + 3,
    payload_address=ADDRESS + 1,
    payload_blocks=2,
    summary_blocks=1,
    previous_checksum=9,
    flushed_sequence=3,
    head=0,
    flags=1,
    time_ns=99,
    entries=(Entry(1, 17, 0, 0, (1, 2)),),
    records=(Record(bytes(17), b"value"), Record(b"k" * 17, None)),
)


def _flipped(raw: bytes, bit: int) -> bytes:
    damaged = bytearray(raw)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def _sealed(raw: bytes, offset: int) -> bytes:
    """Return ``raw`` with a checksum that holds, so that what is behind it is reached."""
    zeroed = raw[:offset] + bytes(4) + raw[offset + 4 :]
    return raw[:offset] + checksum(zeroed).to_bytes(4, "little") + raw[offset + 4 :]


def test_superblock_any_flipped_bit_is_detected() -> None:
    raw = SUPERBLOCK.pack()
    assert Superblock.unpack(raw, 4096) == SUPERBLOCK
    for bit in range(len(raw) * 8):
        with pytest.raises(DamageError):
            Superblock.unpack(_flipped(raw, bit), 4096)


def test_checkpoint_any_flipped_bit_is_detected() -> None:
    raw = CHECKPOINT.pack(FILESYSTEM_ID, 65536)
    assert Checkpoint.unpack(raw, FILESYSTEM_ID, 65536) == CHECKPOINT
    for bit in range(len(raw) * 8):
        with pytest.raises(DamageError):
            Checkpoint.unpack(_flipped(raw, bit), FILESYSTEM_ID, 65536)


def test_summary_any_flipped_bit_is_detected() -> None:
    raw = SUMMARY.pack(FILESYSTEM_ID)
    assert Summary.unpack(raw, FILESYSTEM_ID, ADDRESS) == SUMMARY
    for bit in range(len(raw) * 8):
        with pytest.raises(DamageError):
            Summary.unpack(_flipped(raw, bit), FILESYSTEM_ID, ADDRESS)


@pytest.mark.parametrize(
    "raw",
    [
        pack_node(Leaf([bytes(17)], [b"value"]), FILESYSTEM_ID, ADDRESS, 1, 1024),
        pack_usage_page(
            UsagePage([Usage(1, 0, 1, 0, 5)], 1, ADDRESS - 5, 64), 0, FILESYSTEM_ID, ADDRESS, 1024
        ),
    ],
    ids=["node", "usage_page"],
)
def test_block_seal_any_flipped_bit_is_detected(raw: bytes) -> None:
    assert block_seal_holds(raw)
    for bit in range(len(raw) * 8):
        assert not block_seal_holds(_flipped(raw, bit))


def test_structures_of_another_place_or_filesystem_are_refused() -> None:
    other = bytes(8)
    with pytest.raises(DamageError, match="superblock place"):
        Superblock.unpack(SUPERBLOCK.pack(), 8192)
    checkpoint = CHECKPOINT.pack(FILESYSTEM_ID, 65536)
    with pytest.raises(DamageError, match="checkpoint place"):
        Checkpoint.unpack(checkpoint, FILESYSTEM_ID, 131072)
    with pytest.raises(DamageError, match="checkpoint filesystem"):
        Checkpoint.unpack(checkpoint, other, 65536)
    summary = SUMMARY.pack(FILESYSTEM_ID)
    with pytest.raises(DamageError, match="summary place"):
        Summary.unpack(summary, FILESYSTEM_ID, ADDRESS + 1)
    with pytest.raises(DamageError, match="summary filesystem"):
        Summary.unpack(summary, other, ADDRESS)


@each_structure
@given(data=st.data())
def test_unpack_truncated_raises_only_damage(structure: Structure, data: st.DataObject) -> None:
    raw = data.draw(structure.packed)
    cut = raw[: data.draw(st.integers(0, max(0, len(raw) - 1)))]
    with contextlib.suppress(DamageError):
        structure.unpack(cut)


@each_structure
@given(raw=st.binary(max_size=600))
def test_unpack_random_bytes_raises_only_damage(structure: Structure, raw: bytes) -> None:
    with contextlib.suppress(DamageError):
        structure.unpack(raw)


@each_structure
@given(data=st.data())
def test_unpack_mutated_raises_only_damage(structure: Structure, data: st.DataObject) -> None:
    raw = bytearray(data.draw(structure.packed))
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of what steers a parser is at the front.
        reach = data.draw(st.sampled_from([len(raw), min(len(raw), 160)]))
        raw[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    if structure.checksum_offset is None:
        mutated = bytes(raw)
    else:
        mutated = _sealed(bytes(raw), structure.checksum_offset)
    with contextlib.suppress(DamageError):
        structure.unpack(mutated)
