"""One user of an image, whichever command comes first and by whatever path the second.

How paths to the same bytes exclude each other is held for the library by
``test_exclusion.py`` beside this file; here every command goes through it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import faultdisk.daemon.served
import faultdisk.offline
import fsck.main
import lfs.cli.filefrag
import mkfs.main
from faultdisk.main import main as faultdisk_main
from lfs.cli.main import main as lfs_main
from lfs.common.errors import UsageError
from lfs.device.file import FileDevice
from lfs.device.write_log import WriteLog
from lfs.filesystem import Filesystem
from lfs.kernel.mountpoint import MountError
from lfs.mount import session
from lfs.mount.options import MountOptions
from tests.device.loops import loop_device
from tests.faultdisk.daemons import ServedDisk
from tests.support.mounting import MountedImage, make_image

Capture = pytest.CaptureFixture[str]
Command = Callable[[Path, Path, Capture], list[str]]
"""Fails to use a target, given a folder besides; returns the lines that it said."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "test.img", "16M")


@pytest.fixture
def loop(image: Path) -> Iterator[Path]:
    with loop_device(image) as path:
        yield path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    _let_wait(monkeypatch, 0.0)


def _let_wait(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (session, mkfs.main, fsck.main, faultdisk.daemon.served, faultdisk.offline):
        monkeypatch.setattr(module, "LOCK_WAIT_SECONDS", seconds)
    monkeypatch.setattr(lfs.cli.filefrag, "_LOCK_WAIT_SECONDS", seconds)


def _mount(read_only: bool) -> Command:
    def mount(target: Path, folder: Path, capture: Capture) -> list[str]:
        request = session.MountRequest(str(target), str(folder), MountOptions(read_only=read_only))
        with pytest.raises(MountError) as caught:
            session.serve(request, lambda: None)
        assert caught.value.exit_code == 32
        return [*_lines(capture, "mount.lfs"), str(caught.value)]

    return mount


def _tool(main: Callable[[list[str]], int], name: str, code: int, *words: str) -> Command:
    def run(target: Path, folder: Path, capture: Capture) -> list[str]:
        log = folder / "events.log"
        WriteLog(str(log), 16 << 20).close()
        values = {"TARGET": str(target), "DIR": str(folder), "LOG": str(log)}
        assert main([values.get(word, word) for word in words]) == code
        return _lines(capture, name)

    return run


def _lines(capture: Capture, name: str) -> list[str]:
    """Return what a command said on standard error, which was all that it said."""
    output = capture.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert all(line.startswith(f"{name}: ") for line in lines), lines
    return [line.removeprefix(f"{name}: ") for line in lines]


def _library(target: Path, _: Path, __: Capture) -> list[str]:
    with pytest.raises(UsageError) as caught:
        FileDevice(target)
    return [str(caught.value)]


_COMMANDS: dict[str, Command] = {
    "mount": _mount(False),
    "read-only mount": _mount(True),
    "mkfs": _tool(mkfs.main.main, "mkfs.lfs", 1, "-f", "TARGET"),
    "mkfs -n": _tool(mkfs.main.main, "mkfs.lfs", 1, "-n", "-f", "TARGET"),
    "fsck": _tool(fsck.main.main, "fsck.lfs", 8, "TARGET"),
    "faultdisk serve": _tool(faultdisk_main, "faultdisk", 1, "serve", "-f", "TARGET", "DIR"),
    "faultdisk serve --read-only": _tool(
        faultdisk_main, "faultdisk", 1, "serve", "--read-only", "-f", "TARGET", "DIR"
    ),
    "faultdisk replay": _tool(faultdisk_main, "faultdisk", 1, "replay", "LOG", "TARGET"),
    "filefrag": _tool(lfs_main, "lfs", 1, "filefrag", "--image", "TARGET", "/"),
    "library": _library,
}


@pytest.mark.parametrize("way", ["file", "loop"])
@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_respects_a_writer(
    image: Path, loop: Path, tmp_path: Path, command: str, way: str, capsys: Capture
) -> None:
    first, second = (image, loop) if way == "loop" else (loop, image)
    folder = tmp_path / "folder"
    folder.mkdir()
    before = image.read_bytes()
    with contextlib.closing(FileDevice(first)):
        (line,) = _COMMANDS[command](second, folder, capsys)
    assert line.startswith(f"{second} is in use by process ")
    assert image.read_bytes() == before


@pytest.mark.parametrize("command", [name for name in _COMMANDS if name != "library"])
def test_every_command_says_at_once_for_whom_it_waits(
    image: Path, tmp_path: Path, command: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _let_wait(monkeypatch, 0.2)
    with contextlib.closing(FileDevice(image)):
        note, refusal = _COMMANDS[command](image, folder, capsys)
    assert refusal.startswith(f"{image} is in use by process ")
    assert note == f"{refusal}: waiting for up to 0.2 seconds"


@pytest.mark.parametrize("option", ["--log", "--report"])
def test_what_is_served_takes_no_log_of_itself(
    image: Path, loop: Path, tmp_path: Path, option: str, capsys: Capture
) -> None:
    before = image.read_bytes()
    words = ["serve", "-f", "--nbd", str(tmp_path / "socket"), str(loop), option, str(image)]
    assert faultdisk_main(words) == 1
    assert capsys.readouterr().err == f"faultdisk: {image} is the target already\n"
    assert faultdisk_main(["replay", str(image), str(loop)]) == 1
    assert capsys.readouterr().err == f"faultdisk: {loop} is the log itself\n"
    assert image.read_bytes() == before


@pytest.mark.parametrize("way", ["file", "loop", "other loop"])
@pytest.mark.parametrize("command", ["mkfs", "read-only mount", "library"])
@pytest.mark.fuse
def test_mount_is_respected_by_every_way(
    image: Path, loop: Path, tmp_path: Path, command: str, way: str, capsys: Capture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with loop_device(image) as other:
        targets = {"file": image, "loop": loop, "other loop": other}
        mounted = MountedImage(targets["file" if way != "file" else "loop"], tmp_path / "mnt")
        try:
            (mounted.path / "f").write_bytes(b"kept")
            (line,) = _COMMANDS[command](targets[way], folder, capsys)
            holder = f"{targets[way]} is in use by process {mounted.process.pid} "
            assert line.startswith(holder)
            assert line.endswith(f", mounted on {mounted.path}")
        finally:
            mounted.close()
    device = FileDevice(image)
    with contextlib.closing(device):
        filesystem = Filesystem.mount(device, 1)
        inode = filesystem.lookup(1, b"f")
        assert filesystem.read(inode.ino, 0, 10, 1) == b"kept"
        filesystem.unmount(1)


@pytest.mark.parametrize("way", ["file", "loop"])
@pytest.mark.fuse
def test_served_disk_is_respected_by_every_way(
    image: Path, loop: Path, tmp_path: Path, way: str, capsys: Capture
) -> None:
    first, second = (image, loop) if way == "loop" else (loop, image)
    folder = tmp_path / "folder"
    folder.mkdir()
    served = ServedDisk(tmp_path / "place", first, "--report", tmp_path / "report")
    try:
        for name in ("mkfs", "read-only mount", "fsck", "library"):
            (line,) = _COMMANDS[name](second, folder, capsys)
            assert line.startswith(f"{second} is in use by process {served.process.pid} ")
            assert line.endswith(f", mounted on {served.place}")
    finally:
        served.close()
