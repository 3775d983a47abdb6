"""The interface of every block device, and its contract.

A device is an array of bytes with a volatile cache: what was written may reach
the medium in any order, or not at all, until ``flush`` returns.  A request is
never partly visible to a later read of the same device.  Offsets and lengths
are multiples of ``align_bytes``.

Held by ``tests/device/test_conformance.py``.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Sequence

from lfs.common.errors import DeviceError

Buffer = bytes | memoryview
"""What can be written; nobody changes it."""


class BlockDevice(ABC):
    """An array of ``size_bytes`` bytes that can be read, written and flushed."""

    size_bytes: int
    align_bytes: int = 512
    read_only: bool = False
    sector_bytes: int = 512
    """The least that the disk below writes as a whole: a power cut may tear that."""
    is_mounted: bool = False
    """A filesystem on it may write: no other is mounted on this device meanwhile."""

    @abstractmethod
    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return exactly ``length_bytes`` bytes at ``offset_bytes``.

        Raises DeviceError: EIO when the device fails or ends early, EINVAL when
        the request lies outside the device.
        """

    @abstractmethod
    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write ``buffers`` one after the other at ``offset_bytes``.

        Nothing is durable before ``flush``.  Raises DeviceError: EROFS on a
        read-only device, ENOSPC when the host cannot store it, EIO, EINVAL.
        After an error any part of the request may have been written.
        """

    @abstractmethod
    def flush(self) -> None:
        """Make every completed write durable; raises DeviceError when that fails."""

    # What follows are hints.  A device may do nothing about them, as here: hence no abstract ones.

    def discard(self, offset_bytes: int, length_bytes: int) -> None:  # noqa: B027  a hint
        """Tell that a range holds nothing of use; reads of it are then undefined."""

    def is_stored(self, offset_bytes: int, length_bytes: int) -> bool:
        """Tell whether the host has room for a range already, so that writing it needs none.

        True where nothing is known of that.
        """
        return True

    def keep_room(self, offset_bytes: int, length_bytes: int) -> None:  # noqa: B027  a hint
        """Let the host give room to a range that holds nothing of use, if it has some left.

        Only a device whose host stores what is written as it comes (a sparse file) has
        something to do; for all others the room is there.
        """

    def will_read(self, offset_bytes: int, length_bytes: int) -> None:  # noqa: B027  a hint
        """Tell that a range will be read soon, part by part."""

    @abstractmethod
    def close(self) -> None:
        """Release what the device holds; does not flush.  Closing twice is allowed."""

    def check_range(self, offset_bytes: int, length_bytes: int) -> None:
        """Raise DeviceError(EINVAL) unless the range is aligned and inside the device."""
        inside = offset_bytes >= 0 and offset_bytes + length_bytes <= self.size_bytes
        aligned = offset_bytes % self.align_bytes == 0 and length_bytes % self.align_bytes == 0
        if not (inside and aligned):
            raise DeviceError(
                errno.EINVAL,
                f"request of {length_bytes} bytes outside a device of {self.size_bytes}",
                offset_bytes,
            )

    def check_write(self, offset_bytes: int, length_bytes: int) -> None:
        """Raise DeviceError(EROFS) on a read-only device, else as ``check_range``."""
        if self.read_only:
            raise DeviceError(errno.EROFS, "device is read-only", offset_bytes)
        self.check_range(offset_bytes, length_bytes)
