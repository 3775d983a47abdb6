"""A thread for each client of a listening socket, and an end that cuts no answer short.

At the end nothing more is read, so a thread that was answering sends its answer
and finds that its client has gone.  Who does not take an answer is cut off after
a while.

Held by ``tests/faultdisk/test_control.py``.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

CONNECTIONS_MAX = 64
GRACE_SECONDS = 2.0


class Listener(Protocol):
    """A listening socket that knows how to go."""

    socket: socket.socket

    def close(self) -> None:
        """Stop listening, and wake who accepts."""


class Conversations:
    """Lets ``converse`` talk with each client of ``listener``, in a thread of its own."""

    def __init__(
        self, listener: Listener, converse: Callable[[socket.socket], None], name: str
    ) -> None:
        """Name the threads after ``name``; ``converse`` need not close its connection."""
        self._listener = listener
        self._converse = converse
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._accepter = threading.Thread(target=self._accept, name=name, daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._accepter.start()

    def close(self) -> None:
        """End the listener and all connections; twice is allowed.

        What was asked for is answered still, but nobody is waited for who does not
        read.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            connections = dict(self._connections)
        self._listener.close()
        if self._accepter.ident is not None:
            self._accepter.join()
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
                    target=self._run, args=(connection,), name=f"{self._name} client", daemon=True
                )
                self._connections[connection] = thread
                thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            self._converse(connection)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()


def _shut_down(connections: Iterable[socket.socket], how: int) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(how)
