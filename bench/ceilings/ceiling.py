"""A filesystem in memory that does nothing more than it must, behind the loop of lfs.

What it costs is what Python, pyfuse3 and the kernel cost: no filesystem on the
same loop can be faster.  For that it must be asked the same: it is mounted as
lfs is (``attach``), answers with the same times for which the kernel may keep
names and attributes, and says of extended attributes that there are none, where
``ENOSYS`` would let the kernel never ask again.

``python -m bench.ceilings.ceiling DIRECTORY [OPTIONS]`` serves until it is unmounted.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyfuse3
import trio

from bench.ceilings.kept import KeptInMemory
from lfs.fuse.replies import VALID_SECONDS, missing_entry
from lfs.kernel import latency
from lfs.kernel.connection import connect, read_ahead
from lfs.kernel.loop import TASK_COUNT_MAX, RequestWaiter, fuse_descriptors, install
from lfs.kernel.memory import keep_freed_memory
from lfs.kernel.negotiation import Negotiation
from lfs.mount.options import parse_options
from lfs.mount.session import READ_AHEAD_KIB

SLOT_BYTES = 1 << 20
_SECTOR_BYTES = 512


class Content:
    """The bytes of a file, in slots of 1 MiB.

    A slot that is written as a whole, as by a stream, is kept as the buffer that
    came: nothing is cheaper.  Everything else goes into a ``bytearray``.
    """

    def __init__(self) -> None:
        """Be empty."""
        self._slots: dict[int, bytes | bytearray] = {}
        self.size = 0

    def __len__(self) -> int:
        """Return the size."""
        return self.size

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset``."""
        number, start = divmod(offset, SLOT_BYTES)
        room = SLOT_BYTES - start
        if len(data) == SLOT_BYTES and not start:
            self._slots[number] = data
        elif len(data) <= room:
            slot = self._slots.get(number)
            if not isinstance(slot, bytearray):
                slot = self._slots[number] = bytearray(slot or b"")
            if start > len(slot):
                slot.extend(bytes(start - len(slot)))
            slot[start : start + len(data)] = data
        else:
            self.write(offset, data[:room])
            self.write(offset + room, data[room:])
        self.size = max(self.size, offset + len(data))

    def read(self, offset: int, length: int) -> bytes:
        """Return what there is in a range; what was never written is zero."""
        length = max(0, min(length, self.size - offset))
        number, start = divmod(offset, SLOT_BYTES)
        room = SLOT_BYTES - start
        if length > room:
            return self.read(offset, room) + self.read(offset + room, length - room)
        return bytes(self._slots.get(number, b"")[start : start + length]).ljust(length, b"\0")

    def resize(self, size: int) -> None:
        """Cut or grow to ``size``."""
        number, start = divmod(size, SLOT_BYTES)
        if size < self.size:
            self._slots = {key: slot for key, slot in self._slots.items() if key <= number}
            if number in self._slots:
                self._slots[number] = bytearray(self._slots[number][:start])
        self.size = size


