"""What is in files: reading, writing, where it lies on disk, and access times.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno

from lfs.common.errors import FilesystemError
from lfs.inodes.inode import S_IFDIR, S_IFMT, S_IFREG
from lfs.requests.core import Core
from lfs.volume.arguments import OFFSET_MAX, check_bytes, check_number


class ContentRequests:
    """Contents."""

    core: Core

    def read(self, ino: int, offset: int, size: int, now_ns: int) -> bytes:
        """Return up to ``size`` bytes; raises DamageError when they can't be verified."""
        if not (type(offset) is type(size) is int and offset >= 0 and size >= 0):
            check_number("offset", offset, 0, OFFSET_MAX)
            check_number("size", size, 0, OFFSET_MAX)
        core = self.core
        inode = core.inodes.begin(ino)
        if inode.mode & S_IFMT == S_IFDIR:
            raise FilesystemError(errno.EISDIR)
        data = core.data.read(inode, offset, size)
        core.accessed(inode, now_ns)
        return data

    def accessed(self, ino: int, now_ns: int) -> None:
        """Note that somebody listed a directory or read a symbolic link."""
        self.core.accessed(self.core.inodes.begin(ino), now_ns)

    def write(
        self,
        ino: int,
        offset: int,
        data: bytes,
        now_ns: int,
        privileged: bool = False,
        stamp: bool = True,
    ) -> int:
        """Write ``data``; returns its length.  ENOSPC comes here or never.

        What is overwritten has room on a full disk, too, up to ``write_bytes_max``.
        Without ``stamp`` the times stay: the caller sets those of each file himself.
        """
        if not (type(data) is bytes and type(offset) is int and offset >= 0):
            check_bytes("data", data)
            check_number("offset", offset, 0, OFFSET_MAX)
        core = self.core
        core.begin(now_ns)
        inode = core.inodes.get(ino)
        if inode.mode & S_IFMT != S_IFREG:
            raise FilesystemError(errno.EISDIR if inode.is_directory else errno.EINVAL)
        written = core.data.write(inode, offset, data, now_ns, privileged, stamp)
        inodes, write_out = core.inodes, core.write_out
        if (
            inodes.dirty_data.block_count >= write_out.dirty_blocks_max
            or inodes.pinned_bytes >= inodes.pinned_bytes_max
        ):
            write_out.keep_limits(now_ns)
        core.end()
        return written

    def extents(
        self, ino: int, first_block: int = 0, windows_max: int | None = None
    ) -> list[tuple[int, int, int]]:
        """Return ``(file_block, address, count)`` of the file's extents on disk.

        From file block ``first_block`` on; with ``windows_max`` only those in so many
        windows, at least one if there is any: it costs no more than that, and whoever
        wants the rest asks for what follows the last one.
        """
        check_number("file block", first_block, 0, OFFSET_MAX)
        if windows_max is not None:
            check_number("number of windows", windows_max, 1, OFFSET_MAX)
        return self.core.data.extents(self.core.inodes.begin(ino), first_block, windows_max)
