"""``faultdisk serve``: what it serves and where, what it refuses, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

import faultdisk.serve as serve_command
from faultdisk.daemon import served as serving
from lfs.device.exclusion.lock import locked_file
from lfs.device.recording import Flush, Mark, Write
from lfs.device.write_log import read_events
from tests.faultdisk.commands import Capture, refused
from tests.faultdisk.conftest import Serve
from tests.faultdisk.daemons import faultdisk, make_image
from tests.faultdisk.nbd_client import NbdClient
from tests.support.mounting import run


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server that runs in the test's process leave its logging and lock wait alone."""
    monkeypatch.setattr(serve_command, "configure_logging", lambda *_, **__: None)
    monkeypatch.setattr(serving, "LOCK_WAIT_SECONDS", 0.0)


def _nbd(tmp_path: Path, image: Path, *arguments: str | Path) -> list[str]:
    """Return a command line that serves ``image`` on a socket, if it is not refused."""
    return ["serve", "-f", "--nbd", *map(str, (tmp_path / "nbd", image, *arguments))]


@pytest.mark.usefixtures("unlogged")
def test_faultdisk_serve_refuses_what_it_cannot_serve(
    tmp_path: Path, image: Path, capsys: Capture
) -> None:
    none, empty = tmp_path / "none.img", make_image(tmp_path / "empty.img", 100)
    assert refused(capsys, *_nbd(tmp_path, none)) == (
        f"cannot open {none}: No such file or directory"
    )
    assert refused(capsys, *_nbd(tmp_path, tmp_path)) == (
        f"{tmp_path} is neither an image file nor a block device"
    )
    assert refused(capsys, *_nbd(tmp_path, empty)) == (
        f"{empty} is empty: a disk has at least 512 bytes"
    )
    assert refused(capsys, *_nbd(tmp_path, image, "loss")) == (
        "fault plan, line 1, column 1: 'loss': a probability from 0% to 100%, such as 0.1% or "
        "1:1000 is expected after it"
    )
    with locked_file(image):
        assert f"{image} is in use by " in refused(capsys, *_nbd(tmp_path, image))


@pytest.mark.usefixtures("unlogged")
def test_faultdisk_serve_refuses_a_place_it_cannot_have(
    tmp_path: Path, image: Path, capsys: Capture
) -> None:
    folder, none = tmp_path / "folder", tmp_path / "none"
    folder.mkdir()
    assert refused(capsys, "serve", image) == (
        "where? Give a directory after TARGET, or --nbd SOCKET"
    )
    assert refused(capsys, "serve", image, none) == f"mount point {none} does not exist"
    assert refused(capsys, "serve", image, image) == f"mount point {image} is not a directory"
    assert refused(capsys, "serve", "-f", "--nbd", image, image) == (
        f"{image} exists and is not a socket"
    )
    assert refused(capsys, "serve", "-f", "--nbd", none / "nbd", image) == (
        f"cannot listen on {none}/nbd.faultdisk: No such file or directory"
    )
    assert refused(capsys, "serve", "-f", image, folder, "--control", image) == (
        f"{image} exists and is not a socket"
    )
    assert refused(capsys, "serve", "--nbd", "localhost:10809", image) == (
        "with a port, say where the control socket is to be: --control SOCKET"
    )
    control = str(tmp_path / "control")
    assert (
        refused(capsys, "serve", "-f", "--nbd", "0.0.0.0:10809", image, "--control", control)
        == "0.0.0.0 is not this machine alone: the protocol asks nobody's name"
    )
    assert image.read_bytes() == bytes(image.stat().st_size)


