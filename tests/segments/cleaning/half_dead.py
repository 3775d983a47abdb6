"""Disks with runs that are half dead, and a cleaner that is asked for some of them."""

from __future__ import annotations

from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.usage import UsageTable
from lfs.volume.options import Options
from lfs.volume.volume import Volume
from tests.support.disks import Disk

MIB = 1 << 20
SEGMENT_BLOCKS = 64


def volume_of(disk: Disk) -> Volume:
    return disk.filesystem.core.volume


def usage_of(disk: Disk) -> UsageTable:
    return volume_of(disk).usage


def cleaner_of(disk: Disk) -> Cleaner:
    return disk.filesystem.core.cleaner


def runs_in_use(disk: Disk) -> list[int]:
    """Return the runs with live blocks."""
    usage = usage_of(disk)
    return [run for run in usage.runs() if usage.live_blocks(run)]


def closed_runs(disk: Disk) -> list[int]:
    """Return those that are not being written."""
    opened = volume_of(disk).log.open_runs()
    return [run for run in runs_in_use(disk) if run not in opened]


def run_blocks(disk: Disk, run: int) -> range:
    """Return the addresses of a run."""
    first = usage_of(disk).address_of(run)
    return range(first, first + usage_of(disk).run_blocks(run))


def clean(disk: Disk, victims: list[int]) -> None:
    """Clean ``victims`` in one round."""
    for _ in cleaner_of(disk)._clean(victims, disk.now_ns):
        pass


def small_disk(options: Options | None = None) -> Disk:
    return Disk(16 * MIB, SEGMENT_BLOCKS, options)


def holey_disk() -> tuple[Disk, dict[int, bytes], list[int]]:
    """Return a disk whose runs are half dead, what its files hold, and those runs."""
    disk = small_disk()
    contents = disk.make_half_dead_runs()
    return disk, contents, closed_runs(disk)


def check_contents(disk: Disk, contents: dict[int, bytes]) -> None:
    for ino, content in contents.items():
        assert disk.read(ino) == content
