"""How a mounted filesystem tells which image it is on: both ends of it.

The root directory has an extended attribute ``system.lfs.target`` that no
listing shows.  The mount table has the path too, unless ``fsname=`` says otherwise.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lfs.common.errors import UsageError

TARGET_ATTRIBUTE = b"system.lfs.target"


def mounted_target(directory: str) -> str:
    """Return the absolute path of the image or disk under a mounted lfs.

    Raises OSError: EOPNOTSUPP when ``directory`` is not on an lfs.
    """
    return os.fsdecode(os.getxattr(directory, TARGET_ATTRIBUTE))


@contextmanager
def asked_of_lfs(path: str, hint: str = "") -> Iterator[None]:
    """Ask for an attribute that every mounted lfs has: UsageError where ``path`` is on none."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODATA):
            raise UsageError(f"{path} is not on a mounted lfs{hint}") from error
        raise
