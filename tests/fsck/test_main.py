"""The command fsck.lfs: exit codes, one line for each refusal, nothing changed."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fsck.check
import fsck.main
from fsck.main import main
from lfs.device.exclusion.lock import locked_file
from lfs.device.memory import MemoryDevice
from lfs.ondisk import SUPERBLOCK_OFFSET_BYTES, backup_superblock_offset_bytes
from tests.fsck.samples import flip_block, sample

HOLDER = """
import sys, time
from lfs.device.exclusion.lock import locked_file
with locked_file(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def save(device: MemoryDevice, path: Path) -> Path:
    path.write_bytes(device.read(0, device.size_bytes))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(sample().build(), tmp_path / "image")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    builder = sample()
    device = builder.build()
    flip_block(device, builder.blocks[8][0].address)
    return save(device, tmp_path / "damaged")


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        sys.exit(main([str(argument) for argument in arguments]))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_main_clean_image_is_0(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = image.read_bytes()
    assert exit_code(image) == 0
    assert "clean, 9 inodes" in capsys.readouterr().out
    assert image.read_bytes() == before


def test_main_verbose_prints_phases_notes_and_statistics(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("-f", "-v", "-n", image) == 0
    out = capsys.readouterr().out
    assert "data: 74 of" in out
    assert "checkpoint region 0 was never written" in out
    assert "files: 5" in out


def test_main_damaged_image_is_4(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(damaged) == 4
    out = capsys.readouterr().out
    assert out.startswith("data-checksum: inode 8, file block 0,")
    assert "1 problem found, nothing changed" in out


def test_main_unmounted_image_is_checked_completely_only_when_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = sample()
    builder.open_run(8)
    builder.checkpoint()
    builder.checkpoint_changes = {"flags": 1}
    device = builder.build()
    flip_block(device, builder.blocks[8][0].address)
    path = save(device, tmp_path / "image")
    assert exit_code(path) == 0
    assert "clean, 9 inodes" in capsys.readouterr().out
    assert exit_code("-f", path) == 4


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Return exit code and the one line of a run that must print nothing else."""
    code = exit_code(*arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fsck.lfs: ")
    assert err.count("\n") == 1
    return code, err


def test_main_repair_is_refused_with_16(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "-y", image) == (
        16,
        "fsck.lfs: -y: this version checks but does not repair; use -n or no option\n",
    )


@pytest.mark.parametrize("option", ["-p", "-a"])
def test_main_at_boot_says_one_line(
    option: str, image: Path, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(option, image) == 0
    assert exit_code(option, "-v", damaged) == 4
    out, err = capsys.readouterr()
    clean, found = out.splitlines()
    assert clean.startswith(f"{image}: clean, 9 inodes")
    assert found.startswith(f"{damaged}: 1 problem found, nothing changed, 9 inodes")
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which image or device?"),
        (["-z", "x"], "unrecognized arguments: -z"),
        (["x", "y"], "unrecognized arguments: y"),
        (["x", "-C"], "argument -C: expected one argument"),
    ],
)
def test_main_wrong_usage_is_16(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *arguments) == (16, f"fsck.lfs: {message} (see fsck.lfs --help)\n")


def test_main_what_fsck_passes_is_accepted(image: Path) -> None:
    assert exit_code("-T", "-C0", image) == 0
    assert exit_code("-T", "-C", "0", image) == 0


def test_main_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("-V") == 0
    assert capsys.readouterr().out.startswith("fsck.lfs ")


def test_main_missing_file_is_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    assert refused(capsys, missing) == (
        8,
        f"fsck.lfs: cannot open {missing}: No such file or directory\n",
    )


def test_main_directory_is_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, tmp_path) == (
        8,
        f"fsck.lfs: {tmp_path} is neither an image file nor a block device\n",
    )


def test_main_lock_that_the_system_refuses_is_8(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., object] = fcntl.fcntl

    def refuse(descriptor: int, command: int, *arguments: bytes) -> object:
        if command == fcntl.F_OFD_SETLK:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return whole(descriptor, command, *arguments)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    line = f"fsck.lfs: cannot lock {image}: Cannot allocate memory\n"
    assert refused(capsys, image) == (8, line)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_main_no_permission_is_8(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image.chmod(0)
    assert refused(capsys, image)[0] == 8


@pytest.mark.parametrize("length", [0, 100, 4096, 1 << 20])
def test_main_other_content_is_8(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"x" * length)
    code, line = refused(capsys, path)
    assert code == 8
    assert line.startswith(f"fsck.lfs: {path}: not an lfs filesystem: ")


def test_main_truncated_image_is_8(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size_bytes = image.stat().st_size
    os.truncate(image, 1 << 20)
    code, line = refused(capsys, image)
    assert code == 8
    expected = f"the filesystem was made for {size_bytes} bytes, the device has 1048576"
    assert line == f"fsck.lfs: {image}: truncated: {expected}\n"


def test_main_newer_incompatible_image_is_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = sample()
    builder.superblock_changes = {"incompatible": 1 << 40}
    path = save(builder.build(), tmp_path / "image")
    assert refused(capsys, path) == (
        8,
        f"fsck.lfs: {path}: unknown incompatible features 0x10000000000: use a newer fsck.lfs\n",
    )


def test_main_newer_format_is_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builder = sample()
    builder.superblock_changes = {"format_version": 9}
    path = save(builder.build(), tmp_path / "image")
    assert refused(capsys, path) == (
        8,
        f"fsck.lfs: {path}: format version 9 is not supported (this fsck.lfs knows version 2)\n",
    )


@pytest.fixture
def holder(image: Path) -> Iterator[int]:
    command = [sys.executable, "-c", HOLDER, str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def test_main_image_in_use_is_8_and_names_the_holder(
    image: Path,
    holder: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fsck.main, "LOCK_WAIT_SECONDS", 0.0)
    code, line = refused(capsys, image)
    assert code == 8
    assert f"process {holder}" in line


def test_main_image_shared_with_another_reader_is_checked(image: Path) -> None:
    with locked_file(image, exclusive=False):
        assert exit_code(image) == 0


def test_main_library_missing_is_128(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsck.check", None)
    code, line = refused(capsys, image)
    assert code == 128
    assert "fsck.check" in line


def test_main_both_superblocks_gone_is_8(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with image.open("r+b") as file:
        for offset in (
            SUPERBLOCK_OFFSET_BYTES,
            backup_superblock_offset_bytes(image.stat().st_size),
        ):
            file.seek(offset)
            file.write(bytes(512))
    assert refused(capsys, image)[0] == 8
