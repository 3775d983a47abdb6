"""Rounds of the cleaner on disks that are full: one that was begun is finished.

One that breaks off has taken room and given none, and what it leaves may be too little for
any other: then overwriting would be refused for good.
"""

from __future__ import annotations

import random
from collections.abc import Generator

import pytest

from fsck.check import check_device
from lfs.common.errors import FilesystemError
from lfs.common.turns import Flush
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.geometry import plan
from lfs.make import format_device
from lfs.ondisk import ROOT_INO
from lfs.segments.cleaning.rounds import Rounds
from lfs.segments.cleaning.survey import Found
from tests.support.disks import data
from tests.system.full.disks import KIB, REGULAR

FILE_COUNT = 30
SECOND_NS = 10**9


def full_disk(
    choose: random.Random, block_bytes: int, segment_blocks: int, segment_count: int
) -> tuple[Filesystem, dict[int, int]]:
    """Return a filesystem on which no block more finds room, and its files with their lengths."""
    segment_bytes = block_bytes * segment_blocks
    size_bytes = -(-(segment_count + 1) * segment_bytes // 65536) * 65536
    layout = plan(
        size_bytes,
        block_bytes=block_bytes,
        segment_bytes=segment_bytes,
        reserved_basis_points=0,
        uuid=bytes(16),
        label=b"",
        hash_seed=bytes(16),
        filesystem_id=bytes(8),
        created_ns=0,
    )
    device = MemoryDevice(size_bytes)
    format_device(device, layout, 0)
    options = Options(dirty_bytes_max=256 * KIB, extent_bytes_max=64 * KIB)
    filesystem = Filesystem.mount(device, 1, options, lambda line: None)
    lengths = {
        filesystem.create(ROOT_INO, b"%d" % number, REGULAR, 0, 0, SECOND_NS).ino: 0
        for number in range(FILE_COUNT)
    }
    length, now_ns = 16 * block_bytes, SECOND_NS
    while length:
        ino = choose.choice([*lengths])
        now_ns += SECOND_NS // 10
        try:
            filesystem.write(ino, lengths[ino], data(ino, length), now_ns)
        except FilesystemError:
            length = length // 2 if length > block_bytes else 0
        else:
            lengths[ino] += length
    return filesystem, lengths


def overwrite_and_idle(
    filesystem: Filesystem, lengths: dict[int, int], choose: random.Random, block_bytes: int
) -> None:
    """Overwrite some blocks, which takes none, and let idle turns come between."""
    now_ns = 10**13
    for _ in range(250):
        now_ns += SECOND_NS
        ino = choose.choice([*lengths])
        if choose.random() < 0.8:
            length = block_bytes * choose.choice((1, 1, 2, 8))
            offset = choose.randrange(max(1, lengths[ino] // block_bytes)) * block_bytes
            length = min(length, lengths[ino] - offset)
            filesystem.write(ino, offset, data(offset, length), now_ns)
        else:
            for _ in range(choose.choice((1, 1, 200))):
                if not filesystem.tick(now_ns, choose.random() < 0.7):
                    break


@pytest.mark.pure_core
@pytest.mark.parametrize("seed", [21, 743, *range(6)])
def test_no_round_is_broken_off(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[bool] = []
    move_together = Rounds._move_together

    def watched(
        self: Rounds, found: Found, now_ns: int, at_once: bool
    ) -> Generator[Flush | None, None, dict[int, int] | None]:
        moved = yield from move_together(self, found, now_ns, at_once)
        if found.pieces:
            groups.append(bool(moved))
        return moved

    monkeypatch.setattr(Rounds, "_move_together", watched)
    choose = random.Random(seed)
    block_bytes, segment_blocks = (4 * KIB, 8 * KIB)[seed // 12 % 2], (64, 128)[seed // 6 % 2]
    filesystem, lengths = full_disk(choose, block_bytes, segment_blocks, 38 + seed % 6)
    groups.clear()
    overwrite_and_idle(filesystem, lengths, choose, block_bytes)
    assert len(groups) > 4
    assert all(groups)
    device = filesystem.device
    filesystem.unmount(10**14)
    assert device is not None
    assert not check_device(device, data=True).problems
