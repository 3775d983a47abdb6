"""Any bytes of a device, also while others write."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.errors import DeviceError
from lfs.device.base import Buffer
from lfs.device.memory import MemoryDevice
from lfs.device.recording import RecordingDevice, Write
from lfs.device.unaligned import ByteAccess
from tests.support.patience import HANG_SECONDS

SIZE_BYTES = 4096


@given(
    st.lists(
        st.tuples(st.integers(0, SIZE_BYTES), st.binary(min_size=1, max_size=2000)), max_size=8
    )
)
def test_bytes_written_anywhere_are_read_back(writes: list[tuple[int, bytes]]) -> None:
    access = ByteAccess(MemoryDevice(SIZE_BYTES))
    model = bytearray(SIZE_BYTES)
    for offset_bytes, data in writes:
        data = data[: SIZE_BYTES - offset_bytes]
        access.write(offset_bytes, data)
        model[offset_bytes : offset_bytes + len(data)] = data
        assert access.read(offset_bytes, len(data)) == data
    assert access.read(0, SIZE_BYTES) == model


def test_bytes_unaligned_write_is_one_write_of_whole_sectors() -> None:
    device = RecordingDevice(MemoryDevice(SIZE_BYTES))
    ByteAccess(device).write(500, b"x" * 600)
    assert device.events == [Write(0, bytes(500) + b"x" * 600 + bytes(436))]
    assert device.read_bytes == 1024


def test_bytes_aligned_write_reads_nothing() -> None:
    device = RecordingDevice(MemoryDevice(SIZE_BYTES))
    ByteAccess(device).write(512, b"x" * 1024)
    assert device.read_count == 0


def test_bytes_outside_the_device_are_refused() -> None:
    access = ByteAccess(MemoryDevice(SIZE_BYTES))
    for offset_bytes, length_bytes in ((SIZE_BYTES - 10, 11), (SIZE_BYTES, 1)):
        with pytest.raises(DeviceError) as read:
            access.read(offset_bytes, length_bytes)
        with pytest.raises(DeviceError) as written:
            access.write(offset_bytes, bytes(length_bytes))
        assert read.value.errno == written.value.errno == errno.EINVAL


class _HeldDevice(MemoryDevice):
    """A device whose first write waits until ``go``."""

    def __init__(self) -> None:
        super().__init__(SIZE_BYTES)
        self.began, self.go = threading.Event(), threading.Event()

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        first = not self.began.is_set()
        self.began.set()
        if first:
            self.go.wait(HANG_SECONDS)
        super().write(offset_bytes, buffers)


def test_bytes_of_others_in_the_same_sector_are_kept() -> None:
    device = _HeldDevice()
    access = ByteAccess(device)
    # The first has read the sector and is about to write it back, when the others come.
    threads = [
        threading.Thread(target=access.write, args=(place, text))
        for place, text in ((0, b"a"), (100, b"b"), (512, b"c" * 512))
    ]
    threads[0].start()
    assert device.began.wait(HANG_SECONDS)
    for thread in threads[1:]:
        thread.start()
    device.go.set()
    for thread in threads:
        thread.join()
    assert access.read(0, 101) == b"a" + bytes(99) + b"b"
    assert access.read(512, 512) == b"c" * 512


def test_bytes_whole_sectors_are_written_side_by_side() -> None:
    device = _HeldDevice()
    access = ByteAccess(device)
    held = threading.Thread(target=access.write, args=(0, b"a" * 512))
    held.start()
    assert device.began.wait(HANG_SECONDS)
    access.write(512, b"b" * 512)
    assert held.is_alive()
    device.go.set()
    held.join()
    assert access.read(0, 1024) == b"a" * 512 + b"b" * 512
