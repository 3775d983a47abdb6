"""Blocks of data that look like the log's: stored in disguise, and given back as they were."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lfs.common.checksum import checksum
from lfs.ondisk import (
    ESCAPE_CHECKSUM_BITS,
    RESERVED_MAGICS,
    is_reserved,
    original_data,
    stored_data,
)

BLOCK_BYTES = 1024
_BEGINNINGS = [
    *RESERVED_MAGICS,
    *(bytes([magic[0] | 0x80]) + magic[1:] for magic in RESERVED_MAGICS),
    b"LSUX",
    b"L",
    b"\0",
]

_blocks = st.builds(
    lambda beginning, rest: (beginning + rest).ljust(BLOCK_BYTES, b"\0"),
    st.sampled_from(_BEGINNINGS),
    st.binary(max_size=8),
)
_rows = st.lists(_blocks, min_size=1, max_size=12)


@given(_rows, st.booleans())
@example([b"LSUM".ljust(BLOCK_BYTES, b"\0")], True)
def test_stored_data_never_looks_like_a_summary_and_comes_back(
    blocks: list[bytes], as_view: bool
) -> None:
    plain = b"".join(blocks)
    stored, checksums = stored_data(memoryview(plain) if as_view else plain, BLOCK_BYTES)
    assert len(stored) == len(plain)
    assert len(checksums) == len(blocks)
    assert not any(is_reserved(bytes(stored), at) for at in range(0, len(plain), BLOCK_BYTES))
    assert original_data(bytes(stored), checksums, BLOCK_BYTES) == (plain, [])
    for index, block in enumerate(blocks):
        at = index * BLOCK_BYTES
        unchanged = bytes(stored[at : at + BLOCK_BYTES]) == block
        assert unchanged is (not block.startswith(RESERVED_MAGICS))
        alone = stored_data(block, BLOCK_BYTES)
        assert alone == (bytes(stored[at : at + BLOCK_BYTES]), [checksums[index]])


@given(_rows, st.data())
def test_original_data_names_the_blocks_that_fail(blocks: list[bytes], data: st.DataObject) -> None:
    stored, checksums = stored_data(b"".join(blocks), BLOCK_BYTES)
    places = st.integers(0, len(stored) * 8 - 1)
    bit = data.draw(places, label="flipped bit")
    damaged = bytearray(stored)
    damaged[bit // 8] ^= 1 << bit % 8
    failed = original_data(bytes(damaged), checksums, BLOCK_BYTES)[1]
    assert failed == [bit // 8 // BLOCK_BYTES]


@pytest.mark.parametrize("magic", RESERVED_MAGICS)
def test_disguise_is_only_taken_off_with_its_checksum(magic: bytes) -> None:
    block = magic.ljust(BLOCK_BYTES, b"x")
    stored, (value,) = stored_data(block, BLOCK_BYTES)
    assert value == checksum(bytes(stored)) ^ ESCAPE_CHECKSUM_BITS
    # The same bytes written by a user have another checksum, and stay.
    assert original_data(bytes(stored), [checksum(bytes(stored))], BLOCK_BYTES) == (stored, [])
    # What has no disguise never passes by the other checksum.
    other = b"x" + block[1:]
    inverted = checksum(other) ^ ESCAPE_CHECKSUM_BITS
    assert original_data(other, [inverted], BLOCK_BYTES)[1] == [0]
