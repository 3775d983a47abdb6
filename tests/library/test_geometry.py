from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.errors import UsageError
from lfs.common.sizes import format_size
from lfs.geometry import (
    SEGMENT_COUNT_MIN,
    SEGMENT_COUNT_MOST,
    plan,
    smallest_device_bytes,
)
from lfs.ondisk import (
    USAGE_PAGE_COUNT_MAX,
    Superblock,
    backup_superblock_offset_bytes,
    usage_per_page,
)

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def _plan(
    device_bytes: int, block_bytes: int = 4096, segment_bytes: int | None = None
) -> Superblock:
    return plan(
        device_bytes,
        block_bytes=block_bytes,
        segment_bytes=segment_bytes,
        reserved_basis_points=500,
        uuid=bytes(16),
        label=b"",
        hash_seed=bytes(16),
        created_ns=0,
        filesystem_id=bytes(8),
    )


@pytest.mark.parametrize(
    ("device_bytes", "segment_bytes", "segment_count", "first_bytes"),
    [
        (8452 * KIB, 256 * KIB, 32, 256 * KIB),
        (16 * MIB, 256 * KIB, 62, 256 * KIB),
        (64 * MIB - 512, 256 * KIB, 254, 256 * KIB),
        (64 * MIB, 256 * KIB, 251, MIB),
        (128 * MIB, 512 * KIB, 253, MIB),
        (GIB, 4 * MIB, 255, MIB),
        (100 * GIB, 4 * MIB, 25599, MIB),
        (TIB, 4 * MIB, 262143, MIB),
        (2 * TIB, 8 * MIB, 262143, MIB),
        (16 * TIB, 64 * MIB, 262143, MIB),
    ],
)
def test_plan_default_layout_by_size(
    device_bytes: int, segment_bytes: int, segment_count: int, first_bytes: int
) -> None:
    layout = _plan(device_bytes)
    assert layout.segment_blocks * 4096 == segment_bytes
    assert layout.segment_count == segment_count
    assert layout.first_segment_block * 4096 == first_bytes
    assert layout.checkpoint_offset_bytes == (65536, 131072)
    assert layout.device_blocks == device_bytes // 4096


@given(st.integers(10, 16), st.integers(0, 2**46))
def test_plan_any_size_is_refused_or_possible(block_bits: int, device_bytes: int) -> None:
    block_bytes = 1 << block_bits
    if device_bytes < smallest_device_bytes(block_bytes, 64 * block_bytes):
        with pytest.raises(UsageError, match="too small"):
            _plan(device_bytes, block_bytes)
        return
    layout = _plan(device_bytes, block_bytes)
    # Superblocks check their own geometry when they are read.
    assert Superblock.unpack(layout.pack(), 4096) == layout
    assert layout.end_block * block_bytes <= backup_superblock_offset_bytes(device_bytes)
    assert SEGMENT_COUNT_MIN <= layout.segment_count <= SEGMENT_COUNT_MOST
    assert layout.segment_count <= USAGE_PAGE_COUNT_MAX * usage_per_page(block_bytes)
    assert layout.segment_blocks >= 64


@pytest.mark.parametrize("block_bytes", [1024 << shift for shift in range(7)])
@pytest.mark.parametrize("segment_blocks", [64, 1024])
def test_smallest_device_is_enough_and_less_is_not(block_bytes: int, segment_blocks: int) -> None:
    segment_bytes = block_bytes * segment_blocks
    least_bytes = smallest_device_bytes(block_bytes, segment_bytes)
    assert _plan(least_bytes, block_bytes, segment_bytes).segment_count == SEGMENT_COUNT_MIN
    with pytest.raises(UsageError, match=f"at least {format_size(least_bytes)} are needed"):
        _plan(least_bytes - 512, block_bytes, segment_bytes)


@pytest.mark.parametrize(
    ("block_bytes", "segment_bytes", "message"),
    [
        (3000, None, "block size 3000 is not a power of two from 1024 to 65536"),
        (512, None, "block size 512 is not a power of two from 1024 to 65536"),
        (131072, None, "block size 131072 is not a power of two from 1024 to 65536"),
        (4096, 131072, "segment size 131072 is not a power of two of at least 262144 bytes"),
        (4096, 300000, "segment size 300000 is not a power of two of at least 262144 bytes"),
        (4096, 64 * MIB, "1 GiB is too small: with segments of 64 MiB at least 2098180 KiB"),
    ],
)
def test_plan_impossible_sizes_are_refused(
    block_bytes: int, segment_bytes: int | None, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _plan(GIB, block_bytes, segment_bytes)
    assert str(caught.value).startswith(message)


def test_plan_too_many_segments_are_refused_with_what_to_use() -> None:
    with pytest.raises(UsageError, match=r"segments of 256 KiB are too small .* at least 64 MiB"):
        _plan(16 * TIB, 4096, 256 * KIB)
