"""The command line: what each command prints, and how it refuses."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import faultdisk.offline as offline_commands
import faultdisk.serve as serve_command
from faultdisk import serving
from faultdisk.control import ControlServer
from faultdisk.main import main
from faultdisk.nbd.server import NbdServer
from faultdisk.sockets import UnixListener
from lfs.checksum import checksum
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.grammar import parse_plan
from lfs.device.lock import ImageLock
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Discard, Event, Flush, Mark, Write
from lfs.device.write_log import WriteLog, read_events
from tests.faultdisk.conftest import Serve
from tests.faultdisk.nbd_client import NbdClient
from tests.faultdisk.serving import faultdisk, make_image
from tests.fuse.mounting import run

Capture = pytest.CaptureFixture[str]


def _refused(capsys: Capture, *arguments: str | Path) -> str:
    """Run faultdisk, expect exit code 1 and one line of error; return the line."""
    assert main(list(map(str, arguments))) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("faultdisk: ")
    assert output.err.count("\n") == 1
    return output.err.removeprefix("faultdisk: ").rstrip("\n")


def _done(capsys: Capture, *arguments: str | Path) -> str:
    """Run faultdisk, expect that it does well; return what it printed."""
    assert main(list(map(str, arguments))) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


# ---------------------------------------------------------------------- a running disk


@pytest.fixture
def device() -> FaultDevice:
    return FaultDevice(MemoryDevice(1 << 20), parse_plan("seed 5; cache 64K"))


@pytest.fixture
def disk(tmp_path: Path, device: FaultDevice) -> Iterator[Path]:
    """What a command names a disk by: here a directory with a control socket beside it."""
    place = tmp_path / "door"
    place.mkdir()
    with ControlServer(f"{place}.faultdisk", device):
        yield place


def test_faultdisk_set_replaces_the_plan(disk: Path, device: FaultDevice, capsys: Capture) -> None:
    # Spaces, slashes at the end, and options after the plan are all right.
    printed = _done(capsys, "set", f"{disk}/", "loss", "1%;", "delay 10ms", "--seed", "7")
    assert printed == "plan: seed 7; loss 1%; delay 10ms\n"
    assert device.plan == parse_plan("seed 7; loss 1%; delay 10ms")
    assert _done(capsys, "set", f"{disk}.faultdisk", "seed 3; loss 2%", "--seed", "7") == (
        "plan: seed 3; loss 2%\n"
    )


def test_faultdisk_set_draws_a_seed(disk: Path, device: FaultDevice, capsys: Capture) -> None:
    printed = _done(capsys, "set", disk, "")
    assert re.fullmatch(r"plan: seed [0-9]+\n", printed)
    assert printed == f"plan: {device.plan.text}\n"


def test_faultdisk_set_takes_a_file_and_knows_where_it_is(
    disk: Path,
    device: FaultDevice,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "plan").write_text("seed 1 # a comment\nerror EIO while trigger\n")
    monkeypatch.chdir(tmp_path)
    _done(capsys, "set", disk, "@plan")
    assert device.plan.rules[0].when.file == str(tmp_path / "trigger")


def test_faultdisk_show_and_faults(disk: Path, device: FaultDevice, capsys: Capture) -> None:
    device.write(0, [bytes(512)])
    assert _done(capsys, "show", disk).splitlines() == [
        "plan    seed 5; cache 64K",
        "power   on",
        "cached  1 writes, 512 bytes",
        "faults  none",
    ]
    device.set_plan(parse_plan("corrupt 100%; cache 64K"))
    device.read(0, 512)
    _done(capsys, "pause", disk)
    shown = _done(capsys, "show", disk).splitlines()
    assert shown[1] == "power   on, paused"
    assert shown[3] == "faults  corrupt 1"
    _done(capsys, "resume", disk)
    assert not device.paused
    assert _done(capsys, "faults", disk).startswith("fault 1: corrupt, read 0+512: bit ")
    assert json.loads(_done(capsys, "faults", disk, "--json"))[0]["kind"] == "corrupt"


def test_faultdisk_stats_are_an_aligned_table(
    disk: Path, device: FaultDevice, capsys: Capture
) -> None:
    assert _done(capsys, "stats", disk).endswith("\n\nno faults\n")
    device.set_plan(parse_plan("seed 1; delay 1500us on read; corrupt 100% on read"))
    device.read(4096, 4096)
    device.write(0, [bytes(512)])
    table, faults = _done(capsys, "stats", disk).split("\n\n")
    rows = table.splitlines()
    assert rows[0].split() == (
        ["requests", "count", "bytes", "errors", "seeks", "p50", "p90", "p99", "p99.9", "max"]
    )
    assert rows[1].split()[:5] == ["read", "1", "4096", "0", "1"]
    assert rows[1].endswith("1.5 ms")
    assert [row.split()[0] for row in rows[1:]] == ["read", "write", "flush", "discard"]
    assert len({len(row) for row in rows}) == 1
    assert faults.splitlines() == ["faults   count", "corrupt      1"]
    report = json.loads(_done(capsys, "stats", disk, "--json"))
    assert report == json.loads(json.dumps(device.report()))


def test_faultdisk_mark_cut_and_restart(disk: Path, device: FaultDevice, capsys: Capture) -> None:
    assert _done(capsys, "mark", disk, "here") == ""
    for place in (0, 512, 1024, 1536):
        device.write(place, [b"x" * 512])
    printed = _done(capsys, "cut", disk, "writes", "2", "4", "atomic", "4K")
    assert printed == "2 of 4 cached writes arrived (2 4)\n"
    assert _done(capsys, "mark", disk, "there") == "the power is off\n"
    assert "power   off" in _done(capsys, "show", disk)
    assert _refused(capsys, "cut", disk) == "the power is off already"
    assert _done(capsys, "restart", disk) == ""
    assert _done(capsys, "cut", disk, "none") == "0 of 0 cached writes arrived\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["some"],
            "cut: 'some': one of none, all, order, any, torn, writes is expected here",
        ),
        (["writes"], "cut: 'writes': a whole number above 0 is expected after it"),
        (
            ["torn", "atomic", "7"],
            "cut: '7': what arrives as a whole has whole sectors of 512 bytes",
        ),
        (["all", "loss", "1%"], "cut: 'all loss 1%' says more than what survives"),
        (["all", "nth", "3"], "cut: 'nth': cut takes no conditions"),
    ],
)
def test_faultdisk_cut_of_nonsense_is_refused(
    disk: Path, device: FaultDevice, capsys: Capture, words: list[str], reason: str
) -> None:
    assert _refused(capsys, "cut", disk, *words) == reason
    assert device.powered


def test_faultdisk_plan_error_points_at_the_word(
    disk: Path, device: FaultDevice, capsys: Capture
) -> None:
    error = "fault plan, line 1, column 10: 'dealy': unknown word; is delay meant?"
    assert _refused(capsys, "set", disk, "loss 1%; dealy") == error
    assert _refused(capsys, "check", "loss 1%; dealy") == error
    assert device.plan.text == "seed 5; cache 64K"


def test_faultdisk_plan_file_that_cannot_be_read_is_refused(
    disk: Path, tmp_path: Path, capsys: Capture
) -> None:
    missing, binary = tmp_path / "missing", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert _refused(capsys, "set", disk, f"@{missing}") == (
        f"cannot read the plan {missing}: No such file or directory"
    )
    assert _refused(capsys, "check", f"@{binary}") == (
        f"cannot read the plan {binary}: it is not text"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["set", "DISK", "loss 1%"],
        *([name, "DISK"] for name in ("show", "stats", "faults", "cut", "restart")),
        *([name, "DISK"] for name in ("pause", "resume", "stop")),
        ["mark", "DISK", "here"],
    ],
)
def test_faultdisk_disk_that_nobody_serves_is_refused(
    tmp_path: Path, capsys: Capture, words: list[str]
) -> None:
    named = [str(tmp_path) if word == "DISK" else word for word in words]
    assert _refused(capsys, *named) == f"nobody answers at {tmp_path}: Connection refused"


def test_faultdisk_other_socket_is_refused(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "nbd"
    server = NbdServer(UnixListener(str(path)), FaultDevice(MemoryDevice(512)), "")
    server.start()
    # It hangs up; whether that is seen as what it said or as a reset is chance.
    assert _refused(capsys, "show", path) in (
        f"{path} is not a control socket",
        f"nobody answers at {path}: Connection reset by peer",
        f"nobody answers at {path}: Broken pipe",
    )
    server.close()


def test_faultdisk_server_that_ends_before_it_answers_is_told(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "control"
    listener = UnixListener(str(path))

    def hang_up() -> None:
        connection, _ = listener.socket.accept()
        with connection:
            connection.recv(1 << 16)

    server = threading.Thread(target=hang_up)
    server.start()
    assert _refused(capsys, "show", path) == f"{path}: the server ended before it answered"
    server.join()
    listener.close()


def test_faultdisk_interrupted_is_one_line(
    disk: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(offline_commands, "replay", interrupt)
    assert _refused(capsys, "replay", "a.log", "a.img") == "interrupted"


def test_faultdisk_stop_where_there_is_nothing_to_stop(disk: Path, capsys: Capture) -> None:
    assert _refused(capsys, "stop", disk) == "this cannot be stopped from here: unmount it"


# --------------------------------------------------------------------- without a server


EVENTS: list[Event] = [
    Write(0, b"a" * 512),
    Write(4096, bytes(8192), True),
    Mark("half way"),
    Flush(),
    Discard(512, 1024),
    Write(0, b"b" * 512),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "writes.log"
    with WriteLog(path, 1 << 20) as log:
        for event in EVENTS:
            log.append(event)
    return path


def test_faultdisk_check_prints_the_plan(capsys: Capture) -> None:
    assert _done(capsys, "check", "loss", "0.5%", "in", "1M-2M") == "seed 0; loss 0.5% in 1M-2M\n"
    assert _done(capsys, "check", "", "--seed", "4") == "seed 4\n"


def test_faultdisk_log_lists_the_events(log: Path, capsys: Capture) -> None:
    first, *lines = _done(capsys, "log", log).splitlines()
    assert first == f"{log}: of a device of 1048576 bytes"
    assert [line.split() for line in lines] == [
        ["kind", "offset", "length", "mark"],
        ["1", "write", "0", "512"],
        ["2", "write", "4096", "8192", "fua"],
        ["3", "mark", "half", "way"],
        ["4", "flush"],
        ["5", "discard", "512", "1024"],
        ["6", "write", "0", "512"],
    ]


@pytest.mark.parametrize(
    ("end", "summary", "content"),
    [
        ([], "6 events applied (discard 1, flush 1, mark 1, write 3)", b"b"),
        (["--mark", "half way"], "3 events applied (mark 1, write 2)", b"a"),
        (["--to", "1"], "1 events applied (write 1)", b"a"),
        (["--to", "0"], "0 events applied", b"\0"),
    ],
)
def test_faultdisk_replay_applies_the_log(
    log: Path, image: Path, capsys: Capture, end: list[str], summary: str, content: bytes
) -> None:
    assert _done(capsys, "replay", log, image, *end) == f"{image}: {summary}\n"
    assert image.read_bytes()[:512] == content * 512


def test_faultdisk_replay_that_cannot_be_done_changes_nothing(
    log: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline_commands, "LOCK_WAIT_SECONDS", 0.0)
    image, small = tmp_path / "a.img", make_image(tmp_path / "b.img", 4096)
    image.write_bytes(b"z" * (1 << 20))
    before = log.read_bytes()
    assert _refused(capsys, "replay", log, image, "--mark", "x") == f"{log} has no mark 'x'"
    assert _refused(capsys, "replay", log, image, "--to", "7") == f"{log} has 6 events, not 7"
    assert _refused(capsys, "replay", image, log) == f"{image} is not a write log"
    assert _refused(capsys, "replay", log, log) == f"{log} is the log itself"
    assert _refused(capsys, "replay", log, small) == f"{log} is the log of a larger device"
    assert "No such file or directory" in _refused(capsys, "replay", log, tmp_path / "none")
    assert "No such file or directory" in _refused(capsys, "replay", tmp_path / "none", image)
    with ImageLock(image):
        assert f"{image} is in use by " in _refused(capsys, "replay", log, image)
    assert image.read_bytes() == b"z" * (1 << 20)
    assert log.read_bytes() == before


def test_faultdisk_log_with_an_unknown_record_is_refused(
    log: Path, image: Path, capsys: Capture
) -> None:
    header_bytes = 16
    with WriteLog(log, 1 << 20) as flushes:
        flushes.append(Flush())
    record = bytearray(log.read_bytes()[header_bytes:])
    record[0], record[4:8] = 9, bytes(4)
    record[4:8] = checksum(bytes(record)).to_bytes(4, "little")
    log.write_bytes(log.read_bytes()[:header_bytes] + record)
    before = image.read_bytes()
    text = f"{log} has a record of the unknown kind 9"
    assert _refused(capsys, "replay", log, image) == text
    assert image.read_bytes() == before


def test_faultdisk_log_of_no_log_is_refused(image: Path, capsys: Capture) -> None:
    assert _refused(capsys, "log", image) == f"{image} is not a write log"
    assert _refused(capsys, "log", f"{image}.x") == (
        f"cannot read the log {image}.x: No such file or directory"
    )


# ------------------------------------------------------------------------------ serving


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server that runs in the test's process leave its logging and lock wait alone."""
    monkeypatch.setattr(serve_command, "configure_logging", lambda *_: None)
    monkeypatch.setattr(serving, "LOCK_WAIT_SECONDS", 0.0)


