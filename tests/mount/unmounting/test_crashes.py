"""What survives the end of a daemon that comes without a warning, or breaks off."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lfs.kernel.mountpoint import MountError, find_mount, unmount
from tests.mount.unmounting.ends import clean, would_survive, write_synced
from tests.support.mounting import WAIT_SECONDS, environment, run, wait_until
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse


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
        wait_until(lambda: would_survive(image, b"after"), "the timer has committed")
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
    wait_until(lambda: would_survive(image), "the timer has committed")
    mounted.kill()
    assert (mount(image).path / "f").read_text() == "content"
