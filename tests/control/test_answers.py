"""What a mounted filesystem answers at the door, and whom."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfs.cli.main import main
from lfs.control import door, questions
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem, Options
from lfs.kernel.mountpoint import is_dead
from lfs.ondisk import ROOT_INO
from tests.support.mounting import MountedImage, environment, shown_to_others, wait_until

pytestmark = pytest.mark.fuse


def refused(path: str, question: str, argument: str = "") -> int | None:
    """Return the errno that the call itself ends with."""
    try:
        door.ask(path, question, argument)
    except OSError as error:
        return error.errno
    raise AssertionError(f"{question} {argument} is answered")


def test_every_question_is_answered(image: Path, mount: Callable[..., MountedImage]) -> None:
    mounted = mount(image, "-o", "commit=9,x-note=\\,")
    path = str(mounted.path)
    (mounted.path / "f").write_bytes(os.urandom(1 << 20))
    assert door.ask(path, questions.TARGET) == {"target": str(image)}
    assert door.ask(path, questions.STATE) == {"state": "writable", "failure": ""}
    assert door.ask(path, questions.OPTIONS) == {"options": ["commit=9", "x-note=,"]}
    assert door.ask(path, questions.SYNC) == {}
    extents = door.ask(f"{path}/f", questions.EXTENTS, "0")["extents"]
    assert sum(count for _, _, count in extents) == 256
    assert door.ask(path, questions.REQUESTS)["requests"]["create"] == 1
    assert any("mounted" in line for line in door.ask(path, questions.LOG)["lines"])
    assert door.ask(path, questions.REMOUNT, "commit=8") == {}


@pytest.mark.parametrize(
    ("question", "argument", "code"),
    [
        ("other", "", errno.EOPNOTSUPP),
        ("", "", errno.EOPNOTSUPP),
        ("state", "x" * 300, errno.ERANGE),
        ("state", "x", errno.EINVAL),
        ("sync", "x.y", errno.EINVAL),
        ("remount", "fault=loss 1%", errno.EINVAL),
        ("remount", "debug", errno.EINVAL),
        ("extents", "", errno.EINVAL),
        ("extents", "x", errno.EINVAL),
        ("extents", "-1", errno.EINVAL),
        ("extents", "1.2", errno.EINVAL),
        ("extents", "9" * 30, errno.EINVAL),
        ("extents", "\u0661", errno.EINVAL),
    ],
)
def test_nonsense_is_refused(directory: Path, question: str, argument: str, code: int) -> None:
    assert refused(str(directory), question, argument) == code


def test_asking_is_not_counted_and_not_listed(directory: Path) -> None:
    path = str(directory)
    questions.read_counts(path)
    before = questions.read_counts(path)
    for question in (questions.STATE, questions.SYNC, questions.LOG):
        door.ask(path, question)
    assert refused(path, "other") == errno.EOPNOTSUPP
    assert questions.read_counts(path)["getxattr"] == before["getxattr"]
    assert os.listxattr(directory) == []


def test_sync_makes_everything_durable(
    image: Path, mount: Callable[..., MountedImage], tmp_path: Path
) -> None:
    mounted = mount(image, "-o", "commit=3600")
    (mounted.path / "f").write_text("content")
    assert main(["sync", str(mounted.path)]) == 0
    copy = tmp_path / "copy.img"
    copy.write_bytes(image.read_bytes())
    with contextlib.closing(FileDevice(copy, read_only=True)) as device:
        filesystem = Filesystem.mount(device, 0, Options(read_only=True))
        ino = filesystem.lookup(ROOT_INO, b"f").ino
        assert filesystem.read(ino, 0, 100, 0) == b"content"


def test_what_cannot_be_made_durable_is_named(
    image: Path, mount: Callable[..., MountedImage], capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = mount(image, "-o", "fault=error EIO on flush skip 3")
    path = mounted.path / "f"
    while main(["sync", str(mounted.path)]) == 0:
        path.write_bytes(os.urandom(8192))
    capsys.readouterr()
    assert main(["filefrag", str(path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"lfs: {path}: ")
    assert err.count("\n") == 1


def test_image_that_is_mounted_is_asked_at_its_mount(
    image: Path, mount: Callable[..., MountedImage], capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_bytes(os.urandom(1 << 20))
    assert main(["filefrag", "--json", "--image", str(image), "/f"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["files"]
    assert (told["name"], told["size_bytes"]) == ("/f", 1 << 20)
    assert sum(count for _, _, count in told["extents"]) == 256


@pytest.mark.parametrize("path", ["fifo", "link", "sub/away/f", "none", "../../etc/passwd"])
def test_filefrag_of_what_is_no_file_inside_an_image(
    image: Path, mount: Callable[..., MountedImage], capsys: pytest.CaptureFixture[str], path: str
) -> None:
    mounted = mount(image)
    os.mkfifo(mounted.path / "fifo")
    (mounted.path / "sub").mkdir()
    (mounted.path / "f").write_text("content")
    (mounted.path / "link").symlink_to("f")
    (mounted.path / "sub" / "away").symlink_to("..")
    for asked in (["--image", str(image), path], [str(mounted.path / path)]):
        if path in ("fifo", "none") or asked[0] == "--image":
            assert main(["filefrag", *asked]) == 1
            assert capsys.readouterr().err.count("\n") == 1
    mounted.stop()
    assert main(["filefrag", "--image", str(image), path]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_filefrag_of_an_image_whose_daemon_has_died(
    image: Path, mount: Callable[..., MountedImage], capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_bytes(os.urandom(8192))
    assert main(["sync", str(mounted.path)]) == 0
    mounted.signal(signal.SIGKILL)
    wait_until(lambda: is_dead(str(mounted.path)), "the end of the daemon")
    assert main(["filefrag", "--image", str(image), "f"]) == 0
    assert "1 extent found" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["state", "log", "requests", "sync"])
def test_json_is_one_object_on_one_line(
    directory: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--json", str(directory)]) == 0
    out = capsys.readouterr().out
    answer: dict[str, Any] = json.loads(out)
    assert answer
    assert out.count("\n") == 1


_AS_NOBODY = """
import contextlib, io, os, sys
from lfs.cli.main import main
# What is imported late must be here before: another user may not see where it lies.
with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
    main(["nothing"])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("command", "name"),
    [("state", ""), ("log", ""), ("requests", ""), ("sync", ""), ("filefrag", "f")],
)
def test_others_are_told_who_may_ask(
    image: Path, mount: Callable[..., MountedImage], command: str, name: str
) -> None:
    mounted = mount(image)
    (mounted.path / "f").write_text("for everybody to read")
    with shown_to_others(mounted.path) as open_path:
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, command, str(open_path / name)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    text = f"lfs: {open_path / name}: only root and the user who mounted it may ask this\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", text)
