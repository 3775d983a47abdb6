"""Requests of the kernel, translated into calls of the core and back.

Every handler but those of ``fsync`` is a plain function: ``_query`` and
``_change`` make it the coroutine that pyfuse3 awaits, turn a ``FilesystemError``
into its errno, and answer anything unexpected with ``EIO`` and a traceback in the
log; if it was a change, the filesystem is read-only from then on.

What the kernel does before asking, and this module therefore does not: it
checks permissions (``default_permissions`` is always on), applies the umask,
clears set-id bits on write, truncate and chown, finds the place where an
``O_APPEND`` write goes, sends an ``fsync`` after each write of an ``O_SYNC``
file, and keeps locks.  ``flush``, ``access`` and ``poll`` are not served: the
kernel asks once at most.

*Caching.*  Nobody else changes the disk, so names, missing names and attributes
are valid for ``VALID_SECONDS`` and pages survive ``open``.

*Handles.*  pyfuse3 passes nothing but the handle to ``read`` and ``write``.  It
is ``2 * ino + privileged``, where ``privileged`` says that root opened the file
and may use the reserved space: there is no table of handles, and a handle costs
nothing but the core's count of opens.  A directory's handle is its inode number.

*Forgetting.*  No lookup counts are kept, so memory does not grow with what the
kernel caches.  The kernel forgets an inode when it drops it, as a whole; only an
orphan has to go then, and an orphan cannot be looked up again.  Two orders of
arrival need care.  A ``forget`` that was queued while the inode was looked up
once more may come after its ``unlink``: what is open is safe by the core's count
of opens.  And a ``forget`` may overtake the last ``release``, which then does
what had to wait.  So memory holds two sets of orphans and nothing else.

*Listing.*  Cookies 1 and 2 are ``.`` and ``..``; those of the core are above
2**62 and name a place in the order of hashes, so that they stay valid while
entries come and go.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from time import time_ns
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from lfs.cli.extents import extents_attribute_start, format_extents
from lfs.cli.target import TARGET_ATTRIBUTE
from lfs.errors import DamageError, DeviceError, FilesystemError
from lfs.filesystem import Filesystem
from lfs.fuse.committer import Committer
from lfs.inodes import Inode
from lfs.ondisk import NAME_BYTES_MAX

VALID_SECONDS = 86400.0
_DOT_COOKIE = 1
_DOT_DOT_COOKIE = 2
_SECTOR_BYTES = 512
_PERMISSIONS = 0o7777
_STATFS_BYTES_PER_INODE = 512
_CAPABILITY = b"security.capability"
_WITHOUT_CAPABILITY_MAX = 65536

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def _refusal(error: Exception) -> FUSEError:
    """Return what the kernel is told about ``error``; log it unless a program is to blame."""
    if isinstance(error, FUSEError):
        return error
    if isinstance(error, FilesystemError):
        if isinstance(error, DamageError | DeviceError):
            log.error("%s", error.strerror)
        return FUSEError(error.errno or errno.EIO)
    log.error("request failed unexpectedly", exc_info=error)
    return FUSEError(errno.EIO)


def _query(
    serve: Callable[Concatenate[LfsOperations, P], T],
) -> Callable[Concatenate[LfsOperations, P], Coroutine[Any, Any, T]]:
    """Make ``serve``, which changes nothing that a commit would log, a handler."""

    async def handler(self: LfsOperations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.request_count += 1
        try:
            return serve(self, *args, **kwargs)
        except Exception as error:
            raise _refusal(error) from None

    functools.update_wrapper(handler, serve)
    return handler


def _change(
    serve: Callable[Concatenate[LfsOperations, P], T],
) -> Callable[Concatenate[LfsOperations, P], Coroutine[Any, Any, T]]:
    """Make ``serve``, which changes the filesystem, a handler."""

    async def handler(self: LfsOperations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.request_count += 1
        try:
            return serve(self, *args, **kwargs)
        except Exception as error:
            raise self.failed_change(error) from None

    functools.update_wrapper(handler, serve)
    return handler


class LfsOperations(pyfuse3.Operations):
    """Serves one mounted filesystem."""

    supports_dot_lookup = True
    enable_acl = False

    def __init__(
        self,
        filesystem: Filesystem,
        committer: Committer,
        target: str,
        on_init: Callable[[], None] = lambda: None,
        writeback_cache: bool = False,
    ) -> None:
        """Serve ``filesystem``, which lies on ``target``.

        ``on_init`` is called when the kernel has connected.
        """
        super().__init__()
        self.enable_writeback_cache = writeback_cache
        self.request_count = 0
        self._filesystem = filesystem
        self._committer = committer
        self._target = os.fsencode(target)
        self._on_init = on_init
        self._block_bytes: int = filesystem.statfs().block_bytes
        self._without_capability: set[int] = set()
        self._orphans: set[int] = set()
        self._forgotten: set[int] = set()
        self._missing = EntryAttributes()
        self._missing.st_ino = 0
        self._missing.entry_timeout = VALID_SECONDS

    def init(self) -> None:
        """Take note that the kernel has connected."""
        self._on_init()

    def failed_change(self, error: Exception) -> FUSEError:
        """Return what the kernel is told about a change that ended with ``error``.

        A refusal left memory as it was.  After anything else nobody knows what
        of the change is in memory, so no more may be written.
        """
        if not isinstance(error, FilesystemError | FUSEError):
            self._filesystem.flush_failed(error)
        return _refusal(error)

    def _entry(self, inode: Inode) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = inode.ino
        entry.generation = inode.generation
        entry.entry_timeout = VALID_SECONDS
        entry.attr_timeout = VALID_SECONDS
        entry.st_mode = inode.mode
        entry.st_nlink = inode.nlink
        entry.st_uid = inode.uid
        entry.st_gid = inode.gid
        entry.st_rdev = inode.rdev
        entry.st_size = inode.size
        entry.st_blksize = self._block_bytes
        entry.st_blocks = self._sectors(inode)
        entry.st_atime_ns = inode.atime_ns
        entry.st_mtime_ns = inode.mtime_ns
        entry.st_ctime_ns = inode.ctime_ns
        return entry

    def _sectors(self, inode: Inode) -> int:
        """Return the space a file takes, or will take when its dirty blocks are placed.

        Nothing may have content and no blocks, or tar takes it for one hole.
        """
        blocks: int = inode.blocks
        if inode.dirty_blocks:
            dense = -(-inode.size // self._block_bytes)
            blocks = min(blocks + inode.dirty_extents.count, dense)
        return blocks * self._block_bytes // _SECTOR_BYTES or int(bool(inode.inline))

    # ------------------------------------------------------------------ looking

    @_query
    def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Look a name up; ``.`` and ``..`` come from ``open_by_handle_at``."""
        filesystem = self._filesystem
        if name == b".":
            return self._entry(filesystem.getattr(parent_inode))
        try:
            return self._entry(filesystem.lookup(parent_inode, name))
        except FilesystemError as error:
            if error.errno != errno.ENOENT:
                raise
            return self._missing

    @_query
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of an inode."""
        return self._entry(self._filesystem.getattr(inode))

    @_query
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Return the target of a symbolic link."""
        return self._filesystem.readlink(inode)

    @_query
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return how much space there is; inodes are limited by nothing else."""
        space = self._filesystem.statfs()
        more_inodes = space.free_blocks * space.block_bytes // _STATFS_BYTES_PER_INODE
        data = StatvfsData()
        data.f_bsize = data.f_frsize = space.block_bytes
        data.f_blocks = space.total_blocks
        data.f_bfree = space.free_blocks
        data.f_bavail = space.available_blocks
        data.f_files = space.inode_count + more_inodes
        data.f_ffree = data.f_favail = more_inodes
        data.f_namemax = NAME_BYTES_MAX
        return data

    # -------------------------------------------------------------------- names

    @_change
    def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a file, fifo, socket or device."""
        if not stat.S_IFMT(mode):
            mode |= stat.S_IFREG
        return self._entry(
            self._filesystem.create(parent_inode, name, mode, ctx.uid, ctx.gid, time_ns(), rdev)
        )

    @_change
    def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a directory."""
        return self._entry(
            self._filesystem.mkdir(parent_inode, name, mode, ctx.uid, ctx.gid, time_ns())
        )

    @_change
    def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a symbolic link."""
        return self._entry(
            self._filesystem.symlink(parent_inode, name, target, ctx.uid, ctx.gid, time_ns())
        )

    @_change
    def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Give an inode one more name."""
        return self._entry(self._filesystem.link(inode, new_parent_inode, new_name, time_ns()))

    @_change
    def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Take a name from a file; an orphan goes with ``forget``."""
        self._note_orphan(self._filesystem.unlink(parent_inode, name, time_ns()))

    @_change
    def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an empty directory."""
        self._note_orphan(self._filesystem.rmdir(parent_inode, name, time_ns()))

    @_change
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
            self._filesystem.rename(
                parent_inode_old, name_old, parent_inode_new, name_new, time_ns(), flags
            )
        )

    # --------------------------------------------------------------- attributes

    @_change
    def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Change the fields that are marked; the core sets the change time itself."""
        changes: dict[str, int] = {}
        if fields.update_mode:
            changes["mode"] = attr.st_mode & _PERMISSIONS
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
        if not changes:
            return self._entry(self._filesystem.getattr(inode))
        return self._entry(
            self._filesystem.setattr(inode, time_ns(), privileged=ctx.uid == 0, **changes)
        )

    @_query
    def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return an attribute; before each write the kernel asks for ``security.capability``."""
        if name == _CAPABILITY:
            return self._capability(inode)
        if name.startswith(b"system."):
            return self._virtual_attribute(inode, name)
        return self._filesystem.getxattr(inode, name)

    def _capability(self, inode: int) -> bytes:
        """Return the capability of a file; that it has none is looked up once."""
        known = self._without_capability
        if inode in known:
            raise FUSEError(errno.ENODATA)
        try:
            return self._filesystem.getxattr(inode, _CAPABILITY)
        except FilesystemError as error:
            if error.errno == errno.ENODATA:
                self._note_without_capability(inode)
            raise

    def _note_without_capability(self, ino: int) -> None:
        if len(self._without_capability) >= _WITHOUT_CAPABILITY_MAX:
            self._without_capability.clear()
        self._without_capability.add(ino)

    @_change
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Set an attribute; pyfuse3 has checked the flags."""
        _check_storable(name)
        if name == _CAPABILITY:
            self._without_capability.discard(inode)
        self._filesystem.setxattr(inode, name, value, time_ns())

    @_change
    def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an attribute."""
        _check_storable(name)
        self._filesystem.removexattr(inode, name, time_ns())

    @_query
    def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Return the names of the stored attributes."""
        return list(self._filesystem.listxattr(inode))

    def _virtual_attribute(self, inode: int, name: bytes) -> bytes:
        """Return what tools ask of a mounted filesystem: there is no ``ioctl`` to ask by.

        ``lfs.cli.extents`` and ``lfs.cli.target`` are the other end.
        """
        if name == TARGET_ATTRIBUTE:
            return self._target
        first = extents_attribute_start(name)
        if first is None:
            raise FilesystemError(errno.EOPNOTSUPP)
        return format_extents(list(self._filesystem.extents(inode))[first:])

    # -------------------------------------------------------------------- files

    @_change
    def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make a regular file and open it."""
        filesystem = self._filesystem
        mode = stat.S_IFREG | mode & _PERMISSIONS
        inode = filesystem.create(parent_inode, name, mode, ctx.uid, ctx.gid, time_ns())
        filesystem.open(inode.ino)
        self._note_without_capability(inode.ino)
        return _handle(inode.ino, ctx), self._entry(inode)

    @_change
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file, and empty it with ``O_TRUNC``: the kernel leaves that to ``open``."""
        filesystem = self._filesystem
        if flags & os.O_TRUNC:
            mode = _without_set_ids(filesystem.getattr(inode).mode) if ctx.uid else None
            filesystem.setattr(inode, time_ns(), size=0, mode=mode)
        filesystem.open(inode)
        return _handle(inode, ctx)

    @_change
    def release(self, fh: int) -> None:
        """Close a handle."""
        ino = fh >> 1
        self._filesystem.release(ino)
        if ino in self._forgotten:
            self._forget_orphan(ino)

    @_query
    def read(self, fh: int, off: int, size: int) -> bytes:
        """Return what there is in a range."""
        return self._filesystem.read(fh >> 1, off, size, time_ns())

    @_change
    def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write all of ``buf``."""
        self._filesystem.write(fh >> 1, off, buf, time_ns(), bool(fh & 1))
        return len(buf)

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Commit everything: a log has no cheaper way to make one file durable."""
        self.request_count += 1
        try:
            await self._committer.commit()
        except Exception as error:
            raise self.failed_change(error) from None

    # -------------------------------------------------------------- directories

    @_query
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory; while the kernel has it open it does not forget it."""
        return inode

    @_query
    def releasedir(self, fh: int) -> None:
        """Close a directory."""

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Commit everything."""
        await self.fsync(fh, datasync)

    @_query
    def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List a directory from ``start_id`` on, with attributes, as far as the reply has room."""
        filesystem = self._filesystem
        if start_id < _DOT_DOT_COOKIE:
            directory = filesystem.getattr(fh)
            dots = [(_DOT_COOKIE, b".", fh), (_DOT_DOT_COOKIE, b"..", directory.parent_ino or fh)]
            for cookie, name, ino in dots[start_id:]:
                if not pyfuse3.readdir_reply(token, name, _bare_entry(ino, stat.S_IFDIR), cookie):
                    return
        start = start_id if start_id > _DOT_DOT_COOKIE else 0
        for cookie, name, ino, file_type in filesystem.readdir(fh, start):
            try:
                entry = self._entry(filesystem.getattr(ino))
            except FilesystemError as error:
                # One damaged inode does not hide the names of the others.
                _refusal(error)
                entry = _bare_entry(ino, file_type << 12)
            if not pyfuse3.readdir_reply(token, name, entry, cookie):
                return

    # --------------------------------------------------------------- forgetting

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Let go of inodes that the kernel has dropped."""
        orphans = self._orphans
        for ino, _ in inode_list:
            if ino in orphans:
                try:
                    self._forget_orphan(ino)
                except Exception as error:
                    self.failed_change(error)

    def _note_orphan(self, inode: Inode | None) -> None:
        if inode is not None and inode.nlink == 0:
            self._orphans.add(inode.ino)

    def _forget_orphan(self, ino: int) -> None:
        if self._filesystem.getattr(ino).open_count:
            self._forgotten.add(ino)
            return
        self._orphans.discard(ino)
        self._forgotten.discard(ino)
        self._filesystem.forget(ino)


def _handle(ino: int, ctx: RequestContext) -> FileInfo:
    return FileInfo(fh=2 * ino + (ctx.uid == 0), keep_cache=True)


def _bare_entry(ino: int, mode: int) -> EntryAttributes:
    """Return an entry of which only number and type are right and nothing may be cached."""
    entry = EntryAttributes()
    entry.st_ino = ino
    entry.st_mode = mode
    entry.entry_timeout = 0
    entry.attr_timeout = 0
    return entry


def _without_set_ids(mode: int) -> int | None:
    """Return the permissions a file has after a user wrote to it; None when they stay."""
    cleared = mode & _PERMISSIONS & ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        cleared &= ~stat.S_ISGID
    return None if cleared == mode & _PERMISSIONS else cleared


def _check_storable(name: bytes) -> None:
    if name.startswith(b"system."):
        raise FilesystemError(errno.EOPNOTSUPP)
