from __future__ import annotations

from collections.abc import Callable

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.checksum import block_checksums, checksum, reference


@pytest.mark.parametrize("function", [checksum, reference, google_crc32c.value])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksum_vectors_of_rfc_3720(
    function: Callable[[bytes], int], data: bytes, expected: int
) -> None:
    assert function(data) == expected


@given(st.binary(max_size=8192))
def test_checksum_equals_the_reference(data: bytes) -> None:
    assert checksum(data) == reference(data)


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=5))
def test_checksums_of_blocks_are_those_of_each(blocks: list[bytes]) -> None:
    raw = b"".join(blocks)
    assert block_checksums(raw, 16) == [reference(block) for block in blocks]
    assert block_checksums(memoryview(raw), 16) == block_checksums(raw, 16)
