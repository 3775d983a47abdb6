"""How a client of NBD gets in: addresses and options, by the protocol and against it."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultdisk.nbd import protocol
from faultdisk.nbd.handshake import OPTION_BYTES_ABSURD, OPTION_BYTES_MAX, Export, negotiate
from faultdisk.nbd.protocol import Command, Info, Option, Reply, TransmissionFlag
from faultdisk.nbd.server import NbdServer, TcpListener, listen, tcp_address
from faultdisk.nbd.stream import HangUpError, Stream
from lfs.common.errors import UsageError
from tests.faultdisk.nbd_client import info_request
from tests.faultdisk.nbd_served import SIZE_BYTES, TEXT, Served

# ---------------------------------------------------------------------------- handshake


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


# ---------------------------------------------------------------------------- addresses


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
