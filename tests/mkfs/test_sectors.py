"""Disks with sectors of 4 KiB: a loop device that has them is made, mounted and checked."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from fsck.main import main as fsck
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from mkfs.main import main as mkfs
from tests.device.loops import loop_device

SECTOR_BYTES = 4096


def test_disk_with_large_sectors_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    with image.open("r+b") as file:
        file.truncate((64 << 20) + SECTOR_BYTES)
    with loop_device(image, "--sector-size", str(SECTOR_BYTES)) as loop:
        assert mkfs(["-q", "-b", "1K", str(loop)]) == 1
        assert "has sectors of 4 KiB: blocks must not be smaller (-b 4096)" in (
            capsys.readouterr().err
        )
        assert mkfs(["-q", str(loop)]) == 0
        for turn in range(2):
            with closing(FileDevice(loop)) as device:
                assert device.sector_bytes == SECTOR_BYTES
                filesystem = Filesystem.mount(device, turn + 1)
                ino = filesystem.create(ROOT_INO, b"%d" % turn, 0o100644, 0, 0, turn + 1).ino
                filesystem.write(ino, 0, b"content" * 10_000, turn + 1)
                filesystem.sync(turn + 1)
                if turn:
                    filesystem.unmount(turn + 1)
        assert fsck(["-f", str(loop)]) == 0
        assert "clean" in capsys.readouterr().out


def test_image_file_has_small_sectors(tmp_path: Path) -> None:
    image = tmp_path / "image"
    assert mkfs(["-q", "-b", "1K", str(image), "16M"]) == 0
    with closing(FileDevice(image)) as device:
        assert device.sector_bytes == 512
