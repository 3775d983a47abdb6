"""What the command says of a filesystem that the next mount makes whole by itself: a line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsck.main import main
from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO, SUPERBLOCK_OFFSET_BYTES
from tests.support.disks import REGULAR
from tests.support.volumes import format_small

SIZE_BYTES = 8 << 20


def _filesystem(unmount: bool) -> MemoryDevice:
    device = MemoryDevice(SIZE_BYTES)
    format_small(device, 4096, 64)
    filesystem = Filesystem.mount(device, 1)
    for number in range(3):
        filesystem.create(ROOT_INO, b"%d" % number, REGULAR, 0, 0, 1)
        filesystem.sync(1)
    if unmount:
        filesystem.unmount(1)
    return device.copy()


def _output(
    device: MemoryDevice, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> list[str]:
    """Run the command, which ends with 0, and return its lines."""
    image = tmp_path / "image"
    image.write_bytes(device.read(0, SIZE_BYTES))
    assert main([*options, str(image)]) == 0
    return capsys.readouterr().out.splitlines()


def _lose_checkpoint(device: MemoryDevice, index: int) -> int:
    """Damage the newest (0) or the older (1) checkpoint; return its region."""
    layout = read_superblock(device)
    region = read_checkpoints(device, layout)[index].number % 2
    device.write(layout.checkpoint_offset_bytes[region], [b"\xff" * 4096])
    return region


def test_clean_filesystem_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ((), ("-f",), ("-a",)):
        lines = _output(_filesystem(unmount=True), tmp_path, capsys, *options)
        assert [": clean, 4 inodes" in line for line in lines] == [True], options


@pytest.mark.parametrize("options", [(), ("-f",), ("-n",)])
@pytest.mark.parametrize("index", [0, 1])
def test_lost_checkpoint_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    index: int,
    options: tuple[str, ...],
) -> None:
    device = _filesystem(unmount=True)
    region = _lose_checkpoint(device, index)
    lines = _output(device, tmp_path, capsys, *options)
    assert f"checkpoint region {region} does not hold" in lines[0]
    assert lines[0].endswith("the next writable mount writes it again")
    assert ": clean, 4 inodes" in lines[-1]


def test_log_that_waits_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _output(_filesystem(unmount=False), tmp_path, capsys)
    assert len(lines) == 2
    assert "not unmounted cleanly: 3 commits wait in the log" in lines[0]
    assert lines[0].endswith("the next writable mount replays them")


@pytest.mark.parametrize("place", [SUPERBLOCK_OFFSET_BYTES, SIZE_BYTES - 4096])
def test_lost_superblock_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    device = _filesystem(unmount=True)
    device.write(place, [bytes(4096)])
    lines = _output(device, tmp_path, capsys)
    assert lines[0].startswith(f"a superblock is lost, at byte {place} ")
    assert len(lines) == 2


def test_all_of_it_is_one_line_at_boot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = _filesystem(unmount=False)
    _lose_checkpoint(device, 1)
    device.write(SUPERBLOCK_OFFSET_BYTES, [bytes(4096)])
    (line,) = _output(device, tmp_path, capsys, "-a")
    assert "clean" in line
    for part in ("3 commits wait", "checkpoint region", "a superblock is lost"):
        assert part in line


def test_mount_makes_all_of_it_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = _filesystem(unmount=False)
    _lose_checkpoint(device, 1)
    device.write(SUPERBLOCK_OFFSET_BYTES, [bytes(4096)])
    Filesystem.mount(device, 2).unmount(3)
    assert len(_output(device, tmp_path, capsys, "-f")) == 1


def test_clean_mount_makes_a_lost_checkpoint_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = _filesystem(unmount=True)
    _lose_checkpoint(device, 1)
    Filesystem.mount(device, 2).unmount(3)
    assert len(_output(device, tmp_path, capsys, "-f")) == 1
