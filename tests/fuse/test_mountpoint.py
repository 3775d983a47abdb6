"""Finding mounts and mount points, on tables that a test writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfs.fuse import mountpoint
from lfs.fuse.mountpoint import (
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
