"""The command ``mount.lfs``: how it mounts, and what its options do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lfs.kernel.mountpoint import find_mount
from lfs.mount import session
from lfs.mount.options import MEMORY_BYTES_MIN, parse_options
from lfs.volume.options import CACHE_BYTES_MIN
from tests.support.mounting import environment, make_image, run, wait_for_tick, without_log_notice
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse


def test_mount_in_the_background_returns_when_it_answers(image: Path, mount_point: Path) -> None:
    done = run("lfs.mount.main", image, mount_point)
    assert (done.returncode, done.stdout, without_log_notice(done.stderr)) == (0, "", "")
    (mount_point / "f").write_text("content")
    assert run("lfs.mount.unmount", mount_point).returncode == 0
    assert list(mount_point.iterdir()) == []


def test_mount_verbose_says_what_was_mounted(image: Path, mount_point: Path) -> None:
    done = run("lfs.mount.main", "-v", image, mount_point)
    assert done.stdout == f"mount.lfs: {image} mounted on {mount_point}\n"


def test_mount_shows_source_and_type(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    found = find_mount(str(mounted.path))
    assert found is not None
    assert found[:4] == (str(mounted.path), "fuse.lfs", str(image), False)


def test_mount_of_image_with_odd_name(tmp_path: Path, mount: Mounter) -> None:
    image = make_image(tmp_path / "a, b\\c ümläut\n.img")
    mounted = mount(image, name="mount ,\\ pöint")
    (mounted.path / "f").write_text("content")
    assert run("lfs.mount.unmount", mounted.path).returncode == 0


def test_mount_by_relative_paths(image: Path, mount_point: Path) -> None:
    arguments = [image.name, mount_point.name]
    command = [sys.executable, "-m", "lfs.mount.main", *arguments]
    subprocess.run(command, cwd=image.parent, env=environment(), check=True)
    assert find_mount(str(mount_point)) is not None


def test_mount_read_only_refuses_changes(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_text("content")
    mounted.stop()
    before = image.read_bytes()
    mounted = mount(image, "-o", "ro")
    assert (mounted.path / "f").read_text() == "content"
    with pytest.raises(OSError, match="Read-only"):
        (mounted.path / "g").touch()
    with pytest.raises(OSError, match="Read-only"):
        (mounted.path / "f").chmod(0o600)
    mounted.stop()
    assert image.read_bytes() == before


def test_mount_read_only_after_a_crash_changes_nothing(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=3600")
    with (mounted.path / "f").open("w") as file:
        file.write("content")
        file.flush()
        os.fsync(file.fileno())
    mounted.kill()
    before = image.read_bytes()
    mounted = mount(image, "-r")
    assert (mounted.path / "f").read_text() == "content"
    mounted.stop()
    mounted = mount(image, "-o", "ro,norecovery")
    assert not (mounted.path / "f").exists()
    mounted.stop()
    assert image.read_bytes() == before


def test_mount_read_only_twice_shares_the_image(image: Path, mount: Mounter) -> None:
    first = mount(image, "-o", "ro", name="first")
    second = mount(image, "-o", "ro", name="second")
    assert list(first.path.iterdir()) == list(second.path.iterdir()) == []


def test_two_images_are_mounted_side_by_side(tmp_path: Path, mount: Mounter) -> None:
    mounted = [mount(make_image(tmp_path / f"{name}.img"), name=name) for name in ("one", "two")]
    for one in mounted:
        (one.path / "f").write_text(one.path.name)
    assert [(one.path / "f").read_text() for one in mounted] == ["one", "two"]


@pytest.mark.parametrize("option", ["noatime", "strictatime"])
def test_atime_options_take_effect(image: Path, mount: Mounter, option: str) -> None:
    mounted = mount(image, "-o", option)
    path = mounted.path / "f"
    path.write_bytes(b"x")
    times = []
    for _ in range(2):
        wait_for_tick()
        # In the kernel's cache by now, which must not hide the second time.
        path.read_bytes()
        times.append(path.stat().st_atime_ns)
    unchanged = times[0] == times[1]
    assert unchanged == (option == "noatime")


@pytest.mark.parametrize("option", ["diratime", "nodiratime"])
def test_access_times_of_directories_follow_their_option(
    image: Path, mount: Mounter, option: str
) -> None:
    mounted = mount(image, "-o", f"strictatime,{option}")
    os.utime(mounted.path, ns=(1, 1))
    os.listdir(mounted.path)
    assert (mounted.path.stat().st_atime_ns == 1) == (option == "nodiratime")


@pytest.mark.needs("root")
def test_mount_by_root_serves_set_id_and_devices_unless_told(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    flags = os.statvfs(mounted.path).f_flag
    assert not flags & (os.ST_NOSUID | os.ST_NODEV)
    mounted.stop()
    mounted = mount(image, "-o", "nosuid,nodev,noexec,x-gvfs-hide,_netdev,user")
    flags = os.statvfs(mounted.path).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    assert flags & os.ST_NOEXEC


def test_writeback_cache_keeps_data(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "writeback_cache")
    data = os.urandom(3 << 20)
    with (mounted.path / "f").open("wb") as file:
        for start in range(0, len(data), 1000):
            file.write(data[start : start + 1000])
    stamp = 10**18 + 5
    os.utime(mounted.path / "f", ns=(stamp, stamp))
    mounted.stop()
    mounted = mount(image)
    assert (mounted.path / "f").read_bytes() == data
    assert (mounted.path / "f").stat().st_mtime_ns == stamp


def test_mount_waits_for_a_daemon_that_is_finishing(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_bytes(os.urandom(20 << 20))
    os.kill(mounted.process.pid, signal.SIGTERM)
    again = mount(image, name="again")
    assert (again.path / "f").stat().st_size == 20 << 20


def test_mount_point_whose_daemon_died_is_cleared(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_text("content")
    descriptor = os.open(mounted.path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    mounted.signal(signal.SIGKILL)
    with pytest.raises(OSError, match="not connected"):
        (mounted.path / "f").exists()
    again = mount(image)
    assert (again.path / "f").read_text() == "content"


def test_mount_with_a_limit_of_memory(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "memory=100.5MiB")
    (mounted.path / "f").write_text("content")
    for option, code in (("memory=100.5MiB", 0), ("memory=200M", 1)):
        done = run("lfs.mount.main", image, mounted.path, "-o", f"remount,ro,{option}")
        assert done.returncode == code, done.stderr
    assert done.stderr.endswith("memory=200M cannot change at a remount: unmount and mount again\n")
    assert (mounted.path / "f").read_text() == "content"
    assert mounted.signal(signal.SIGTERM) == 0


def test_mount_hands_its_limit_of_memory_on() -> None:
    options = parse_options([f"memory={MEMORY_BYTES_MIN}"])
    least = session._core_options(options, lambda: None, lambda: None)
    assert least.memory_bytes_max == MEMORY_BYTES_MIN == 96 << 20
    assert least.cache_bytes == CACHE_BYTES_MIN
    assert replace(least, memory_bytes_max=MEMORY_BYTES_MIN + 1).cache_bytes == CACHE_BYTES_MIN + 1
    usual = session._core_options(parse_options([]), lambda: None, lambda: None)
    assert usual.memory_bytes_max == 192 << 20


def test_mount_sloppy_ignores_unknown_options(image: Path, mount_point: Path) -> None:
    assert run("lfs.mount.main", image, mount_point, "-s", "-o", "nonsense").returncode == 0
