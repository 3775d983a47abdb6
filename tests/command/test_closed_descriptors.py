"""Started with 0, 1 or 2 closed, as some service managers do: commands work as ever.

No image gets one of these numbers, so no message goes into one, and no daemon that
lets go of its terminal closes its image or its lock.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfs.common.errors import UsageError
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem, Options
from lfs.kernel.mountpoint import find_mount, unmount
from lfs.ondisk import ROOT_INO
from tests.support.mounting import WAIT_SECONDS, command, environment, make_image, wait_until

CLOSED = ((0,), (1,), (2,), (0, 1, 2))
CONTENT = b"everything is there " * 1000

closed_descriptors = pytest.mark.parametrize(
    "closed", CLOSED, ids=lambda numbers: "closed " + "".join(map(str, numbers))
)


def run_closed(closed: tuple[int, ...], module: str, *words: str | Path) -> str:
    """Run a command to its end with some of 0, 1 and 2 closed; return what could be read.

    It must end well.
    """
    with start_closed(closed, module, *words) as process:
        try:
            output, errors = process.communicate(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, (module, words, output, errors)
    return str(output + errors)


def start_closed(closed: tuple[int, ...], module: str, *words: str | Path) -> subprocess.Popen[str]:
    """Start a command with some of 0, 1 and 2 closed."""
    redirections = " ".join(f"{number}<&-" for number in closed)
    return subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *command(module, *words)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def content_of(image: Path) -> bytes:
    """Return what the file ``f`` on an image holds, after a check of all of it."""
    run_closed((), "fsck.main", "-f", image)
    with contextlib.closing(FileDevice(image, read_only=True)) as device:
        filesystem = Filesystem.mount(device, 1, Options(read_only=True))
        inode = filesystem.lookup(ROOT_INO, b"f")
        return filesystem.read(inode.ino, 0, inode.size, 1)


def is_in_use(image: Path) -> bool:
    try:
        FileDevice(image).close()
    except UsageError:
        return True
    return False


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    """See to it that nothing stays mounted."""
    try:
        yield
    finally:
        if find_mount(str(place)) is not None:
            unmount(str(place), lazily=True)
        wait_until(lambda: not is_in_use(image), "the daemon has ended")


@closed_descriptors
def test_mkfs_and_fsck(tmp_path: Path, closed: tuple[int, ...]) -> None:
    image = tmp_path / "test.img"
    run_closed(closed, "mkfs.main", image, "16M")
    before = image.read_bytes()
    run_closed(closed, "fsck.main", "-v", "-f", image)
    run_closed(closed, "lfs.cli.main", "filefrag", "--image", image, "/")
    assert image.read_bytes() == before


@closed_descriptors
def test_a_refusal_writes_nothing(tmp_path: Path, closed: tuple[int, ...]) -> None:
    image = make_image(tmp_path / "test.img", "16M")
    before = image.read_bytes()
    for module, code in (("mkfs.main", 1), ("lfs.cli.main", 2), ("faultdisk.main", 2)):
        process = start_closed(closed, module, image)
        process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == code
    assert image.read_bytes() == before


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("closed", "foreground"),
    [*((numbers, False) for numbers in CLOSED), (CLOSED[-1], True)],
    ids=str,
)
def test_mount_and_unmount(tmp_path: Path, closed: tuple[int, ...], foreground: bool) -> None:
    image = make_image(tmp_path / "test.img", "16M")
    place = tmp_path / "mnt"
    place.mkdir()
    with mounted(image, place):
        words = [str(image), str(place), "-o", "commit=0.1", *(["-f"] if foreground else [])]
        process = start_closed(closed, "lfs.mount.main", *words)
        if foreground:
            wait_until(lambda: find_mount(str(place)) is not None, "it is mounted")
        else:
            assert process.wait(WAIT_SECONDS) == 0
        (place / "f").write_bytes(CONTENT)
        assert is_in_use(image)
        run_closed(closed, "lfs.cli.main", "sync", place)
        run_closed(closed, "lfs.cli.main", "requests", place)
        run_closed(closed, "lfs.cli.main", "filefrag", place / "f")
        run_closed(closed, "lfs.mount.main", image, place, "-o", "remount,noatime")
        run_closed(closed, "lfs.mount.unmount", place)
        assert process.wait(WAIT_SECONDS) == 0
        process.communicate(timeout=WAIT_SECONDS)
    assert content_of(image) == CONTENT


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("closed", "door"), [*((numbers, "fuse") for numbers in CLOSED), (CLOSED[-1], "nbd")], ids=str
)
def test_faultdisk(tmp_path: Path, closed: tuple[int, ...], door: str) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    log = tmp_path / "log"
    place = tmp_path / "place"
    if door == "fuse":
        place.mkdir()
    words = [image, place] if door == "fuse" else ["--nbd", place, image]
    with mounted(image, place):
        run_closed(closed, "faultdisk.main", "serve", "--log", log, *words)
        if door == "fuse":
            with (place / "disk").open("r+b", buffering=0) as disk:
                disk.write(CONTENT[:4096])
        assert is_in_use(image)
        run_closed(closed, "faultdisk.main", "mark", place, "here")
        run_closed(closed, "faultdisk.main", "stats", place)
        run_closed(closed, "faultdisk.main", "stop", place)
    written = CONTENT[:4096] if door == "fuse" else bytes(4096)
    expected = written + bytes((1 << 20) - 4096)
    assert image.read_bytes() == expected
    run_closed(closed, "faultdisk.main", "log", log)
    again = tmp_path / "again.img"
    again.write_bytes(bytes(1 << 20))
    run_closed(closed, "faultdisk.main", "replay", log, again)
    assert again.read_bytes() == expected
