"""Unix sockets: made so that nobody else may connect, and never over another's.

A socket file outlives its server.  One that nobody answers is stale and is
replaced; one that answers belongs to a server, and anything that is no socket
to somebody else: both are refused.

Held by ``tests/faultdisk/test_control.py``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from lfs.common.errors import UsageError

MODE = 0o600
_BACKLOG = 64


class UnixListener:
    """A listening Unix socket, whose file goes when it is closed."""

    def __init__(self, path: str) -> None:
        """Listen at ``path``; raises UsageError when that is not possible."""
        self.path = os.path.abspath(path)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            _remove_stale(self.path)
            # The mode of the socket is that of the file from its first moment.
            os.fchmod(self.socket.fileno(), MODE)
            self.socket.bind(self.path)
            self.socket.listen(_BACKLOG)
            self._identity = _identity(self.path)
        except OSError as error:
            self.socket.close()
            raise UsageError(f"cannot listen on {path}: {error.strerror or error}") from error
        except UsageError:
            self.socket.close()
            raise

    def close(self) -> None:
        """Stop listening, wake who accepts, and remove the file if it is still ours."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                os.unlink(self.path)


def connect(path: str) -> socket.socket:
    """Return a connection to the server at ``path``; raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that is gone; raises UsageError for anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} exists and is not a socket")
    try:
        connect(path).close()
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise
        os.unlink(path)
    else:
        raise UsageError(f"{path} is in use by another server")
