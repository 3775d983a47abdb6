"""Holes of an image file are filled ahead of commits, and of nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfs.device import holes
from lfs.device.file import FileDevice

MIB = 1 << 20
SIZE_BYTES = 8 * MIB
COMMIT_BYTES = 8192
PIECE_BYTES = 64 << 10


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "sparse.img"
    with path.open("wb") as file:
        file.truncate(SIZE_BYTES)
    if path.stat().st_blocks:
        pytest.skip("the filesystem of the test folder has no holes")
    return path


@pytest.fixture
def device(image: Path) -> Iterator[FileDevice]:
    made = FileDevice(image)
    yield made
    made.close()


def allocated_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def commit(device: FileDevice, offset_bytes: int, count: int) -> int:
    """Write and flush ``count`` times in a row; return where the next would go."""
    for _ in range(count):
        device.write(offset_bytes, [b"c" * COMMIT_BYTES])
        device.flush()
        offset_bytes += COMMIT_BYTES
    return offset_bytes


def test_holes_behind_commits_are_filled_with_zeros(device: FileDevice, image: Path) -> None:
    end = commit(device, MIB, 1)
    assert allocated_bytes(image) < PIECE_BYTES // 2
    end = commit(device, end, 1)
    assert PIECE_BYTES <= allocated_bytes(image) < 2 * PIECE_BYTES
    assert device.read(0, SIZE_BYTES) == (bytes(MIB) + b"c" * (end - MIB) + bytes(SIZE_BYTES - end))
    # Most of those that follow find their blocks there, and none has to fill much.
    allocations = []
    for _ in range(200):
        before = allocated_bytes(image)
        end = commit(device, end, 1)
        allocations.append(allocated_bytes(image) - before)
    assert sum(1 for grown in allocations if grown) <= 200 * COMMIT_BYTES // PIECE_BYTES + 1
    assert max(allocations) <= PIECE_BYTES
    assert end - MIB <= allocated_bytes(image) <= end - MIB + 2 * PIECE_BYTES


def test_no_commit_after_the_second_reaches_into_a_hole(device: FileDevice) -> None:
    """However long it is: a piece is filled before the one before is used up."""
    length_bytes = 3 * 4096
    offset_bytes = MIB
    for number in range(100):
        assert number < 2 or device.is_stored(offset_bytes, length_bytes), number
        device.write(offset_bytes, [b"c" * length_bytes])
        device.flush()
        offset_bytes += length_bytes


def test_holes_are_filled_up_to_what_follows_them(device: FileDevice, image: Path) -> None:
    device.write(MIB, [b"d" * MIB])
    end = commit(device, MIB - PIECE_BYTES // 2, 2)
    assert device.read(end, MIB // 2) == bytes(MIB - end) + b"d" * (end - MIB // 2)
    assert MIB + PIECE_BYTES // 2 <= allocated_bytes(image) < MIB + PIECE_BYTES


def test_holes_that_do_not_read_as_zeros_are_left_alone(
    device: FileDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.write(MIB, [b"d" * MIB])

    def mistaken(_: int, position: int, how: int) -> int:
        return SIZE_BYTES if how == os.SEEK_DATA else position

    monkeypatch.setattr(os, "lseek", mistaken)
    end = commit(device, MIB // 2, 3)
    assert device.read(end, 2 * MIB - end) == bytes(MIB - end) + b"d" * MIB


@pytest.mark.parametrize(
    ("length_bytes", "gap_bytes", "flushes"),
    [(MIB // 4, 0, True), (COMMIT_BYTES, 4096, True), (COMMIT_BYTES, 0, False)],
    ids=["large", "scattered", "not flushed"],
)
def test_holes_behind_other_writes_stay(
    device: FileDevice, image: Path, length_bytes: int, gap_bytes: int, flushes: bool
) -> None:
    offset_bytes = MIB
    for _ in range(4):
        device.write(offset_bytes, [b"w" * length_bytes])
        if flushes:
            device.flush()
        offset_bytes += length_bytes + gap_bytes
    device.flush()
    assert allocated_bytes(image) <= 4 * length_bytes + MIB // 4


def test_holes_made_by_discard_are_filled_again(device: FileDevice, image: Path) -> None:
    end = commit(device, MIB, 2)
    device.discard(end, 4 * MIB)
    if allocated_bytes(image) > PIECE_BYTES // 2:
        pytest.skip("the filesystem of the test folder does not punch holes")
    commit(device, end, 1)
    assert allocated_bytes(image) > PIECE_BYTES


def test_holes_at_the_end_do_not_make_the_image_longer(device: FileDevice, image: Path) -> None:
    end = commit(device, SIZE_BYTES - PIECE_BYTES // 2, 2)
    assert allocated_bytes(image) >= PIECE_BYTES // 2
    commit(device, end, (SIZE_BYTES - end) // COMMIT_BYTES)
    assert image.stat().st_size == SIZE_BYTES
    # Filling goes on elsewhere.
    commit(device, MIB, 2)
    assert allocated_bytes(image) > PIECE_BYTES


def test_holes_stay_when_the_host_has_little_room(
    device: FileDevice, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available_blocks = (holes._HOST_ROOM_BYTES >> 12) - 1
    host = os.statvfs_result((4096, 4096, 1 << 30, 1 << 30, available_blocks, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: host)
    commit(device, MIB, 20)
    assert allocated_bytes(image) < 3 * PIECE_BYTES


def test_holes_that_cannot_be_filled_fail_no_write(
    device: FileDevice, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "pwrite", full)
    end = commit(device, MIB, 20)
    assert device.read(MIB, end - MIB) == b"c" * (end - MIB)
    assert allocated_bytes(image) < MIB // 2


def test_holes_that_the_host_does_not_tell_stay(
    device: FileDevice, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(errno.EINVAL, "no holes here")

    monkeypatch.setattr(os, "lseek", unsupported)
    commit(device, MIB, 20)
    assert allocated_bytes(image) < MIB // 2
