from __future__ import annotations

import pytest

from lfs.common.errors import DeviceError
from lfs.device.memory import MemoryDevice
from lfs.device.recording import (
    Discard,
    Flush,
    Mark,
    RecordingDevice,
    Write,
    crash_states,
    replay,
)


def _recorded() -> RecordingDevice:
    device = RecordingDevice(MemoryDevice(65536))
    device.write(0, [b"a" * 4096, b"b" * 512])
    device.flush()
    device.mark("synced")
    device.write(0, [b"c" * 512])
    device.discard(4096, 4096)
    return device


def test_recording_events_are_in_order() -> None:
    assert _recorded().events == [
        Write(0, b"a" * 4096 + b"b" * 512),
        Flush(),
        Mark("synced"),
        Write(0, b"c" * 512),
        Discard(4096, 4096),
    ]


def test_recording_counts_requests_and_bytes() -> None:
    device = _recorded()
    device.read(0, 1024)
    assert (device.read_count, device.read_bytes) == (1, 1024)
    assert (device.write_count, device.written_bytes) == (2, 5120)
    assert (device.flush_count, device.discarded_bytes) == (1, 4096)
    device.reset_counters()
    assert device.written_bytes == 0
    assert len(device.events) == 5


def test_recording_refused_request_is_no_event() -> None:
    device = RecordingDevice(MemoryDevice(4096))
    with pytest.raises(DeviceError):
        device.write(4096, [bytes(512)])
    assert device.events == []
    assert device.write_count == 1


def test_recording_replay_of_all_events_gives_the_same_medium() -> None:
    device = _recorded()
    copy = MemoryDevice(65536)
    replay(device.events, copy)
    assert copy.read(0, 65536) == device.read(0, 65536)


def test_recording_crash_states_are_all_prefixes_and_independent() -> None:
    device = _recorded()
    seen = []
    for count, state in crash_states(MemoryDevice(65536), device.events):
        expected = MemoryDevice(65536)
        replay(device.events[:count], expected)
        assert state.read(0, 65536) == expected.read(0, 65536)
        state.write(0, [b"x" * 65536])
        seen.append(count)
    assert seen == [0, 1, 4, 5]
