"""The NBD door, by a client that keeps to the protocol and by one that does not."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultdisk.nbd import protocol
from faultdisk.nbd.handshake import OPTION_BYTES_ABSURD, OPTION_BYTES_MAX, Export, negotiate
from faultdisk.nbd.protocol import (
    Chunk,
    Command,
    CommandFlag,
    Error,
    Info,
    Option,
    Reply,
    TransmissionFlag,
    error_of,
)
from faultdisk.nbd.server import NbdServer, TcpListener, listen, tcp_address
from faultdisk.nbd.stream import HangUpError, Stream
from faultdisk.serving.sockets import UnixListener
from lfs.common.errors import UsageError
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Discard, Event, Flush, Write
from tests.faultdisk.nbd_client import NbdClient, info_request
from tests.support.mounting import wait_until
from tests.support.patience import HANG_SECONDS

SIZE_BYTES = 64 << 20
TEXT = "a test disk"


class HeldClock:
    """A clock that stands still: who has to wait waits until ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def now_ns(self) -> int:
        return 0

    def sleep_until_ns(self, time_ns: int) -> None:
        if time_ns > 0:
            assert self.go.wait(HANG_SECONDS)


class Served:
    """A device in memory, served on a socket."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "nbd")
        self.events: list[Event] = []
        self.clock = HeldClock()
        self.device = FaultDevice(
            MemoryDevice(SIZE_BYTES), clock=self.clock, log=self.events.append
        )
        self.server: NbdServer | None = None

    def start(self) -> None:
        self.server = NbdServer(UnixListener(self.path), self.device, TEXT)
        self.server.start()

    def client(self) -> NbdClient:
        if self.server is None:
            self.start()
        return NbdClient(self.path)

    def plan(self, text: str) -> None:
        self.device.set_plan(parse_plan(text))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.clock.go.set()
    if one.server is not None:
        one.server.close()


# -------------------------------------------------------------------------- handshake


@pytest.mark.parametrize("flags", [1, 3])
def test_nbd_export_name_enters_with_or_without_zeroes(served: Served, flags: int) -> None:
    with served.client() as client:
        assert client.greet(flags) == 3
        client.send(protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.EXPORT_NAME, 0))
        size, described = protocol.EXPORT.unpack(client.read(protocol.EXPORT.size))
        assert size == SIZE_BYTES
        assert described & TransmissionFlag.HAS_FLAGS
        assert not described & TransmissionFlag.SEND_DF
        if flags == 1:
            assert client.read(124) == bytes(124)
        assert client.ask(Command.READ, 0, 512).data == bytes(512)


def test_nbd_export_name_that_is_unknown_ends_the_connection(served: Served) -> None:
    with served.client() as client:
        client.greet()
        client.send(protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.EXPORT_NAME, 1), b"x")
        assert client.ended()


def test_nbd_go_tells_what_is_asked_for(served: Served) -> None:
    with served.client() as client:
        infos = client.go(Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE)
        size, flags = struct.unpack(">QH", infos[Info.EXPORT])
        assert size == SIZE_BYTES
        assert TransmissionFlag(flags) == TransmissionFlag(0b1001_1110_1101)
        assert infos[Info.NAME] == b""
        assert infos[Info.DESCRIPTION] == TEXT.encode()
        assert struct.unpack(">III", infos[Info.BLOCK_SIZE]) == (512, 4096, 32 << 20)


def test_nbd_go_tells_nothing_that_is_not_asked_for(served: Served) -> None:
    with served.client() as client:
        assert list(client.go()) == [Info.EXPORT]


def test_nbd_info_goes_on_with_the_handshake(served: Served) -> None:
    with served.client() as client:
        client.go(Info.BLOCK_SIZE, option=Option.INFO)
        # What INFO told binds nobody.
        assert client.option(Option.GO, info_request(b""))[-1] == (Reply.ACK, b"")
        assert client.ask(Command.READ, 1, 3).data == bytes(3)


def test_nbd_list_names_the_one_export(served: Served) -> None:
    with served.client() as client:
        client.greet()
        replies = client.option(Option.LIST)
        assert replies == [(Reply.SERVER, bytes(4) + TEXT.encode()), (Reply.ACK, b"")]


def test_nbd_abort_is_acknowledged(served: Served) -> None:
    with served.client() as client:
        client.greet()
        assert client.option(Option.ABORT) == [(Reply.ACK, b"")]
        assert client.ended()


@pytest.mark.parametrize(
    ("option", "data", "reply"),
    [
        (Option.STARTTLS, b"", Reply.ERR_UNSUPPORTED),
        (9, b"meta", Reply.ERR_UNSUPPORTED),
        (4711, b"x" * 1000, Reply.ERR_UNSUPPORTED),
        (Option.LIST, b"x", Reply.ERR_INVALID),
        (Option.STRUCTURED_REPLY, b"x", Reply.ERR_INVALID),
        (Option.GO, b"", Reply.ERR_INVALID),
        (Option.GO, struct.pack(">I", 99) + b"x", Reply.ERR_INVALID),
        (Option.INFO, info_request(b"") + b"x", Reply.ERR_INVALID),
        (Option.GO, info_request(b"other"), Reply.ERR_UNKNOWN),
        (Option.GO, info_request(b"x" * 5000), Reply.ERR_TOO_BIG),
        (4711, bytes(OPTION_BYTES_MAX + 1), Reply.ERR_TOO_BIG),
    ],
)
def test_nbd_option_that_is_refused_leaves_the_handshake_whole(
    served: Served, option: int, data: bytes, reply: Reply
) -> None:
    with served.client() as client:
        client.greet()
        [(kind, text)] = client.option(option, data)
        assert kind == reply
        assert text
        assert client.option(Option.GO, info_request(b""))[-1] == (Reply.ACK, b"")


def test_nbd_wrong_magic_or_flags_or_absurd_length_end_the_connection(served: Served) -> None:
    with served.client() as client:
        client.greet(flags=7)
        assert client.ended()
    with served.client() as client:
        client.greet()
        client.send(protocol.OPTION.pack(protocol.OPTION_MAGIC + 1, Option.LIST, 0))
        assert client.ended()
    with served.client() as client:
        client.greet()
        absurd = OPTION_BYTES_ABSURD + 1
        client.send(protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.LIST, absurd))
        assert client.ended()
    with served.client() as client:
        client.go()
        client.send(bytes(protocol.REQUEST.size))
        assert client.ended()
    with served.client() as client:
        client.go()
        assert client.ask(Command.READ, 0, 512).error == 0


# ----------------------------------------------------------------------- transmission


@pytest.fixture(params=[False, True], ids=["simple", "structured"])
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[NbdClient]:
    with served.client() as one:
        one.go(structured=request.param)
        yield one


def test_nbd_write_is_read_back(client: NbdClient) -> None:
    assert client.ask(Command.WRITE, 4096, data=b"x" * 8192) == (1, 0, b"", None, "", None)
    answer = client.ask(Command.READ, 3584, 9216, cookie=2**64 - 1)
    assert answer.cookie == 2**64 - 1
    assert answer.data == bytes(512) + b"x" * 8192 + bytes(512)
    if client.structured:
        assert (answer.kind, answer.place) == (Chunk.OFFSET_DATA, 3584)


def test_nbd_largest_payload_passes(client: NbdClient) -> None:
    data = bytes(range(256)) * (protocol.PAYLOAD_BYTES_MAX // 256)
    assert client.ask(Command.WRITE, 512, data=data).error == 0
    assert client.ask(Command.READ, 512, len(data)).data == data


def test_nbd_any_bytes_where_no_block_size_was_agreed(client: NbdClient) -> None:
    assert client.ask(Command.WRITE, 1000, data=b"abc").error == 0
    assert client.ask(Command.READ, 999, 5).data == b"\0abc\0"


def test_nbd_flush_and_forced_access_reach_the_device(served: Served, client: NbdClient) -> None:
    assert client.ask(Command.WRITE, 0, data=b"x" * 512, flags=CommandFlag.FUA).error == 0
    assert client.ask(Command.WRITE, 512, data=b"y" * 512).error == 0
    assert client.ask(Command.FLUSH).error == 0
    assert served.events == [Write(0, b"x" * 512, True), Write(512, b"y" * 512), Flush()]


def test_nbd_forced_access_overtakes_the_cache(served: Served, client: NbdClient) -> None:
    served.plan("cache 1M")
    client.ask(Command.WRITE, 0, data=b"x" * 512)
    client.ask(Command.WRITE, 512, data=b"y" * 512, flags=CommandFlag.FUA)
    assert served.device.device.read(0, 1024) == bytes(512) + b"y" * 512


def test_nbd_trim_discards_whole_sectors(served: Served, client: NbdClient) -> None:
    assert client.ask(Command.TRIM, 4097, 8192).error == 0
    assert client.ask(Command.TRIM, 10, 100).error == 0
    assert client.ask(Command.TRIM, 0, 512, flags=CommandFlag.FUA).error == 0
    assert served.events == [Discard(4608, 7680), Discard(0, 512), Flush()]


def test_nbd_zeroes_are_written_in_pieces(served: Served, client: NbdClient) -> None:
    client.ask(Command.WRITE, 0, data=b"x" * (3 << 20))
    served.events.clear()
    flags = CommandFlag.NO_HOLE | CommandFlag.FUA
    assert client.ask(Command.WRITE_ZEROES, 512, (2 << 20) + 512, flags=flags).error == 0
    writes = [event for event in served.events if isinstance(event, Write)]
    assert writes == served.events
    lengths = [(write.offset_bytes, len(write.data)) for write in writes]
    assert lengths == [(512, 1 << 20), (512 + (1 << 20), 1 << 20), (512 + (2 << 20), 512)]
    assert all(write.durable for write in writes)
    data = client.ask(Command.READ, 0, 3 << 20).data
    assert data.strip(b"\0").count(b"x") == len(data) - (2 << 20) - 512


@pytest.mark.parametrize(
    ("command", "offset", "length", "flags", "error"),
    [
        (Command.READ, SIZE_BYTES, 512, 0, Error.EINVAL),
        (Command.READ, SIZE_BYTES - 512, 1024, 0, Error.EINVAL),
        (Command.READ, 2**64 - 512, 1024, 0, Error.EINVAL),
        (Command.READ, 0, 0, 0, Error.EINVAL),
        (Command.READ, 0, protocol.PAYLOAD_BYTES_MAX + 512, 0, Error.EOVERFLOW),
        (Command.READ, 0, 512, CommandFlag.NO_HOLE, Error.EINVAL),
        (Command.READ, 0, 512, 1 << 15, Error.EINVAL),
        (Command.TRIM, SIZE_BYTES, 512, 0, Error.EINVAL),
        (Command.WRITE_ZEROES, SIZE_BYTES, 512, 0, Error.ENOSPC),
        (Command.WRITE_ZEROES, 0, 512, CommandFlag.FAST_ZERO, Error.ENOTSUP),
        (Command.FLUSH, 0, 512, 0, Error.EINVAL),
        (5, 0, 512, 0, Error.EINVAL),
        (7, 0, 512, 0, Error.EINVAL),
        (4711, 0, 512, 0, Error.EINVAL),
    ],
)
def test_nbd_request_that_is_refused_leaves_the_connection_whole(
    client: NbdClient, command: int, offset: int, length: int, flags: int, error: Error
) -> None:
    answer = client.ask(command, offset, length, flags=flags)
    assert answer.error == error
    assert bool(answer.text) == client.structured
    assert client.ask(Command.READ, 0, 512).error == 0


def test_nbd_write_that_is_refused_is_read_to_its_end(client: NbdClient) -> None:
    too_long = bytes(protocol.PAYLOAD_BYTES_MAX + 1)
    assert client.ask(Command.WRITE, 0, data=too_long).error == Error.EINVAL
    assert client.ask(Command.WRITE, SIZE_BYTES - 512, data=bytes(1024)).error == Error.ENOSPC
    assert client.ask(Command.READ, 0, 512).error == 0


def test_nbd_dont_fragment_needs_structured_replies(client: NbdClient) -> None:
    error = client.ask(Command.READ, 0, 512, flags=CommandFlag.DF).error
    assert error == (0 if client.structured else Error.EINVAL)


def test_nbd_unaligned_is_refused_once_a_block_size_was_agreed(served: Served) -> None:
    with served.client() as client:
        client.go(Info.BLOCK_SIZE)
        assert client.ask(Command.READ, 1, 512).error == Error.EINVAL
        assert client.ask(Command.WRITE, 0, data=b"x").error == Error.EINVAL
        assert client.ask(Command.READ, 512, 512).error == 0


def test_nbd_read_only_export_refuses_changes(served: Served) -> None:
    served.device.read_only = True
    with served.client() as client:
        infos = client.go()
        assert struct.unpack(">QH", infos[Info.EXPORT])[1] & TransmissionFlag.READ_ONLY
        for command in (Command.WRITE_ZEROES, Command.TRIM):
            assert client.ask(command, 0, 512).error == Error.EPERM
        assert client.ask(Command.WRITE, 0, data=bytes(512)).error == Error.EPERM
        assert client.ask(Command.READ, 0, 512).error == 0
    assert served.events == []


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("EIO", Error.EIO),
        ("ENOSPC", Error.ENOSPC),
        ("EDQUOT", Error.ENOSPC),
        ("EFBIG", Error.ENOSPC),
        ("EROFS", Error.EPERM),
        ("ENOMEM", Error.ENOMEM),
        ("ETIMEDOUT", Error.EIO),
    ],
)
def test_nbd_faults_are_errors_of_the_protocol(
    served: Served, client: NbdClient, name: str, error: Error
) -> None:
    served.plan(f"error {name}")
    read = client.ask(Command.READ, 4096, 512)
    flushed = client.ask(Command.FLUSH)
    assert (read.error, flushed.error) == (error, error)
    if client.structured:
        assert (read.kind, read.place) == (Chunk.ERROR_OFFSET, 4096)
        assert read.text == "read failed by plan at byte 4096"
        assert flushed.kind == Chunk.ERROR


def test_nbd_error_without_a_number_is_an_input_output_error() -> None:
    assert error_of(None) == Error.EIO


def test_nbd_error_outside_the_request_has_no_place(
    served: Served, client: NbdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(served.device, "read", fail)
    assert client.ask(Command.READ, 0, 512).error == Error.EIO
    monkeypatch.undo()
    assert client.ask(Command.READ, 0, 512).error == 0


def test_nbd_slow_request_is_overtaken(served: Served, client: NbdClient) -> None:
    served.plan("delay 1s on read nth 1")
    client.request(Command.READ, 0, 512, cookie=1)
    for cookie in range(2, 10):
        assert client.ask(Command.READ, 512, 512, cookie=cookie).cookie == cookie
    served.clock.go.set()
    assert client.receive().cookie == 1


def test_nbd_disconnect_is_served_after_what_came_before(served: Served, client: NbdClient) -> None:
    served.plan("delay 1s on write")
    client.request(Command.WRITE, 0, data=b"x" * 512)
    client.request(Command.DISC)
    served.clock.go.set()
    assert client.receive().error == 0
    assert client.ended()


def test_nbd_connections_share_the_device(served: Served) -> None:
    served.plan("cache 1M")
    with served.client() as one, served.client() as other:
        one.go()
        other.go(structured=False)
        assert one.ask(Command.WRITE, 0, data=b"x" * 512).error == 0
        assert other.ask(Command.READ, 0, 512).data == b"x" * 512
        assert other.ask(Command.FLUSH).error == 0
        assert served.device.device.read(0, 512) == b"x" * 512


def test_nbd_client_that_goes_midway_disturbs_nobody(served: Served) -> None:
    served.plan("delay 1s on read nth 1")
    with served.client() as leaving:
        leaving.go()
        leaving.request(Command.READ, 0, 1 << 20)
        leaving.request(Command.WRITE, 0, 4096)
        leaving.send(b"only a part")
    served.clock.go.set()
    with served.client() as client:
        client.go()
        assert client.ask(Command.READ, 0, 512).data == bytes(512)


def test_nbd_close_answers_what_is_being_served(served: Served) -> None:
    served.plan("delay 1s on write")
    with served.client() as client:
        client.go()
        client.request(Command.WRITE, 0, data=b"x" * 512)
        wait_until(lambda: served.events, "the write is being served")
        assert served.server is not None
        closing = threading.Thread(target=served.server.close)
        closing.start()
        served.clock.go.set()
        assert client.receive().error == 0
        assert client.ended()
        closing.join()
        served.server = None
    assert not Path(served.path).exists()


@settings(max_examples=60)
@given(st.binary(max_size=200), st.booleans())
def test_nbd_nonsense_in_the_handshake_ends_it_or_is_answered(noise: bytes, framed: bool) -> None:
    if framed:
        # Whole options with wild content get further than what is no option at all.
        kind = noise[0] % 12 if noise else 0
        noise = protocol.OPTION.pack(protocol.OPTION_MAGIC, kind, len(noise)) + noise

    class Canned(Stream):
        def __init__(self) -> None:
            self.rest = protocol.CLIENT_FLAGS.pack(3) + noise

        def read(self, length_bytes: int) -> bytes:
            if length_bytes > len(self.rest):
                raise HangUpError("no more")
            data, self.rest = self.rest[:length_bytes], self.rest[length_bytes:]
            return data

        def write(self, *parts: bytes) -> None:
            assert all(isinstance(part, bytes) for part in parts)

    with contextlib.suppress(HangUpError):
        negotiate(Canned(), Export(SIZE_BYTES, TEXT))


# --------------------------------------------------------------------------- addresses


def test_nbd_address_is_a_port_or_a_path() -> None:
    assert tcp_address("localhost:10809") == ("localhost", 10809)
    assert tcp_address("[::1]:1") == ("[::1]", 1)
    assert tcp_address(":10809") == ("", 10809)
    assert tcp_address("/tmp/socket:1") is None
    assert tcp_address("socket") is None
    assert tcp_address("localhost:99999") is None


def test_nbd_serves_a_port_of_this_machine(served: Served) -> None:
    listener = TcpListener("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    server = NbdServer(listener, served.device, TEXT)
    server.start()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        assert connection.recv(8) == b"NBDMAGIC"
    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}: Address already"):
        listen(f"127.0.0.1:{port}")
    server.close()


def test_nbd_port_that_others_could_reach_is_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.0\.0\.0 is not this machine alone"):
        listen("0.0.0.0:10809")
