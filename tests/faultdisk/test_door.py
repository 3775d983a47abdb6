"""The FUSE door, really mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from lfs.device.file import FileDevice
from lfs.kernel.mountpoint import find_mount, unmount
from tests.faultdisk.conftest import Serve
from tests.faultdisk.daemons import ServedDisk
from tests.support.mounting import WAIT_SECONDS, environment, wait_until

pytestmark = pytest.mark.fuse

SIZE_BYTES = 8 << 20


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_door_shows_one_file_of_the_right_size(serve: Serve) -> None:
    served = serve()
    assert os.listdir(served.place) == ["disk"]
    assert served.disk.stat().st_size == SIZE_BYTES
    assert served.disk.stat().st_mode & 0o7777 == 0o600


def test_door_any_alignment_is_written_and_read(serve: Serve, image: Path) -> None:
    served = serve()
    model = bytearray(SIZE_BYTES)
    with opened(served.disk) as disk:
        for offset, length in ((0, 512), (1, 1), (511, 2), (1000, 5000), (4096, 1 << 20), (700, 9)):
            data = os.urandom(length)
            assert os.pwrite(disk, data, offset) == length
            model[offset : offset + length] = data
            assert os.pread(disk, length, offset) == data
        assert os.pread(disk, SIZE_BYTES, 0) == model
    served.stop()
    assert image.read_bytes() == model


def test_door_end_of_the_disk_is_that_of_a_block_device(serve: Serve) -> None:
    with opened(serve().disk) as disk:
        assert os.pwrite(disk, b"x" * 100, SIZE_BYTES - 10) == 10
        assert os.pread(disk, 100, SIZE_BYTES - 10) == b"x" * 10
        assert os.pread(disk, 100, SIZE_BYTES) == b""
        with pytest.raises(OSError, match="No space left") as caught:
            os.pwrite(disk, b"x", SIZE_BYTES)
        assert caught.value.errno == errno.ENOSPC
        assert os.fstat(disk).st_size == SIZE_BYTES


def test_door_fsync_flushes(serve: Serve) -> None:
    served = serve("cache", "1M")
    with opened(served.disk) as disk:
        os.pwrite(disk, b"x" * 4096, 0)
        assert served.ask("show")["cached_writes"] == 1
        os.fsync(disk)
        assert served.ask("show")["cached_writes"] == 0
        os.fdatasync(disk)
    assert served.ask("stats")["operations"]["flush"]["count"] == 2


def test_door_caches_nothing(serve: Serve) -> None:
    served = serve()
    with opened(served.disk) as disk:
        for _ in range(3):
            os.pread(disk, 512, 0)
    assert served.ask("stats")["operations"]["read"]["count"] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda disk: disk.unlink(),
        lambda disk: disk.rename(disk.with_name("other")),
        lambda disk: disk.with_name("other").touch(),
        lambda disk: disk.with_name("other").mkdir(),
        lambda disk: disk.with_name("other").symlink_to("disk"),
        lambda disk: disk.with_name("other").hardlink_to(disk),
        lambda disk: os.mkfifo(disk.with_name("other")),
        lambda disk: disk.parent.joinpath("disk").chmod(0o777),
        lambda disk: os.chown(disk, 1, 1),
        lambda disk: os.truncate(disk, 0),
        lambda disk: os.truncate(disk, SIZE_BYTES * 2),
        lambda disk: disk.write_bytes(b"truncates it first"),
    ],
)
def test_door_change_of_the_directory_is_refused(
    serve: Serve, change: Callable[[Path], object]
) -> None:
    served = serve()
    with pytest.raises(PermissionError):
        change(served.disk)
    assert os.listdir(served.place) == ["disk"]
    assert served.disk.stat().st_size == SIZE_BYTES
    os.truncate(served.disk, SIZE_BYTES)


def test_door_punching_holes_is_not_supported(serve: Serve) -> None:
    disk = str(serve().disk)
    punch = ["fallocate", "--punch-hole", "--offset", "0", "--length", "4096", disk]
    done = subprocess.run(punch, capture_output=True, text=True, check=False)
    assert done.returncode
    # Its words for EOPNOTSUPP.
    assert "unsupported" in done.stderr


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "ETIMEDOUT", "EREMOTEIO"])
def test_door_errors_come_through(serve: Serve, name: str) -> None:
    code = getattr(errno, name)
    served = serve("error", name)
    with opened(served.disk) as disk:
        for request in (
            lambda: os.pread(disk, 512, 0),
            lambda: os.pwrite(disk, bytes(512), 0),
            lambda: os.pwrite(disk, b"x", 0),
            lambda: os.fsync(disk),
        ):
            with pytest.raises(OSError, match=os.strerror(code)) as caught:
                request()
            assert caught.value.errno == code
        served.plan("")
        assert os.pread(disk, 512, 0) == bytes(512)


def test_door_read_only_refuses_changes(serve: Serve) -> None:
    served = serve("--read-only")
    with pytest.raises(OSError, match="Read-only file system") as caught:
        os.open(served.disk, os.O_RDWR)
    assert caught.value.errno == errno.EROFS
    with opened(served.disk, os.O_RDONLY) as disk:
        assert os.pread(disk, 512, 0) == bytes(512)


_BARRIER_SERVER = """
import sys, threading
from lfs.device.memory import MemoryDevice
from faultdisk.fuse.disk import DiskSession

