"""Requests of the kernel, translated into calls of the core and back.

What the kernel does before asking, and this module therefore does not: it
checks permissions, by mode and access control list (``default_permissions`` is
always on), finds the place where an ``O_APPEND`` write goes, sends an ``fsync``
after each write of an ``O_SYNC`` file, and keeps locks.  ``flush``, ``access`` and
``poll`` are not served: the kernel asks once at most.

*Umask.*  It is the core's, because a default access list takes its place; the kernel
does not apply it (``lfs.kernel.negotiation``), or has applied it already, and then
applying it again changes nothing.

*Handles.*  pyfuse3 passes nothing but the handle to ``read`` and ``write``.  It
is ``2 * ino + privileged``, where ``privileged`` says that root opened the file
and may use the reserved space: there is no table of files, and a handle costs
nothing but the core's count of opens.  Only of open directories there is a table.

Forgetting is told in ``lfs.fuse.orphans``, listing in ``lfs.fuse.listing`` and
``lfs.fuse.brief``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence

from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from lfs.control.door import PREFIX
from lfs.filesystem import Filesystem
from lfs.fuse.brief import Foresight
from lfs.fuse.callers import mode_left
from lfs.fuse.clock import StampClock
from lfs.fuse.door import Answerer, Door
from lfs.fuse.group_commit import GroupCommit
from lfs.fuse.handlers import Handlers, change, query
from lfs.fuse.lister import Lister
from lfs.fuse.listing import OpenDirectories
from lfs.fuse.orphans import Orphans
from lfs.fuse.replies import (
    PERMISSIONS,
    EntryReply,
    changes_of,
    handle_of,
    missing_entry,
    statistics_of,
)
from lfs.fuse.xattrs import ExtendedAttributes


class LfsOperations(Handlers):
    """Serves one mounted filesystem."""

    supports_dot_lookup = True
    enable_acl = True

    def __init__(
        self,
        filesystem: Filesystem,
        group_commit: GroupCommit,
        target: str,
        on_init: Callable[[], None] = lambda: None,
        writeback_cache: bool = False,
        answerers: Mapping[str, Answerer] | None = None,
    ) -> None:
        """Serve ``filesystem``, which lies on ``target``.

        ``on_init`` is called when the kernel has connected.  ``answerers`` tell at the
        door what the filesystem itself doesn't know.
        """
        super().__init__(filesystem)
        self.enable_writeback_cache = writeback_cache
        self._now_ns = StampClock(kernel_stamps=writeback_cache)
        self._group_commit = group_commit
        self._on_init = on_init
        self._door = Door(filesystem, group_commit, target, self.requests, answerers or {})
        self._xattrs = ExtendedAttributes(filesystem)
        self._entry = EntryReply(filesystem.statfs().block_bytes).of
        self._directories = OpenDirectories()
        self._foresight = Foresight()
        self._lister = Lister(filesystem, self._entry, self._foresight)
        self._orphans = Orphans(filesystem)
        self._missing = missing_entry()

    def inode_of(self, kind: str, handle: int) -> int:
        """Return which inode a handle is of, that a request of ``kind`` came with."""
        if kind in ("readdir", "releasedir", "fsyncdir"):
            return self._directories[handle].ino
        return handle >> 1

    def init(self) -> None:
        """Take note that the kernel has connected."""
        self._on_init()

    # ------------------------------------------------------------------ looking

    @query
    def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Look a name up; ``.`` and ``..`` come from ``open_by_handle_at``."""
        filesystem = self.filesystem
        if name == b".":
            return self._entry(filesystem.getattr(parent_inode))
        inode = filesystem.find(parent_inode, name)
        if inode is None:
            return self._missing
        self._foresight.looked_up(ctx.pid, parent_inode, inode.ino)
        return self._entry(inode)

    @query
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of an inode."""
        self._foresight.asked(ctx.pid, inode)
        return self._entry(self.filesystem.getattr(inode))

    @query
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Return the target of a symbolic link."""
        target = self.filesystem.readlink(inode)
        self.filesystem.accessed(inode, self._now_ns())
        return target

    @query
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return how much space there is."""
        return statistics_of(self.filesystem.statfs())

    # -------------------------------------------------------------------- names

    @change
    def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a file, fifo, socket or device."""
        if not stat.S_IFMT(mode):
            mode |= stat.S_IFREG
        return self._entry(
            self.filesystem.create(
                parent_inode, name, mode, ctx.uid, ctx.gid, self._now_ns(), rdev, ctx.umask
            )
        )

    @change
    def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a directory."""
        return self._entry(
            self.filesystem.mkdir(
                parent_inode, name, mode, ctx.uid, ctx.gid, self._now_ns(), ctx.umask
            )
        )

    @change
    def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a symbolic link."""
        return self._entry(
            self.filesystem.symlink(parent_inode, name, target, ctx.uid, ctx.gid, self._now_ns())
        )

    @change
    def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Give an inode one more name."""
        return self._entry(
            self.filesystem.link(inode, new_parent_inode, new_name, self._now_ns(), ctx.uid == 0)
        )

    @change
    def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Take a name from a file; an orphan goes with ``forget``."""
        self._orphans.note(self.filesystem.unlink(parent_inode, name, self._now_ns()))

    @change
    def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an empty directory."""
        self._orphans.note(self.filesystem.rmdir(parent_inode, name, self._now_ns()))

    @change
    def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """Move a name; ``flags`` are those of ``renameat2``."""
        self._orphans.note(
            self.filesystem.rename(
                parent_inode_old,
                name_old,
                parent_inode_new,
                name_new,
                self._now_ns(),
                flags,
                ctx.uid,
                ctx.gid,
            )
        )

    # --------------------------------------------------------------- attributes

    @change
    def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Change the fields that are marked.

        The change time is ours, unless the kernel keeps the times of regular files
        (``writeback_cache``): then it says so, often long after the change, and what it
        does not name stays as it is, also where a size is set.
        """
        changes = changes_of(attr, fields)
        before = self.filesystem.getattr(inode)
        mode = mode_left(before, changes, ctx)
        if mode is not None:
            changes["mode"] = mode
        if not changes and not fields.update_ctime:
            return self._entry(before)
        if fields.update_ctime:
            now_ns = attr.st_ctime_ns
        elif self.enable_writeback_cache and before.is_regular:
            now_ns = before.ctime_ns
        else:
            now_ns = self._now_ns.of_change(changes)
        if fields.update_size and self.enable_writeback_cache:
            changes.setdefault("mtime_ns", before.mtime_ns)
        return self._entry(
            self.filesystem.setattr(inode, now_ns, privileged=ctx.uid == 0, **changes)
        )

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return an attribute, or what somebody asks at the door, which is not counted."""
        if not name.startswith(PREFIX):
            return await self._getxattr(inode, name, ctx)
        try:
            answer = await self._door.answer(inode, name, ctx)
        except Exception as error:
            raise self.failed_change(error, lambda: f"answer {os.fsdecode(name)}") from None
        if self.filesystem.options.read_only:
            # A clean image has no orphans: what the kernel forgets of them is gone.
            self._orphans.clear()
        return answer

    @query
    def _getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return self._xattrs.get(inode, name)

    @change
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Set an attribute; pyfuse3 has checked the flags."""
        self._xattrs.set(inode, name, value, self._now_ns(), ctx)

    @change
    def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an attribute."""
        self._xattrs.remove(inode, name, self._now_ns())

    @query
    def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Return the names of the stored attributes."""
        return self._xattrs.names(inode)

    # -------------------------------------------------------------------- files

    @change
    def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make a regular file and open it."""
        filesystem = self.filesystem
        mode = stat.S_IFREG | mode & PERMISSIONS
        inode = filesystem.create(
            parent_inode, name, mode, ctx.uid, ctx.gid, self._now_ns(), 0, ctx.umask
        )
        filesystem.open(inode.ino)
        self._xattrs.note_new(inode.ino)
        return handle_of(inode.ino, ctx), self._entry(inode)

    @change
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file, and empty it with ``O_TRUNC``: the kernel leaves that to ``open``."""
        filesystem = self.filesystem
        if flags & os.O_TRUNC:
            mode = mode_left(filesystem.getattr(inode), ("size",), ctx)
            filesystem.setattr(inode, self._now_ns(), size=0, mode=mode)
        filesystem.open(inode)
        # Reading from the kernel's cache is not seen here, and changes no access time.
        return handle_of(inode, ctx, filesystem.options.atime != "strictatime")

    @change
    def release(self, fh: int) -> None:
        """Close a handle."""
        ino = fh >> 1
        self.filesystem.release(ino)
        self._orphans.released(ino)

    @query
    def read(self, fh: int, off: int, size: int) -> bytes:
        """Return what there is in a range."""
        return self.filesystem.read(fh >> 1, off, size, self._now_ns())

    @change
    def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write all of ``buf``.

        With ``writeback_cache`` the times are the kernel's.  It stamped them before it
        sent this, and tells only of a stamp that differs from the last: ours could stay.
        """
        stamp = not self.enable_writeback_cache
        self.filesystem.write(fh >> 1, off, buf, self._now_ns(), bool(fh & 1), stamp)
        return len(buf)

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Commit everything: a log has no cheaper way to make one file durable."""
        self.requests["fsync"] += 1
        await self._commit(fh >> 1)

    async def _commit(self, ino: int) -> None:
        try:
            await self._group_commit.commit()
        except Exception as error:
            raise self.failed_change(error, lambda: f"fsync inode {ino}") from None

    # -------------------------------------------------------------- directories

    @query
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory; while the kernel has it open it does not forget it."""
        return self._directories.open(inode, ctx.pid)

    @query
    def releasedir(self, fh: int) -> None:
        """Close a directory."""
        self._directories.close(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Commit everything."""
        self.requests["fsyncdir"] += 1
        await self._commit(self._directories[fh].ino)

    @query
    def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List a directory from ``start_id`` on, as far as the reply has room."""
        directory = self._directories[fh]
        if not start_id:
            self.filesystem.accessed(directory.ino, self._now_ns())
        self._lister.reply(directory, start_id, token)

    # --------------------------------------------------------------- forgetting

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Let go of inodes that the kernel has dropped."""
        self.requests["forget"] += 1
        for ino, _ in inode_list:
            if ino in self._orphans:
                self._forget_orphan(ino)
            else:
                self._foresight.forgotten()

    def _forget_orphan(self, ino: int) -> None:
        try:
            self._orphans.forget(ino)
        except Exception as error:
            self.failed_change(error, lambda: f"remove inode {ino}")
