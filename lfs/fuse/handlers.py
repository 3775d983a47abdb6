"""From a plain function to the coroutine that pyfuse3 awaits for a request.

The core answers at once, so a handler is a function that ``query`` or
``change`` wraps.  A ``FilesystemError`` becomes its errno.  Anything else is a
bug: it is answered ``EIO``, logged with its traceback, and never ends the daemon;
but after a change that failed so nobody knows what of it is in memory, and the
filesystem is read-only from then on.

Held by ``tests/fuse/test_operations.py``.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from functools import partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import FUSEError

from lfs.common.errors import DamageError, DeviceError, FilesystemError
from lfs.filesystem import Filesystem

_INODES = {
    "inode": "inode",
    "parent_inode": "directory",
    "parent_inode_old": "directory",
    "parent_inode_new": "to directory",
    "new_parent_inode": "to directory",
}

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
H = TypeVar("H", bound="Handlers")


class Handlers(pyfuse3.Operations, ABC):
    """What all handlers of one filesystem share; what a handle is, subclasses know."""

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

    @abstractmethod
    def inode_of(self, kind: str, handle: int) -> int:
        """Return which inode a handle is of, that a request of ``kind`` came with."""

    def failed_change(self, error: Exception, about: Callable[[], str]) -> FUSEError:
        """Return what the kernel is told about a change that ended with ``error``.

        A refusal left memory as it was.  After anything else nobody knows what
        of the change is in memory, so no more may be written.  ``about`` tells the log.
        """
        if not isinstance(error, FilesystemError | FUSEError):
            self.filesystem.fail(RuntimeError(f"unexpected {error!r}"))
        return refusal(error, about)


def refusal(error: Exception, about: Callable[[], str]) -> FUSEError:
    """Return what the kernel is told about ``error``; log it unless a program is to blame.

    The line begins with what the request was ``about``: which file, which place in it.  That
    is asked for only then, because programs are refused all the time.
    """
    if isinstance(error, FUSEError):
        return error
    if isinstance(error, FilesystemError):
        if isinstance(error, DamageError | DeviceError):
            log.error("%s: %s", about(), error.strerror)
        return FUSEError(error.errno or errno.EIO)
    log.error("%s: failed unexpectedly", about(), exc_info=error)
    return FUSEError(errno.EIO)


def described(kind: str, arguments: Mapping[str, Any], inode_of: Callable[[str, int], int]) -> str:
    """Return what a request was about: its kind, inode, name and place, as far as it has them.

    ``arguments`` are those of its handler; ``inode_of`` tells the inode of a handle.
    """
    parts = [kind]
    for name, label in _INODES.items():
        if name in arguments:
            parts.append(f"{label} {arguments[name]}")
    if "fh" in arguments and "inode" not in arguments:
        parts.append(f"inode {inode_of(kind, arguments['fh'])}")
    for name in ("name", "name_old", "name_new", "new_name"):
        if isinstance(arguments.get(name), bytes):
            parts.append(repr(os.fsdecode(arguments[name])))
    if "off" in arguments:
        length = arguments["size"] if "size" in arguments else len(arguments["buf"])
        parts.append(f"bytes {arguments['off']}+{length}")
    return " ".join(parts)


def query(
    serve: Callable[Concatenate[H, P], T],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Make ``serve``, which changes nothing that a commit would log, a handler."""
    return _handler(serve, lambda _, error, about: refusal(error, about))


def change(
    serve: Callable[Concatenate[H, P], T],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Make ``serve``, which changes the filesystem, a handler."""
    return _handler(serve, Handlers.failed_change)


def _handler(
    serve: Callable[Concatenate[H, P], T],
    fail: Callable[[H, Exception, Callable[[], str]], FUSEError],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    kind = serve.__name__.removeprefix("_")

    def about(self: H, /, *args: P.args, **kwargs: P.kwargs) -> str:
        given = inspect.signature(serve).bind(self, *args, **kwargs).arguments
        return described(kind, given, self.inode_of)

    async def handler(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.requests[kind] += 1
        try:
            return serve(self, *args, **kwargs)
        except FUSEError:
            raise
        except Exception as error:
            raise fail(self, error, partial(about, self, *args, **kwargs)) from None

    update_wrapper(handler, serve)
    return handler
