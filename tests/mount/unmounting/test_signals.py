"""A signal unmounts: everything is on the image, and nobody else's mount is touched."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfs.kernel.mountpoint import find_mount
from tests.mount.unmounting.ends import clean, would_survive
from tests.support.mounting import WAIT_SECONDS, make_image, wait_until
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse


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
    wait_until(lambda: would_survive(image), "everything is committed")
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
