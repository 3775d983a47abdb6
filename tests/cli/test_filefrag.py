"""``lfs filefrag``: tables of extents, and both ways to get them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from lfs.cli.filefrag import FileMap, describe, fragment_count
from lfs.cli.main import main
from lfs.control.extents import Extent
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from mkfs.main import main as mkfs

BLOCK_BYTES = 4096


@pytest.mark.parametrize(
    ("found", "count"),
    [
        ([], 0),
        ([(0, 100, 5)], 1),
        ([(0, 100, 5), (5, 105, 5)], 1),
        ([(0, 100, 5), (9, 105, 5)], 1),
        ([(0, 100, 5), (5, 200, 5)], 2),
        ([(0, 5, 5), (5, 0, 5)], 2),
    ],
)
def test_fragment_count(found: list[Extent], count: int) -> None:
    assert fragment_count(found) == count


def test_describe_shows_where_the_file_jumps() -> None:
    file_map = FileMap("f", 10 * BLOCK_BYTES - 1, BLOCK_BYTES, [(0, 100, 5), (5, 200, 5)])
    assert describe(file_map).splitlines() == [
        "File size of f is 40959 (10 blocks of 4096 bytes)",
        " ext:     logical_offset:        physical_offset: length:   expected: flags:",
        "   0:        0..       4:        100..       104:      5:",
        "   1:        5..       9:        200..       204:      5:        105: last",
        "f: 2 extents found",
    ]


def test_describe_of_a_file_without_blocks() -> None:
    assert describe(FileMap("f", 5, BLOCK_BYTES, [])).splitlines() == [
        "File size of f is 5 (1 block of 4096 bytes)",
        "f: 0 extents found",
    ]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an image with a file of 1 MiB called sub/file and a small one."""
    path = tmp_path / "test.img"
    assert mkfs(["-q", str(path), "64M"]) == 0
    with contextlib.closing(FileDevice(path)) as device:
        filesystem = Filesystem.mount(device, 0)
        directory = filesystem.mkdir(ROOT_INO, b"sub", 0o755, 0, 0, 1)
        file = filesystem.create(directory.ino, b"file", 0o100644, 0, 0, 2)
        filesystem.write(file.ino, 0, os.urandom(1 << 20), 3)
        filesystem.create(ROOT_INO, b"small", 0o100644, 0, 0, 2)
        filesystem.unmount(4)
    return path


def test_filefrag_of_an_image(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = image.read_bytes()
    assert main(["filefrag", "--image", str(image), "/sub/file", "small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "File size of /sub/file is 1048576 (256 blocks of 4096 bytes)"
    lengths = [int(line.split(":")[3]) for line in lines if ".." in line]
    assert sum(lengths) == 256
    assert lines[-1] == "small: 0 extents found"
    assert image.read_bytes() == before


def test_filefrag_of_an_image_without_the_file(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["filefrag", "--image", str(image), "sub/none"]) == 1
    assert capsys.readouterr().err == "lfs: sub/none: No such file or directory\n"


def test_filefrag_of_a_file_elsewhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").touch()
    assert main(["filefrag", str(tmp_path / "f")]) == 1
    assert (
        capsys.readouterr().err == f"lfs: {tmp_path / 'f'} is not on a mounted lfs (see --image)\n"
    )
