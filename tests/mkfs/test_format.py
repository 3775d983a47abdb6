from __future__ import annotations

from collections import Counter

import pytest

from fsck.check import check_device
from lfs.common.errors import FormatError
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Flush, RecordingDevice, crash_states
from lfs.filesystem import Filesystem
from lfs.geometry import choose_segment_bytes, plan, smallest_device_bytes
from lfs.ondisk import ROOT_INO
from mkfs.main import write_filesystem
from mkfs.signatures import find_signature
from tests.crash.states import medium_of, points, variants

TIB = 1 << 40


def _make(
    device: MemoryDevice | RecordingDevice,
    block_bytes: int,
    label: bytes = b"",
    created_ns: int = 0,
    discard: bool = True,
    filesystem_id: bytes = bytes(8),
) -> None:
    superblock = plan(
        device.size_bytes,
        block_bytes=block_bytes,
        segment_bytes=None,
        reserved_basis_points=500,
        uuid=label.ljust(16, b"\1"),
        label=label,
        hash_seed=bytes(16),
        created_ns=created_ns,
        filesystem_id=filesystem_id,
    )
    write_filesystem(device, superblock, discard)


def _mount(device: MemoryDevice) -> Filesystem:
    """Mount, as after a crash unless it was unmounted."""
    device.is_mounted = False
    return Filesystem.mount(device, 1, report=lambda line: None)


@pytest.mark.parametrize("block_bytes", [1024 << shift for shift in range(7)])
@pytest.mark.parametrize("device_bytes", [None, 1 << 30, TIB, 16 * TIB])
def test_format_any_size_can_be_mounted_and_written(
    block_bytes: int, device_bytes: int | None
) -> None:
    least_bytes = smallest_device_bytes(block_bytes, choose_segment_bytes(0, block_bytes))
    device = MemoryDevice(device_bytes or least_bytes)
    _make(device, block_bytes)
    filesystem = _mount(device)
    ino = filesystem.create(ROOT_INO, b"file", 0o100644, 0, 0, 2).ino
    filesystem.write(ino, 0, b"x" * 100_000, 3)
    filesystem.unmount(4)
    filesystem = _mount(device)
    assert filesystem.read(ino, 0, 200_000, 5) == b"x" * 100_000
    filesystem.unmount(6)


@pytest.mark.parametrize("clock_went_ns", [-(10**18), -1, 0, 10**9])
def test_format_with_the_uuid_of_the_old_one_does_not_find_its_log(clock_went_ns: int) -> None:
    device = MemoryDevice(16 << 20)
    _make(device, 4096, created_ns=10**18)
    filesystem = _mount(device)
    for number in range(50):
        ino = filesystem.create(ROOT_INO, b"%d" % number, 0o100644, 0, 0, 2).ino
        filesystem.write(ino, 0, bytes(100_000), 2)
        filesystem.sync(3)
    created_ns = 10**18 + clock_went_ns
    _make(device, 4096, created_ns=created_ns, discard=False, filesystem_id=b"another.")
    filesystem = _mount(device)
    assert list(filesystem.readdir(ROOT_INO)) == []
    filesystem.create(ROOT_INO, b"new", 0o100644, 0, 0, 4)
    filesystem.sync(5)
    assert [entry.name for entry in _mount(device).readdir(ROOT_INO)] == [b"new"]


def test_format_crash_leaves_the_new_filesystem_or_none() -> None:
    start = MemoryDevice(16 << 20)
    _make(start, 4096, b"old")
    recording = RecordingDevice(start.copy())
    _make(recording, 4096, b"new")
    wiped = recording.events.index(Flush())
    seen = set()
    for count, state in crash_states(start, recording.events):
        if count <= wiped:
            continue
        found = find_signature(state)
        seen.add(found)
        if found is None:
            with pytest.raises(FormatError):
                _mount(state)
        else:
            assert "new" in found
            _mount(state).unmount(2)
    assert seen == {None, "an lfs filesystem labelled 'new'"}


def test_format_crash_with_writes_lost_or_torn_leaves_the_new_filesystem_or_none() -> None:
    start = MemoryDevice(16 << 20)
    _make(start, 4096, b"old")
    recording = RecordingDevice(start.copy())
    _make(recording, 4096, b"new")
    wiped = recording.events.index(Flush())
    outcomes = Counter(
        _outcome(medium_of(point, variant))
        for point in points("format", start, recording.events)
        if point.event_count > wiped + 1
        for variant in variants(point)
    )
    assert outcomes.keys() == {"none", "new"}
    assert min(outcomes.values()) > 10


def _outcome(medium: MemoryDevice) -> str:
    """Return which filesystem is there; fails when it is not whole."""
    try:
        filesystem = _mount(medium)
    except FormatError:
        return "none"
    # The backup superblock comes first, and serves until the other one is there.
    problems = check_device(medium.copy(), data=True).problems
    assert {problem.code for problem in problems} <= {"superblock-primary"}
    assert list(filesystem.readdir(ROOT_INO)) == []
    return filesystem.superblock.label.decode()
