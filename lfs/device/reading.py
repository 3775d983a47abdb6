"""The one door to what a device holds: a place that can't be read counts as damaged.

Everything that reads structures or data goes through it, so that whoever is ready
for damage is ready for a bad sector too.  Whether the next try succeeds is nobody's
guess; where a lot depends on it, the caller tries again.

Held by ``tests/system/test_every_read.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from lfs.common.errors import DamageError, DeviceError, UnreadableError
from lfs.device.base import BlockDevice

T = TypeVar("T")

ATTEMPTS = 3
"""So often a thing is read before a filesystem is read-only for want of it."""

_GONE = frozenset((errno.ENODEV, errno.ENXIO, errno.EBADF))


def read_or_damage(
    device: BlockDevice, address: int, count: int, block_bytes: int, kind: str
) -> bytes:
    """Return ``count`` blocks at ``address`` as they are; ``kind`` says to people what they are.

    Raises UnreadableError, and DeviceError when the whole device is gone.
    """
    try:
        return device.read(address * block_bytes, count * block_bytes)
    except DeviceError as error:
        if error.errno in _GONE:
            raise
        raise UnreadableError(error, f"{kind} {address}+{count}") from error


def read_again(read: Callable[[], T]) -> T:
    """Return what ``read`` does, which is tried up to ``ATTEMPTS`` times when it meets damage."""
    for _ in range(ATTEMPTS - 1):
        try:
            return read()
        except DamageError:
            continue
    return read()
