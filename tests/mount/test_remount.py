"""``mount.lfs -o remount``: what the kernel, the daemon and the lock on the image do."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fsck.main
from lfs.control.log import LOG_ATTRIBUTE
from lfs.control.remount import CONTROL_PREFIX, OPTIONS_ATTRIBUTE, REMOUNT_ATTRIBUTE
from lfs.device.exclusion.lock import locked_file
from lfs.kernel.mountpoint import READ_ONLY, find_lfs, find_mount
from lfs.mount import remount as remount_module
from lfs.mount.main import main
from lfs.mount.options import Change, parse_options
from tests.support.mounting import MountedImage, environment, wait_for_tick, wait_until
from tests.support.mounts import Mounter

needs_root = pytest.mark.needs("root")
fuse = pytest.mark.fuse

Capture = pytest.CaptureFixture[str]


def remount(mounted: MountedImage, options: str) -> int:
    """Remount, and return the exit code."""
    return main([str(mounted.image), str(mounted.path), "-o", f"remount,{options}"])


def refusal(capsys: Capture, mounted: MountedImage, options: str) -> tuple[int, str]:
    """Remount, and return the exit code and the one line that says why not."""
    code = remount(mounted, options)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mount.lfs: ")
    assert err.count("\n") == 1
    return code, err.removeprefix("mount.lfs: ").rstrip("\n")


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


# ---------------------------------------------------------------------- read-only and back


@fuse
@needs_root
def test_remount_read_only_leaves_a_clean_image(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_text("content")
    assert remount(mounted, "ro") == 0
    assert find_lfs(str(mounted.path)).read_only
    assert (mounted.path / "f").read_text() == "content"
    with pytest.raises(OSError, match="Read-only"):
        (mounted.path / "g").touch()
    # Checked while it is mounted: the lock is shared by now.
    assert fsck.main.main(["-f", str(image)]) == 0
    before = image.read_bytes()
    mounted.stop()
    assert image.read_bytes() == before


@fuse
@needs_root
def test_remount_writable_goes_on(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    assert remount(mounted, "ro") == 0
    assert remount(mounted, "rw") == 0
    (mounted.path / "f").write_text("content")
    with pytest.raises(Exception, match="is in use by"), locked_file(image):
        pass
    mounted.stop()
    mounted = mount(image, "-r")
    assert (mounted.path / "f").read_text() == "content"


@fuse
@needs_root
def test_remount_writable_of_a_mount_that_began_read_only(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=3600")
    with (mounted.path / "f").open("w") as file:
        file.write("content")
        file.flush()
        os.fsync(file.fileno())
    mounted.kill()
    mounted = mount(image, "-r")
    assert remount(mounted, "rw") == 0
    (mounted.path / "g").write_text("more")
    mounted.stop()
    assert fsck.main.main(["-f", str(image)]) == 0
    mounted = mount(image)
    assert sorted(path.name for path in mounted.path.iterdir()) == ["f", "g"]


@fuse
@needs_root
def test_remount_writable_with_a_fault_plan(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "ro,fault=delay 1ms on flush")
    assert remount(mounted, "rw,fault=delay 1ms on flush") == 0
    (mounted.path / "f").write_text("content")
    mounted.stop()
    assert fsck.main.main(["-f", str(image)]) == 0


@fuse
@needs_root
def test_remount_read_only_writes_back_mapped_memory(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "writeback_cache")
    path = mounted.path / "f"
    path.write_bytes(bytes(1 << 20))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 1 << 20)
    mapped[:] = b"x" * (1 << 20)
    assert remount(mounted, "ro") == 32
    mapped.close()
    assert remount(mounted, "ro") == 0
    mounted.kill()
    mounted = mount(image, "-r")
    assert (mounted.path / "f").read_bytes() == b"x" * (1 << 20)


@fuse
@needs_root
def test_remount_read_only_is_refused_while_a_file_is_written(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    mounted = mount(image)
    busy = (32, f"{mounted.path} is busy: a file there is open for writing")
    with (mounted.path / "f").open("w") as file:
        assert refusal(capsys, mounted, "ro") == busy
        file.write("content")
    with (mounted.path / "f").open() as file:
        (mounted.path / "f").unlink()
        assert refusal(capsys, mounted, "ro") == busy
        assert file.read() == "content"
    assert remount(mounted, "ro") == 0
    assert list(mounted.path.iterdir()) == []


def test_flags_wait_for_a_file_that_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def set_flags(path: str, flags: int) -> None:
        calls.append(flags)
        if len(calls) < 3:
            raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(remount_module, "set_flags", set_flags)
    mount = find_mount("/")
    assert mount is not None
    remount_module._set_flags(mount, mount.flags ^ READ_ONLY, "/")
    assert len(calls) == 3


@fuse
@needs_root
def test_remount_writable_is_refused_while_another_mount_shares_the_image(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    first = mount(image)
    assert remount(first, "ro") == 0
    second = mount(image, "-r", name="second")
    code, text = refusal(capsys, first, "rw")
    assert code == 32
    assert text.startswith(f"{first.path}: {image} is in use by process {second.process.pid} ")
    assert find_lfs(str(first.path)).read_only
    # It still has its share of the lock.
    second.stop()
    with pytest.raises(Exception, match="is in use by"), locked_file(image):
        pass
    assert remount(first, "rw") == 0


@fuse
@needs_root
def test_remount_after_writing_failed(image: Path, mount: Mounter, capsys: Capture) -> None:
    trigger = image.with_name("trigger")
    mounted = mount(image, "-o", f"fault=error EIO on flush while {trigger},commit=3600")
    descriptor = os.open(mounted.path, os.O_RDONLY)
    (mounted.path / "f").write_text("content")
    trigger.touch()
    with pytest.raises(OSError, match="Input/output error"):
        os.fsync(descriptor)
    os.close(descriptor)
    assert remount(mounted, "ro") == 0
    assert refusal(capsys, mounted, "rw") == (
        32,
        f"{mounted.path}: writing has failed: unmount and mount again",
    )


@fuse
@needs_root
def test_remount_read_only_whose_checkpoint_fails_says_so(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    trigger = image.with_name("trigger")
    mounted = mount(image, "-o", f"fault=error EIO on flush while {trigger},commit=3600")
    (mounted.path / "f").write_text("content")
    trigger.touch()
    code, text = refusal(capsys, mounted, "ro")
    assert code == 32
    reason = text.removeprefix(f"{mounted.path} is read-only now, but its image is not clean: ")
    assert reason == "flush failed by plan at byte 0"
    assert find_lfs(str(mounted.path)).read_only


@fuse
@needs_root
def test_remount_without_recovery_stays_read_only(
    image: Path, mount: Mounter, capsys: Capture
) -> None:
    mounted = mount(image, "-o", "ro,norecovery")
    assert refusal(capsys, mounted, "rw") == (
        32,
        f"{mounted.path}: what the log holds would be lost (norecovery)",
    )


# ------------------------------------------------------------------------------- the rest


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
def test_control_attributes_are_for_root_and_the_owner(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=9,x-note=\\,")
    (mounted.path / "f").touch()
    assert os.getxattr(mounted.path, OPTIONS_ATTRIBUTE) == b"commit=9\0x-note=,\0"
    for path, name in ((mounted.path, b"other"), (mounted.path / "f", b"options")):
        with pytest.raises(OSError, match="Operation not supported") as caught:
            os.getxattr(path, CONTROL_PREFIX + name)
        assert caught.value.errno == errno.EOPNOTSUPP
    assert os.getxattr(mounted.path, REMOUNT_ATTRIBUTE + b"none") == b"22 unknown option none"


_AS_NOBODY = """
import os, sys
from lfs.mount.main import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main([sys.argv[1], sys.argv[2], "-o", sys.argv[3]]))
"""


_ROOT_ONLY = (
    "only root may make a mount read-only or writable or change its flags: "
    "unmount it and mount it again"
)


_ASK = """
import os, sys
try:
    print(os.getxattr(sys.argv[1], sys.argv[2]))
