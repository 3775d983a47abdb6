"""Disks that are filled and aged, so small that they measure nothing."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from bench.systems.ours import Lfs
from bench.waits import Measured, Probe
from bench.workloads import aged
from bench.workloads.aged import AGED
from bench.workloads.workload import MIB, Context, Scale, measure

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
    overwrite = aged._overwrite

    def overwrite_noting_space(context: Context, files: list[Path]) -> Measured:
        space = os.statvfs(context.folder)
        used.append(1 - space.f_bavail / space.f_blocks)
        return overwrite(context, files)

    monkeypatch.setattr(aged, "_overwrite", overwrite_noting_space)
    monkeypatch.setattr(aged, "read_through", lambda path: read.append(path.name))
    monkeypatch.setattr(aged, "_READ_COUNT", 1)
    chosen = [one for one in AGED if one.name in ("overwrite 90%", "read aged 75%")]
    lfs = Lfs(tmp_path, 64 * MIB)
    try:
        lfs.start()
        with closing(Probe(tmp_path)) as probe:
            found = {one.name: measure(one, lfs, SCALE, probe=probe) for one in chosen}
        assert os.listdir(lfs.place) == []
        assert str(tmp_path / "lfs.another") not in Path("/proc/self/mounts").read_text()
        assert not (tmp_path / "lfs.another").exists()
    finally:
        lfs.stop()
    waits = found["overwrite 90%"].waits
    assert waits is not None
    assert waits.device is not None
    assert 0 < waits.p50_ms <= waits.p99_ms <= waits.longest_ms
    assert found["read aged 75%"].value > 0
    assert read == ["0", "fresh"]
    # The reserve counts as used.
    assert used == pytest.approx([0.9, 0.75], abs=0.08)


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
