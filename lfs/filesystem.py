"""The filesystem without FUSE: the interface of docs/library.md.

Synchronous and single-threaded: a request runs to its end before the next one
begins.  It has no clock and no randomness: the time comes with each request, and
the same requests give the same bytes on the device (P7).

Requests change memory.  What survives a crash is what a commit has logged and a
flush has made durable: ``sync``, or ``begin_commit`` with a device flush and
``finish_commit``.  The others say so only where they differ.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NoReturn

from lfs.alloc.delayed.ledger import Space
from lfs.common.errors import DamageError, FilesystemError
from lfs.common.turns import Flush, Turn
from lfs.files import acl
from lfs.files.directory import DirectoryEntry
from lfs.inodes.arguments import (
    OFFSET_MAX,
    check_bytes,
    check_changes,
    check_number,
    check_owner,
    check_time,
)
from lfs.inodes.inode import S_IFDIR, S_IFLNK, S_IFMT, Inode
from lfs.inodes.volume import SECOND_NS, Options
from lfs.mounting import Mounted
from lfs.ondisk import ROOT_INO, SYMLINK_BYTES_MAX, TIME_NS_MAX, TIME_NS_MIN

__all__ = ["Filesystem", "Inode", "Options", "Space"]

_RELATIME_NS = 24 * 3600 * SECOND_NS


class Filesystem(Mounted):
    """A mounted filesystem.  Use ``mount``, and ``unmount`` at the end."""

    def create_root(self, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
        """Create the root directory of a filesystem that has no inode yet; raises EEXIST."""
        check_owner(mode, uid, gid)
        check_time(now_ns)
        if self._volume.next_ino > ROOT_INO:
            raise FilesystemError(errno.EEXIST, "there is a root directory")
        return self._names.create_root(mode, uid, gid, now_ns)

    def unmount(self, now_ns: int) -> None:
        """Write a checkpoint marked clean unless nothing changed; then only ``device`` is left.

        Raises DeviceError when that fails; what was committed and flushed stays.  No call
        is answered afterwards; to unmount again does nothing.
        """
        check_time(now_ns)
        try:
            super().unmount(now_ns)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the device and write nothing: it holds what a crash would leave."""
        if not self._volume.read_only:
            self.device.is_mounted = False
        for name in _CALLS:
            setattr(self, name, _refuse)
        for name in _ENDS:
            setattr(self, name, _do_nothing)

    # ------------------------------------------------------------------------ inodes

    def lookup(self, parent_ino: int, name: bytes) -> Inode:
        """Return the inode called ``name``; raises ENOENT, ENOTDIR, ENAMETOOLONG, ESTALE."""
        if type(name) is not bytes:
            check_bytes("name", name)
        self._inodes.trim()
        return self._names.lookup(parent_ino, name)

    def getattr(self, ino: int) -> Inode:
        """Return inode ``ino``; raises ESTALE."""
        self._inodes.trim()
        return self._inodes.get(ino)

    def setattr(
        self,
        ino: int,
        now_ns: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        privileged: bool = False,
    ) -> Inode:
        """Change attributes; None leaves one alone.

        ``mode`` changes the permissions only, and with them the access list.  A time
        that the format can't hold becomes the nearest that it can.
        """
        self._begin(now_ns)
        check_changes(mode, uid, gid, size, atime_ns, mtime_ns)
        inode = self._inodes.get(ino)
        change = None if mode is None else self._access.mode_change(inode, mode)
        if size is not None:
            if not inode.is_regular:
                raise FilesystemError(errno.EISDIR if inode.is_directory else errno.EINVAL)
            self._data.truncate(inode, size, now_ns, privileged)
        if change is not None:
            self._access.change_mode(inode, change)
        if uid is not None:
            inode.uid = uid
        if gid is not None:
            inode.gid = gid
        if atime_ns is not None:
            inode.atime_ns = _storable(atime_ns)
        if mtime_ns is not None:
            inode.mtime_ns = _storable(mtime_ns)
        inode.ctime_ns = now_ns
        self._inodes.mark_dirty(inode)
        self._end()
        return inode

    def open(self, ino: int) -> Inode:
        """Count one more user of ``ino``: it stays when its last name goes."""
        self._inodes.trim()
        inode = self._inodes.get(ino)
        inode.open_count += 1
        return inode

    def release(self, ino: int) -> None:
        """Count one user of ``ino`` less; raises EBADF when it has none."""
        inode = self._inodes.get(ino)
        if inode.open_count == 0:
            raise FilesystemError(errno.EBADF, f"inode {ino} is not open")
        inode.open_count -= 1

    # ------------------------------------------------------------------------- names

    def create(
        self,
        parent_ino: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        rdev: int = 0,
        umask: int = 0,
    ) -> Inode:
        """Create a file, fifo, socket or device node: ``mode`` has the type bits.

        A default access list of the directory is inherited, and ``umask`` ignored.
        """
        check_owner(mode, uid, gid)
        if mode & S_IFMT in (S_IFDIR, S_IFLNK, 0):
            raise FilesystemError(errno.EINVAL)
        if rdev or umask:
            check_number("device number", rdev)
            check_number("umask", umask)
        self._begin(now_ns)
        inode = self._names.create(parent_ino, name, mode, uid, gid, now_ns, rdev, umask)
        self._end()
        return inode

    def mkdir(
        self,
        parent_ino: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        umask: int = 0,
    ) -> Inode:
        """Create a directory; ``umask`` as for ``create``."""
        check_owner(mode, uid, gid)
        check_number("umask", umask)
        self._begin(now_ns)
        mode = S_IFDIR | mode & ~S_IFMT
        inode = self._names.create(parent_ino, name, mode, uid, gid, now_ns, umask=umask)
        self._end()
        return inode

    def symlink(
        self, parent_ino: int, name: bytes, target: bytes, uid: int, gid: int, now_ns: int
    ) -> Inode:
        """Create a symbolic link."""
        check_owner(0, uid, gid)
        check_bytes("target", target)
        self._begin(now_ns)
        inode = self._names.symlink(parent_ino, name, target, uid, gid, now_ns)
        self._end()
        return inode

    def link(
        self, ino: int, parent_ino: int, name: bytes, now_ns: int, privileged: bool = False
    ) -> Inode:
        """Give ``ino`` another name."""
        self._begin(now_ns)
        inode = self._names.link(ino, parent_ino, name, now_ns, privileged)
        self._end()
        return inode

    def unlink(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove a name; the inode returned may have become an orphan (see ``forget``)."""
        self._begin(now_ns)
        inode = self._names.unlink(parent_ino, name, now_ns)
        self._end()
        return inode

    def rmdir(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove an empty directory; the inode returned is an orphan."""
        self._begin(now_ns)
        inode = self._names.rmdir(parent_ino, name, now_ns)
        self._end()
        return inode

    def rename(
        self,
        parent_ino: int,
        name: bytes,
        new_parent_ino: int,
        new_name: bytes,
        now_ns: int,
        flags: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> Inode | None:
        """Rename as renameat2(2); returns the inode that lost this name, if one did.

        With flag 4 a whiteout that belongs to ``uid`` and ``gid`` stays under the old name.
        """
        check_owner(flags, uid, gid)
        self._begin(now_ns)
        lost = self._names.rename(
            parent_ino, name, new_parent_ino, new_name, now_ns, flags, uid, gid
        )
        self._end()
        return lost

    def readlink(self, ino: int) -> bytes:
        """Return the target of a symbolic link."""
        self._inodes.trim()
        inode = self._inodes.get(ino)
        if not inode.is_symlink:
            raise FilesystemError(errno.EINVAL)
        if inode.size > SYMLINK_BYTES_MAX:
            raise DamageError(f"inode {ino}: a symbolic link of {inode.size} bytes")
        return self._data.read(inode, 0, inode.size)

    def readdir(
        self,
        ino: int,
        cookie: int = 0,
        on_damage: Callable[[DamageError], None] | None = None,
    ) -> Iterator[DirectoryEntry]:
        """Yield the entries after ``cookie``, without ``.`` and ``..``.

        Entries that come or go meanwhile may or may not be seen; all others are
        seen exactly once.  An entry that is damaged hides no others: ``on_damage`` is told,
        or the DamageError is raised after all of them.
        """
        check_number("cookie", cookie, 0, OFFSET_MAX)
        return self._directories.listing(self._names.directory(ino).ino, cookie, on_damage)

    # ---------------------------------------------------------------------- contents

    def read(self, ino: int, offset: int, size: int, now_ns: int) -> bytes:
        """Return up to ``size`` bytes; raises DamageError when they can't be verified."""
        if not (type(offset) is type(size) is int and offset >= 0 and size >= 0):
            check_number("offset", offset, 0, OFFSET_MAX)
            check_number("size", size, 0, OFFSET_MAX)
        self._inodes.trim()
        inode = self._inodes.get(ino)
        if inode.is_directory:
            raise FilesystemError(errno.EISDIR)
        data = self._data.read(inode, offset, size)
        self._accessed(inode, now_ns)
        return data

    def accessed(self, ino: int, now_ns: int) -> None:
        """Note that somebody listed a directory or read a symbolic link."""
        self._inodes.trim()
        self._accessed(self._inodes.get(ino), now_ns)

    def _accessed(self, inode: Inode, now_ns: int) -> None:
        """Update the access time as the mount options say, unless the disk is too full."""
        options = self._volume.options
        if options.atime == "relatime":
            # The usual case comes first: the time is newer than what it tells the age of.
            at_ns = inode.atime_ns
            is_newer = at_ns > inode.mtime_ns and at_ns > inode.ctime_ns
            if is_newer and now_ns - at_ns < _RELATIME_NS:
                return
        if options.atime == "noatime" or self.read_only:
            return
        if inode.is_directory and not options.directory_atime:
            return
        if inode.atime_ns == now_ns or not self._ledger.is_covered:
            return
        check_time(now_ns)
        inode.atime_ns = now_ns
        self._inodes.mark_dirty(inode)
        if self._maintenance.has_many_dirty_inodes:
            # Whoever reads has what he asked for; a failure is told by the volume.
            with suppress(FilesystemError):
                self._maintenance.keep_bounds(now_ns)

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
        self._begin(now_ns)
        inode = self._inodes.get(ino)
        if inode.is_directory:
            raise FilesystemError(errno.EISDIR)
        written = self._data.write(inode, offset, data, now_ns, privileged, stamp)
        volume = self._volume
        dirty_bytes = self._inodes.dirty_data.block_count * volume.block_bytes
        pinned_bytes = self._inodes.pinned_bytes
        options = volume.options
        if dirty_bytes >= options.dirty_bytes_max or pinned_bytes >= options.cache_bytes // 4:
            self._data.write_out([*self._inodes.dirty_data.owners.values()], now_ns)
        self._end()
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
        self._inodes.trim()
        return self._data.extents(self._inodes.get(ino), first_block, windows_max)

    # -------------------------------------------------------------------- attributes

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """Return an extended attribute; raises ENODATA."""
        self._inodes.trim()
        if type(name) is not bytes:
            check_bytes("name", name)
        inode = self._inodes.get(ino)
        if name in acl.NAMES:
            return self._access.get(inode, name)
        return self._attributes.get(inode, name)

    def setxattr(
        self,
        ino: int,
        name: bytes,
        value: bytes,
        now_ns: int,
        flags: int = 0,
        clear_setgid: bool = False,
        privileged: bool = False,
    ) -> None:
        """Set an extended attribute; ``flags`` 1 creates only, 2 replaces only.

        An access list (``acl.ACCESS``) also sets the permissions of the mode and,
        with ``clear_setgid``, takes the set-group-ID bit.  One that says no more
        than a mode is not kept; an empty list removes.
        """
        check_bytes("name", name)
        check_bytes("value", value)
        check_number("flags", flags, 0, 3)
        self._begin(now_ns)
        inode = self._inodes.get(ino)
        if name in acl.NAMES:
            self._access.set(inode, name, value, now_ns, flags, clear_setgid, privileged)
        else:
            self._attributes.set(inode, name, value, now_ns, flags, privileged)
        self._end()

    def removexattr(self, ino: int, name: bytes, now_ns: int) -> None:
        """Remove an extended attribute; raises ENODATA."""
        check_bytes("name", name)
        self._begin(now_ns)
        inode = self._inodes.get(ino)
        if name in acl.NAMES:
            self._access.remove(inode, name, now_ns)
        else:
            self._attributes.remove(inode, name, now_ns)
        self._end()

    def listxattr(self, ino: int) -> list[bytes]:
        """Return the names of the extended attributes."""
        self._inodes.trim()
        return self._attributes.names(self._inodes.get(ino))

    # ------------------------------------------------------------- space, durability

    @property
    def write_bytes_max(self) -> int:
        """Return how much one request may write and be sure of room where it overwrites."""
        return self._ledger.write_bytes_max

    def statfs(self) -> Space:
        """Return total, free and available blocks, and the number of inodes."""
        return self._ledger.statistics()

    @property
    def dirty(self) -> bool:
        """Tell whether there is anything that no commit has logged."""
        return self._checkpointer.dirty and not self.read_only

    def begin_commit(self, now_ns: int) -> int:
        """Log everything up to now; returns a ticket for ``finish_commit``.

        It lasts once the device has been flushed after this.  Where the log could not
        be written in its place, everything is durable already.  Raises DeviceError.
        """
        if self._volume.failed:
            raise FilesystemError(errno.EIO, "the log could not be written")
        check_time(now_ns)
        self._now_ns = max(self._now_ns, now_ns)
        if self._volume.read_only:
            return self._volume.log.written_sequence
        self._volume.elapsed.advance(now_ns)
        self._maintenance.note_commit()
        return self._checkpointer.commit(now_ns)

    def finish_commit(self, ticket: int) -> None:
        """Note that the device was flushed after ``begin_commit`` returned ``ticket``."""
        check_number("ticket", ticket, 0, self._volume.log.written_sequence)
        self._volume.flushed(ticket)

    def fail(self, error: Exception) -> None:
        """Write nothing any more: a flush failed, or memory can't be trusted."""
        self._volume.fail(error)

    def sync(self, now_ns: int) -> None:
        """Make everything up to now durable; raises DeviceError when that fails."""
        ticket = self.begin_commit(now_ns)
        if ticket > self._volume.log.flushed_sequence:
            self._volume.flush(ticket)

    def checkpoint(self, now_ns: int) -> None:
        """Write a checkpoint: everything is durable, and a mount has no log to replay."""
        check_time(now_ns)
        self._volume.check_writable()
        self._checkpointer.checkpoint(now_ns)

    def checkpoint_steps(self, now_ns: int) -> Iterator[Flush]:
        """Do what ``checkpoint`` does but for the flushes, which are yielded (``begin_tick``)."""
        check_time(now_ns)
        self._volume.check_writable()
        return self._checkpointer.steps(now_ns)

    # -------------------------------------------------------------------- background

    def commit_due(self, now_ns: int, monotonic_ns: int | None = None) -> bool:
        """Tell whether the commit interval has passed with something to commit."""
        _check_clocks(now_ns, monotonic_ns)
        self._volume.elapsed.advance(now_ns, monotonic_ns)
        return not self.read_only and self._maintenance.commit_due()

    def tick(self, now_ns: int, idle: bool, monotonic_ns: int | None = None) -> bool:
        """Do a bounded piece of background work; returns whether more should follow at once.

        Commits and flushes when the interval has passed; checkpoints when the log
        or the time since the last one is long; cleans when ``idle`` or when clean
        segments are scarce; puts scattered files together when there is nothing else to
        do and ``idle``.  Intervals go by ``monotonic_ns``, or without it by how far
        ``now_ns`` goes on from call to call.  Raises DeviceError.
        """
        turn = self.begin_tick(now_ns, idle, monotonic_ns)
        if turn.flush is not None:
            self._volume.await_flush(turn.flush)
        return turn.more

    def begin_tick(self, now_ns: int, idle: bool, monotonic_ns: int | None = None) -> Turn:
        """Do what ``tick`` does but for the flush that it may need.

        The caller flushes the device, in another thread if he likes, calls
        ``finish_flush``, and only then this again.  What lasts, lasts after that.
        """
        _check_clocks(now_ns, monotonic_ns)
        if self.read_only:
            return Turn(more=False)
        self._now_ns = max(self._now_ns, now_ns)
        if self.commit_due(now_ns, monotonic_ns):
            return Turn(True, Flush(self.begin_commit(now_ns)))
        try:
            return self._maintenance.step(now_ns, idle)
        except DamageError:
            # The checkpoint that was due has been reported, and is tried again.
            return Turn(more=False)

    def finish_flush(self, flush: Flush) -> None:
        """Note that the device was flushed since ``begin_tick`` returned ``flush``."""
        if not isinstance(flush, Flush):
            raise TypeError(f"flush must be what begin_tick returned, not {type(flush).__name__}")
        self._volume.flushed(flush.sequence)
        flush.done = True

    def _begin(self, now_ns: int) -> None:
        """Start a request that changes something."""
        if type(now_ns) is not int or not TIME_NS_MIN <= now_ns <= TIME_NS_MAX:
            check_time(now_ns)
        self._volume.check_writable()
        self._now_ns = now_ns
        self._inodes.trim()
        if not self._admission.cover(now_ns):
            raise FilesystemError(errno.ENOSPC)

    def _end(self) -> None:
        """End a request that changed something.

        It has been made, even if a checkpoint was due and damage keeps it from being
        written: the log that tells of the request has been flushed.
        """
        try:
            self._maintenance.keep_bounds(self._now_ns)
        except DamageError:
            if self._volume.log.is_broken:
                raise


def _storable(time_ns: int) -> int:
    """Return the time nearest to ``time_ns`` that an inode can hold."""
    return min(max(time_ns, TIME_NS_MIN), TIME_NS_MAX)


def _check_clocks(now_ns: int, monotonic_ns: int | None) -> None:
    check_time(now_ns)
    if monotonic_ns is not None:
        check_time(monotonic_ns)


_ENDS = ("unmount", "abandon")
_CALLS = [
    name
    for name, value in inspect.getmembers(Filesystem, inspect.isfunction)
    if not name.startswith("_") and name not in _ENDS
]
"""All calls of a mounted filesystem."""


def _refuse(*_: object, **__: object) -> NoReturn:
    raise FilesystemError(errno.EBADF, "the filesystem is not mounted any more")


def _do_nothing(*_: object) -> None:
    """Do nothing: it is over."""
