"""The command ``mount.lfs``: how it mounts, and what it says when it does not."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lfs.common.sizes import EXPECTED
from lfs.device.exclusion.lock import locked_file
from lfs.kernel.mountpoint import MountError, find_mount
from lfs.mount import session
from lfs.mount.options import MEMORY_BYTES_MIN, MountOptions, parse_options
from lfs.ondisk import SUPERBLOCK_OFFSET_BYTES, Superblock, backup_superblock_offset_bytes
from lfs.volume.options import CACHE_BYTES_MIN
from tests.support.mounting import (
    ROOT,
    environment,
    make_image,
    run,
    wait_for_tick,
    wait_until,
    without_log_notice,
)
from tests.support.mounts import Mounter
from tests.support.patience import HANG_SECONDS

pytestmark = pytest.mark.fuse


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    if find_mount(str(path)) is not None:
        assert run("lfs.mount.unmount", path).returncode == 0


def refused(image: Path | str, directory: Path | str, *arguments: str) -> tuple[int, str]:
    """Return exit code and the line printed by a mount that must fail."""
    done = run("lfs.mount.main", image, directory, *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert find_mount(str(directory)) is None
    return done.returncode, done.stderr.removeprefix("mount.lfs: ").rstrip("\n")


# ------------------------------------------------------------------------------- mounting


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


# ------------------------------------------------------------------------------- bad input


def test_mount_of_missing_image_is_refused(tmp_path: Path, mount_point: Path) -> None:
    missing = tmp_path / "missing.img"
    assert refused(missing, mount_point) == (
        32,
        f"cannot open {missing}: No such file or directory",
    )


def test_mount_of_other_file_is_refused(tmp_path: Path, mount_point: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(os.urandom(1 << 20))
    before = other.read_bytes()
    code, text = refused(other, mount_point)
    assert code == 32
    assert "not an lfs filesystem" in text
    assert other.read_bytes() == before


@pytest.mark.parametrize("size_bytes", [0, 100, 5000])
def test_mount_of_tiny_file_is_refused(tmp_path: Path, mount_point: Path, size_bytes: int) -> None:
    (tmp_path / "tiny").write_bytes(bytes(size_bytes))
    assert "not an lfs filesystem" in refused(tmp_path / "tiny", mount_point)[1]


def test_mount_of_truncated_image_is_refused(image: Path, mount_point: Path) -> None:
    os.truncate(image, 30 << 20)
    code, text = refused(image, mount_point)
    assert code == 32
    assert "truncated" in text


def test_mount_of_newer_format_is_refused(image: Path, mount_point: Path) -> None:
    _set_incompatible(image, 1 << 60)
    before = image.read_bytes()
    code, text = refused(image, mount_point)
    assert code == 32
    assert "newer version" in text
    assert image.read_bytes() == before


def _set_incompatible(image: Path, flags: int) -> None:
    with image.open("r+b") as file:
        size_bytes = image.stat().st_size
        for offset in (SUPERBLOCK_OFFSET_BYTES, backup_superblock_offset_bytes(size_bytes)):
            file.seek(offset)
            block = replace(Superblock.unpack(file.read(4096), offset), incompatible=flags)
            file.seek(offset)
            file.write(block.pack())


def test_mount_of_image_in_use_names_the_holder(
    image: Path, mount_point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOCK_WAIT_SECONDS", 0.1)
    request = session.MountRequest(str(image), str(mount_point), MountOptions())
    with locked_file(image), pytest.raises(MountError) as caught:
        session.serve(request, lambda: None)
    assert caught.value.exit_code == 32
    assert f"{image} is in use by process {os.getpid()}" in str(caught.value)


def test_mount_waits_for_a_daemon_that_is_finishing(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_bytes(os.urandom(20 << 20))
    os.kill(mounted.process.pid, signal.SIGTERM)
    again = mount(image, name="again")
    assert (again.path / "f").stat().st_size == 20 << 20


def test_mount_point_that_is_missing_is_refused(image: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert refused(image, missing) == (32, f"mount point {missing} does not exist")


def test_mount_point_that_is_a_file_is_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(image, tmp_path / "file") == (
        32,
        f"mount point {tmp_path / 'file'} is not a directory",
    )


def test_mount_point_that_is_busy_is_refused(image: Path, tmp_path: Path, mount: Mounter) -> None:
    mounted = mount(image)
    done = run("lfs.mount.main", make_image(tmp_path / "other.img"), mounted.path)
    assert done.returncode == 32
    assert done.stderr == (
        f"mount.lfs: mount point {mounted.path} is busy: {image} is mounted there\n"
    )


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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-o", "ro,nonsense"], "unknown option nonsense"),
        (["-o", "commit=never"], "commit=never: a number of seconds above 0, at most 86400"),
        (["-o", "cleaner=none"], "cleaner=none: a cleaner is one of cost-benefit, greedy"),
        (["-o", "memory=95M"], "memory=95M: at least 96 MiB, less than 8 EiB"),
        (["-o", "memory=8E"], "memory=8E: at least 96 MiB, less than 8 EiB"),
        (["-o", "memory=0"], "memory=0: at least 96 MiB, less than 8 EiB"),
        (["-o", "memory=much"], f"memory=much: 'much' is not {EXPECTED}"),
        (["-o", "memory="], f"memory=: '' is not {EXPECTED}"),
        (["-o", "memory"], "unknown option memory"),
        (["-o", "norecovery"], "norecovery needs ro: what the log holds would be lost"),
        (["-z"], "unrecognized arguments: -z (see mount.lfs -h)"),
    ],
)
def test_mount_with_wrong_options_is_refused(
    image: Path, mount_point: Path, arguments: list[str], text: str
) -> None:
    assert refused(image, mount_point, *arguments) == (1, text)


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
    least = session._core_options(parse_options([f"memory={MEMORY_BYTES_MIN}"]), lambda: None)
    assert least.memory_bytes_max == MEMORY_BYTES_MIN == 96 << 20
    assert least.cache_bytes == CACHE_BYTES_MIN
    assert replace(least, memory_bytes_max=MEMORY_BYTES_MIN + 1).cache_bytes == CACHE_BYTES_MIN + 1
    assert session._core_options(parse_options([]), lambda: None).memory_bytes_max == 192 << 20


def test_mount_without_arguments_is_refused() -> None:
    done = run("lfs.mount.main")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_mount_sloppy_ignores_unknown_options(image: Path, mount_point: Path) -> None:
    assert run("lfs.mount.main", image, mount_point, "-s", "-o", "nonsense").returncode == 0


# ------------------------------------------------------------------------------- users

# Run in a mount namespace of its own, where /dev/fuse is replaced or opened to all.
_NAMESPACE = """
set -e
mount --make-rprivate /
{prepare}
exec {become} {python} -m lfs.mount.main "$@"
"""

needs_namespace = pytest.mark.needs("mount", "setpriv")


def run_in_namespace(
    prepare: str, uid: int, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    become = f"setpriv --reuid {uid} --regid {uid} --clear-groups" if uid else ""
    script = _NAMESPACE.format(prepare=prepare, become=become, python=sys.executable)
    return subprocess.run(
        ["unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


@needs_namespace
def test_fuse_device_that_is_missing_is_told(image: Path, mount_point: Path) -> None:
    hide = "mount -t tmpfs none /dev"
    done = run_in_namespace(hide, 0, image, mount_point)
    assert done.returncode == 2
    assert done.stderr.startswith("mount.lfs: /dev/fuse is missing: load the module")
    assert done.stderr.count("\n") == 1


@needs_namespace
def test_fuse_device_without_permission_is_told(image: Path, mount_point: Path) -> None:
    close = "mount -t tmpfs none /dev; mknod -m 600 /dev/fuse c 10 229"
    done = run_in_namespace(close, 65534, image, mount_point)
    assert done.returncode == 1
    assert done.stderr == "mount.lfs: cannot open /dev/fuse: Permission denied\n"


@pytest.fixture
def user_directory() -> Iterator[Path]:
    """Return a directory that belongs to nobody in particular and can be reached."""
    path = Path(tempfile.mkdtemp(prefix="lfs-user-"))
    os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path)


_USER_WORK = """
import os, pathlib, sys, time
image, directory = sys.argv[1:]
from mkfs.main import main as mkfs
from lfs.device.file import FileDevice
from lfs.common.errors import UsageError
from lfs.mount.main import main as mount
from lfs.kernel.mountpoint import find_mount
from lfs.mount.unmount import main as unmount
assert mkfs(["-q", image, "64M"]) == 0
os.mkdir(directory)
assert mount([image, directory]) == 0
assert find_mount(directory).source == image
path = pathlib.Path(directory)
(path / "f").write_text("content")
assert (path / "f").stat().st_uid == os.getuid() == 65534
assert unmount([directory]) == 0
assert not (path / "f").exists()
assert mount([image, directory]) == 0
assert (path / "f").read_text() == "content"
try:
    FileDevice(image).close()
except UsageError as error:
    os.kill(int(str(error).split("in use by process ")[1].split()[0]), 9)
while True:
    try:
        (path / "f").exists()
    except OSError as error:
        assert error.errno in (103, 107), error
        break
    time.sleep(0.01)
assert mount([image, directory]) == 0
assert (path / "f").read_text() == "content"
assert unmount([directory]) == 0
print("done")
"""


@needs_namespace
def test_ordinary_user_mounts_and_unmounts(user_directory: Path) -> None:
    node = user_directory / "fuse"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    node.chmod(0o666)
    script = f"""
set -e
mount --make-rprivate /
mount --bind {node} /dev/fuse
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""
    image, directory = user_directory / "us\\er, ä.img", user_directory / "mnt"
    work = [sys.executable, "-c", _USER_WORK, str(image), str(directory)]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh", *work],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=user_directory,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_mount_that_libfuse_refuses_says_why(image: Path, mount_point: Path) -> None:
    code, text = refused(image, mount_point, "-o", "blkdev")
    assert code == 32
    assert text.startswith(f"cannot mount on {mount_point}: ")
    wait_until(lambda: _unlocked(image), "the lock is free")


def _unlocked(image: Path) -> bool:
    with locked_file(image, wait_seconds=1):
        return True
