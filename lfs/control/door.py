"""The door of a mounted filesystem: one question, one answer.

Interface.  Reading the extended attribute ``system.lfs.QUESTION`` of something on the
filesystem asks; ``system.lfs.QUESTION.ARGUMENT`` has an argument.  The answer is a JSON
object of at most ``ANSWER_BYTES_MAX`` bytes.  A wish that is refused is answered by
``{"error": {"errno": NUMBER, "text": LINE}}`` and has changed nothing.  No listing shows
these attributes, and they are not counted as requests.

Who may ask: root with the capability to mount, and the ordinary user who mounted; others
are told EPERM.  EOPNOTSUPP says that nobody knows the question, or that this is no lfs.

Why an attribute: pyfuse3 offers no ``ioctl``.  An attribute is there wherever the mount is,
in every namespace and container, the kernel says who asks, and reading one is possible on
a mount that is read-only, where setting one is not.  A socket would need a place that both
ends know, and a thread of its own where the daemon hangs.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lfs.common.errors import FilesystemError, UsageError

Answer = Mapping[str, Any]

FILESYSTEM_TYPE = "fuse.lfs"
"""What the mount table calls a mounted lfs."""
PREFIX = b"system.lfs."
ANSWER_BYTES_MAX = 65_536
"""What an attribute can hold."""
NAME_BYTES_MAX = 255
"""What a question can, with its argument."""


def attribute(question: str, argument: str = "") -> bytes:
    """Return the attribute whose value is the answer."""
    return PREFIX + os.fsencode(f"{question}.{argument}" if argument else question)


def parsed(name: bytes) -> tuple[str, str]:
    """Return the question and the argument that an attribute's name has after ``PREFIX``."""
    question, _, argument = os.fsdecode(name.removeprefix(PREFIX)).partition(".")
    return question, argument


def packed(answer: Answer) -> bytes:
    """Return an answer as the attribute's value; raises FilesystemError(E2BIG)."""
    raw = json.dumps(answer, separators=(",", ":")).encode()
    if len(raw) > ANSWER_BYTES_MAX:
        raise FilesystemError(errno.E2BIG, f"an answer of {len(raw)} bytes")
    return raw


def refusal(code: int, text: str) -> Answer:
    """Return the answer to a wish that is refused."""
    return {"error": {"errno": code, "text": text}}


def ask(path: str, question: str, argument: str = "") -> dict[str, Any]:
    """Return the answer of the lfs that ``path`` is on.

    Raises FilesystemError for a wish that is refused, OSError when nobody answers:
    EOPNOTSUPP, EPERM (``asking``), ENOTCONN after its daemon has died.
    """
    answer: dict[str, Any] = json.loads(os.getxattr(path, attribute(question, argument)))
    error = answer.get("error")
    if error is not None:
        raise FilesystemError(error["errno"], error["text"])
    return answer


@contextmanager
def asking(path: str, hint: str = "") -> Iterator[None]:
    """Turn what ``ask`` raises when nobody answers into a UsageError with a line for the user."""
    try:
        yield
    except FilesystemError:
        raise
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODATA):
            raise UsageError(f"{path} is not on a mounted lfs{hint}") from error
        if error.errno == errno.EPERM:
            raise UsageError(
                f"{path}: only root and the user who mounted it may ask this"
            ) from error
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise UsageError(f"{path}: its daemon has died: mount again") from error
        raise
