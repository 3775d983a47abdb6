"""Finding mounts and mount points, on tables that a test writes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lfs.kernel import mountpoint
from lfs.kernel.mountpoint import (
    ATIME_FLAGS,
    FLAGS,
    READ_ONLY,
    STRICTATIME,
    MountError,
    find_mount,
    mounts,
    prepare_mount_point,
)

_TABLE = rb"""22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 0:39 / /mnt/a\040b rw,nosuid,noatime - fuse.lfs /img/x\134y.img rw,sync,user_id=0
41 22 0:40 / /mnt/ro ro shared:7 master:2 - fuse.lfs /img/ro.img ro,user_id=0
42 22 0:41 / /mnt/ro rw - tmpfs none rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_bytes(_TABLE)
    monkeypatch.setattr(mountpoint, "MOUNT_TABLE", tmp_path / "mountinfo")


@pytest.mark.usefixtures("table")
def test_mounts_are_read_with_escapes_and_optional_fields() -> None:
    assert [mount[:5] for mount in mounts()] == [
        ("/", "ext4", "/dev/vda1", False, "0:20"),
        ("/mnt/a b", "fuse.lfs", "/img/x\\y.img", False, "0:39"),
        ("/mnt/ro", "fuse.lfs", "/img/ro.img", True, "0:40"),
        ("/mnt/ro", "tmpfs", "none", False, "0:41"),
    ]


@pytest.mark.usefixtures("table")
def test_flags_are_those_of_the_mount_and_of_the_filesystem() -> None:
    assert [mount.flags for mount in mounts()] == [
        ATIME_FLAGS["relatime"],
        FLAGS["nosuid"] | FLAGS["sync"] | ATIME_FLAGS["noatime"],
        READ_ONLY | STRICTATIME,
        STRICTATIME,
    ]


@pytest.mark.usefixtures("table")
def test_find_mount_takes_the_uppermost() -> None:
    found = find_mount("/mnt/ro/")
    assert found is not None
    assert found.filesystem_type == "tmpfs"
    assert find_mount("/mnt") is None


def test_prepare_returns_the_real_path(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    assert prepare_mount_point(str(tmp_path / "link")) == str(tmp_path / "dir")


def test_prepare_takes_an_automount_point_without_touching_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch(path: str) -> bool:
        raise AssertionError("this would wait for itself")

    line = f"40 22 0:39 / {tmp_path} rw,relatime - autofs systemd-1 rw,fd=60,direct\n"
    (tmp_path / "mountinfo").write_text(line)
    monkeypatch.setattr(mountpoint, "MOUNT_TABLE", tmp_path / "mountinfo")
    monkeypatch.setattr(mountpoint, "is_dead", touch)
    assert prepare_mount_point(str(tmp_path)) == str(tmp_path)


def test_prepare_of_dead_mount_of_another_kind_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"40 22 0:39 / {tmp_path} rw - fuse.sshfs host: rw\n"
    (tmp_path / "mountinfo").write_text(line)
    monkeypatch.setattr(mountpoint, "MOUNT_TABLE", tmp_path / "mountinfo")
    monkeypatch.setattr(mountpoint, "is_dead", lambda path: True)
    with pytest.raises(MountError, match="run umount -l"):
        prepare_mount_point(str(tmp_path))


def test_prepare_of_dead_mount_that_cannot_be_cleared_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, lazily: bool = False) -> None:
        raise MountError("not yours")

    line = f"40 22 0:39 / {tmp_path} rw - fuse.lfs /a.img rw\n"
    (tmp_path / "mountinfo").write_text(line)
    monkeypatch.setattr(mountpoint, "MOUNT_TABLE", tmp_path / "mountinfo")
    monkeypatch.setattr(mountpoint, "is_dead", lambda path: True)
    monkeypatch.setattr(mountpoint, "unmount", refuse)
    with pytest.raises(MountError, match="run fusermount3 -uz"):
        prepare_mount_point(str(tmp_path))


def _as_user(uid: int, call: Callable[[], object]) -> str:
    """Run ``call`` in a child as another user; return the text of its MountError, if any."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = "unexpected"
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            call()
            text = ""
        except MountError as error:
            text = f"{error.exit_code} {error}"
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("owner", "mode", "allowed"),
    [
        (65534, 0o755, True),
        (65534, 0o1755, True),
        (65534, 0o555, False),
        (0, 0o755, False),
        (0, 0o777, True),
        (0, 0o1777, False),
    ],
)
def test_user_may_mount_where_fusermount_lets_him(owner: int, mode: int, allowed: bool) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        os.chmod(base, 0o755)
        path = Path(base, "mnt")
        path.mkdir()
        os.chown(path, owner, -1)
        path.chmod(mode)
        said = _as_user(65534, lambda: prepare_mount_point(str(path)))
        helper = _fusermount_says(path)
        if helper is not None:
            assert ("mountpoint" not in helper) == allowed, helper
    if allowed:
        assert said == ""
    else:
        assert said.startswith(
            f"1 mount point {path}: {_NAME} may only mount on a directory of his"
        )
        assert f"chown {_NAME} {path}" in said
        assert "\n" not in said


_NAME = pwd.getpwuid(65534).pw_name
# A device of its own, as /dev/fuse may be root's alone; in a mount namespace of its own.
_FUSERMOUNT = """
set -e
mount -t tmpfs none /dev/shm
mknod -m 666 /dev/shm/fuse c 10 229
mount --bind /dev/shm/fuse /dev/fuse
exec setpriv --reuid 65534 --regid 65534 --clear-groups fusermount3 -o fsname=x -- "$1"
"""


def _fusermount_says(path: Path) -> str | None:
    """Return what fusermount3 itself says to that user; None where it can't be asked."""
    if any(shutil.which(name) is None for name in ("unshare", "setpriv", "fusermount3")):
        return None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", _FUSERMOUNT, "sh", str(path)],
            env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    return done.stderr if done.returncode == 0 or "mountpoint" in done.stderr else None