class Together(MemoryDevice):
    \"\"\"Reads return only when COUNT of them are here.\"\"\"
    barrier = threading.Barrier(int(sys.argv[2]))

    def read(self, offset_bytes, length_bytes):
        self.barrier.wait(300)
        return super().read(offset_bytes, length_bytes)

session = DiskSession(Together(1 << 20), sys.argv[1], "together", "faultdisk")
session.serve(lambda: print("ready", flush=True), Together.barrier.abort)
"""


def test_door_requests_overlap(tmp_path: Path) -> None:
    count = 48
    place = tmp_path / "door"
    place.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-c", _BARRIER_SERVER, str(place), str(count)],
        env=environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        with opened(place / "disk", os.O_RDONLY) as disk, ThreadPoolExecutor(count) as pool:
            # Each waits for all others: one after the other they would never end.
            reads = [pool.submit(os.pread, disk, 512, 512 * index) for index in range(count)]
            assert [read.result() for read in reads] == [bytes(512)] * count
        unmount(str(place))
        assert server.wait(WAIT_SECONDS) == 0
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
        if find_mount(str(place)) is not None:
            unmount(str(place), lazily=True)


def _by_umount(served: ServedDisk) -> None:
    subprocess.run(["umount", served.place], check=True)


def _by_fusermount(served: ServedDisk) -> None:
    subprocess.run(["fusermount3", "-u", served.place], check=True)


def _by_term(served: ServedDisk) -> None:
    served.process.send_signal(signal.SIGTERM)


def _by_interrupt(served: ServedDisk) -> None:
    served.process.send_signal(signal.SIGINT)


def _by_stop(served: ServedDisk) -> None:
    served.ask("stop")


@pytest.mark.parametrize("leave", [_by_umount, _by_fusermount, _by_term, _by_interrupt, _by_stop])
def test_door_every_way_out_is_orderly(
    serve: Serve, image: Path, leave: Callable[[ServedDisk], None]
) -> None:
    served = serve("cache", "1M")
    with opened(served.disk) as disk:
        os.pwrite(disk, b"kept" * 128, 512)
    leave(served)
    assert served.wait() == (-signal.SIGINT if leave is _by_interrupt else 0)
    assert find_mount(str(served.place)) is None
    assert not Path(served.control).exists()
    # What was acknowledged is on the medium, although nobody flushed it.
    with contextlib.closing(FileDevice(image)) as device:
        assert device.read(512, 512) == b"kept" * 128


def test_door_leaves_although_requests_wait(serve: Serve) -> None:
    served = serve("delay", "1h")
    with opened(served.disk, os.O_RDONLY) as disk, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(os.pread, disk, 512, 4096)
        # It counts as a seek as soon as it is being served.
        wait_until(lambda: served.ask("stats")["operations"]["read"]["seeks"], "it is served")
        served.process.send_signal(signal.SIGTERM)
        assert reading.result(WAIT_SECONDS) == bytes(512)
    assert served.wait() == 0


def test_door_leaves_although_it_is_paused(serve: Serve) -> None:
    served = serve()
    with opened(served.disk, os.O_RDONLY) as disk, ThreadPoolExecutor(1) as pool:
        served.ask("pause")
        reading = pool.submit(os.pread, disk, 512, 4096)
        served.process.send_signal(signal.SIGTERM)
        # Whether it was in time to be served or came too late: it does not wait for ever.
        assert reading.exception(WAIT_SECONDS) or reading.result() == bytes(512)
    assert served.wait() == 0


def test_door_mount_of_a_killed_server_is_cleared_by_the_next(serve: Serve) -> None:
    served = serve()
    served.signal(signal.SIGKILL)
    assert find_mount(str(served.place)) is not None
    again = serve()
    assert os.listdir(again.place) == ["disk"]
    again.stop()
