"""A copy of a mount in another mount namespace keeps the daemon: who unmounts here is told so."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lfs.common.errors import UsageError
from lfs.device.file import FileDevice
from lfs.kernel.mountpoint import find_mount, unmount
from tests.support.mounting import WAIT_SECONDS, MountedImage, command, environment, run, wait_until
from tests.support.mounts import Mounter

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.needs("mount"),
]


@contextmanager
def namespace() -> Iterator[subprocess.Popen[bytes]]:
    """Run ``sleep`` in a mount namespace that is a copy of this one, and its own."""
    process = subprocess.Popen(["unshare", "--mount", "sleep", "600"])
    try:
        wait_until(
            lambda: process.poll() is not None or _command(process.pid) == b"sleep\x00600\x00",
            "it has begun",
        )
        yield process
    finally:
        process.kill()
        process.wait(WAIT_SECONDS)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _kept(mounted: MountedImage, keeper: subprocess.Popen[bytes]) -> str:
    return (
        f"kept mounted on {mounted.path} in the mount namespace of process {keeper.pid} (sleep 600)"
    )


def test_unmount_says_who_keeps_the_image(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_bytes(b"kept")
    with namespace() as keeper:
        done = run("lfs.mount.unmount", "-t", "0", mounted.path)
        assert find_mount(str(mounted.path)) is None
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == (
            f"umount.lfs: {mounted.path} is unmounted here, but the image stays in use:"
            f" it is {_kept(mounted, keeper)}\n"
        )
        with pytest.raises(UsageError) as caught:
            FileDevice(image)
        assert str(caught.value).startswith(f"{image} is in use by process {mounted.process.pid} (")
        assert str(caught.value).endswith(f", {_kept(mounted, keeper)}")
        # With the last copy the daemon goes.
    assert mounted.process.wait(WAIT_SECONDS) == 0


def test_unmount_waits_for_a_copy_that_is_about_to_go(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    with namespace() as keeper:
        timer = threading.Timer(0.5, keeper.kill)
        timer.start()
        done = run("lfs.mount.unmount", mounted.path)
        timer.join()
    assert (done.returncode, done.stderr) == (0, "")
    assert mounted.process.wait(WAIT_SECONDS) == 0


def test_mount_says_at_once_for_whom_it_waits(image: Path, mount: Mounter, tmp_path: Path) -> None:
    mounted, again = mount(image), tmp_path / "again"
    again.mkdir()
    words = command("lfs.mount.main", image, again)
    with (
        namespace() as keeper,
        unmounted_at_last(again),
    ):
        assert run("lfs.mount.unmount", "-t", "0", mounted.path).returncode == 0
        waiting = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        assert line.startswith(f"mount.lfs: {image} is in use by process {mounted.process.pid} ")
        assert line.endswith(f", {_kept(mounted, keeper)}: waiting for up to 10 seconds\n")
        assert waiting.poll() is None
        keeper.kill()
        with waiting.stderr:
            assert "in use" not in waiting.stderr.read()
        assert waiting.wait(WAIT_SECONDS) == 0
        assert run("lfs.mount.unmount", again).returncode == 0
    assert mounted.process.wait(WAIT_SECONDS) == 0


@contextmanager
def unmounted_at_last(place: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if find_mount(str(place)) is not None:
            unmount(str(place), lazily=True)
