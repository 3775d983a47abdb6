"""A disk on which much has happened, for the tests beside this file."""

from __future__ import annotations

from tests.support.disks import Disk, data
from tests.support.state import TreeState


def busy_disk() -> tuple[Disk, TreeState]:
    """Return a disk with two checkpoints and a log after each, and its tree."""
    disk = Disk()
    inos = [disk.make_file(b"file %d" % n, data(n, n * 5000)) for n in range(12)]
    disk.checkpoint()
    disk.write(inos[3], 2000, data(50, 30_000))
    disk.truncate(inos[9], 12_345)
    disk.remove(inos[4], b"file 4")
    disk.checkpoint()
    disk.write(inos[11], 0, data(51, 40_000))
    disk.remove(inos[5], b"file 5")
    disk.make_file(b"late", data(52, 70_000))
    disk.sync()
    return disk, disk.state()
