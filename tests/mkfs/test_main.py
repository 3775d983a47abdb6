from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfs.common.errors import DeviceError, UsageError
from lfs.common.sizes import EXPECTED
from lfs.device.base import BlockDevice
from lfs.device.exclusion.lock import locked_file
from lfs.ondisk import Superblock
from mkfs import main as command
from mkfs.main import main
from tests.device.loops import loop_device

UUID = "12345678-1234-5678-1234-567812345678"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "work.img"


def _refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run, expect exit code 1 and one line of error; return the line."""
    assert main(list(map(str, arguments))) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("mkfs.lfs: ")
    assert output.err.count("\n") == 1
    return output.err.rstrip("\n")


def _superblock(image: Path, offset_bytes: int = 4096) -> Superblock:
    return Superblock.unpack(image.read_bytes()[offset_bytes : offset_bytes + 512], offset_bytes)


def test_mkfs_missing_image_is_created_sparse(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-L", "work", "-U", UUID, "-m", "2.5%", str(image), "64M"]) == 0
    assert image.stat().st_size == 64 << 20
    assert image.stat().st_blocks * 512 < 4 << 20
    superblock = _superblock(image)
    assert superblock.label == b"work"
    assert superblock.reserved_basis_points == 250
    copy_offset = (64 << 20) - 4096
    assert _superblock(image, copy_offset) == superblock.at(copy_offset)
    assert capsys.readouterr().out.splitlines() == [
        f"{image}: lfs filesystem, format 2",
        f"  uuid         {UUID}",
        "  label        work",
        "  size         64 MiB",
        "  blocks       16384 of 4 KiB",
        "  segments     251 of 256 KiB, from byte 1048576",
        "  superblock   at byte 4096, copy at byte 67104768",
        "  checkpoints  at bytes 65536 and 131072",
        "  reserved     2.5 % for root",
    ]


def test_mkfs_quiet_prints_nothing(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "-b", "1K", "-s", "128K", str(image), "8M"]) == 0
    assert capsys.readouterr() == ("", "")
    assert _superblock(image).block_bytes == 1024
    assert _superblock(image).segment_blocks == 128


def test_mkfs_dry_run_creates_nothing(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-n", str(image), "16T"]) == 0
    assert "segments     262143 of 64 MiB" in capsys.readouterr().out
    assert not image.exists()


def test_mkfs_dry_run_changes_nothing(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image.write_bytes(os.urandom(16 << 20))
    before = image.read_bytes()
    assert main(["-n", "-f", str(image), "64M"]) == 0
    assert "size         64 MiB" in capsys.readouterr().out
    assert image.read_bytes() == before


def test_mkfs_missing_image_without_size_is_refused(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = _refused(capsys, image)
    assert line == f"mkfs.lfs: {image} does not exist: give a SIZE to create an image file"


def test_mkfs_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "none/work.img"
    assert _refused(capsys, image, "64M") == (
        f"mkfs.lfs: cannot create {image}: No such file or directory"
    )


def test_mkfs_too_small_is_refused_with_the_least_size(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "is too small: with segments of 256 KiB at least 8452 KiB are needed"
    assert _refused(capsys, image, "8M") == f"mkfs.lfs: 8 MiB {expected}"
    assert not image.exists()
    image.write_bytes(bytes(1 << 20))
    assert _refused(capsys, "-f", image) == f"mkfs.lfs: 1 MiB {expected}"
    assert image.read_bytes() == bytes(1 << 20)


def test_mkfs_smallest_size_works(image: Path) -> None:
    assert main(["-q", str(image), "8452K"]) == 0
    assert _superblock(image).segment_count == 32


def test_mkfs_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _refused(capsys, tmp_path, "64M") == (
        f"mkfs.lfs: {tmp_path} is neither an image file nor a block device"
    )


def test_mkfs_existing_filesystem_is_refused_unless_forced(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-q", "-L", "first", str(image), "16M"]) == 0
    before = image.read_bytes()
    assert _refused(capsys, image) == (
        f"mkfs.lfs: {image} holds an lfs filesystem labelled 'first': use -f to overwrite it"
    )
    assert image.read_bytes() == before
    assert main(["-q", "-f", "-L", "second", str(image)]) == 0
    assert _superblock(image).label == b"second"


def test_mkfs_foreign_filesystem_is_refused_unless_forced(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image.write_bytes(b"XFSB" + bytes((16 << 20) - 4))
    assert _refused(capsys, image) == (
        f"mkfs.lfs: {image} holds an XFS filesystem: use -f to overwrite it"
    )
    assert main(["-q", "-f", str(image)]) == 0
    assert image.read_bytes()[:4] == bytes(4)


def test_mkfs_keeps_the_space_of_an_image_if_asked(image: Path) -> None:
    image.write_bytes(b"x" * (32 << 20))
    assert main(["-q", "-K", "-f", str(image)]) == 0
    assert image.stat().st_blocks * 512 >= 32 << 20
    assert main(["-q", "-f", str(image)]) == 0
    assert image.stat().st_blocks * 512 < 4 << 20


def test_mkfs_longer_size_extends_an_image(image: Path) -> None:
    image.write_bytes(bytes(4096))
    assert main(["-q", str(image), "16M"]) == 0
    assert image.stat().st_size == 16 << 20
    assert _superblock(image, (16 << 20) - 4096).segment_count == 62


def test_mkfs_shorter_size_cuts_an_image_only_if_forced(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image.write_bytes(bytes(32 << 20))
    assert _refused(capsys, image, "16M") == (
        f"mkfs.lfs: {image} has 32 MiB, more than SIZE: use -f to cut it off"
    )
    assert image.stat().st_size == 32 << 20
    assert main(["-q", "-f", str(image), "16M"]) == 0
    assert image.stat().st_size == 16 << 20
    assert _superblock(image, (16 << 20) - 4096).segment_count == 62


def test_mkfs_mounted_target_is_refused_even_if_forced(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image.write_bytes(bytes(16 << 20))

    def refuse(path: Path) -> None:
        raise UsageError(f"{path} is mounted on /mnt")

    monkeypatch.setattr(command, "refuse_swap", refuse)
    assert _refused(capsys, "-f", image) == f"mkfs.lfs: {image} is mounted on /mnt"
    assert image.read_bytes() == bytes(16 << 20)


def test_mkfs_locked_target_is_refused_even_if_forced(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LOCK_WAIT_SECONDS", 0.0)
    image.write_bytes(bytes(16 << 20))
    with locked_file(image):
        assert f"{image} is in use by " in _refused(capsys, "-f", image)
    assert image.read_bytes() == bytes(16 << 20)


@pytest.mark.parametrize("existing", [True, False])
def test_mkfs_failure_midway_leaves_no_filesystem(
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    existing: bool,
) -> None:
    if existing:
        assert main(["-q", str(image), "16M"]) == 0

    def fail(device: BlockDevice, *_: object) -> None:
        raise DeviceError(errno.ENOSPC, "write failed (No space left on device)", 1048576)

    monkeypatch.setattr(command, "format_device", fail)
    assert _refused(capsys, "-f", image, "16M") == (
        f"mkfs.lfs: {image}: write failed (No space left on device) at byte 1048576"
    )
    if existing:
        assert b"lfs-disk" not in image.read_bytes()
    else:
        assert not image.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: TARGET"),
        (["-m", "51", "a.img"], "argument -m: '51' is not from 0 to 50"),
        (["-m", "nan", "a.img"], "argument -m: 'nan' is not from 0 to 50"),
        (["-m", "x", "a.img"], "argument -m: 'x' is not a percentage"),
        (["-L", "x" * 65, "a.img"], "argument -L: a label has at most 64 bytes"),
        (["-U", "x", "a.img"], "argument -U: 'x' is not a UUID"),
        (["-b", "x", "a.img"], f"argument -b: 'x' is not {EXPECTED}"),
        (["-s", "1Z", "a.img"], f"argument -s: '1Z' is not {EXPECTED}"),
        (["a.img", "1X"], f"argument SIZE: '1X' is not {EXPECTED}"),
        (["a.img", "8388608T"], "argument SIZE: '8388608T' is more than a file or disk can have"),
        (["a.img", "16M", "17M"], "unrecognized arguments: 17M"),
        (["-z", "a.img"], "unrecognized arguments: -z"),
        (["-b"], "argument -b: expected one argument"),
    ],
)
def test_mkfs_wrong_usage_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"mkfs.lfs: {message} (see mkfs.lfs --help)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-b", "3000"], "block size 3000 is not a power of two from 1024 to 65536"),
        (["-b", "128K"], "block size 131072 is not a power of two from 1024 to 65536"),
        (
            ["-s", "4M"],
            "64 MiB is too small: with segments of 4 MiB at least 132100 KiB are needed",
        ),
        (
            ["-s", "100K"],
            "segment size 102400 is not a power of two of at least 262144 bytes (64 blocks)",
        ),
    ],
)
def test_mkfs_impossible_sizes_are_refused(
    image: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert _refused(capsys, *arguments, image, "64M") == f"mkfs.lfs: {message}"
    assert not image.exists()


def test_mkfs_too_many_segments_are_refused(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _refused(capsys, "-s", "256K", image, "16T") == (
        "mkfs.lfs: segments of 256 KiB are too small for 16 TiB: use at least 64 MiB"
    )
    assert not image.exists()


def test_mkfs_size_that_the_host_cannot_give_is_refused(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, size_bytes: int) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "truncate", refuse)
    assert _refused(capsys, image, "16M") == (
        f"mkfs.lfs: cannot make {image} 16 MiB long: File too large"
    )
    assert not image.exists()


def test_mkfs_other_error_of_the_system_is_one_line(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    image.write_bytes(bytes(16 << 20))
    monkeypatch.setattr(command, "refuse_swap", refuse)
    assert _refused(capsys, image) == f"mkfs.lfs: {image}: Too many open files"


HOLDS_DATA = "holds data (no filesystem that is known here): use -f to overwrite it"
FOREIGN = {
    "text": (b"Dear diary\n", 0),
    "text at the end of a large file": (b"x", (64 << 20) - 1),
    "text in the middle": (b"x", 32 << 20),
    "text after the last whole sector": (b"x", (32 << 20) + 5),
}


@pytest.mark.parametrize("quiet", [[], ["-q"]])
@pytest.mark.parametrize("size", [[], ["64M"]])
@pytest.mark.parametrize(("data", "offset_bytes"), FOREIGN.values(), ids=FOREIGN)
def test_mkfs_over_a_file_that_is_no_image_is_refused(
    image: Path,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    offset_bytes: int,
    size: list[str],
    quiet: list[str],
) -> None:
    with image.open("wb") as file:
        file.seek(offset_bytes)
        file.write(data)
    refused = _refused(capsys, *quiet, image, *size)
    assert refused == f"mkfs.lfs: {image} {HOLDS_DATA}"
    assert image.stat().st_size == offset_bytes + len(data)
    with image.open("rb") as file:
        file.seek(offset_bytes)
        assert file.read() == data
    assert main(["-q", "-f", str(image), "64M"]) == 0


@pytest.mark.parametrize("written", [0, 32 << 20], ids=["holes", "zeros"])
def test_mkfs_over_nothing_but_zeros_needs_no_force(image: Path, written: int) -> None:
    image.write_bytes(bytes(written))
    os.truncate(image, 64 << 20)
    assert main(["-q", str(image)]) == 0


def test_mkfs_interrupted_leaves_no_image(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "format_device", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main([str(image), "16M"])
    assert not image.exists()


@pytest.fixture
def disk(image: Path) -> Iterator[Path]:
    """Return a block device of 16 MiB."""
    image.write_bytes(bytes(16 << 20))
    with loop_device(image) as path:
        yield path


def test_mkfs_disk_that_cannot_be_had_is_refused(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _refused(capsys, disk, "15M") == (
        f"mkfs.lfs: {disk} is a block device of 16 MiB: leave SIZE away or give exactly that"
    )
    claim = os.open(disk, os.O_RDWR | os.O_EXCL)
    assert _refused(capsys, disk) == f"mkfs.lfs: {disk} is in use by the system (mounted?)"
    os.close(claim)
    assert main(["-q", str(disk), "16M"]) == 0


def test_mkfs_runs_as_a_program(image: Path) -> None:
    command_line = [sys.executable, "-m", "mkfs.main", str(image), "16M"]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith(f"{image}: lfs filesystem")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_mkfs_no_permission_is_refused(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image.write_bytes(bytes(16 << 20))
    image.chmod(0o400)
    assert _refused(capsys, image) == f"mkfs.lfs: cannot open {image}: Permission denied"
