"""The command ``umount.lfs``: when it returns, and what it says when it can't unmount."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from lfs.device.exclusion.lock import locked_file
from tests.mount.unmounting.ends import clean
from tests.support.mounting import WAIT_SECONDS, run
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse


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
        (["-t", "nan", "/"], 1, "-t nan: a number of seconds"),
        ([], 1, "the following arguments are required: DIR"),
    ],
)
def test_umount_command_refuses_in_one_line(arguments: list[str], code: int, text: str) -> None:
    done = run("lfs.mount.unmount", *arguments)
    assert done.returncode == code
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("error", ["error EIO on write", "error EIO on flush", "vanish"])
def test_umount_command_says_that_what_came_last_may_be_lost(
    image: Path, mount: Mounter, tmp_path: Path, error: str
) -> None:
    """Where nothing more reaches the image it goes on looking clean."""
    control = tmp_path / "control"
    mounted = mount(image, "-o", f"fault_control={control},fault=cache 8M")
    assert run("faultdisk.main", "set", control, f"cache 8M; {error}").returncode == 0
    (mounted.path / "f").write_text("accepted")
    done = run("lfs.mount.unmount", mounted.path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"umount.lfs: {mounted.path} is unmounted, but ")
    assert done.stderr.count("\n") == 1
