"""An inode number with its generation never means two files, whatever a crash took back."""

from __future__ import annotations

import random

import pytest

from lfs.common.errors import FilesystemError
from lfs.filesystem import Filesystem
from lfs.ondisk import GENERATION_MAX, ROOT_INO
from tests.support.disks import DEVICE_BYTES, REGULAR, Disk, problems

SEEDS = range(12)
MOUNTS = 12


@pytest.mark.parametrize("seed", SEEDS)
def test_number_and_generation_never_mean_two_files(seed: int) -> None:
    chance = random.Random(seed)
    disk = Disk()
    owners: dict[tuple[int, int], tuple[int, int]] = {}
    reused = 0
    for mounted in range(MOUNTS):
        filesystem = disk.filesystem
        for number in range(chance.randrange(1, 8)):
            name = b"%d.%d" % (mounted, number)
            inode = filesystem.create(ROOT_INO, name, REGULAR, 0, 0, disk.now_ns)
            place = inode.ino, inode.generation
            assert place not in owners, f"seed {seed}: {name!r} has the place of {owners[place]}"
            reused += any(ino == inode.ino for ino, _ in owners)
            owners[place] = mounted, number
            step = chance.choice(["sync", "checkpoint", "remove", "", "", ""])
            if step == "remove":
                disk.remove(inode.ino, name)
            elif step:
                getattr(disk, step)()
        if chance.random() < 0.2:
            disk.unmount()
        # Otherwise a crash: what no commit has is gone, and its numbers are free again.
        disk.now_ns += 1
        disk.mount()
        for entry in disk.filesystem.readdir(ROOT_INO):
            found = disk.filesystem.getattr(entry.ino)
            assert owners[found.ino, found.generation] == tuple(map(int, entry.name.split(b".")))
    assert reused, "no number was used again, so nothing was tried"
    assert problems(disk.medium) == []


def test_generation_is_what_the_mount_was_given_and_stays() -> None:
    disk = Disk(DEVICE_BYTES)
    filesystem = Filesystem.mount(disk.medium, 5, nonce=0x1_2345_6789)
    made = filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 5)
    directory = filesystem.mkdir(ROOT_INO, b"directory", 0o755, 0, 0, 5)
    link = filesystem.symlink(ROOT_INO, b"link", b"file", 0, 0, 5)
    assert {made.generation, directory.generation, link.generation} == {0x2345_6789}
    # The kernel knows the root without asking.
    assert filesystem.getattr(ROOT_INO).generation == 0
    filesystem.unmount(5)
    filesystem = Filesystem.mount(disk.medium, 6, nonce=7)
    assert filesystem.getattr(made.ino).generation == 0x2345_6789
    assert filesystem.create(ROOT_INO, b"more", REGULAR, 0, 0, 6).generation == 7


def test_generation_differs_by_time_and_by_checkpoint() -> None:
    disk = Disk(DEVICE_BYTES)
    seen: set[int] = set()
    for now_ns in (1, 2, 10**18, 10**18):
        filesystem = Filesystem.mount(disk.medium, now_ns)
        generation = filesystem.create(ROOT_INO, b"%d" % len(seen), REGULAR, 0, 0, 1).generation
        assert 0 <= generation <= GENERATION_MAX
        seen.add(generation)
        filesystem.unmount(now_ns)
    assert len(seen) == 4


def test_largest_data_version_stays_and_nobody_else_loses_anything() -> None:
    disk = Disk(DEVICE_BYTES)
    largest = (1 << 64) - 1
    cut = disk.make_file(b"cut", b"x" * 20_000)
    disk.sync()
    inode = disk.filesystem.core.inodes.get(cut)
    for version, expected in ((2**32 - 1, 2**32), (largest - 1, largest), (largest, largest)):
        inode.version = version
        disk.filesystem.core.inodes.mark_dirty(inode)
        disk.sync()
        disk.mount()
        inode = disk.filesystem.core.inodes.get(cut)
        assert inode.version == version
        disk.truncate(cut, inode.size - 1)
        other = disk.make_file(b"other %d" % version, b"somebody else's" * 1000)
        disk.sync()
        disk.mount()
        inode = disk.filesystem.core.inodes.get(cut)
        assert inode.version == expected
        assert disk.read(other) == b"somebody else's" * 1000
    disk.unmount()
    assert problems(disk.medium) == []
    with pytest.raises(FilesystemError):
        disk.filesystem.getattr(10**6)
