"""What ``mount.lfs`` says when it does not mount: in one line, with nothing changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lfs.common.sizes import EXPECTED
from lfs.device.exclusion.lock import locked_file
from lfs.kernel.mountpoint import MountError, find_mount
from lfs.mount import session
from lfs.mount.options import MountOptions
from lfs.ondisk import SUPERBLOCK_OFFSET_BYTES, Superblock, backup_superblock_offset_bytes
from tests.support.mounting import make_image, run, wait_until
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse


def refused(image: Path | str, directory: Path | str, *arguments: str) -> tuple[int, str]:
    """Return exit code and the line printed by a mount that must fail."""
    done = run("lfs.mount.main", image, directory, *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert find_mount(str(directory)) is None
    return done.returncode, done.stderr.removeprefix("mount.lfs: ").rstrip("\n")


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
            block = Superblock.unpack(file.read(4096), offset).replaced(incompatible=flags)
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


def test_mount_without_arguments_is_refused() -> None:
    done = run("lfs.mount.main")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_mount_that_libfuse_refuses_says_why(image: Path, mount_point: Path) -> None:
    code, text = refused(image, mount_point, "-o", "blkdev")
    assert code == 32
    assert text.startswith(f"cannot mount on {mount_point}: ")
    wait_until(lambda: _unlocked(image), "the lock is free")


def _unlocked(image: Path) -> bool:
    with locked_file(image, wait_seconds=1):
        return True
