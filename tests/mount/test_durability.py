"""What survives the end of a daemon, by a crash, a signal or an unmount."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfs.device.exclusion.lock import locked_file
from lfs.device.file import FileDevice
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.kernel.mountpoint import MountError, find_mount, unmount
from lfs.mount.unmount import is_clean
from lfs.ondisk import ROOT_INO
from tests.support.mounting import WAIT_SECONDS, environment, make_image, run, wait_until
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def clean(image: Path) -> bool:
    with contextlib.closing(FileDevice(image, True)) as device:
        return is_clean(device)


def test_unmount_keeps_everything(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    data = os.urandom(3 << 20)
    (mounted.path / "sub").mkdir()
    (mounted.path / "sub" / "f").write_bytes(data)
    (mounted.path / "small").write_text("small")
    mounted.stop()
    assert clean(image)
    again = mount(image)
    assert (again.path / "sub" / "f").read_bytes() == data
    assert (again.path / "small").read_text() == "small"


def test_kill_after_fsync_keeps_what_came_before(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=3600")
    (mounted.path / "before").write_text("before")
    (mounted.path / "sub").mkdir()
    write_synced(mounted.path / "sub" / "f", b"x" * 300_000)
    (mounted.path / "after").write_text("after")
    mounted.kill()
    assert not clean(image)
    again = mount(image)
    assert "recovered" in again.log
    assert (again.path / "before").read_text() == "before"
    assert (again.path / "sub" / "f").read_bytes() == b"x" * 300_000
    assert not (again.path / "after").exists()


_CLOCK_SET_BACK = """
import sys, time
from pathlib import Path
real = time.time_ns
trigger = Path(sys.argv.pop())
time.time_ns = lambda: real() - (7200 * 10**9 if trigger.exists() else 0)
from lfs.mount.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_kill_after_the_clock_went_back_keeps_what_the_timer_committed(
    image: Path, mount: Mounter, tmp_path: Path
) -> None:
    directory, trigger = tmp_path / "mnt", tmp_path / "trigger"
    directory.mkdir()
    daemon = subprocess.Popen(
        [sys.executable, "-c", _CLOCK_SET_BACK, image, directory, "-f", "-o", "commit=1", trigger],
        env=environment(),
    )
    try:
        wait_until(lambda: find_mount(str(directory)) is not None, "it is mounted")
        (directory / "before").write_text("before")
        trigger.touch()
        (directory / "after").write_text("after")
        wait_until(lambda: _would_survive(image, b"after"), "the timer has committed")
        assert daemon.poll() is None
    finally:
        daemon.kill()
        daemon.wait()
        unmount(str(directory), lazily=True)
    again = mount(image)
    assert (again.path / "before").read_text() == "before"
    assert (again.path / "after").read_text() == "after"


_SERVING_BREAKS_OFF = """
import sys
from pathlib import Path
import trio
from lfs.mount.main import main
from lfs.mount.session import Session
trigger = Path(sys.argv.pop())

async def breaks(self):
    while not trigger.exists():
        await trio.sleep(0.01)
    raise RuntimeError("no such luck")

Session._show_failure = breaks
sys.exit(main(sys.argv[1:]))
"""


def test_daemon_whose_serving_breaks_off_keeps_what_was_accepted(
    image: Path, mount: Mounter, tmp_path: Path
) -> None:
    directory, trigger = tmp_path / "mnt", tmp_path / "trigger"
    directory.mkdir()
    options = ("-f", "-o", "commit=3600")
    daemon = subprocess.Popen(
        [sys.executable, "-c", _SERVING_BREAKS_OFF, image, directory, *options, trigger],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: find_mount(str(directory)) is not None, "it is mounted")
        (directory / "file").write_text("accepted")
        trigger.touch()
        assert daemon.wait(WAIT_SECONDS) not in (0, -signal.SIGKILL)
    finally:
        daemon.kill()
        daemon.wait()
        with contextlib.suppress(MountError):
            unmount(str(directory), lazily=True)
    assert clean(image)
    assert (mount(image).path / "file").read_text() == "accepted"


def test_slow_flush_of_background_work_keeps_nobody_waiting(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "fault=delay 700ms on flush,commit=1")
    (mounted.path / "f").write_text("content")
    end = time.monotonic() + 2.5
    worst = 0.0
    while (start := time.monotonic()) < end:
        assert not (mounted.path / f"none {start}").exists()
        worst = max(worst, time.monotonic() - start)
    assert worst < 0.5


