"""Descriptors of images: none is 0, 1 or 2.

Whoever is started with one of these closed gets it for the next file that is opened,
and then messages go into that file, or a daemon that lets go of its terminal closes it.
"""

from __future__ import annotations

import fcntl
import os

_LOWEST = 3


def open_above_standard(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file as ``os.open`` does, closed on exec, with a descriptor above 2."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    if descriptor >= _LOWEST:
        return descriptor
    try:
        return copy_above_standard(descriptor)
    finally:
        os.close(descriptor)


def copy_above_standard(descriptor: int) -> int:
    """Return another descriptor of the same open file, above 2 and closed on exec."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
