"""What ``mount.lfs`` and ``umount.lfs`` refuse: each with its exit code and one line.

What needs nothing mounted runs in the test's own process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lfs import filesystem
from lfs import mounting as mounted
from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.errors import LogDamageError
from lfs.device.base import BlockDevice
from lfs.device.file import FileDevice
from lfs.kernel import mountpoint
from lfs.kernel.logs import where_to_look
from lfs.kernel.mountpoint import FLAGS, Mount, MountError
from lfs.mount import main as mount_command
from lfs.mount import remount, unmount
from lfs.mount.options import parse_options
from lfs.ondisk import (
    SUPERBLOCK_OFFSET_BYTES,
    Checkpoint,
    Superblock,
    backup_superblock_offset_bytes,
)
from tests.support.mounts import Mounter

Capture = pytest.CaptureFixture[str]

needs_mount = pytest.mark.needs("mount")


def refused(capsys: Capture, *arguments: str | Path) -> tuple[int, str]:
    """Run mount.lfs, and return its exit code and the line."""
    code = mount_command.main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mount.lfs: ")
    assert err.count("\n") == 1
    return code, err.removeprefix("mount.lfs: ").rstrip("\n")


def umount_refused(capsys: Capture, *arguments: str | Path) -> tuple[int, str]:
    """Run umount.lfs, and return its exit code and the line."""
    code = unmount.main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("umount.lfs: ")
    assert err.count("\n") == 1
    return code, err.removeprefix("umount.lfs: ").rstrip("\n")


# ------------------------------------------------------------------------------- mount.lfs


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "the following arguments are required: TARGET, DIR (see mount.lfs -h)"),
        (["a.img"], "the following arguments are required: DIR (see mount.lfs -h)"),
        (["a.img", "/mnt", "x"], "unrecognized arguments: x (see mount.lfs -h)"),
        (["a.img", "/mnt", "-o"], "argument -o: expected one argument (see mount.lfs -h)"),
        (["a.img", "/mnt", "-o", "nonsense"], "unknown option nonsense"),
        (["a.img", "/mnt", "-o", "ro,quota=users"], "unknown option quota=users"),
        (["a.img", "/mnt", "-o", "max_read=4096"], "unknown option max_read=4096"),
        (
            ["a.img", "/mnt", "-o", "commit=0"],
            "commit=0: a number of seconds above 0, at most 86400",
        ),
        (
            ["a.img", "/mnt", "-o", "cleaner=lazy"],
            "cleaner=lazy: a cleaner is one of cost-benefit, greedy",
        ),
        (["a.img", "/mnt", "-o", "fault="], "fault=: a value is missing"),
        (["a.img", "/mnt", "-o", "fault_log=a"], "fault_log and fault_control need fault=PLAN"),
        (["a.img", "/mnt", "-o", "fault=x"], "fault plan, line 1, column 1: 'x': unknown word"),
        (
            ["a.img", "/mnt", "-o", "fault=@/none"],
            "cannot read the plan /none: No such file or directory",
        ),
        (
            ["a.img", "/mnt", "-o", "norecovery,rw"],
            "norecovery needs ro: what the log holds would be lost",
        ),
    ],
)
def test_mount_wrong_call_is_refused_with_1(
    capsys: Capture, arguments: list[str], text: str
) -> None:
    assert refused(capsys, *arguments) == (1, text)


def test_mount_without_fusermount_is_refused_with_2(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    text = "fusermount3 is missing: install the package fuse3"
    assert refused(capsys, "a.img", "/mnt") == (2, text)


@pytest.fixture
def mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory; mounts in the foreground leave the test's logging alone."""
    monkeypatch.setattr(mount_command, "configure_logging", lambda *_, **__: None)
    path = tmp_path / "mnt"
    path.mkdir()
    return path


@pytest.mark.fuse
def test_mount_point_that_cannot_be_is_refused_with_32(
    image: Path, tmp_path: Path, capsys: Capture
) -> None:
    missing, through = tmp_path / "missing", image / "mnt"
    assert refused(capsys, image, missing) == (32, f"mount point {missing} does not exist")
    assert refused(capsys, image, image) == (32, f"mount point {image} is not a directory")
    assert refused(capsys, image, through) == (32, f"mount point {through}: Not a directory")


