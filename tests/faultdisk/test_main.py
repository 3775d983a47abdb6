"""The command line: what each command prints, and how it refuses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import faultdisk.offline as offline_commands
from faultdisk.daemon.control import ControlServer
from faultdisk.daemon.sockets import UnixListener
from faultdisk.main import main
from faultdisk.nbd.server import NbdServer
from lfs.common.checksum import checksum
from lfs.device.exclusion.lock import locked_file
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Flush
from lfs.device.write_log import WriteLog
from tests.faultdisk.commands import Capture, done_well, refused
from tests.faultdisk.daemons import make_image

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
    printed = done_well(capsys, "set", f"{disk}/", "loss", "1%;", "delay 10ms", "--seed", "7")
    assert printed == "plan: seed 7; loss 1%; delay 10ms\n"
    assert device.plan == parse_plan("seed 7; loss 1%; delay 10ms")
    assert done_well(capsys, "set", f"{disk}.faultdisk", "seed 3; loss 2%", "--seed", "7") == (
        "plan: seed 3; loss 2%\n"
    )


def test_faultdisk_set_draws_a_seed(disk: Path, device: FaultDevice, capsys: Capture) -> None:
    printed = done_well(capsys, "set", disk, "")
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
    done_well(capsys, "set", disk, "@plan")
    assert device.plan.rules[0].when.file == str(tmp_path / "trigger")


def test_faultdisk_show_and_faults(disk: Path, device: FaultDevice, capsys: Capture) -> None:
    device.write(0, [bytes(512)])
    assert done_well(capsys, "show", disk).splitlines() == [
        "plan    seed 5; cache 64K",
        "power   on",
        "cached  1 writes, 512 bytes",
        "faults  none",
    ]
    device.set_plan(parse_plan("corrupt 100%; cache 64K"))
    device.read(0, 512)
    done_well(capsys, "pause", disk)
    shown = done_well(capsys, "show", disk).splitlines()
    assert shown[1] == "power   on, paused"
    assert shown[3] == "faults  corrupt 1"
    done_well(capsys, "resume", disk)
    assert not device.paused
    assert done_well(capsys, "faults", disk).startswith("fault 1: corrupt, read 0+512: bit ")
    assert json.loads(done_well(capsys, "faults", disk, "--json"))[0]["kind"] == "corrupt"


def test_faultdisk_stats_are_an_aligned_table(
    disk: Path, device: FaultDevice, capsys: Capture
) -> None:
    assert done_well(capsys, "stats", disk).endswith("\n\nno faults\n")
    device.set_plan(parse_plan("seed 1; delay 1500us on read; corrupt 100% on read"))
    device.read(4096, 4096)
    device.write(0, [bytes(512)])
    table, faults = done_well(capsys, "stats", disk).split("\n\n")
    rows = table.splitlines()
    assert rows[0].split() == (
        ["requests", "count", "bytes", "errors", "seeks", "p50", "p90", "p99", "p99.9", "max"]
    )
    assert rows[1].split()[:5] == ["read", "1", "4096", "0", "1"]
    assert rows[1].endswith("1.5 ms")
    assert [row.split()[0] for row in rows[1:]] == ["read", "write", "flush", "discard"]
    assert len({len(row) for row in rows}) == 1
    assert faults.splitlines() == ["faults   count", "corrupt      1"]
    report = json.loads(done_well(capsys, "stats", disk, "--json"))
    assert report == json.loads(json.dumps(device.report()))


def test_faultdisk_mark_cut_and_restart(disk: Path, device: FaultDevice, capsys: Capture) -> None:
    assert done_well(capsys, "mark", disk, "here") == ""
    for place in (0, 512, 1024, 1536):
        device.write(place, [b"x" * 512])
    printed = done_well(capsys, "cut", disk, "writes", "2", "4", "atomic", "4K")
    assert printed == "2 of 4 cached writes arrived (2 4)\n"
    assert done_well(capsys, "mark", disk, "there") == "the power is off\n"
    assert "power   off" in done_well(capsys, "show", disk)
    assert refused(capsys, "cut", disk) == "the power is off already"
    assert done_well(capsys, "restart", disk) == ""
    assert done_well(capsys, "cut", disk, "none") == "0 of 0 cached writes arrived\n"


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
    assert refused(capsys, "cut", disk, *words) == reason
    assert device.powered


def test_faultdisk_plan_error_points_at_the_word(
    disk: Path, device: FaultDevice, capsys: Capture
) -> None:
    error = "fault plan, line 1, column 10: 'dealy': unknown word; is delay meant?"
    assert refused(capsys, "set", disk, "loss 1%; dealy") == error
    assert refused(capsys, "check", "loss 1%; dealy") == error
    assert device.plan.text == "seed 5; cache 64K"


def test_faultdisk_plan_file_that_cannot_be_read_is_refused(
    disk: Path, tmp_path: Path, capsys: Capture
) -> None:
    missing, binary = tmp_path / "missing", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert refused(capsys, "set", disk, f"@{missing}") == (
        f"cannot read the plan {missing}: No such file or directory"
    )
    assert refused(capsys, "check", f"@{binary}") == (
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
    assert refused(capsys, *named) == f"nobody answers at {tmp_path}: Connection refused"


def test_faultdisk_other_socket_is_refused(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "nbd"
    server = NbdServer(UnixListener(str(path)), FaultDevice(MemoryDevice(512)), "")
    server.start()
    # It hangs up; whether that is seen as what it said or as a reset is chance.
    assert refused(capsys, "show", path) in (
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
    assert refused(capsys, "show", path) == f"{path}: the server ended before it answered"
    server.join()
    listener.close()


def test_faultdisk_stop_where_there_is_nothing_to_stop(disk: Path, capsys: Capture) -> None:
    assert refused(capsys, "stop", disk) == "this cannot be stopped from here: unmount it"


# --------------------------------------------------------------------- without a server


def test_faultdisk_check_prints_the_plan(capsys: Capture) -> None:
    assert (
        done_well(capsys, "check", "loss", "0.5%", "in", "1M-2M") == "seed 0; loss 0.5% in 1M-2M\n"
    )
    assert done_well(capsys, "check", "", "--seed", "4") == "seed 4\n"


def test_faultdisk_log_lists_the_events(log: Path, capsys: Capture) -> None:
    first, *lines = done_well(capsys, "log", log).splitlines()
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
    assert done_well(capsys, "replay", log, image, *end) == f"{image}: {summary}\n"
    assert image.read_bytes()[:512] == content * 512


def test_faultdisk_replay_that_cannot_be_done_changes_nothing(
    log: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline_commands, "LOCK_WAIT_SECONDS", 0.0)
    image, small = tmp_path / "a.img", make_image(tmp_path / "b.img", 4096)
    image.write_bytes(b"z" * (1 << 20))
    before = log.read_bytes()
    assert refused(capsys, "replay", log, image, "--mark", "x") == f"{log} has no mark 'x'"
    assert refused(capsys, "replay", log, image, "--to", "7") == f"{log} has 6 events, not 7"
    assert refused(capsys, "replay", image, log) == f"{image} is not a write log"
    assert refused(capsys, "replay", log, log) == f"{log} is the log itself"
    assert refused(capsys, "replay", log, small) == f"{log} is the log of a larger device"
    assert "No such file or directory" in refused(capsys, "replay", log, tmp_path / "none")
    assert "No such file or directory" in refused(capsys, "replay", tmp_path / "none", image)
    with locked_file(image):
        assert f"{image} is in use by " in refused(capsys, "replay", log, image)
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
    assert refused(capsys, "replay", log, image) == text
    assert image.read_bytes() == before


def test_faultdisk_log_of_no_log_is_refused(image: Path, capsys: Capture) -> None:
    assert refused(capsys, "log", image) == f"{image} is not a write log"
    assert refused(capsys, "log", f"{image}.x") == (
        f"cannot read the log {image}.x: No such file or directory"
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