@pytest.mark.parametrize("how", ["fsync-directory", "O_SYNC", "msync", "lfs-sync"])
def test_kill_after_other_ways_to_sync_keeps_data(image: Path, mount: Mounter, how: str) -> None:
    mounted = mount(image, "-o", "commit=3600")
    path = mounted.path / "f"
    path.write_bytes(bytes(10_000))
    if how == "fsync-directory":
        descriptor = os.open(mounted.path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    elif how == "O_SYNC":
        descriptor = os.open(path, os.O_WRONLY | os.O_SYNC)
        os.write(descriptor, b"synced")
        os.close(descriptor)
    elif how == "msync":
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:6] = b"synced"
            mapped.flush()
    else:
        assert run("lfs.cli.main", "sync", mounted.path).returncode == 0
    mounted.kill()
    again = mount(image)
    expected = b"synced" if how in ("O_SYNC", "msync") else bytes(6)
    assert (again.path / "f").read_bytes()[:6] == expected


def test_kill_after_the_commit_interval_keeps_data(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=0.2")
    (mounted.path / "f").write_text("content")
    wait_until(lambda: _would_survive(image), "the timer has committed")
    mounted.kill()
    assert (mount(image).path / "f").read_text() == "content"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_unmounts_and_leaves_a_clean_image(
    image: Path, mount: Mounter, number: signal.Signals
) -> None:
    mounted = mount(image, "-o", "commit=3600")
    (mounted.path / "f").write_text("content")
    # Ctrl-C is told to the caller as by every command; the others are how a daemon is ended.
    expected = -number if number == signal.SIGINT else 0
    assert mounted.signal(number) == expected, mounted.log
    assert not os.path.ismount(mounted.path)
    assert clean(image)
    assert (mount(image).path / "f").read_text() == "content"


def test_signal_while_files_are_open_leaves_a_clean_image(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    with (mounted.path / "f").open("w") as file:
        file.write("content")
        file.flush()
        assert mounted.signal(signal.SIGTERM) == 0, mounted.log
        assert not os.path.ismount(mounted.path)
        with pytest.raises(OSError, match=r"connected|abort"):
            os.fstat(os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY))
        with contextlib.suppress(OSError):
            file.close()
    assert clean(image)
    assert (mount(image).path / "f").read_text() == "content"


def test_signal_leaves_what_is_mounted_there_next(
    image: Path, tmp_path: Path, mount: Mounter
) -> None:
    mounted = mount(image)
    with (mounted.path / "f").open("w") as file:
        mounted.process.send_signal(signal.SIGTERM)
        wait_until(lambda: find_mount(str(mounted.path)) is None, "the mount point is free")
        other = mount(make_image(tmp_path / "other.img"))
        assert mounted.process.wait(WAIT_SECONDS) == 0, mounted.log
        with contextlib.suppress(OSError):
            file.close()
    (other.path / "f").write_text("content")
    other.stop()


@pytest.fixture
def cover(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Return what mounts something over a directory."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts over a mount")
    covered: list[Path] = []

    def mount_over(path: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
        covered.append(path)
        (path / "somebody else's").touch()

    yield mount_over
    for path in covered:
        if os.path.exists(path / "somebody else's"):
            subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("above", [False, True])
def test_signal_while_something_is_mounted_over_it_detaches_nothing_until_that_is_gone(
    image: Path, tmp_path: Path, mount: Mounter, cover: Callable[[Path], None], above: bool
) -> None:
    (tmp_path / "sub").mkdir()
    mounted = mount(image, "-o", "commit=3600", name="sub/mnt")
    (mounted.path / "f").write_text("content")
    inside = os.open(mounted.path / "f", os.O_RDONLY)
    place = tmp_path / "sub" if above else mounted.path
    cover(place)
    mounted.process.send_signal(signal.SIGTERM)
    mounted.await_log("something else is mounted over it")
    wait_until(lambda: _would_survive(image), "everything is committed")
    mounted.process.send_signal(signal.SIGTERM)
    time.sleep(0.7)
    assert mounted.process.poll() is None
    assert os.listdir(place) == ["somebody else's"]
    # Whoever has something open is served as before.
    assert os.read(inside, 10) == b"content"
    os.close(inside)
    subprocess.run(["umount", place], check=True)
    assert mounted.process.wait(WAIT_SECONDS) == 0, mounted.log
    assert not os.path.ismount(mounted.path)
    assert clean(image)


def _would_survive(image: Path, name: bytes = b"f") -> bool:
    """Tell whether a mount after a crash now would find a file."""
    medium = MemoryDevice(image.stat().st_size)
    medium.write(0, [image.read_bytes()])
    filesystem = Filesystem.mount(medium, 0, Options(read_only=True))
    return any(entry.name == name for entry in filesystem.readdir(ROOT_INO))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_second_signal_does_not_keep_the_last_checkpoint_from_the_disk(
    image: Path, mount: Mounter, number: signal.Signals
) -> None:
    mounted = mount(image, "-o", "fault=delay 400ms on flush,commit=3600")
    (mounted.path / "f").write_text("content")
    mounted.process.send_signal(signal.SIGTERM)
    wait_until(lambda: find_mount(str(mounted.path)) is None, "it is unmounted")
    while mounted.process.poll() is None:
        mounted.process.send_signal(number)
        time.sleep(0.05)
    # One that comes after the end of it all may still find the process.
    assert mounted.process.returncode in (0, -number), mounted.log
    assert mounted.log.rstrip().endswith(": unmounted")
    assert clean(image)


def test_signal_writes_back_mapped_memory(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=3600")
    path = mounted.path / "f"
    path.write_bytes(bytes(10_000))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    mapped[:6] = b"mapped"
    mapped.close()
    assert mounted.signal(signal.SIGTERM) == 0, mounted.log
    assert (mount(image).path / "f").read_bytes()[:6] == b"mapped"


def test_umount_command_returns_when_the_image_is_clean(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_bytes(os.urandom(10 << 20))
    done = run("lfs.mount.unmount", mounted.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert clean(image)
    with locked_file(image):
        pass
    assert mounted.process.wait(WAIT_SECONDS) == 0


def test_umount_command_tells_of_a_busy_mount_point(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    with (mounted.path / "f").open("w"):
        done = run("lfs.mount.unmount", mounted.path)
    assert done.returncode == 32
    assert (
        done.stderr
        == f"umount.lfs: {mounted.path} is busy: a process has a file or its directory there\n"
    )
    assert os.path.ismount(mounted.path)


def test_umount_command_tells_of_a_dead_daemon(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    mounted.signal(signal.SIGKILL)
    done = run("lfs.mount.unmount", mounted.path)
    assert done.returncode == 2
    assert "its daemon had died" in done.stderr
    assert not os.path.ismount(mounted.path)


def test_umount_command_waits_a_bounded_time(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    os.kill(mounted.process.pid, signal.SIGSTOP)
    try:
        # The kernel needs an answer to the unmount: a stopped daemon gives none.
        timer = threading.Timer(0.5, os.kill, (mounted.process.pid, signal.SIGCONT))
        timer.start()
        assert run("lfs.mount.unmount", "-t", "20", mounted.path).returncode == 0
        timer.join()
    finally:
        os.kill(mounted.process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["/"], 32, "is not the mount point of an lfs"),
        (["/does/not/exist"], 32, "is not the mount point of an lfs"),
        (["-l", "/"], 32, "/ is not the mount point of an lfs"),
        (["-t", "soon", "/"], 1, "-t soon: a number of seconds"),
        ([], 1, "the following arguments are required: DIR"),
    ],
)
def test_umount_command_refuses_in_one_line(arguments: list[str], code: int, text: str) -> None:
    done = run("lfs.mount.unmount", *arguments)
    assert done.returncode == code
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_idle_daemon_uses_no_processor(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_text("content")

    def ticks() -> int:
        fields = Path(f"/proc/{mounted.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def rests() -> bool:
        before = ticks()
        time.sleep(2)
        # 2 s of a spinning processor are 200 ticks.
        return ticks() - before <= 20

    wait_until(rests, "the daemon is at rest")


def test_daemon_memory_stays_within_bounds(image: Path, mount: Mounter) -> None:
    mounted = mount(image)

    def resident_bytes() -> int:
        pages = Path(f"/proc/{mounted.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    data = os.urandom(1 << 20)
    for _ in range(5):
        for number in range(20):
            (mounted.path / str(number)).write_bytes(data)
    wait_until(lambda: resident_bytes() < 200 << 20, "memory is below 200 MiB")


def test_daemon_has_all_the_files_open_that_it_needs(tmp_path: Path, mount: Mounter) -> None:
    # Large enough for segments that take the writes whose write-back begins early.
    mounted = mount(make_image(tmp_path / "large.img", "256M"))
    data = os.urandom(8 << 20)
    before = mounted.descriptor_count
    for number in range(3):
        write_synced(mounted.path / str(number), data)
    for number in range(3):
        assert (mounted.path / str(number)).read_bytes() == data
    assert mounted.descriptor_count == before
