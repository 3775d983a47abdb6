"""What a filesystem in memory answers without a look at anything."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pyfuse3


class KeptInMemory(pyfuse3.Operations):
    """The requests about durability, attributes, space and handles: there is nothing to do."""

    supports_dot_lookup = True
    enable_acl = True

    def __init__(self) -> None:
        """Have room for ever."""
        super().__init__()
        space = self._space = pyfuse3.StatvfsData()
        space.f_bsize = space.f_frsize = 4096
        space.f_blocks = space.f_bfree = space.f_bavail = 1 << 30
        space.f_files = space.f_ffree = space.f_favail = 1 << 30
        space.f_namemax = 255

    async def opendir(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileHandleT:
        """Open a directory, whose handle is its number."""
        return pyfuse3.FileHandleT(inode)

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """Have nothing to make durable."""

    async def fsyncdir(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """Have nothing to make durable."""

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """Tell the kernel not to ask again."""
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def getxattr(
        self, inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> bytes:
        """Have no attributes."""
        raise pyfuse3.FUSEError(errno.ENODATA)

    async def listxattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> Sequence[bytes]:
        """Have no attributes."""
        return ()

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Return numbers that never change."""
        return self._space

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """Nothing is kept for an open directory."""

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Nothing is kept for an open file."""
