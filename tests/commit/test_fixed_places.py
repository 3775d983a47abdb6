"""Superblocks: either serves, a lost one comes back, and the copy follows a device that grows."""

from __future__ import annotations

import errno
import tracemalloc
from collections.abc import Callable, Sequence

import pytest

from fsck.check import check_device
from lfs.commit.fixed_places import read_superblock
from lfs.common.errors import DeviceError, FormatError
from lfs.device.base import Buffer
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Flush, RecordingDevice, Write, crash_states
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import (
    ROOT_INO,
    SEGMENT_COUNT_MAX,
    SUPERBLOCK_OFFSET_BYTES,
    Superblock,
    backup_superblock_offset_bytes,
)
from tests.crash.states import medium_of, points, variants
from tests.support.disks import REGULAR
from tests.support.volumes import format_small, superblock

SIZE_BYTES = 16 << 20
GROWN_BYTES = 24 << 20
COPY = backup_superblock_offset_bytes(SIZE_BYTES)
GROWN_COPY = backup_superblock_offset_bytes(GROWN_BYTES)
BOTH = (SUPERBLOCK_OFFSET_BYTES, COPY)
each_place = pytest.mark.parametrize("place", BOTH)


@pytest.fixture
def disk() -> MemoryDevice:
    device = MemoryDevice(SIZE_BYTES)
    format_small(device, 4096, 64)
    filesystem = Filesystem.mount(device, 1)
    filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1)
    filesystem.unmount(1)
    return device


def _grown(device: MemoryDevice, size_bytes: int = GROWN_BYTES) -> MemoryDevice:
    """Return a device of another size with the same bytes."""
    grown = MemoryDevice(size_bytes)
    for index, page in device.differing_pages(MemoryDevice(device.size_bytes)):
        if (index + 1) * 4096 <= size_bytes:
            grown.write(index * 4096, [page])
    return grown


def _names(device: MemoryDevice, read_only: bool = False) -> tuple[list[bytes], list[str]]:
    """Mount and unmount; return the names in the root and the lines reported."""
    lines: list[str] = []
    filesystem = Filesystem.mount(device, 2, Options(read_only=read_only), lines.append)
    names = [entry.name for entry in filesystem.readdir(ROOT_INO)]
    filesystem.unmount(3)
    return names, lines


def _at(device: MemoryDevice, place: int) -> Superblock:
    return Superblock.unpack(device.read(place, 512), place)


