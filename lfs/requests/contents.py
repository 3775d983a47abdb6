"""What is in files: reading, writing, where it lies on disk, and access times.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from lfs.common.errors import FilesystemError
from lfs.inodes.inode import Inode
from lfs.requests.core import Core
from lfs.volume.arguments import OFFSET_MAX, check_bytes, check_number, check_time
from lfs.volume.options import SECOND_NS

_RELATIME_NS = 24 * 3600 * SECOND_NS


class ContentRequests:
    """Contents."""

    core: Core

    def read(self, ino: int, offset: int, size: int, now_ns: int) -> bytes:
        """Return up to ``size`` bytes; raises DamageError when they can't be verified."""
        if not (type(offset) is type(size) is int and offset >= 0 and size >= 0):
            check_number("offset", offset, 0, OFFSET_MAX)
            check_number("size", size, 0, OFFSET_MAX)
        self.core.inodes.trim()
        inode = self.core.inodes.get(ino)
        if inode.is_directory:
            raise FilesystemError(errno.EISDIR)
        data = self.core.data.read(inode, offset, size)
        self._accessed(inode, now_ns)
        return data

    def accessed(self, ino: int, now_ns: int) -> None:
        """Note that somebody listed a directory or read a symbolic link."""
        self.core.inodes.trim()
        self._accessed(self.core.inodes.get(ino), now_ns)

    def _accessed(self, inode: Inode, now_ns: int) -> None:
        """Update the access time as the mount options say, unless the disk is too full."""
        options = self.core.volume.options
        if options.atime == "relatime":
            # The usual case comes first: the time is newer than what it tells the age of.
            at_ns = inode.atime_ns
            is_newer = at_ns > inode.mtime_ns and at_ns > inode.ctime_ns
            if is_newer and now_ns - at_ns < _RELATIME_NS:
                return
        if options.atime == "noatime" or self.core.read_only:
            return
        if inode.is_directory and not options.directory_atime:
            return
        if inode.atime_ns == now_ns or not self.core.ledger.is_covered:
            return
        check_time(now_ns)
        inode.atime_ns = now_ns
        self.core.inodes.mark_dirty(inode)
        if self.core.maintenance.has_many_dirty_inodes:
            # Whoever reads has what he asked for; a failure is told by the volume.
            with suppress(FilesystemError):
                self.core.maintenance.keep_bounds(now_ns)

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
        self.core.begin(now_ns)
        inode = self.core.inodes.get(ino)
        if not inode.is_regular:
            raise FilesystemError(errno.EISDIR if inode.is_directory else errno.EINVAL)
        written = self.core.data.write(inode, offset, data, now_ns, privileged, stamp)
        inodes, write_out = self.core.inodes, self.core.write_out
        if (
            inodes.dirty_data.block_count >= write_out.dirty_blocks_max
            or inodes.pinned_bytes >= inodes.pinned_bytes_max
        ):
            write_out.keep_limits(now_ns)
        self.core.end()
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
        self.core.inodes.trim()
        return self.core.data.extents(self.core.inodes.get(ino), first_block, windows_max)