@pytest.mark.fuse
def test_mount_of_what_is_no_image_is_refused_with_32(
    tmp_path: Path, mount_point: Path, capsys: Capture
) -> None:
    missing, fifo, other = tmp_path / "missing", tmp_path / "fifo", tmp_path / "other"
    os.mkfifo(fifo)
    other.write_bytes(bytes(1 << 20))
    neither = "is neither an image file nor a block device"
    for target, text in (
        (missing, f"cannot open {missing}: No such file or directory"),
        (fifo, f"{fifo} {neither}"),
        (tmp_path, f"{tmp_path} {neither}"),
        (other, f"{other}: not an lfs filesystem (no valid superblock)"),
    ):
        assert refused(capsys, "-f", target, mount_point) == (32, text)


@pytest.mark.fuse
def test_mount_of_write_protected_image_by_w_is_refused_with_32(
    image: Path, mount_point: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount_command, "is_write_protected", lambda _: True)
    text = f"{image} is write-protected: mount it with -o ro"
    assert refused(capsys, "-w", image, mount_point) == (32, text)


def _change_superblocks(image: Path, **changes: int) -> None:
    with image.open("r+b") as file:
        for offset in (
            SUPERBLOCK_OFFSET_BYTES,
            backup_superblock_offset_bytes(image.stat().st_size),
        ):
            file.seek(offset)
            superblock = Superblock.unpack(file.read(4096), offset)
            file.seek(offset)
            file.write(superblock.replaced(**changes).pack())


def _wipe_checkpoints(image: Path) -> None:
    with contextlib.closing(FileDevice(image, read_only=True)) as device:
        superblock = read_superblock(device)
    with image.open("r+b") as file:
        for offset in superblock.checkpoint_offset_bytes:
            file.seek(offset)
            file.write(bytes(4096))


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (
            lambda image: os.truncate(image, 30 << 20),
            "truncated: the filesystem needs 67108864 bytes, the device has 31457280",
        ),
        (
            lambda image: _change_superblocks(image, format_version=9),
            "made by a newer version of lfs (format 9, unknown incompatible features 0x0)",
        ),
        (
            lambda image: _change_superblocks(image, incompatible=1 << 20),
            "made by a newer version of lfs (format 2, unknown incompatible features 0x100000)",
        ),
        (
            lambda image: _change_superblocks(image, read_only_compatible=1 << 60),
            "has features of a newer version that allow only a read-only mount",
        ),
        (_wipe_checkpoints, "both checkpoint regions are damaged"),
    ],
)
def test_mount_of_unusable_image_is_refused_with_32(
    image: Path, mount_point: Path, capsys: Capture, damage: Callable[[Path], None], text: str
) -> None:
    damage(image)
    before = image.read_bytes()
    assert refused(capsys, "-f", image, mount_point) == (32, f"{image}: {text}")
    assert image.read_bytes() == before


@pytest.mark.fuse
def test_mount_of_a_checkpoint_that_does_not_fit_is_refused_with_32(
    image: Path, mount_point: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longer(device: BlockDevice, superblock: Superblock) -> list[Checkpoint]:
        found = read_checkpoints(device, superblock)
        return [one.replaced(usage_pages=one.usage_pages * 2) for one in found]

    monkeypatch.setattr(mounted, "read_checkpoints", longer)
    text = f"{image}: no checkpoint can be used: the checkpoint does not fit the superblock"
    assert refused(capsys, "-f", image, mount_point) == (32, text)


@pytest.mark.fuse
def test_mount_of_a_damaged_log_is_refused_with_32(
    image: Path, mount_point: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # tests/commit/test_log_end.py damages real logs.
    def damaged(*_: object, **__: object) -> None:
        raise LogDamageError("the log is damaged at block 70")

    monkeypatch.setattr(filesystem.Filesystem, "mount", damaged)
    text = f"{image}: the log is damaged at block 70"
    assert refused(capsys, "-f", image, mount_point) == (32, text)


@pytest.mark.fuse
@needs_mount
def test_remount_that_the_kernel_refuses_is_told(
    image: Path, mount: Mounter, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    mounted = mount(image)
    monkeypatch.setattr(remount, "set_flags", refuse)
    assert refused(capsys, image, mounted.path, "-o", "remount,nosuid") == (
        32,
        f"cannot remount {mounted.path}: Operation not permitted",
    )


def test_flags_that_fusermount_gave_stay() -> None:
    options = frozenset({"rw", "nosuid", "nodev", "relatime", "user_id=1000"})
    mount = Mount("/mnt", "fuse.lfs", "/a.img", False, "0:1", options)
    assert remount.wanted_flags(mount, parse_options(["remount,commit=3"])) == mount.flags
    of_root = mount._replace(options=options - {"user_id=1000"} | {"user_id=0"})
    changed = remount.wanted_flags(of_root, parse_options(["remount,nodev"]))
    assert changed == mount.flags & ~FLAGS["nosuid"]


# ------------------------------------------------------------------------------ umount.lfs


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 1, "the following arguments are required: DIR (see umount.lfs -h)"),
        (["/", "/proc"], 1, "unrecognized arguments: /proc (see umount.lfs -h)"),
        (["-z", "/"], 1, "unrecognized arguments: -z (see umount.lfs -h)"),
        (["/", "-t"], 1, "argument -t: expected one argument (see umount.lfs -h)"),
        (["-t", "soon", "/"], 1, "-t soon: a number of seconds"),
        (["/proc"], 32, "/proc is not the mount point of an lfs"),
        (["-l", "/none"], 32, "/none is not the mount point of an lfs"),
    ],
)
def test_umount_wrong_call_is_refused(
    capsys: Capture, arguments: list[str], code: int, text: str
) -> None:
    assert umount_refused(capsys, *arguments) == (code, text)


