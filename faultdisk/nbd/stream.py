"""Bytes to and from one client.

Held by ``tests/faultdisk/test_nbd_handshake.py``.
"""

from __future__ import annotations

import socket
import threading

_SKIP_BYTES = 1 << 16


class HangUpError(Exception):
    """The connection is over: the client went, or sent what cannot be understood."""


class Stream:
    """A connected socket, read by one thread and written by many."""

    def __init__(self, connection: socket.socket) -> None:
        """Use ``connection``, which stays its owner's to close."""
        self._connection = connection
        self._write_lock = threading.Lock()

    def read(self, length_bytes: int) -> bytes:
        """Return exactly ``length_bytes``; raises HangUpError when they do not come."""
        data = bytearray(length_bytes)
        view = memoryview(data)
        while view:
            try:
                received = self._connection.recv_into(view)
            except OSError as error:
                raise HangUpError(str(error)) from error
            if not received:
                raise HangUpError("the client went")
            view = view[received:]
        return bytes(data)

    def skip(self, length_bytes: int) -> None:
        """Read ``length_bytes`` and forget them; raises HangUpError when they do not come."""
        while length_bytes > 0:
            length_bytes -= len(self.read(min(length_bytes, _SKIP_BYTES)))

    def write(self, *parts: bytes) -> None:
        """Send ``parts`` in a row, with nothing of another thread between; raises HangUpError."""
        message = b"".join(parts)
        try:
            with self._write_lock:
                self._connection.sendall(message)
        except OSError as error:
            raise HangUpError(str(error)) from error
