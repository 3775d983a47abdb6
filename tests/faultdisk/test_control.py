"""The control socket: each command, and what nobody should send."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultdisk.daemon import conversations
from faultdisk.daemon.control import Answer, ControlServer, ask, write_line
from faultdisk.daemon.sockets import UnixListener
from lfs.common.errors import DeviceError, UsageError
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, Mark
from tests.support.patience import HANG_SECONDS


class Controlled:
    """A device with a control socket."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self.device = FaultDevice(
            MemoryDevice(1 << 20), parse_plan("cache 64K"), log=self.events.append
        )
        self.stopped = threading.Event()
        self.path = str(folder / "control")
        self.server = ControlServer(self.path, self.device, self.stopped.set)

    def ask(self, command: str, **arguments: object) -> Answer:
        return ask(self.path, command, **arguments)

    def send(self, line: bytes) -> Answer:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answers:
                return dict(json.loads(answers.readline()))


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[Controlled]:
    one = Controlled(tmp_path)
    with one.server:
        yield one


def test_control_socket_is_its_owner_s_alone(controlled: Controlled) -> None:
    assert stat.S_IMODE(os.stat(controlled.path).st_mode) == 0o600


def test_control_set_replaces_the_plan(controlled: Controlled) -> None:
    assert controlled.ask("set", plan="seed 7; loss 1%")["plan"] == "seed 7; loss 1%"
    assert controlled.device.plan == parse_plan("seed 7; loss 1%")


def test_control_plan_that_cannot_be_read_changes_nothing(controlled: Controlled) -> None:
    with pytest.raises(UsageError, match="line 1, column 1: 'los': unknown word; is loss meant"):
        controlled.ask("set", plan="los 1%")
    assert controlled.device.plan == parse_plan("cache 64K")


def test_control_show_tells_everything(controlled: Controlled) -> None:
    controlled.device.write(0, [bytes(512)])
    shown = controlled.ask("show")
    assert shown == {"ok": True, **controlled.device.report()}
    assert shown["cached_writes"] == 1
    assert controlled.ask("stats")["operations"]["write"]["count"] == 1


def test_control_mark_goes_into_the_log(controlled: Controlled) -> None:
    assert controlled.ask("mark", text="here")["powered"]
    assert controlled.events == [Mark("here")]
    controlled.ask("set", plan='cut mark "here"')
    assert not controlled.ask("mark", text="here")["powered"]


def test_control_cut_takes_what_survives_and_restart_ends_it(controlled: Controlled) -> None:
    for place in (0, 512, 1024):
        controlled.device.write(place, [b"x" * 512])
    answer = controlled.ask("cut", survival={"mode": "writes", "numbers": [2], "atomic_bytes": 512})
    assert answer["report"] == "1 of 3 cached writes arrived (2)"
    assert (answer["survivors"], answer["cached_count"]) == ([2], 3)
    with pytest.raises(DeviceError, match="the power is off"):
        controlled.device.read(0, 512)
    with pytest.raises(UsageError, match="the power is off already"):
        controlled.ask("cut")
    controlled.ask("restart")
    assert controlled.device.read(0, 1536) == bytes(512) + b"x" * 512 + bytes(512)


def test_control_cut_without_words_does_as_the_plan_says(controlled: Controlled) -> None:
    controlled.ask("set", plan="cache 64K; cut at 1000 survive all")
    controlled.device.write(0, [b"x" * 512])
    assert controlled.ask("cut")["survivors"] == [1]


@pytest.mark.parametrize(
    "survival",
    ["all", 7, {"mode": "some"}, {"numbers": [0]}, {"numbers": "x"}, {"atomic_bytes": 100}],
)
def test_control_cut_of_nonsense_is_refused_and_cuts_nothing(
    controlled: Controlled, survival: object
) -> None:
    with pytest.raises(UsageError, match="does not say what survives"):
        controlled.ask("cut", survival=survival)
    assert controlled.device.powered


def test_control_pause_holds_requests_until_resume(controlled: Controlled) -> None:
    controlled.ask("pause")
    assert controlled.ask("show")["paused"]
    reading = threading.Thread(target=controlled.device.read, args=(0, 512))
    reading.start()
    assert controlled.ask("stats")["operations"]["read"]["count"] == 0
    controlled.ask("resume")
    reading.join()
    assert controlled.ask("stats")["operations"]["read"]["count"] == 1


def test_control_faults_are_listed(controlled: Controlled) -> None:
    controlled.ask("set", plan="error EIO on read")
    with pytest.raises(DeviceError):
        controlled.device.read(512, 1024)
    [fault] = controlled.ask("faults")["faults"]
    assert fault["text"] == "fault 1: error, read 512+1024: EIO"
    assert (fault["kind"], fault["offset_bytes"], fault["length_bytes"]) == ("error", 512, 1024)