@dataclass
class Node:
    """A file, symlink or directory."""

    attributes: pyfuse3.EntryAttributes
    content: Content = field(default_factory=Content)
    entries: dict[bytes, int] = field(default_factory=dict)

    def update_size(self) -> None:
        """Let the attributes say how much content there is."""
        self.attributes.st_size = self.content.size
        # Who has content and no blocks is taken for one hole by tar and cp.
        self.attributes.st_blocks = -(-self.content.size // _SECTOR_BYTES)


class Ceiling(KeptInMemory):
    """Every request is a dictionary access."""

    def __init__(self) -> None:
        """Start with an empty root."""
        super().__init__()
        self.nodes: dict[int, Node] = {}
        self.next_ino = int(pyfuse3.ROOT_INODE)
        self._make(stat.S_IFDIR | 0o755, os.getuid(), os.getgid())
        self.absent = missing_entry()

    def _make(self, mode: int, uid: int, gid: int) -> Node:
        now_ns = time.time_ns()
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.InodeT(self.next_ino)
        attributes.st_mode = pyfuse3.ModeT(mode)
        attributes.st_nlink = 1
        attributes.st_uid, attributes.st_gid = uid, gid
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = now_ns
        attributes.st_blksize = 4096
        attributes.entry_timeout = attributes.attr_timeout = VALID_SECONDS
        node = Node(attributes)
        self.nodes[self.next_ino] = node
        self.next_ino += 1
        return node

    def _add(self, parent: int, name: bytes, mode: int, context: pyfuse3.RequestContext) -> Node:
        entries = self.nodes[parent].entries
        if name in entries:
            raise pyfuse3.FUSEError(errno.EEXIST)
        # Mounted as lfs is, the kernel leaves the umask to the filesystem.
        node = self._make(mode & ~context.umask, context.uid, context.gid)
        entries[name] = node.attributes.st_ino
        return node

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find a name; ``.`` comes from ``open_by_handle_at``."""
        if name == b".":
            return self.nodes[parent_inode].attributes
        ino = self.nodes[parent_inode].entries.get(name)
        return self.absent if ino is None else self.nodes[ino].attributes

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Return attributes."""
        return self.nodes[inode].attributes

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Change size, mode and times."""
        node = self.nodes[inode]
        if fields.update_size:
            node.content.resize(attr.st_size)
            node.update_size()
        if fields.update_mode:
            node.attributes.st_mode = attr.st_mode
        if fields.update_mtime:
            node.attributes.st_mtime_ns = attr.st_mtime_ns
        return node.attributes

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: bytes,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Make and open a file."""
        attributes = self._add(parent_inode, name, mode, ctx).attributes
        return self._file_info(attributes.st_ino), attributes

    @staticmethod
    def _file_info(ino: int) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(ino), keep_cache=True)

    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: bytes,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Make a directory."""
        return self._add(parent_inode, name, mode | stat.S_IFDIR, ctx).attributes

    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: bytes,
        target: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Make a symlink."""
        node = self._add(parent_inode, name, stat.S_IFLNK | 0o777, ctx)
        node.content.write(0, target)
        node.update_size()
        return node.attributes

    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> bytes:
        """Return a symlink's target."""
        content = self.nodes[inode].content
        return content.read(0, content.size)

    async def unlink(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Remove a name; the inode stays until it is forgotten."""
        if self.nodes[parent_inode].entries.pop(name, None) is None:
            raise pyfuse3.FUSEError(errno.ENOENT)

    async def rmdir(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Remove an empty directory."""
        if self.nodes[self.nodes[parent_inode].entries[name]].entries:
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        await self.unlink(parent_inode, name, ctx)

    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: bytes,
        parent_inode_new: pyfuse3.InodeT,
        name_new: bytes,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Move a name."""
        ino = self.nodes[parent_inode_old].entries.pop(name_old)
        self.nodes[parent_inode_new].entries[name_new] = ino

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Keep everything: what is removed is no more than a benchmark makes."""

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """Open a file, whose handle is its number; the kernel leaves ``O_TRUNC`` to this."""
        if flags & os.O_TRUNC:
            node = self.nodes[inode]
            node.content.resize(0)
            node.update_size()
        return self._file_info(inode)

    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """List a directory."""
        entries = list(self.nodes[fh].entries.items())
        for position, (name, ino) in enumerate(entries[start_id:], start_id + 1):
            attributes = self.nodes[ino].attributes
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes, position):
                break

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Read."""
        return self.nodes[fh].content.read(off, size)

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        """Write."""
        node = self.nodes[fh]
        node.content.write(off, buf)
        node.update_size()
        return len(buf)


def attach(
    operations: pyfuse3.Operations, mount_point: str, texts: list[str]
) -> latency.ProcessorLatency:
    """Mount as ``mount.lfs`` does with the options in ``texts``; return what ``serve`` runs."""
    options = parse_options(texts)
    processors = latency.opened(options.cpu_latency)
    before = fuse_descriptors()
    connect(operations, mount_point, options.kernel_options("ceiling", os.geteuid() == 0))
    opened = fuse_descriptors() - before
    if len(opened) == 1:
        descriptor = opened.pop()
        waiter = RequestWaiter(descriptor, on_turn=processors.turn)
        install(waiter, lambda: Negotiation.begun(descriptor, SLOT_BYTES))
    return processors


async def serve(mount_point: str, processors: latency.ProcessorLatency) -> None:
    """Serve until unmounted."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_requests, nursery)
        nursery.start_soon(processors.run)
        status = await trio.to_thread.run_sync(os.stat, mount_point)
        read_ahead(status.st_dev, READ_AHEAD_KIB)


async def _serve_requests(nursery: trio.Nursery) -> None:
    await pyfuse3.main(max_tasks=TASK_COUNT_MAX)
    nursery.cancel_scope.cancel()


def main(operations: pyfuse3.Operations) -> None:
    """Serve at the directory named on the command line, with the options after it."""
    keep_freed_memory()
    processors = attach(operations, sys.argv[1], sys.argv[2:])
    try:
        trio.run(serve, sys.argv[1], processors)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main(Ceiling())