@pytest.mark.usefixtures("unlogged")
def test_faultdisk_serve_refuses_a_host_that_is_none(
    tmp_path: Path, image: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    control = tmp_path / "control"
    serve = ("serve", "-f", "--nbd", "nohost:10809", image, "--control", control)
    assert refused(capsys, *serve) == "cannot find nohost: Name or service not known"


@pytest.mark.usefixtures("unlogged")
def test_faultdisk_serve_writes_over_nothing(
    tmp_path: Path, image: Path, log: Path, capsys: Capture
) -> None:
    notes = tmp_path / "notes"
    notes.write_text("precious")
    before = log.read_bytes()
    assert refused(capsys, *_nbd(tmp_path, image, "--log", image)) == (
        f"{image} is the target already"
    )
    assert refused(capsys, *_nbd(tmp_path, image, "--report", image)) == (
        f"{image} is the target already"
    )
    assert refused(capsys, *_nbd(tmp_path, image, "--log", log, "--report", log)) == (
        f"{log} is the log already"
    )
    assert refused(capsys, *_nbd(tmp_path, image, "--log", notes)) == (
        f"{notes} exists and is not a write log"
    )
    none = tmp_path / "none" / "file"
    assert refused(capsys, *_nbd(tmp_path, image, "--log", none)) == (
        f"cannot write the log {none}: No such file or directory"
    )
    assert refused(capsys, *_nbd(tmp_path, image, "--report", none)) == (
        f"cannot write the report {none}: No such file or directory"
    )
    with locked_file(log):
        assert f"{log} is in use by " in refused(capsys, *_nbd(tmp_path, image, "--log", log))
    with locked_file(notes):
        line = refused(capsys, *_nbd(tmp_path, image, "--report", notes))
        assert f"{notes} is in use by " in line
    assert notes.read_text() == "precious"
    assert log.read_bytes() == before


def test_faultdisk_serve_nbd_prints_where_and_by_which_plan(serve: Serve, tmp_path: Path) -> None:
    report, writes = tmp_path / "report", tmp_path / "writes.log"
    served = serve("error EIO on read", "--seed=9", "--log", writes, "--report", report, nbd=True)
    assert served.printed == [
        f"disk: nbd+unix:///?socket={served.place}",
        f"control: {served.control}",
        "plan: seed 9; error EIO on read",
    ]
    served.ask("mark", text="begun")
    with NbdClient(str(served.place)) as client:
        client.go()
        assert client.ask(1, 0, data=b"x" * 512).error == 0
        assert client.ask(0, 0, 512).error == 5
    served.stop()
    assert served.errors == ""
    assert list(read_events(writes)) == [Mark("begun"), Write(0, b"x" * 512), Flush()]
    line = r"[0-9-]+T[0-9:.+-]+ fault 1: error, read 0\+512: EIO\n"
    assert re.fullmatch(line, report.read_text())


def test_faultdisk_serve_reports_on_standard_error_in_the_foreground(serve: Serve) -> None:
    served = serve("error EIO", nbd=True)
    with NbdClient(str(served.place)) as client:
        client.go()
        client.ask(0, 512, 512)
    assert served.signal(signal.SIGTERM) == 0
    target = served.error_path.with_suffix(".img")
    assert served.errors == f"faultdisk: {target}: fault 1: error, read 512+512: EIO\n"
    assert not served.place.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_faultdisk_serve_nbd_ends_by_signals(serve: Serve, number: signal.Signals) -> None:
    served = serve(nbd=True)
    assert served.signal(number) == (-number if number == signal.SIGINT else 0)
    assert not Path(served.control).exists()


def test_faultdisk_serve_after_a_cut_keeps_what_the_cut_left(serve: Serve, image: Path) -> None:
    served = serve("cache 1M", nbd=True)
    with NbdClient(str(served.place)) as client:
        client.go()
        client.ask(1, 0, data=b"x" * 512)
        served.ask("cut", survival={"mode": "none"})
    served.stop()
    assert image.read_bytes() == bytes(image.stat().st_size)


def test_faultdisk_living_control_socket_is_refused(serve: Serve, tmp_path: Path) -> None:
    served = serve(nbd=True)
    other = make_image(tmp_path / "other.img")
    done = run(
        "faultdisk.main", "serve", "--nbd", tmp_path / "other", other, "--control", served.control
    )
    assert done.returncode == 1
    assert done.stderr == f"faultdisk: {served.control} is in use by another server\n"
    assert served.ask("show")["ok"]


@pytest.mark.fuse
def test_faultdisk_serve_in_the_background(tmp_path: Path, image: Path) -> None:
    place = tmp_path / "door"
    place.mkdir()
    printed = faultdisk("serve", image, place, "cache 1M", "--seed", "3").splitlines()
    try:
        assert printed == [
            f"disk: {place}/disk",
            f"control: {place}.faultdisk",
            "plan: seed 3; cache 1M",
        ]
        assert (place / "disk").stat().st_size == image.stat().st_size
        busy = run("faultdisk.main", "serve", image, place)
        assert busy.returncode == 1
        assert busy.stderr == (
            f"faultdisk: mount point {place} is busy: {image} is mounted there\n"
        )
        assert faultdisk("show", place).startswith("plan    seed 3; cache 1M\n")
    finally:
        assert faultdisk("stop", place) == ""
    with locked_file(image):
        assert list(place.iterdir()) == []


def test_faultdisk_serve_nbd_in_the_background(tmp_path: Path, image: Path) -> None:
    place = tmp_path / "nbd"
    printed = faultdisk("serve", "--nbd", place, image)
    assert re.fullmatch(r"disk: .*\ncontrol: .*\nplan: seed [0-9]+\n", printed)
    assert faultdisk("stop", place) == ""
    assert not place.exists()


def test_faultdisk_background_failure_is_one_line(tmp_path: Path) -> None:
    done = run("faultdisk.main", "serve", "--nbd", tmp_path / "nbd", tmp_path / "none.img")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"faultdisk: cannot open {tmp_path}/none.img: No such file or directory\n"
    )
