from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from lfs.device import writeback
from lfs.device.file import FileDevice
from lfs.device.writeback import PENDING_MAX, WRITEBACK_BYTES_MIN, Writeback
from tests.support.patience import HANG_SECONDS

MIB = 1 << 20


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_device_begins_to_write_what_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(writeback, "_sync_file_range", lambda fd, *where: begun.append(where))
    image = tmp_path / "image"
    image.write_bytes(bytes(8 * MIB))
    device = FileDevice(image)
    device.write(0, [bytes(WRITEBACK_BYTES_MIN - 512)])
    device.write(MIB, [bytes(MIB // 2)] * 3)
    device.write(4 * MIB, [bytes(WRITEBACK_BYTES_MIN)])
    device.close()
    assert begun == [(MIB, 3 * MIB // 2), (4 * MIB, WRITEBACK_BYTES_MIN)]


def test_device_made_writable_begins_to_write_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[os.stat_result] = []
    monkeypatch.setattr(
        writeback, "_sync_file_range", lambda fd, *where: begun.append(os.fstat(fd))
    )
    image = tmp_path / "image"
    image.write_bytes(bytes(4 * MIB))
    device = FileDevice(image, read_only=True)
    device.make_writable()
    device.write(0, [bytes(2 * MIB)])
    device.close()
    assert [os.path.samestat(one, image.stat()) for one in begun] == [True]


def test_writeback_that_blocks_holds_nobody_up(descriptor: int) -> None:
    may_go_on = threading.Event()
    begun: SimpleQueue[int] = SimpleQueue()

    def begin(_: int, offset_bytes: int, length_bytes: int) -> None:
        begun.put(offset_bytes)
        may_go_on.wait(HANG_SECONDS)

    slow = Writeback(descriptor, begin)
    slow.begin(0, 1)
    assert begun.get(timeout=HANG_SECONDS) == 0
    for number in range(1, 4 * PENDING_MAX):
        slow.begin(number, 1)
    may_go_on.set()
    slow.close()
    assert [begun.get() for _ in range(begun.qsize())] == list(range(1, PENDING_MAX + 1))


def test_writeback_opens_nothing_and_leaves_its_file_open(descriptor: int) -> None:
    before = open_descriptors()
    used: list[tuple[int, set[str]]] = []
    own = Writeback(
        descriptor,
        lambda used_descriptor, *where: used.append((used_descriptor, open_descriptors())),
    )
    own.begin(0, 1)
    own.close()
    assert used == [(descriptor, before)]
    assert open_descriptors() == before


def test_writeback_that_can_have_no_thread_is_left_to_the_flush(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    begun: list[int] = []
    own = Writeback(descriptor, lambda _, offset_bytes, length_bytes: begun.append(offset_bytes))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        own.begin(1, 1)
    own.begin(2, 1)
    own.close()
    assert begun == [2]


def test_writeback_begins_to_write_for_the_kernel(descriptor: int) -> None:
    os.write(descriptor, b"x" * MIB)
    writeback._sync_file_range(descriptor, 0, MIB)
    assert os.pread(descriptor, MIB, 0) == b"x" * MIB
