"""Setting and reading access control lists, as programs do it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.acls import (
    ACCESS,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER_OBJ,
    Lists,
    entries_of,
    group,
    user,
    value_of,
)

ALICE, BOB, CAROL = 1001, 1002, 1003
STAFF = 2001
# What may be found nowhere by accident.
ODD: Lists = {USER_OBJ: 7, user(ALICE): 6, GROUP_OBJ: 5, group(STAFF): 3, MASK: 7, OTHER: 1}


def set_list(path: Path, entries: Lists, name: bytes = ACCESS) -> None:
    os.setxattr(path, name, value_of(entries))


def list_of(path: Path, name: bytes = ACCESS) -> Lists:
    """Return the entries of a list, or none when there is no list."""
    try:
        return entries_of(os.getxattr(path, name))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return {}


@contextmanager
def umask(bits: int) -> Iterator[None]:
    previous = os.umask(bits)
    try:
        yield
    finally:
        os.umask(previous)


def make(path: Path, bits: int) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, bits))