def test_control_stop_is_answered_and_returns_when_all_is_closed(controlled: Controlled) -> None:
    returned = threading.Event()

    def stop() -> None:
        controlled.ask("stop")
        returned.set()

    asking = threading.Thread(target=stop)
    asking.start()
    assert controlled.stopped.wait(HANG_SECONDS)
    assert not returned.is_set()
    controlled.server.close()
    asking.join()
    assert not Path(controlled.path).exists()
    with pytest.raises(UsageError, match=r"nobody answers at .*: No such file or directory"):
        controlled.ask("show")


def test_control_stop_is_answered_although_the_end_has_begun(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    closing = threading.Thread(target=lambda: server.close())

    def stop() -> None:
        closing.start()
        # The end is on its way before the answer is.
        while os.path.exists(path):
            time.sleep(0.01)
        time.sleep(0.1)

    server = ControlServer(path, FaultDevice(MemoryDevice(512)), stop)
    with server:
        assert ask(path, "stop") == {"ok": True}
        closing.join()


def test_control_close_waits_a_bounded_time_for_who_does_not_read(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as client:
        with ControlServer(path, FaultDevice(MemoryDevice(512))):
            client.connect(path)
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(b'{"command": "show"}\n' * 100)
        assert not os.path.exists(path)


def test_control_serves_so_many_clients_at_once(
    controlled: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "CONNECTIONS_MAX", 2)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        streams = []
        for client in clients[:2]:
            client.connect(controlled.path)
            streams.append(stack.enter_context(client.makefile("rwb")))
            write_line(streams[-1], {"command": "show"})
            assert json.loads(streams[-1].readline())["ok"]
        clients[2].connect(controlled.path)
        assert clients[2].recv(1) == b""


def test_control_without_anything_to_stop_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with (
        ControlServer(path, FaultDevice(MemoryDevice(512))),
        pytest.raises(UsageError, match="cannot be stopped from here"),
    ):
        ask(path, "stop")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"\n", "a request is one line of JSON"),
        (b"{\n", "a request is one line of JSON"),
        (b"\xff\n", "a request is one line of JSON"),
        (b"[" * 100000 + b"\n", "a request is one line of JSON"),
        (b"7\n", "a request is a JSON object"),
        (b"{}\n", "unknown command None"),
        (b'{"command": ["set"]}\n', "unknown command ['set']"),
        (b'{"command": "set"}\n', "set needs plan, a text"),
        (b'{"command": "mark", "text": 7}\n', "mark needs text, a text"),
    ],
)
def test_control_nonsense_is_answered_and_the_server_goes_on(
    controlled: Controlled, line: bytes, error: str
) -> None:
    assert controlled.send(line) == {"ok": False, "error": error}
    assert controlled.ask("show")["ok"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(min_size=1, max_size=100))
def test_control_any_line_is_answered(controlled: Controlled, line: bytes) -> None:
    assert not controlled.send(line.replace(b"\n", b"") + b"\n")["ok"]


def test_control_error_of_the_device_is_an_answer(
    controlled: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise DeviceError(28, "write failed", 512)

    monkeypatch.setattr(controlled.device, "cut", fail)
    with pytest.raises(UsageError, match="write failed at byte 512"):
        controlled.ask("cut")


def test_control_many_clients_at_once(controlled: Controlled) -> None:
    threads = [threading.Thread(target=controlled.ask, args=("show",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert controlled.ask("show")["ok"]


def test_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with ControlServer(path, FaultDevice(MemoryDevice(512))):
        assert ask(path, "show")["ok"]


def test_socket_of_a_living_server_is_refused(controlled: Controlled) -> None:
    with pytest.raises(UsageError, match=f"{controlled.path} is in use by another server"):
        ControlServer(controlled.path, controlled.device)
    assert controlled.ask("show")["ok"]


def test_socket_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(UsageError, match="exists and is not a socket"):
        UnixListener(str(path))
    assert path.read_text() == "data"


def test_socket_where_none_can_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot listen on .*: No such file or directory"):
        UnixListener(str(tmp_path / "none" / "control"))
    with pytest.raises(UsageError, match=r"cannot listen on .*: AF_UNIX path too long"):
        UnixListener(str(tmp_path / ("x" * 200)))


def test_socket_that_another_has_replaced_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    listener = UnixListener(str(path))
    path.unlink()
    path.write_text("another's")
    listener.close()
    assert path.read_text() == "another's"
