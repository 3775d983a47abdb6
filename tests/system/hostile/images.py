"""The images that cases change, with everything in them: after an unmount, and after a crash."""

from __future__ import annotations

import stat

from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO
from tests.support.volumes import format_small
from tests.system.hostile.cases import BLOCK_BYTES, DEVICE_BYTES, REGULAR, SEGMENT_BLOCKS, Sample
from tests.system.hostile.structures import add_checkpoint, add_log, add_superblocks, add_tree


def _filled(keep: bool) -> tuple[MemoryDevice, Filesystem]:
    """Return a filesystem with everything in it, as of a checkpoint."""
    device = MemoryDevice(DEVICE_BYTES)
    format_small(device, BLOCK_BYTES, SEGMENT_BLOCKS)
    options = Options(removal_items_max=1)
    filesystem = Filesystem.mount(device, 1, options, report=lambda line: None)
    _fill(filesystem, ROOT_INO, 2)
    directory = filesystem.mkdir(ROOT_INO, b"directory", 0o755, 0, 0, 2).ino
    below = filesystem.mkdir(directory, b"below", 0o755, 0, 0, 2).ino
    for number in range(12):
        filesystem.create(below, b"many %d" % number, REGULAR, 0, 0, 2)
    filesystem.create(ROOT_INO, b"pipe", stat.S_IFIFO | 0o600, 0, 0, 2)
    filesystem.create(ROOT_INO, b"disk", stat.S_IFBLK | 0o600, 0, 0, 2, rdev=0x801)
    if keep:
        gone = filesystem.create(ROOT_INO, b"gone", REGULAR, 0, 0, 2).ino
        filesystem.write(gone, 0, b"gone" * 1000, 2)
        filesystem.open(gone)
        filesystem.unlink(ROOT_INO, b"gone", 2)
        cut = filesystem.create(ROOT_INO, b"cut", REGULAR, 0, 0, 2).ino
        for block in range(0, 400, 40):
            filesystem.write(cut, block * BLOCK_BYTES, b"cut" * 400, 2)
        filesystem.sync(2)
        filesystem.setattr(cut, 2, size=1)
    filesystem.checkpoint(3)
    filesystem.checkpoint(3)
    return device, filesystem


def _fill(filesystem: Filesystem, parent: int, now_ns: int) -> None:
    """Make files of all kinds."""
    inline = filesystem.create(parent, b"inline", REGULAR, 0, 0, now_ns).ino
    filesystem.write(inline, 0, b"inline" * 20, now_ns)
    scattered = filesystem.create(parent, b"scattered", REGULAR, 0, 0, now_ns).ino
    for block in (0, 3, 7, 40, 100):
        filesystem.write(scattered, block * BLOCK_BYTES, bytes([block + 1]) * 1500, now_ns)
        filesystem.sync(now_ns)
    filesystem.setxattr(scattered, b"user.large", b"large" * 600, now_ns)
    filesystem.setxattr(scattered, b"user.small", b"small", now_ns)
    filesystem.symlink(parent, b"short", b"inline", 0, 0, now_ns)
    filesystem.symlink(parent, b"long", b"x/" * 1000, 0, 0, now_ns)


def _clean() -> Sample:
    device, filesystem = _filled(keep=False)
    filesystem.unmount(4)
    sample = Sample("clean", device)
    add_superblocks(sample)
    add_checkpoint(sample)
    add_tree(sample)
    return sample


def _crashed() -> Sample:
    device, filesystem = _filled(keep=True)
    directory = filesystem.mkdir(ROOT_INO, b"logged", 0o755, 0, 0, 5).ino
    _fill(filesystem, directory, 5)
    filesystem.setattr(filesystem.lookup(ROOT_INO, b"scattered").ino, 5, size=2000)
    filesystem.sync(6)
    sample = Sample("crashed", device)
    add_checkpoint(sample)
    add_tree(sample)
    add_log(sample)
    return sample


def samples() -> dict[str, Sample]:
    """Return the images that cases change."""
    return {"clean": _clean(), "crashed": _crashed()}
