"""Disks that are filled and aged, so small that they measure nothing."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from bench.systems.ours import Lfs
from bench.waits import Probe
from bench.workloads import aged
from bench.workloads.aged import AGED
from bench.workloads.workload import MIB, Scale, measure

SCALE = Scale(
    files=1,
    syncs=1,
    stream_bytes=MIB,
    overwrites=1,
    many_files=1,
    disk_bytes=64 * MIB,
    idle_seconds=0,
)


@pytest.mark.fuse
def test_aged_disk_is_filled_overwritten_read_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[float] = []
    read: list[str] = []

    def read_through(path: Path) -> None:
        space = os.statvfs(path)
        used.append(1 - space.f_bavail / space.f_blocks)
        read.append(path.name)

    monkeypatch.setattr(aged, "read_through", read_through)
    monkeypatch.setattr(aged, "_READ_COUNT", 1)
    lfs = Lfs(tmp_path, 64 * MIB)
    try:
        lfs.start()
        with closing(Probe(tmp_path)) as probe:
            found = {one.name: measure(one, lfs, SCALE, probe=probe) for one in AGED[1:]}
        assert os.listdir(lfs.place) == []
        assert str(tmp_path / "lfs.another") not in Path("/proc/self/mounts").read_text()
        assert not (tmp_path / "lfs.another").exists()
    finally:
        lfs.stop()
    waits = found["overwrite 90%"].waits
    assert waits is not None
    assert waits.device is not None
    assert 0 < waits.p50_ms <= waits.p99_ms <= waits.longest_ms
    assert read == ["0", "fresh"] * 2
    # The reserve counts as used.
    assert used == pytest.approx([0.75, 0.75, 0.9, 0.9], abs=0.08)


def test_only_disks_are_aged_and_only_what_relocates_is_read(tmp_path: Path) -> None:
    from bench.systems.systems import SYSTEMS

    systems = [system(tmp_path, MIB) for system in SYSTEMS]
    applied = {
        workload.name: [system.name for system in systems if workload.applies_to(system)]
        for workload in AGED
    }
    peers = ["lfs", "fuse2fs", "ntfs-3g", "bindfs", "ext4", "xfs", "btrfs"]
    assert applied == {
        "overwrite 75%": peers,
        "overwrite 90%": peers,
        "read aged 75%": ["lfs", "btrfs"],
        "read aged 90%": ["lfs", "btrfs"],
    }
