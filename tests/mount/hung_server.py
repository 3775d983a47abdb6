"""A filesystem with one file, ``f``, of 1 MiB; a test stops the process, and nobody answers."""

from __future__ import annotations

import errno
import stat
import sys

import pyfuse3
import trio

SIZE_BYTES = 1 << 20


class Hung(pyfuse3.Operations):
    """Tells nothing that the kernel might keep."""

    async def getattr(
        self, inode: int, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_nlink = 1
        entry.attr_timeout = entry.entry_timeout = 0
        if inode == pyfuse3.ROOT_INODE:
            entry.st_mode = stat.S_IFDIR | 0o755
        else:
            entry.st_mode, entry.st_size = stat.S_IFREG | 0o644, SIZE_BYTES
        return entry

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if name != b"f":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(pyfuse3.ROOT_INODE + 1)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(min(size, SIZE_BYTES - off))


if __name__ == "__main__":
    pyfuse3.init(Hung(), sys.argv[1], {"fsname=hung"})
    trio.run(pyfuse3.main)
