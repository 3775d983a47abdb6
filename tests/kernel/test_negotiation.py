"""FUSE_INIT between a kernel and a libfuse that are both played here."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from lfs.kernel.negotiation import Negotiation

DONT_MASK = 1 << 6
AUTO_INVAL_DATA = 1 << 12
ASYNC_DIO = 1 << 15
HANDLE_KILLPRIV_V2 = 1 << 28
POSIX_ACL = 1 << 20
PARALLEL_DIROPS = 1 << 18
EVERYTHING = 0xFFFFFFFF


def request(offered: int) -> bytes:
    """Return FUSE_INIT of version 7.45 as Linux sends it."""
    body = struct.pack("<IIIII11I", 7, 45, 131072, offered, 0, *[0] * 11)
    return struct.pack("<IIQQIIIHH", 40 + len(body), 26, 2, 0, 0, 0, 0, 0, 0) + body


def reply(flags: int, error: int = 0, write_bytes: int = 1 << 20) -> bytes:
    """Return what libfuse replies."""
    body = struct.pack(
        "<IIIIHHIIHH8I", 7, 31, 131072, flags, 0, 0, write_bytes, 1, 256, 0, *[0] * 8
    )
    return struct.pack("<IiQ", 16 + len(body), error, 2) + (b"" if error else body)


class Connection:
    """A descriptor that libfuse owns, and the kernel's end of it."""

    def __init__(self) -> None:
        kernel, libfuse = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel = kernel
        self.descriptor = libfuse.detach()

    def close(self) -> None:
        self.kernel.close()
        os.close(self.descriptor)


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection()
    yield made
    made.close()


def negotiated(
    connection: Connection, offered: int, libfuse_flags: int, write_bytes: int = 1 << 20
) -> int:
    """Return the flags that the kernel gets."""
    connection.kernel.send(request(offered))
    negotiation = Negotiation.begun(connection.descriptor, write_bytes)
    assert negotiation is not None
    assert os.read(connection.descriptor, 1 << 20) == request(offered)
    os.write(connection.descriptor, reply(libfuse_flags))
    negotiation.conclude()
    got = connection.kernel.recv(1 << 20)
    flags: int = struct.unpack_from("<I", got, 28)[0]
    # Nothing else has changed.
    assert got == reply(flags, write_bytes=min(write_bytes, 1 << 20))
    return flags


def test_flags_are_added_and_taken_out(connection: Connection) -> None:
    flags = negotiated(connection, EVERYTHING, POSIX_ACL | AUTO_INVAL_DATA | ASYNC_DIO)
    assert flags == POSIX_ACL | DONT_MASK | PARALLEL_DIROPS | HANDLE_KILLPRIV_V2


def test_what_the_kernel_does_not_offer_is_not_asked_for(connection: Connection) -> None:
    assert negotiated(connection, POSIX_ACL | DONT_MASK, POSIX_ACL) == POSIX_ACL | DONT_MASK


@pytest.mark.parametrize("write_bytes", [1 << 17, 1 << 20, 1 << 24])
def test_requests_write_no_more_than_a_full_disk_can_take(
    connection: Connection, write_bytes: int
) -> None:
    negotiated(connection, EVERYTHING, 0, write_bytes)


def test_afterwards_nothing_stands_between(connection: Connection) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    negotiated(connection, EVERYTHING, 0)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not os.get_inheritable(connection.descriptor)
    connection.kernel.send(b"the next request")
    assert os.read(connection.descriptor, 100) == b"the next request"
    os.write(connection.descriptor, b"its reply")
    assert connection.kernel.recv(100) == b"its reply"


def test_refusal_is_passed_on_as_it_is(connection: Connection) -> None:
    connection.kernel.send(request(EVERYTHING))
    negotiation = Negotiation.begun(connection.descriptor, 1 << 20)
    assert negotiation is not None
    os.read(connection.descriptor, 1 << 20)
    os.write(connection.descriptor, reply(0, error=-71))
    negotiation.conclude()
    assert connection.kernel.recv(1 << 20) == reply(0, error=-71)


def test_connection_that_has_ended_stays_as_it_is() -> None:
    # Reading /dev/fuse without a mount fails, as it does after an unmount.
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("there is no /dev/fuse")
    assert Negotiation.begun(descriptor, 1 << 20) is None
    assert os.readlink(f"/proc/self/fd/{descriptor}") == "/dev/fuse"
    os.close(descriptor)
