from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lfs.common.errors import DeviceError, UsageError
from lfs.device import file, writeback
from lfs.device.file import FileDevice, is_write_protected


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "device.img"
    path.write_bytes(bytes(65536))
    return path


def test_file_device_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot open .*none\.img: No such file or directory$"):
        FileDevice(tmp_path / "none.img")


@pytest.mark.parametrize("path", ["/", "/dev/null"])
def test_file_device_other_kinds_of_file_are_refused(path: str) -> None:
    with pytest.raises(UsageError, match="neither an image file nor a block device"):
        FileDevice(path)


def test_file_device_odd_size_is_rounded_down(image: Path) -> None:
    os.truncate(image, 65536 + 100)
    device = FileDevice(image)
    assert device.size_bytes == 65536
    device.close()


def test_file_device_writes_are_seen_by_the_next_open(image: Path) -> None:
    device = FileDevice(image)
    device.write(512, [b"a" * 512])
    device.flush()
    device.close()
    reader = FileDevice(image, read_only=True)
    assert reader.read(512, 512) == b"a" * 512
    reader.close()


def test_file_device_is_told_what_will_be_read(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, int]] = []
    whole = os.posix_fadvise

    def advise(descriptor: int, offset: int, length: int, advice: int) -> None:
        whole(descriptor, offset, length, advice)
        told.append((offset, length, advice))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    device = FileDevice(image)
    device.will_read(4096, 8192)
    assert told == [(4096, 8192, os.POSIX_FADV_WILLNEED)]
    # A hint is never an error, whatever a hostile image led to.
    for offset_bytes in (1 << 62, 1 << 70, -4096):
        device.will_read(offset_bytes, 4096)
    device.close()
    device.will_read(0, 4096)


def test_file_device_truncated_under_us_is_an_error(image: Path) -> None:
    device = FileDevice(image)
    os.truncate(image, 4096)
    with pytest.raises(DeviceError, match="device ends early at byte 4096") as caught:
        device.read(0, 8192)
    assert caught.value.errno == errno.EIO
    device.close()


def test_file_device_short_writes_are_continued(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwritev

    def short(descriptor: int, buffers: Sequence[bytes], offset: int) -> int:
        return whole(descriptor, [b"".join(buffers)[:700]], offset)

    device = FileDevice(image)
    data = os.urandom(8192)
    monkeypatch.setattr(os, "pwritev", short)
    device.write(1024, [data[:1000], b"", data[1000:1001], data[1001:]])
    assert device.read(1024, 8192) == data
    device.close()


@pytest.mark.parametrize(
    ("raised", "reported"),
    [
        (errno.ENOSPC, errno.ENOSPC),
        (errno.EDQUOT, errno.ENOSPC),
        (errno.EFBIG, errno.ENOSPC),
        (errno.ENXIO, errno.EIO),
    ],
)
def test_file_device_failed_write_tells_errno_and_place(
    image: Path, monkeypatch: pytest.MonkeyPatch, raised: int, reported: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(raised, os.strerror(raised))

    device = FileDevice(image)
    monkeypatch.setattr(os, "pwritev", fail)
    with pytest.raises(DeviceError, match=r"write failed .* at byte 512") as caught:
        device.write(512, [b"a" * 512])
    assert caught.value.errno == reported
    device.close()


def test_file_device_failed_flush_is_never_forgotten(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    device = FileDevice(image)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(DeviceError):
            device.flush()
    with pytest.raises(DeviceError):
        device.flush()
    device.close()


def test_file_device_flush_beside_one_that_fails_fails_too(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells one of two callers at once of an error, and the other of success."""
    device = FileDevice(image)
    told, over = threading.Event(), threading.Event()

    def sync(_: int) -> None:
        if not told.is_set():
            told.set()
            over.wait(0.2)
            raise OSError(errno.EIO, "broken")
        over.set()

    def flush() -> str:
        try:
            device.flush()
        except DeviceError as error:
            return str(error)
        return "done"

    monkeypatch.setattr(os, "fdatasync", sync)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flush)
        told.wait()
        second = pool.submit(flush)
    assert first.result() == second.result() == "flush failed (broken) at byte 0"
    assert not over.is_set()
    device.close()


@pytest.mark.parametrize(("code", "fails"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_file_device_error_while_a_write_begins_early_is_told_by_every_flush(
    image: Path, monkeypatch: pytest.MonkeyPatch, code: int, fails: bool
) -> None:
    def fail(*_: int) -> None:
        raise OSError(code, "broken")

    monkeypatch.setattr(writeback, "_sync_file_range", fail)
    os.truncate(image, 4 << 20)
    device = FileDevice(image)
    device.write(0, [bytes(2 << 20)])
    device._writeback.close()
    for _ in range(2):
        if fails:
            with pytest.raises(DeviceError, match="broken"):
                device.flush()
        else:
            device.flush()
    device.close()


def test_file_device_discard_gives_space_back(image: Path) -> None:
    image.write_bytes(b"a" * 65536)
    device = FileDevice(image)
    device.flush()
    before = image.stat().st_blocks
    device.discard(0, 32768)
    after = image.stat().st_blocks
    assert image.stat().st_size == 65536
    if after == before:
        pytest.skip("the filesystem of the test folder does not punch holes")
    assert device.read(0, 4096) == bytes(4096)
    device.close()


def test_file_device_becomes_writable(image: Path) -> None:
    device = FileDevice(image, read_only=True)
    # The same file, even if its name has gone to another.
    image.rename(image.with_name("moved"))
    image.write_bytes(b"other")
    device.make_writable()
    device.make_writable()
    device.write(0, [b"a" * 512])
    device.flush()
    device.close()
    assert image.read_bytes() == b"other"
    assert image.with_name("moved").read_bytes()[:512] == b"a" * 512


@pytest.mark.pure_core
def test_file_device_that_is_write_protected_stays_read_only(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FileDevice(image, read_only=True)
    monkeypatch.setattr(file, "is_write_protected", lambda _: True)
    with pytest.raises(UsageError, match="is write-protected"):
        device.make_writable()
    assert device.read_only
    assert device.read(0, 512) == bytes(512)
    device.close()


def test_write_protection_is_that_of_the_file_or_disk(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_write_protected(image)
    assert not is_write_protected(image.with_name("missing"))

    def access(path: Path, mode: int, **_: object) -> bool:
        return mode == os.R_OK

    monkeypatch.setattr(os, "access", access)
    assert is_write_protected(image)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    # Neither can it be read: that is another complaint.
    assert not is_write_protected(image)
