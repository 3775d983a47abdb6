"""What a daemon takes while it serves: processor, memory, files, and its users' time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.mount.unmounting.ends import write_synced
from tests.support.mounting import make_image, wait_until
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse


def test_slow_flush_of_background_work_keeps_nobody_waiting(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "fault=delay 700ms on flush,commit=1")
    (mounted.path / "f").write_text("content")
    end = time.monotonic() + 2.5
    worst = 0.0
    while (start := time.monotonic()) < end:
        assert not (mounted.path / f"none {start}").exists()
        worst = max(worst, time.monotonic() - start)
    assert worst < 0.5


def test_idle_daemon_uses_no_processor(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_text("content")

    def ticks() -> int:
        fields = Path(f"/proc/{mounted.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def rests() -> bool:
        before = ticks()
        time.sleep(2)
        # 2 s of a spinning processor are 200 ticks.
        return ticks() - before <= 20

    wait_until(rests, "the daemon is at rest")


def test_daemon_memory_stays_within_bounds(image: Path, mount: Mounter) -> None:
    mounted = mount(image)

    def resident_bytes() -> int:
        pages = Path(f"/proc/{mounted.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    data = os.urandom(1 << 20)
    for _ in range(5):
        for number in range(20):
            (mounted.path / str(number)).write_bytes(data)
    wait_until(lambda: resident_bytes() < 200 << 20, "memory is below 200 MiB")


def test_daemon_has_all_the_files_open_that_it_needs(tmp_path: Path, mount: Mounter) -> None:
    # Large enough for segments that take the writes whose write-back begins early.
    mounted = mount(make_image(tmp_path / "large.img", "256M"))
    data = os.urandom(8 << 20)
    before = mounted.descriptor_count
    for number in range(3):
        write_synced(mounted.path / str(number), data)
    for number in range(3):
        assert (mounted.path / str(number)).read_bytes() == data
    assert mounted.descriptor_count == before
