"""What a user writes through a mount is never taken for the log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lfs.commit.fixed_places import read_superblock
from lfs.control.extents import read_extents
from lfs.device.base import BlockDevice
from lfs.device.memory import MemoryDevice
from tests.support.mounting import MountedImage, run
from tests.system.test_forged_log import forged

pytestmark = pytest.mark.fuse

CHUNK_BLOCKS = 256
CHUNKS_MAX = 40


def _forge(file: Path, device: BlockDevice) -> list[int]:
    """Write log writes where they say that they are, at the first block of a segment too.

    Each chunk foresees its place from the two before; returns where it was right.
    """
    superblock = read_superblock(device)
    size = superblock.block_bytes
    guess = [1] * CHUNK_BLOCKS
    placed: list[int] = []
    layouts: list[list[int]] = []
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    for chunk in range(CHUNKS_MAX):
        data = b"".join(forged(device, address) for address in guess)
        os.pwrite(descriptor, data, chunk * CHUNK_BLOCKS * size)
        os.fsync(descriptor)
        found = _addresses(file)[chunk * CHUNK_BLOCKS :]
        placed += [right for right, guessed in zip(found, guess, strict=True) if right == guessed]
        first_blocks = [
            address
            for address in placed
            if (address - superblock.first_segment_block) % superblock.segment_blocks == 0
        ]
        if first_blocks and chunk > 2:
            break
        layouts.append(found)
        shift = found[0] - layouts[-2][0] if chunk else CHUNK_BLOCKS
        guess = [max(1, address + shift) for address in found]
    os.close(descriptor)
    return placed


def _addresses(file: Path) -> list[int]:
    """Return the address of each block of a file."""
    return [
        at
        for _, address, blocks in read_extents(str(file))
        for at in range(address, address + blocks)
    ]


def test_forged_log_by_a_user_does_no_harm(image: Path, mount: Callable[..., MountedImage]) -> None:
    # What anybody may know of it: the daemon lets nobody open the image itself.
    known = MemoryDevice(image.stat().st_size)
    known.write(0, [image.read_bytes()])
    mounted = mount(image)
    (mounted.path / "other").write_bytes(b"somebody else's")
    placed = _forge(mounted.path / "mine", known)
    assert len(placed) > CHUNK_BLOCKS // 2
    content = (mounted.path / "mine").read_bytes()
    assert content.count(b"LSUM") > len(placed)
    mounted.stop()
    for arguments in ((), ("-o", "ro")):
        again = mount(image, *arguments)
        assert (again.path / "mine").read_bytes() == content
        assert (again.path / "other").read_bytes() == b"somebody else's"
        again.stop()
    checked = run("fsck.main", "-f", image)
    assert checked.returncode == 0, checked.stdout
