"""How large the disks and limits of runs are, and which geometries there are."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from lfs.filesystem import Options
from lfs.geometry import plan, smallest_device_bytes
from lfs.ondisk import Superblock

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True)
class Scale:
    """How large the disks and limits of runs are."""

    device_bytes_max: int
    segments_most: int
    requests: int
    write_bytes_max: int
    metadata_share: float
    """How many of the runs have data that is hard to move."""
    metadata_block_bytes: tuple[int, ...]
    metadata_segments: tuple[int, ...]
    metadata_changes: tuple[int, ...]
    metadata_value_bytes: tuple[int, ...]
    options: Callable[[random.Random], Options]


def _small_options(choose: random.Random) -> Options:
    dirty_bytes = choose.choice((32 * KIB, 512 * KIB, MIB, 4 * MIB))
    return Options(
        dirty_bytes_max=dirty_bytes,
        extent_bytes_max=choose.choice((dirty_bytes // 4, dirty_bytes)),
        inode_count_max=choose.choice((16, 16384)),
    )


SCALES = {
    # Of a few MiB, with limits that a few hundred requests reach.
    "small": Scale(
        8 * MIB,
        128,
        100,
        96 * KIB,
        0.004,
        (KIB,),
        (60, 180),
        (200, 800),
        (400, 1500),
        _small_options,
    ),
    # What people have, with the limits that a mount has.
    "real": Scale(
        768 * MIB,
        4096,
        12_000,
        4 * MIB,
        0.1,
        (KIB, 2 * KIB, 4 * KIB, 16 * KIB),
        (40, 60, 120, 250, 600),
        (1000, 4000, 12_000),
        (0, 100, 400, 1500),
        lambda choose: Options(),
    ),
}


def chosen_layout(choose: random.Random, scale: Scale) -> tuple[int, Superblock]:
    """Choose the size of a device and a geometry that mkfs.lfs would make on it."""
    most_bytes = scale.device_bytes_max
    while True:
        block_bytes = choose.choice((1, 1, 1, 2, 4, 4, 4, 8, 16, 32, 64)) * KIB
        segment_bytes: int | None = block_bytes * choose.choice((64, 64, 64, 128, 256, 1024))
        if segment_bytes is None:
            least_bytes = 64 * MIB
        else:
            least_bytes = smallest_device_bytes(block_bytes, segment_bytes)
        # Large blocks make large disks, which are filled by few requests.
        large_bytes = max(most_bytes, 140 * MIB)
        if least_bytes <= most_bytes or (least_bytes < large_bytes and choose.random() < 0.02):
            break
    most_bytes = max(most_bytes, least_bytes * 5 // 4)
    most_bytes = min(most_bytes, least_bytes * scale.segments_most // 32)
    device_bytes = choose.choice((least_bytes, choose.randrange(least_bytes, most_bytes + 1)))
    device_bytes = -(-device_bytes // 4096) * 4096
    return device_bytes, planned(choose, device_bytes, block_bytes, segment_bytes)


def planned(
    choose: random.Random, device_bytes: int, block_bytes: int, segment_bytes: int | None
) -> Superblock:
    return plan(
        device_bytes,
        block_bytes=block_bytes,
        segment_bytes=segment_bytes,
        reserved_basis_points=choose.choice((0, 500)),
        uuid=bytes(16),
        label=b"",
        hash_seed=bytes(16),
        filesystem_id=bytes(8),
        created_ns=0,
    )
