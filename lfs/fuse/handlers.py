"""From a plain function to the coroutine that pyfuse3 awaits for a request.

The core answers at once, so a handler is a function that ``query`` or
``change`` wraps.  A ``FilesystemError`` becomes its errno.  Anything else is a
bug: it is answered ``EIO``, logged with its traceback, and never ends the daemon;
but after a change that failed so nobody knows what of it is in memory, and the
filesystem is read-only from then on.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import FUSEError

from lfs.errors import DamageError, DeviceError, FilesystemError
from lfs.filesystem import Filesystem

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
H = TypeVar("H", bound="Handlers")


class Handlers(pyfuse3.Operations):
    """What all handlers of one filesystem share."""

    def __init__(self, filesystem: Filesystem) -> None:
        """Serve ``filesystem``."""
        super().__init__()
        self.filesystem = filesystem
        self.requests: Counter[str] = Counter()
        """How many requests of each kind there have been."""

    @property
    def request_count(self) -> int:
        """Return how many requests there have been."""
        return self.requests.total()

    def failed_change(self, error: Exception) -> FUSEError:
        """Return what the kernel is told about a change that ended with ``error``.

        A refusal left memory as it was.  After anything else nobody knows what
        of the change is in memory, so no more may be written.
        """
        if not isinstance(error, FilesystemError | FUSEError):
            self.filesystem.fail(RuntimeError(f"unexpected {error!r}"))
        return refusal(error)


def refusal(error: Exception) -> FUSEError:
    """Return what the kernel is told about ``error``; log it unless a program is to blame."""
    if isinstance(error, FUSEError):
        return error
    if isinstance(error, FilesystemError):
        if isinstance(error, DamageError | DeviceError):
            log.error("%s", error.strerror)
        return FUSEError(error.errno or errno.EIO)
    log.error("request failed unexpectedly", exc_info=error)
    return FUSEError(errno.EIO)


def query(
    serve: Callable[Concatenate[H, P], T],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Make ``serve``, which changes nothing that a commit would log, a handler."""
    return _handler(serve, lambda _, error: refusal(error))


def change(
    serve: Callable[Concatenate[H, P], T],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Make ``serve``, which changes the filesystem, a handler."""
    return _handler(serve, Handlers.failed_change)


def _handler(
    serve: Callable[Concatenate[H, P], T], fail: Callable[[H, Exception], FUSEError]
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    kind = serve.__name__

    async def handler(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.requests[kind] += 1
        try:
            return serve(self, *args, **kwargs)
        except Exception as error:
            raise fail(self, error) from None

    functools.update_wrapper(handler, serve)
    return handler