@pytest.mark.fuse
def test_umount_after_writing_failed_is_2(image: Path, mount: Mounter, capsys: Capture) -> None:
    trigger = image.with_name("trigger")
    mounted = mount(image, "-o", f"fault=error EIO on flush while {trigger},commit=3600")
    with (mounted.path / "f").open("w") as file:
        file.write("content")
        file.flush()
        os.fsync(file.fileno())
    trigger.touch()
    code, text = umount_refused(capsys, mounted.path)
    assert code == 2
    assert text.startswith(f"{mounted.path} is unmounted, but the last checkpoint of {image} is")
    assert text.endswith(f"missing: the next mount recovers; {where_to_look()}")
    assert mounted.process.wait() == 2
    assert mounted.log.splitlines()[-1] == (
        f"mount.lfs: {image}: the last checkpoint failed, the next mount will recover: "
        "flush failed by plan at byte 0"
    )


@pytest.mark.fuse
def test_umount_while_the_daemon_goes_on_is_2(
    image: Path, mount: Mounter, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = mount(image)
    monkeypatch.setattr(unmount, "unmount", lambda _: None)
    monkeypatch.setattr(unmount, "mounts", list)
    code, text = umount_refused(capsys, "-t", "0", mounted.path)
    assert code == 2
    assert text.startswith(f"{mounted.path} is unmounted, but: {image} is in use by process ")


@pytest.mark.fuse
def test_umount_waits_for_no_other_mount_of_the_image(
    image: Path, mount: Mounter, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = mount(image)

    def mount_again(*arguments: object) -> None:
        mounted.process.wait()
        mount(image, name="again")

    # The last thing before it waits for the image.
    monkeypatch.setattr(unmount, "_lasting_copy", mount_again)
    assert unmount.main(["-t", "30", str(mounted.path)]) == 0
    assert capsys.readouterr().err == (
        f"umount.lfs: {mounted.path} is unmounted, and its image has been mounted again\n"
    )


@needs_mount
def test_unmount_that_the_kernel_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(MountError) as caught:
        mountpoint.unmount(str(tmp_path))
    assert caught.value.exit_code == 32
    assert str(caught.value) == f"cannot unmount {tmp_path}: Invalid argument"


def test_unmount_by_fusermount_passes_on_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MountError) as caught:
        mountpoint.unmount("/mnt")
    assert caught.value.exit_code == 2
    assert str(caught.value) == "fusermount3 is missing: install the package fuse3"
    tool = tmp_path / "fusermount3"
    for script, reason in (
        ("echo first; echo last >&2; exit 1", "last"),
        ("exit 3", "exit code 3"),
    ):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        with pytest.raises(MountError) as caught:
            mountpoint.unmount("/mnt")
        assert caught.value.exit_code == 32
        assert str(caught.value) == f"cannot unmount /mnt: {reason}"