@each_place
@pytest.mark.parametrize("garbage", [b"\0", b"\xff", b"lfs-disk"])
def test_lost_superblock_is_told_and_comes_back(
    disk: MemoryDevice, place: int, garbage: bytes
) -> None:
    expected = _at(disk, place)
    disk.write(place, [garbage * (4096 // len(garbage))])
    report = check_device(disk)
    assert report.is_clean
    assert [f"at byte {place}" in line for line in report.mendable] == [True]
    before = disk.copy()
    names, lines = _names(disk, read_only=True)
    assert names == [b"file"]
    assert f"the superblock at byte {place} is lost" in lines[0]
    assert not [*disk.differing_pages(before)], "a read-only mount writes nothing"
    names, lines = _names(disk)
    assert names == [b"file"]
    assert f"the superblock at byte {place} was lost" in lines[0]
    assert len(lines) == 1
    assert _at(disk, place) == expected
    assert check_device(disk).mendable == []
    assert _names(disk) == ([b"file"], [])


@each_place
def test_superblock_of_a_lower_generation_is_written_anew(disk: MemoryDevice, place: int) -> None:
    newer = _at(disk, place).replaced(label=b"newer", generation=7)
    disk.write(place, [newer.pack()])
    _, lines = _names(disk)
    assert len(lines) == 1
    for other in BOTH:
        assert _at(disk, other) == newer.at(other)


@each_place
def test_crash_while_a_superblock_is_renewed_leaves_one(disk: MemoryDevice, place: int) -> None:
    disk.write(place, [b"\xff" * 4096])
    recording = RecordingDevice(disk.copy())
    Filesystem.mount(recording, 2)
    for point in points("renew", disk, recording.events):
        for variant in variants(point):
            medium = medium_of(point, variant)
            assert _names(medium)[0] == [b"file"]
            assert {_at(medium, other).label for other in BOTH} == {b"test"}


def test_superblock_that_can_t_be_written_is_told_and_holds_up_nothing(disk: MemoryDevice) -> None:
    class Bad(RecordingDevice):
        def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
            if offset_bytes == COPY:
                raise DeviceError(errno.EIO, "write failed", offset_bytes)
            super().write(offset_bytes, buffers)

    disk.write(COPY, [bytes(4096)])
    lines: list[str] = []
    filesystem = Filesystem.mount(Bad(disk), 2, report=lines.append)
    assert "can't be written" in lines[0]
    filesystem.create(ROOT_INO, b"more", REGULAR, 0, 0, 2)
    filesystem.unmount(3)
    assert set(_names(disk)[0]) == {b"file", b"more"}


# -------------------------------------------------------------------- other sizes


def test_copy_follows_a_device_that_grows(disk: MemoryDevice) -> None:
    grown = _grown(disk)
    report = check_device(grown)
    assert report.is_clean
    assert report.mendable == []
    assert _names(grown, read_only=True) == ([b"file"], [])
    names, lines = _names(grown)
    assert names == [b"file"]
    assert not any("lost" in line for line in lines)
    assert _at(grown, SUPERBLOCK_OFFSET_BYTES).copy_offset_bytes == GROWN_COPY
    assert _at(grown, GROWN_COPY) == _at(grown, SUPERBLOCK_OFFSET_BYTES).at(GROWN_COPY)
    assert _names(grown) == ([b"file"], [])
    assert check_device(grown).mendable == []
    grown.write(SUPERBLOCK_OFFSET_BYTES, [bytes(4096)])
    assert _names(grown)[0] == [b"file"]


def test_crash_while_the_copy_follows_leaves_one(disk: MemoryDevice) -> None:
    grown = _grown(disk)
    recording = RecordingDevice(grown.copy())
    Filesystem.mount(recording, 2)
    places = [
        event.offset_bytes if isinstance(event, Write) else "flush"
        for event in recording.events
        if isinstance(event, Flush)
        or (isinstance(event, Write) and event.offset_bytes in (GROWN_COPY, *BOTH))
    ]
    order = [place for place in places if place != "flush"]
    assert order == [GROWN_COPY, SUPERBLOCK_OFFSET_BYTES]
    between = places[places.index(GROWN_COPY) : places.index(SUPERBLOCK_OFFSET_BYTES)]
    assert "flush" in between, "the two are never in flight together"
    for _, medium in crash_states(grown, recording.events):
        for lost in (None, SUPERBLOCK_OFFSET_BYTES):
            state = medium.copy()
            if lost is not None and not _has(state, GROWN_COPY):
                continue
            if lost is not None:
                state.write(lost, [bytes(4096)])
            assert _names(state)[0] == [b"file"]
            assert _at(state, GROWN_COPY) == _at(state, SUPERBLOCK_OFFSET_BYTES).at(GROWN_COPY)


def _has(device: MemoryDevice, place: int) -> bool:
    return device.read(place, 512).startswith(b"lfs-disk")


def test_what_was_appended_to_an_image_stays(disk: MemoryDevice) -> None:
    grown = _grown(disk)
    grown.write(GROWN_COPY, [b"somebody else's".ljust(4096, b"\0")])
    assert _names(grown) == ([b"file"], [])
    assert grown.read(GROWN_COPY, 512).startswith(b"somebody else's")
    grown.write(COPY, [bytes(4096)])
    assert "was lost" in _names(grown)[1][0]
    assert _at(grown, COPY) == _at(grown, SUPERBLOCK_OFFSET_BYTES).at(COPY)


def test_first_superblock_lost_on_a_grown_device_says_what_helps(disk: MemoryDevice) -> None:
    grown = _grown(disk)
    grown.write(SUPERBLOCK_OFFSET_BYTES, [bytes(4096)])
    for use in (_names, check_device):
        with pytest.raises(FormatError, match=r"has grown, make it as long as it was \(truncate"):
            use(grown)
    again = _grown(grown, SIZE_BYTES)
    assert _names(again)[0] == [b"file"]


def _damaged(device: MemoryDevice, place: int) -> None:
    raw = bytearray(device.read(place, 4096))
    raw[100] ^= 1
    device.write(place, [bytes(raw)])


def _impossible(device: MemoryDevice, place: int) -> None:
    layout = _at(device, place).replaced(segment_blocks=1)
    device.write(place, [layout.pack().ljust(4096, b"\0")])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(_damaged, "superblock checksum at"), (_impossible, "62 segments of 1 blocks of 4096 bytes")],
)
@pytest.mark.parametrize("on_copy", [True, False])
def test_only_what_can_have_grown_is_said_to(
    disk: MemoryDevice, damage: Callable[[MemoryDevice, int], None], reason: str, on_copy: bool
) -> None:
    """The copy is where it belongs, or the first was made as it is: neither was left behind."""
    damage(disk, SUPERBLOCK_OFFSET_BYTES)
    disk.write(COPY, [bytes(4096)])
    if on_copy:
        disk.write(SUPERBLOCK_OFFSET_BYTES, [bytes(4096)])
        disk.write(COPY, [Superblock.pack(superblock(SIZE_BYTES, 4096, 64).at(COPY)) + bytes(3584)])
        damage(disk, COPY)
    may_have_grown = damage is _damaged and not on_copy
    for use in (_names, check_device):
        with pytest.raises(FormatError) as caught:
            use(disk)
        assert ("has grown" in str(caught.value)) is may_have_grown
        assert may_have_grown or reason in str(caught.value)


def test_count_of_segments_is_held_against_the_device_before_it_is_allocated_for(
    disk: MemoryDevice,
) -> None:
    layout = _at(disk, SUPERBLOCK_OFFSET_BYTES)
    layout = layout.replaced(segment_count=SEGMENT_COUNT_MAX)
    end_block = layout.end_block
    layout = layout.replaced(device_blocks=end_block + 1, copy_offset_bytes=end_block * 4096)
    disk.write(SUPERBLOCK_OFFSET_BYTES, [layout.pack().ljust(4096, b"\0")])
    tracemalloc.start()
    try:
        for use in (_names, check_device):
            with pytest.raises(FormatError, match="truncated: the filesystem"):
                use(disk)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_device_that_grew_and_shrank_again_is_whole(disk: MemoryDevice) -> None:
    grown = _grown(disk)
    _names(grown)
    shrunk = _grown(grown, SIZE_BYTES)
    assert check_device(shrunk).is_clean
    assert _names(shrunk)[0] == [b"file"]
    assert _at(shrunk, COPY) == _at(shrunk, SUPERBLOCK_OFFSET_BYTES).at(COPY)
    assert check_device(shrunk).mendable == []


def test_something_else_gets_no_advice_about_superblocks() -> None:
    with pytest.raises(FormatError, match="not an lfs filesystem"):
        read_superblock(MemoryDevice(SIZE_BYTES))


# ------------------------------------------------------------------------ sectors


class LargeSectors(MemoryDevice):
    """A disk that reads and writes whole sectors of 4 KiB only."""

    align_bytes = 4096


@pytest.mark.parametrize("block_bytes", [4096, 65536])
def test_disk_with_large_sectors_is_written_in_whole_ones(block_bytes: int) -> None:
    device = LargeSectors(192 << 20)
    format_small(device, block_bytes, 64)
    device.write(backup_superblock_offset_bytes(device.size_bytes), [bytes(4096)])
    filesystem = Filesystem.mount(device, 1)
    ino = filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1).ino
    filesystem.write(ino, 0, b"x" * 100_000, 1)
    filesystem.sync(1)
    device.is_mounted = False
    filesystem = Filesystem.mount(device, 2)
    assert filesystem.read(ino, 0, 100_000, 2) == b"x" * 100_000
    filesystem.unmount(3)
    report = check_device(device)
    assert (report.problems, report.mendable) == ([], [])


def test_superblock_says_where_its_copy_is() -> None:
    assert superblock(SIZE_BYTES, 4096, 64).copy_offset_bytes == COPY
