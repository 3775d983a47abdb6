"""Requests of the kernel, translated into calls of the core and back.

What the kernel does before asking, and this module therefore does not: it
checks permissions, by mode and access control list (``default_permissions`` is
always on), finds the place where an ``O_APPEND`` write goes, sends an ``fsync``
after each write of an ``O_SYNC`` file, and keeps locks.  ``flush``, ``access`` and
``poll`` are not served: the kernel asks once at most.

*Set-id bits.*  Who writes to a file, cuts it or gives it away takes its set-id bits.
The kernel leaves that to the filesystem (HANDLE_KILLPRIV_V2, ``lfs.kernel.negotiation``):
before a write it sends a ``setattr`` that names no field, where the bits must go.

*Access control lists.*  With ``enable_acl`` the kernel reads lists as attributes,
keeps them, and checks by them.  That new inodes inherit them, and that list and
mode agree, is the core's doing.  The umask is the core's too, because a default
list takes its place; the kernel does not apply it (``lfs.kernel.negotiation``), or has
applied it already, and then applying it again changes nothing.

*Handles.*  pyfuse3 passes nothing but the handle to ``read`` and ``write``.  It
is ``2 * ino + privileged``, where ``privileged`` says that root opened the file
and may use the reserved space: there is no table of files, and a handle costs
nothing but the core's count of opens.  Only of open directories there is a table.

*Forgetting.*  No lookup counts are kept, so memory does not grow with what the
kernel caches.  The kernel forgets an inode when it drops it, as a whole; only an
orphan has to go then, and an orphan cannot be looked up again.  Two orders of
arrival need care.  A ``forget`` that was queued while the inode was looked up
once more may come after its ``unlink``: what is open is safe by the core's count
of opens.  And a ``forget`` may overtake the last ``release``, which then does
what had to wait.  So memory holds two sets of orphans and nothing else.

*Listing.*  An open directory has a handle of its own and cookies of 31 bits
(``lfs.fuse.listing``); 1 and 2 are ``.`` and ``..``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Container, Sequence

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from lfs.common.errors import FilesystemError
from lfs.control.remount import CONTROL_PREFIX
from lfs.filesystem import Filesystem, Inode
from lfs.fuse.callers import may_set_any_bit, mode_without_set_ids
from lfs.fuse.clock import StampClock
from lfs.fuse.group_commit import GroupCommit
from lfs.fuse.handlers import Handlers, change, query, refusal
from lfs.fuse.listing import DOT_DOT_COOKIE, Listed, OpenDirectory
from lfs.fuse.replies import (
    PERMISSIONS,
    EntryReply,
    bare_entry,
    handle_of,
    missing_entry,
    statistics_of,
)
from lfs.fuse.xattrs import VIRTUAL_PREFIX, ExtendedAttributes
from lfs.ondisk import ROOT_INO

_SET_IDS = stat.S_ISUID | stat.S_ISGID
_CUT = ("size",)
_TIMES = ("atime_ns", "mtime_ns")


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
        control: Callable[[bytes, RequestContext], bytes] | None = None,
    ) -> None:
        """Serve ``filesystem``, which lies on ``target``.

        ``on_init`` is called when the kernel has connected.  ``control`` answers for
        the attributes of the root by which a remount asks, given a name and who asks.
        """
        super().__init__(filesystem)
        self.enable_writeback_cache = writeback_cache
        self._now_ns = StampClock(kernel_stamps=writeback_cache)
        self._group_commit = group_commit
        self._on_init = on_init
        self._control = control
        self._xattrs = ExtendedAttributes(filesystem, os.fsencode(target), self.requests)
        self._entry = EntryReply(filesystem.statfs().block_bytes).of
        self._directories: dict[int, OpenDirectory] = {}
        self._directory_count = 0
        self._orphans: set[int] = set()
        self._forgotten: set[int] = set()
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
        try:
            return self._entry(filesystem.lookup(parent_inode, name))
        except FilesystemError as error:
            if error.errno != errno.ENOENT:
                raise
            return self._missing

    @query
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of an inode."""
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
        self._note_orphan(self.filesystem.unlink(parent_inode, name, self._now_ns()))

    @change
    def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an empty directory."""
        self._note_orphan(self.filesystem.rmdir(parent_inode, name, self._now_ns()))

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
        self._note_orphan(
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
        changes: dict[str, int] = {}
        if fields.update_mode:
            changes["mode"] = attr.st_mode & PERMISSIONS
        if fields.update_uid:
            changes["uid"] = attr.st_uid
        if fields.update_gid:
            changes["gid"] = attr.st_gid
        if fields.update_size:
            changes["size"] = attr.st_size
        if fields.update_atime:
            changes["atime_ns"] = attr.st_atime_ns
        if fields.update_mtime:
            changes["mtime_ns"] = attr.st_mtime_ns
        before = self.filesystem.getattr(inode)
        mode = self._mode_left(before, changes, ctx)
        if mode is not None:
            changes["mode"] = mode
        if not changes and not fields.update_ctime:
            return self._entry(before)
        if fields.update_ctime:
            now_ns = attr.st_ctime_ns
        elif self.enable_writeback_cache and before.is_regular:
            now_ns = before.ctime_ns
        else:
            now_ns = self._change_ns(changes)
        if fields.update_size and self.enable_writeback_cache:
            changes.setdefault("mtime_ns", before.mtime_ns)
        return self._entry(
            self.filesystem.setattr(inode, now_ns, privileged=ctx.uid == 0, **changes)
        )

    def _change_ns(self, changes: dict[str, int]) -> int:
        """Return the time of a change that sets times, which may be the kernel's own."""
        for field in _TIMES:
            if field in changes:
                self._now_ns.note(changes[field])
        return self._now_ns()

    def _mode_left(self, inode: Inode, changes: Container[str], ctx: RequestContext) -> int | None:
        """Return the mode that changes of other fields leave; None for the same.

        ``changes`` are the fields that the kernel names: none before a write.
        """
        if not inode.mode & _SET_IDS or inode.is_directory or "mode" in changes:
            return None
        unconditional = not changes or "uid" in changes or "gid" in changes
        if unconditional or ("size" in changes and not may_set_any_bit(ctx)):
            return mode_without_set_ids(inode.mode, inode.gid, ctx)
        return None

    @query
    def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return an attribute; what only our own tools ask for is not counted."""
        if name.startswith(VIRTUAL_PREFIX):
            self.requests["getxattr"] -= 1
        if name.startswith(CONTROL_PREFIX) and inode == ROOT_INO and self._control is not None:
            return self._remount(name, ctx)
        return self._xattrs.get(inode, name)

    def _remount(self, name: bytes, ctx: RequestContext) -> bytes:
        assert self._control is not None
        try:
            answer = self._control(name, ctx)
        except Exception as error:
            raise self.failed_change(error, "remount") from None
        if self.filesystem.options.read_only:
            # A clean image has no orphans: what the kernel forgets of them is gone.
            self._orphans.clear()
            self._forgotten.clear()
        return answer

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
            mode = self._mode_left(filesystem.getattr(inode), _CUT, ctx)
            filesystem.setattr(inode, self._now_ns(), size=0, mode=mode)
        filesystem.open(inode)
        # Reading from the kernel's cache is not seen here, and changes no access time.
        return handle_of(inode, ctx, filesystem.options.atime != "strictatime")

    @change
    def release(self, fh: int) -> None:
        """Close a handle."""
        ino = fh >> 1
        self.filesystem.release(ino)
        if ino in self._forgotten:
            self._forget_orphan(ino)

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
        await self._commit(f"fsync inode {fh >> 1}")

    async def _commit(self, about: str) -> None:
        try:
            await self._group_commit.commit()
        except Exception as error:
            raise self.failed_change(error, about) from None

    # -------------------------------------------------------------- directories

    @query
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory; while the kernel has it open it does not forget it."""
        self._directory_count += 1
        self._directories[self._directory_count] = OpenDirectory(inode)
        return self._directory_count

    @query
    def releasedir(self, fh: int) -> None:
        """Close a directory."""
        del self._directories[fh]

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Commit everything."""
        self.requests["fsyncdir"] += 1
        await self._commit(f"fsync inode {self._directories[fh].ino}")

    @query
    def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List a directory from ``start_id`` on, with attributes, as far as the reply has room.

        An error waits for the next request where there is something to reply before it.
        """
        directory = self._directories[fh]
        if not start_id:
            directory.rewind()
            self.filesystem.accessed(directory.ino, self._now_ns())
        replied = False
        try:
            for listed in directory.listing(self.filesystem, start_id):
                entry = self._listed(directory.ino, listed)
                if not pyfuse3.readdir_reply(token, listed[1], entry, listed[0]):
                    return
                replied = True
        except FilesystemError:
            if not replied:
                raise

    def _listed(self, directory_ino: int, listed: Listed) -> EntryAttributes:
        cookie, _, ino, file_type = listed
        if cookie > DOT_DOT_COOKIE:
            try:
                return self._entry(self.filesystem.getattr(ino))
            except FilesystemError as error:
                # One damaged inode does not hide the names of the others.
                refusal(error, f"list directory {directory_ino}: inode {ino}")
        return bare_entry(ino, file_type << 12)

    # --------------------------------------------------------------- forgetting

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Let go of inodes that the kernel has dropped."""
        self.requests["forget"] += 1
        orphans = self._orphans
        for ino, _ in inode_list:
            if ino in orphans:
                try:
                    self._forget_orphan(ino)
                except Exception as error:
                    self.failed_change(error, f"remove inode {ino}")

    def _note_orphan(self, inode: Inode | None) -> None:
        if inode is not None and inode.nlink == 0:
            self._orphans.add(inode.ino)

    def _forget_orphan(self, ino: int) -> None:
        if self.filesystem.getattr(ino).open_count:
            self._forgotten.add(ino)
            return
        self._orphans.discard(ino)
        self._forgotten.discard(ino)
        self.filesystem.forget(ino)
