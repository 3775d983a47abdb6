"""Checkpoints: the usage table that a mount finds is the one there was, in any number of pieces."""

from __future__ import annotations

import random
import stat

import pytest

from fsck.check import check_device
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO
from lfs.segments import writer
from lfs.segments.usage import UsageTable
from tests.support.volumes import format_small, mount

REGULAR = stat.S_IFREG | 0o644
KIB = 1024


def table(usage: UsageTable) -> list[tuple[int, int, int]]:
    """Return the runs with live blocks, their live blocks and sizes."""
    return [run[:3] for run in usage.partly_live(1.0)]


def work(filesystem: Filesystem, choose: random.Random, inos: list[int]) -> None:
    """Write here and there, so that many usage pages change."""
    for _ in range(30):
        if choose.random() < 0.5 or not inos:
            name = b"%d" % choose.randrange(10**9)
            inos.append(filesystem.create(ROOT_INO, name, REGULAR, 0, 0, 1).ino)
        offset = choose.randrange(0, 200) * KIB
        filesystem.write(choose.choice(inos), offset, bytes(choose.randrange(1, 80 * KIB)), 1)


@pytest.mark.parametrize("piece_blocks", [1, 2, 4096])
@pytest.mark.parametrize("seed", range(2))
def test_usage_table_comes_back_from_pages_in_pieces(
    seed: int, piece_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each log write may open a run that a page written before has as clean."""
    monkeypatch.setattr(writer, "_PAYLOAD_BLOCKS_MAX", piece_blocks)
    device = MemoryDevice(48 << 20)
    format_small(device, 1024, 64)
    filesystem = mount(device, 0)
    choose = random.Random(seed)
    inos: list[int] = []
    runs_between = 0
    for number in range(8):
        work(filesystem, choose, inos)
        if number % 3 == 2:
            filesystem.unlink(ROOT_INO, _name(filesystem, inos[0]), 1)
            filesystem.forget(inos.pop(0))
        filesystem.checkpoint(1)
        usage = filesystem.core.volume.usage
        # Read-only, so that nothing goes on that was begun.
        mounted = mount(device.copy(), 2, Options(read_only=True))
        assert table(mounted.core.volume.usage) == table(usage)
        assert mounted.core.volume.usage.live_total == usage.live_total
        assert not check_device(device.copy()).problems
        runs_between += bool(usage.dirty_pages)
        if number % 4 == 3:
            filesystem = mount(device, 3)
    assert runs_between or piece_blocks > 2


def _name(filesystem: Filesystem, ino: int) -> bytes:
    return next(entry.name for entry in filesystem.readdir(ROOT_INO) if entry.ino == ino)


def test_checkpoint_of_nothing_new_writes_a_root_of_its_own_and_what_counts_it() -> None:
    device = MemoryDevice(48 << 20)
    format_small(device, 1024, 64)
    filesystem = mount(device, 0)
    work(filesystem, random.Random(1), [])
    filesystem.checkpoint(1)
    filesystem.checkpoint(1)
    before, root = filesystem.core.volume.log.next_sequence, filesystem.core.volume.imap.root
    filesystem.checkpoint(1)
    assert filesystem.core.volume.log.next_sequence == before + 2
    assert filesystem.core.volume.imap.root != root
