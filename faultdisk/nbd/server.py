"""Accepting connections: a thread for each client, one device for all.

Connections share the device, its cache and the lock by which parts of sectors
are changed; so a flush of one covers the writes of all, and clients may use
several (``CAN_MULTI_CONN``).

Held by ``tests/faultdisk/test_nbd.py``.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket

from faultdisk.daemon.conversations import Conversations, Listener
from faultdisk.daemon.sockets import UnixListener
from faultdisk.nbd.handshake import Export, negotiate
from faultdisk.nbd.stream import HangUpError, Stream
from faultdisk.nbd.transmission import Transmission
from lfs.common.errors import UsageError
from lfs.device.fault.device import FaultDevice
from lfs.device.unaligned import ByteAccess

_TCP_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^/:]*):([0-9]{1,5})")

log = logging.getLogger(__name__)


class TcpListener:
    """A listening TCP socket of this machine alone."""

    def __init__(self, host: str, port: int) -> None:
        """Listen; raises UsageError when that is not possible or others could connect."""
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host.strip("[]") or "localhost", port, type=socket.SOCK_STREAM
            )[0]
        except OSError as error:
            raise UsageError(f"cannot find {host}: {error.strerror}") from error
        if not (str(address[0]).startswith("127.") or address[0] == "::1"):
            raise UsageError(f"{host} is not this machine alone: the protocol asks nobody's name")
        self.socket = socket.socket(family, kind)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(address)
            self.socket.listen()
        except OSError as error:
            self.socket.close()
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from error

    def close(self) -> None:
        """Stop listening, and wake who accepts."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def tcp_address(text: str) -> tuple[str, int] | None:
    """Return host and port if ``text`` names them, None if it is a path."""
    match = _TCP_ADDRESS.fullmatch(text)
    return (match[1], int(match[2])) if match and int(match[2]) < 65536 else None


def listen(address: str) -> Listener:
    """Listen on a path or on HOST:PORT; raises UsageError."""
    tcp = tcp_address(address)
    return UnixListener(address) if tcp is None else TcpListener(*tcp)


class NbdServer:
    """Serves ``device`` to whoever connects, in threads of its own."""

    def __init__(self, listener: Listener, device: FaultDevice, description: str) -> None:
        """Serve at ``listener``, which is closed with the server."""
        self._device = device
        self._bytes = ByteAccess(device)
        self._export = Export(device.size_bytes, description, device.read_only)
        self._conversations = Conversations(listener, self._converse, "nbd")

    def start(self) -> None:
        """Begin to serve."""
        self._conversations.start()

    def close(self) -> None:
        """End all connections, after what they asked for has been served and answered.

        A client that does not take its answers is not waited for.
        """
        self._conversations.close()

    def _converse(self, connection: socket.socket) -> None:
        """Serve one client until it goes."""
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(connection)
        try:
            agreement = negotiate(stream, self._export)
            if agreement is not None:
                Transmission(stream, self._device, self._bytes, agreement).run()
        except HangUpError as error:
            log.debug("connection ended: %s", error)
        except Exception:
            log.exception("connection failed unexpectedly")
