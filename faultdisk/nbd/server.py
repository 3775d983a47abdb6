"""Accepting connections: a thread for each client, one device for all.

Connections share the device, its cache and the lock by which parts of sectors
are changed; so a flush of one covers the writes of all, and clients may use
several (``CAN_MULTI_CONN``).
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from faultdisk.nbd.handshake import Export, negotiate
from faultdisk.nbd.stream import HangUpError, Stream
from faultdisk.nbd.transmission import Transmission
from faultdisk.sockets import UnixListener
from lfs.device.fault.device import FaultDevice
from lfs.device.unaligned import ByteAccess
from lfs.errors import UsageError

CONNECTIONS_MAX = 64
GRACE_SECONDS = 2.0
_TCP_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^/:]*):([0-9]{1,5})")

log = logging.getLogger(__name__)


class Listener(Protocol):
    """A listening socket that knows how to go."""

    socket: socket.socket

    def close(self) -> None:
        """Stop listening."""


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
        self._listener = listener
        self._device = device
        self._bytes = ByteAccess(device)
        self._export = Export(device.size_bytes, description, device.read_only)
        self._lock = threading.Lock()
        self._closed = False
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._accepter = threading.Thread(target=self._accept, name="nbd", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._accepter.start()

    def close(self) -> None:
        """End all connections, after what they asked for has been served and answered.

        A client that does not take its answers is not waited for.
        """
        with self._lock:
            self._closed = True
            connections = dict(self._connections)
        self._listener.close()
        self._accepter.join()
        # Nothing more is read; what is being served is still answered.
        _shut_down(connections, socket.SHUT_RD)
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in connections.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        _shut_down(connections, socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.socket.accept()
            except OSError:
                return
            with self._lock:
                if self._closed or len(self._connections) >= CONNECTIONS_MAX:
                    connection.close()
                    continue
                thread = threading.Thread(
                    target=self._converse, args=(connection,), name="nbd-client", daemon=True
                )
                self._connections[connection] = thread
                thread.start()

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
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()


def _shut_down(connections: Iterable[socket.socket], how: int) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(how)