except OSError as error:
    print(error.errno)
"""


@fuse
@needs_root
@pytest.mark.parametrize("attribute", [REMOUNT_ATTRIBUTE + b"ro", OPTIONS_ATTRIBUTE, LOG_ATTRIBUTE])
@pytest.mark.parametrize(
    "way",
    [
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
        ["unshare", "--user", "--map-root-user"],
    ],
)
def test_root_without_the_capability_of_mount_controls_nothing(
    image: Path, mount: Mounter, way: list[str], attribute: bytes
) -> None:
    """As root of a container does not, to which the mount is shown."""
    if shutil.which(way[0]) is None or subprocess.run([*way, "true"], check=False).returncode:
        pytest.skip(f"{way[0]} does not work here")
    mounted = mount(image)
    asked = [sys.executable, "-c", _ASK, str(mounted.path), attribute.decode()]
    answer = subprocess.run([*way, *asked], capture_output=True, text=True, check=True).stdout
    assert answer == f"{errno.EPERM}\n"
    (mounted.path / "still writable").touch()
    assert subprocess.run(asked, capture_output=True, check=True).stdout.startswith(b"b")


@fuse
@needs_root
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            "remount,commit=9",
            "only who may mount (CAP_SYS_ADMIN), or the user who did, may remount {0}",
        ),
        ("remount,ro", _ROOT_ONLY),
    ],
)
def test_remount_by_another_user_is_refused(
    image: Path, mount: Mounter, tmp_path: Path, options: str, text: str
) -> None:
    mounted = mount(image)
    # pytest's directories are closed to others.
    open_path = Path(f"/tmp/lfs-remount-{os.getpid()}")
    open_path.mkdir()
    try:
        subprocess.run(["mount", "--bind", mounted.path, open_path], check=True)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(image), str(open_path), options],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        subprocess.run(["umount", "-i", open_path], check=True)
    finally:
        open_path.rmdir()
    assert done.returncode == 1
    assert done.stderr == f"mount.lfs: {text.format(open_path)}\n"


@fuse
@needs_root
def test_remount_changes_access_times_of_directories(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "strictatime")
    for option in ("nodiratime", "diratime"):
        assert remount(mounted, option) == 0
        os.utime(mounted.path, ns=(1, 1))
        os.listdir(mounted.path)
        assert (mounted.path.stat().st_atime_ns == 1) == (option == "nodiratime")
