"""What a remount changes: flags of the kernel, access times, intervals; and what it does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lfs.kernel.mountpoint import find_lfs
from lfs.mount.main import main
from lfs.mount.options import Change, parse_options
from tests.mount.remounting.remount import Capture, fuse, needs_root, refusal, remount
from tests.support.mounting import wait_for_tick, wait_until
from tests.support.mounts import Mounter

# ------------------------------------------------------------------------------- values


def test_change_is_what_was_given() -> None:
    assert parse_options(["remount,nosuid,x-gvfs-hide"]).change() == Change()
    options = parse_options(["remount,ro,noatime,commit=0.5,cleaner=greedy"])
    assert options.change() == Change(True, "noatime", None, 0.5, "greedy")
    assert parse_options([options.change().text()]).change() == options.change()
    assert parse_options(["rw"]).change() == Change(read_only=False)
    assert parse_options(["atime"]).change() == Change(atime="relatime")
    assert parse_options(["nodiratime"]).change() == Change(directory_atime=False)
    assert Change().text() == ""


def test_fixed_options_are_those_that_no_remount_changes() -> None:
    text = "remount,ro,atime,commit=1,suid,users,noauto,x-a=b,user_id=0,fault=loss 1%,debug"
    assert parse_options([text]).fixed() == ["fault=loss 1%", "debug"]


# ----------------------------------------------------------------------------- the rest


@fuse
@needs_root
def test_remount_changes_flags_of_the_kernel(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    assert remount(mounted, "nosuid,nodev,noexec,sync,noatime") == 0
    options = find_lfs(str(mounted.path)).options
    assert {"rw", "nosuid", "nodev", "noexec", "sync", "noatime"} <= options
    # As with mount(2), what is not named is off; access times are as they were.
    assert remount(mounted, "nodev") == 0
    options = find_lfs(str(mounted.path)).options
    assert {"nodev", "noatime"} <= options
    assert not options & {"nosuid", "noexec", "sync"}


@fuse
@needs_root
def test_remount_changes_access_times(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "strictatime")
    path = mounted.path / "f"
    path.write_bytes(b"x")
    # A remount by mount(8) repeats what the table shows, which must not be another mode.
    wait_until(
        lambda: not find_lfs(str(mounted.path)).options & {"relatime", "noatime"},
        "the table of mounts shows strictatime",
    )

    def changes() -> bool:
        before = path.stat().st_atime_ns
        wait_for_tick()
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        os.pread(descriptor, 1, 0)
        os.close(descriptor)
        return path.stat().st_atime_ns != before

    assert changes()
    assert changes()
    assert remount(mounted, "noatime") == 0
    assert not changes()
    assert remount(mounted, "strictatime") == 0
    assert changes()
    assert changes()


@fuse
@needs_root
def test_remount_changes_the_commit_interval(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=3600")
    assert remount(mounted, "commit=7200,cleaner=greedy") == 0
    mounted.stop()
    mounted.await_log("remounted with commit=7200,cleaner=greedy")


@fuse
@needs_root
def test_remount_accepts_fixed_options_that_do_not_change(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    mounted = mount(image, "-o", "writeback_cache,cpu_latency=any")
    same = "writeback_cache,cpu_latency=any"
    assert remount(mounted, f"{same},allow_other,noauto,nofail,_netdev") == 0
    for option in ("norecovery", "debug", "fsname=other", "fault=loss 1%", "cpu_latency=low"):
        assert refusal(capsys, mounted, f"ro,{option}") == (
            1,
            f"{option} cannot change at a remount: unmount and mount again",
        )
    assert not find_lfs(str(mounted.path)).read_only


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ("ro", 32, "/proc is not the mount point of an lfs"),
        ("nonsense", 1, "unknown option nonsense"),
        ("commit=0", 1, "commit=0: a number of seconds above 0, at most 86400"),
    ],
)
def test_remount_of_what_cannot_be_is_refused(
    capsys: Capture, options: str, code: int, text: str
) -> None:
    assert main(["a.img", "/proc", "-o", f"remount,{options}"]) == code
    assert capsys.readouterr().err == f"mount.lfs: {text}\n"


@fuse
def test_remount_of_a_dead_mount_is_refused(image: Path, mount: Mounter, capsys: Capture) -> None:
    mounted = mount(image)
    mounted.signal(signal.SIGKILL)
    code, text = refusal(capsys, mounted, "commit=9")
    assert (code, text) == (32, f"the daemon of {mounted.path} has died: mount again")


@fuse
@needs_root
def test_remount_changes_access_times_of_directories(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "strictatime")
    for option in ("nodiratime", "diratime"):
        assert remount(mounted, option) == 0
        os.utime(mounted.path, ns=(1, 1))
        os.listdir(mounted.path)
        assert (mounted.path.stat().st_atime_ns == 1) == (option == "nodiratime")
