"""The requests of NBD, by a client that keeps to the protocol and by one that does not."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faultdisk.nbd import protocol
from faultdisk.nbd.protocol import (
    Chunk,
    Command,
    CommandFlag,
    Error,
    Info,
    TransmissionFlag,
    error_of,
)
from lfs.device.recording import Discard, Flush, Write
from tests.faultdisk.nbd_client import NbdClient
from tests.faultdisk.nbd_served import SIZE_BYTES, Served
from tests.support.mounting import wait_until


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
