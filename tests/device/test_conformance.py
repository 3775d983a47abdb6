"""The contract of ``BlockDevice``, held against every class that claims it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfs.common.errors import DeviceError
from lfs.device.base import BlockDevice
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.file import FileDevice
from lfs.device.memory import MemoryDevice
from lfs.device.recording import RecordingDevice

SIZE_BYTES = 1 << 20


def _file_device(folder: Path) -> BlockDevice:
    path = folder / "device.img"
    with path.open("wb") as file:
        file.truncate(SIZE_BYTES)
    return FileDevice(path)


def _memory_device(_: Path) -> BlockDevice:
    return MemoryDevice(SIZE_BYTES)


def _recording_device(_: Path) -> BlockDevice:
    return RecordingDevice(MemoryDevice(SIZE_BYTES))


def _faulty(plan: str) -> Callable[[Path], BlockDevice]:
    """Return what makes a device whose plan shows in nothing that a caller may rely on."""

    def make(_: Path) -> BlockDevice:
        return FaultDevice(MemoryDevice(SIZE_BYTES), parse_plan(plan))

    return make


DEVICES = {
    "file": _file_device,
    "memory": _memory_device,
    "recording": _recording_device,
    "fault": _faulty(""),
    "fault-cache": _faulty("cache 8K; reorder 30%"),
    "fault-large-cache": _faulty("cache 1G"),
    "fault-delay": _faulty("delay 10ms 5ms 25% distribution normal; rate 100mbit; limit 4"),
    "fault-spinning": _faulty("seek 1ms 9ms rotation 8ms; slot 5ms; ignore-flush"),
    "fault-elsewhere": _faulty(
        "error EIO on write in 1T-; bad 1T+4K; stuck 9 in 1T-; misdirect 100% by 1G"
    ),
}


@pytest.fixture(params=list(DEVICES.values()), ids=list(DEVICES))
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockDevice]:
    make: Callable[[Path], BlockDevice] = request.param
    made = make(tmp_path)
    yield made
    made.close()


def test_device_new_reads_zeros(device: BlockDevice) -> None:
    assert device.size_bytes == SIZE_BYTES
    assert device.read(0, SIZE_BYTES) == bytes(SIZE_BYTES)


def test_device_read_returns_bytes_of_last_write(device: BlockDevice) -> None:
    device.write(4096, [b"a" * 4096])
    device.write(4608, [b"b" * 512])
    assert device.read(4096, 4096) == b"a" * 512 + b"b" * 512 + b"a" * 3072
    assert type(device.read(4096, 512)) is bytes


def test_device_write_of_many_buffers_is_contiguous(device: BlockDevice) -> None:
    # More than one pwritev takes, of lengths that cross pages; the sum is aligned.
    buffers = [bytes([index % 251]) * (100 + index % 7) for index in range(3000)]
    data = b"".join(buffers)
    padding = bytes(-len(data) % 512)
    device.write(512, [*buffers, padding])
    assert device.read(512, len(data) + len(padding)) == data + padding


def test_device_write_at_the_end_is_kept(device: BlockDevice) -> None:
    device.write(SIZE_BYTES - 512, [b"z" * 512])
    device.flush()
    assert device.read(SIZE_BYTES - 1024, 1024) == bytes(512) + b"z" * 512


def test_device_empty_requests_do_nothing(device: BlockDevice) -> None:
    device.write(0, [])
    device.write(SIZE_BYTES, [b""])
    device.discard(0, 0)
    assert device.read(SIZE_BYTES, 0) == b""


@pytest.mark.parametrize(
    ("offset_bytes", "length_bytes"),
    [(-512, 512), (SIZE_BYTES, 512), (SIZE_BYTES - 512, 1024), (1, 512), (0, 100)],
)
def test_device_request_outside_or_unaligned_is_refused(
    device: BlockDevice, offset_bytes: int, length_bytes: int
) -> None:
    for request in (
        lambda: device.read(offset_bytes, length_bytes),
        lambda: device.write(offset_bytes, [bytes(length_bytes)]),
        lambda: device.discard(offset_bytes, length_bytes),
    ):
        with pytest.raises(DeviceError) as caught:
            request()
        assert caught.value.errno == errno.EINVAL
        assert caught.value.offset_bytes == offset_bytes
        assert f"byte {offset_bytes}" in str(caught.value)
    assert device.read(0, SIZE_BYTES) == bytes(SIZE_BYTES)


def test_device_read_only_refuses_writes(device: BlockDevice) -> None:
    inner = device.device if isinstance(device, RecordingDevice | FaultDevice) else device
    inner.read_only = device.read_only = True
    with pytest.raises(DeviceError) as caught:
        device.write(0, [b"a" * 512])
    assert caught.value.errno == errno.EROFS
    with pytest.raises(DeviceError):
        device.discard(0, 4096)
    device.flush()
    assert device.read(0, 512) == bytes(512)


def test_device_discard_leaves_the_rest(device: BlockDevice) -> None:
    device.write(0, [b"a" * 65536])
    device.discard(8192, 16384)
    assert device.read(0, 8192) == b"a" * 8192
    assert device.read(24576, 40960) == b"a" * 40960
    assert device.size_bytes == SIZE_BYTES


def test_device_close_twice_is_allowed(device: BlockDevice) -> None:
    device.close()
    device.close()


@given(
    st.lists(
        st.tuples(st.integers(0, 63), st.lists(st.binary(min_size=1, max_size=5000), max_size=4)),
        max_size=20,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_device_any_writes_match_a_byte_array(
    device: BlockDevice, writes: list[tuple[int, list[bytes]]]
) -> None:
    model = bytearray(device.read(0, SIZE_BYTES))
    for sector, buffers in writes:
        length = sum(map(len, buffers))
        padded = [*buffers, bytes(-length % 512)]
        device.write(sector * 512, padded)
        model[sector * 512 : sector * 512 + length + len(padded[-1])] = b"".join(padded)
    assert device.read(0, SIZE_BYTES) == model
