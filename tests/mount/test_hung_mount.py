"""Somebody else's filesystem never answers: no tool asks it, whatever the tool looks for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lfs.device.file import FileDevice
from lfs.kernel.mountpoint import find_mount, real_path, unmount
from tests.device.loops import loop_device
from tests.support.mounting import WAIT_SECONDS, environment, make_image, run, wait_until
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse

_USER = """
import mmap, os, sys, time
os.chdir(sys.argv[1])
file = open("f", "rb")
mapped = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
print("in", flush=True)
time.sleep(600)
"""


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """Return where a filesystem is mounted whose server is alive and stopped.

    A process has it as its working directory and has a file of it open and mapped, and
    a loop device lies over that file where there are any.
    """
    place = tmp_path / "hung"
    place.mkdir()
    server = subprocess.Popen([sys.executable, "-m", "tests.mount.hung_server", place])
    user: subprocess.Popen[str] | None = None
    try:
        wait_until(lambda: find_mount(str(place)) is not None, "it is mounted")
        user = subprocess.Popen(
            [sys.executable, "-c", _USER, place], stdout=subprocess.PIPE, text=True
        )
        assert user.stdout is not None
        assert user.stdout.readline() == "in\n"
        if os.geteuid() != 0:
            server.send_signal(signal.SIGSTOP)
            yield place
            return
        with loop_device(place / "f", "--read-only"):
            server.send_signal(signal.SIGSTOP)
            yield place
            server.send_signal(signal.SIGCONT)
    finally:
        server.send_signal(signal.SIGCONT)
        if user is not None:
            user.kill()
            user.wait(WAIT_SECONDS)
            assert user.stdout is not None
            user.stdout.close()
        unmount(str(place), lazily=True)
        server.kill()
        server.wait(WAIT_SECONDS)


def _run_tool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    start = time.monotonic()
    done = run(str(words[0]), *words[1:])
    assert time.monotonic() - start < WAIT_SECONDS
    return done


def test_tools_use_an_image_beside_it(hung: Path, tmp_path: Path, mount: Mounter) -> None:
    image = tmp_path / "beside.img"
    assert _run_tool("mkfs.main", "-q", image, "16M").stderr == ""
    mounted = mount(image)
    try:
        (mounted.path / "f").write_bytes(b"x" * 100_000)
        for words in (
            ("lfs.cli.main", "sync", mounted.path),
            ("lfs.cli.main", "requests", mounted.path),
            ("lfs.cli.main", "filefrag", mounted.path / "f"),
            ("lfs.mount.main", image, mounted.path, "-o", "remount,noatime"),
            ("lfs.mount.unmount", mounted.path),
            ("fsck.main", image),
            ("mkfs.main", "-q", "-f", image),
        ):
            done = _run_tool(*words)
            assert (done.returncode, done.stderr) == (0, ""), words
    finally:
        mounted.close()


def test_holder_is_found_beside_it(hung: Path, tmp_path: Path, mount: Mounter) -> None:
    image = make_image(tmp_path / "held.img", "16M")
    mounted = mount(image)
    holder = f"{image} is in use by process {mounted.process.pid} "
    for read_only in (False, True):
        assert _refusal(image, read_only).startswith(holder)
    mounted.stop()
    if os.geteuid() == 0:
        with loop_device(image) as loop, closing(FileDevice(loop)):
            assert " is in use by process " in _refusal(image, False)


def _refusal(image: Path, read_only: bool) -> str:
    """Return the line with which an image is refused to another process."""
    code = "import sys; from lfs.device.file import FileDevice; FileDevice(sys.argv[1], {})"
    done = subprocess.run(
        [sys.executable, "-c", code.format(read_only), image],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1].partition(": ")[2]


@pytest.mark.parametrize(
    ("module", "code"), [("lfs.mount.main", 32), ("faultdisk.main", 1)], ids=["mount", "serve"]
)
def test_it_is_no_free_mount_point(hung: Path, tmp_path: Path, module: str, code: int) -> None:
    image = make_image(tmp_path / "other.img", "16M")
    words = ["serve"] if module == "faultdisk.main" else []
    done = _run_tool(module, *words, image, hung)
    assert (done.returncode, done.stderr.partition(": ")[2]) == (
        code,
        f"mount point {hung} is busy: hung is mounted there\n",
    )
    assert _run_tool("lfs.mount.unmount", hung).returncode == 32


def test_real_path_follows_links_to_it_without_asking(hung: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("hung")
    (tmp_path / "again").symlink_to(tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    for path in (hung, tmp_path / "link", tmp_path / "again", f"{tmp_path}/again/"):
        assert real_path(str(path)) == str(hung)
    assert real_path(str(tmp_path / "loop")) == str(tmp_path / "loop")
    assert real_path("/") == "/"
    assert real_path(f"{tmp_path}/.") == str(tmp_path)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert real_path("link") == str(hung)
    finally:
        os.chdir(before)