def _nbd(tmp_path: Path, image: Path, *arguments: str | Path) -> list[str]:
    """Return a command line that serves ``image`` on a socket, if it is not refused."""
    return ["serve", "-f", "--nbd", *map(str, (tmp_path / "nbd", image, *arguments))]


@pytest.mark.usefixtures("unlogged")
def test_faultdisk_serve_refuses_what_it_cannot_serve(
    tmp_path: Path, image: Path, capsys: Capture
) -> None:
    none, empty = tmp_path / "none.img", make_image(tmp_path / "empty.img", 100)
    assert _refused(capsys, *_nbd(tmp_path, none)) == (
        f"cannot open {none}: No such file or directory"
    )
    assert _refused(capsys, *_nbd(tmp_path, tmp_path)) == (
        f"{tmp_path} is neither an image file nor a block device"
    )
    assert _refused(capsys, *_nbd(tmp_path, empty)) == (
        f"{empty} is empty: a disk has at least 512 bytes"
    )
    assert _refused(capsys, *_nbd(tmp_path, image, "loss")) == (
        "fault plan, line 1, column 1: 'loss': a probability from 0% to 100%, such as 0.1% or "
        "1:1000 is expected after it"
    )
    with ImageLock(image):
        assert f"{image} is in use by " in _refused(capsys, *_nbd(tmp_path, image))


