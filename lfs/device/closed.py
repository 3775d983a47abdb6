"""What takes a device's place once nobody may use it any more.

Held by ``tests/library/test_closed.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NoReturn

from lfs.common.errors import DeviceError
from lfs.device.base import BlockDevice, Buffer


class ClosedDevice(BlockDevice):
    """A device that refuses every request with EBADF, whoever still makes one."""

    def __init__(self, size_bytes: int) -> None:
        """Be as large as the device was."""
        self.size_bytes = size_bytes

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Refuse."""
        _refuse(offset_bytes)

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Refuse."""
        _refuse(offset_bytes)

    def flush(self) -> None:
        """Refuse."""
        _refuse(0)

    def close(self) -> None:
        """Do nothing."""


def _refuse(offset_bytes: int) -> NoReturn:
    raise DeviceError(errno.EBADF, "the filesystem is not mounted any more", offset_bytes)