@pytest.mark.usefixtures("unlogged")
def test_faultdisk_serve_refuses_a_place_it_cannot_have(
    tmp_path: Path, image: Path, capsys: Capture
) -> None:
    folder, none = tmp_path / "folder", tmp_path / "none"
    folder.mkdir()
    assert _refused(capsys, "serve", image) == (
        "where? Give a directory after TARGET, or --nbd SOCKET"
    )
    assert _refused(capsys, "serve", image, none) == f"mount point {none} does not exist"
    assert _refused(capsys, "serve", image, image) == f"mount point {image} is not a directory"
    assert _refused(capsys, "serve", "-f", "--nbd", image, image) == (
        f"{image} exists and is not a socket"
    )
    assert _refused(capsys, "serve", "-f", "--nbd", none / "nbd", image) == (
        f"cannot listen on {none}/nbd.faultdisk: No such file or directory"
    )
    assert _refused(capsys, "serve", "-f", image, folder, "--control", image) == (
        f"{image} exists and is not a socket"
    )
    assert _refused(capsys, "serve", "--nbd", "localhost:10809", image) == (
        "with a port, say where the control socket is to be: --control SOCKET"
    )
    control = str(tmp_path / "control")
    assert (
        _refused(capsys, "serve", "-f", "--nbd", "0.0.0.0:10809", image, "--control", control)
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
    assert _refused(capsys, *serve) == "cannot find nohost: Name or service not known"


@pytest.mark.usefixtures("unlogged")
def test_faultdisk_serve_writes_over_nothing(
    tmp_path: Path, image: Path, log: Path, capsys: Capture
) -> None:
    notes = tmp_path / "notes"
    notes.write_text("precious")
    before = log.read_bytes()
    assert _refused(capsys, *_nbd(tmp_path, image, "--log", image)) == (
        f"{image} is the target already"
    )
    assert _refused(capsys, *_nbd(tmp_path, image, "--report", image)) == (
        f"{image} is the target already"
    )
    assert _refused(capsys, *_nbd(tmp_path, image, "--log", log, "--report", log)) == (
        f"{log} is the log already"
    )
    assert _refused(capsys, *_nbd(tmp_path, image, "--log", notes)) == (
        f"{notes} exists and is not a write log"
    )
    none = tmp_path / "none" / "file"
    assert _refused(capsys, *_nbd(tmp_path, image, "--log", none)) == (
        f"cannot write the log {none}: No such file or directory"
    )
    assert _refused(capsys, *_nbd(tmp_path, image, "--report", none)) == (
        f"cannot write the report {none}: No such file or directory"
    )
    with ImageLock(log):
        assert f"{log} is in use by " in _refused(capsys, *_nbd(tmp_path, image, "--log", log))
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
    assert served.errors == "faultdisk: fault 1: error, read 512+512: EIO\n"
    assert not served.place.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_faultdisk_serve_nbd_ends_by_signals(serve: Serve, number: signal.Signals) -> None:
    served = serve(nbd=True)
    assert served.signal(number) == 0
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
    with ImageLock(image, wait_seconds=0):
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


# -------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see faultdisk --help)"),
        (["serve"], "the following arguments are required: TARGET (see faultdisk serve --help)"),
        (["check"], "the following arguments are required: PLAN (see faultdisk check --help)"),
        (
            ["check", "loss 1%", "--seed", "-1"],
            "argument --seed: '-1' is not a whole number (see faultdisk check --help)",
        ),
        (
            ["check", "loss 1%", "--seed", "x"],
            "argument --seed: 'x' is not a whole number (see faultdisk check --help)",
        ),
        (
            ["replay", "a", "b", "--to", "1", "--mark", "x"],
            "argument --mark: not allowed with argument --to (see faultdisk replay --help)",
        ),
        (["show", "a", "b"], "unrecognized arguments: b (see faultdisk show --help)"),
    ],
)
def test_faultdisk_wrong_usage_is_one_line_and_code_2(
    capsys: Capture, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"faultdisk: {message}\n"


def test_faultdisk_unknown_command_lists_the_known(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["srve"])
    assert caught.value.code == 2
    assert "invalid choice: 'srve' (choose from" in capsys.readouterr().err


def test_faultdisk_help_lists_the_commands(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "  serve    serve a disk that fails as a plan says\n" in capsys.readouterr().out
