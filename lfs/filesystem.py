"""The filesystem without FUSE: the interface of ARCHITECTURE.md, "The core's interface".

Synchronous and single-threaded: a request runs to its end before the next one
begins.  It has no clock and no randomness: the time comes with each request, and
the same requests give the same bytes on the device (P7).

Requests change memory.  What survives a crash is what a commit has logged and a
flush has made durable: ``sync``, or ``begin_commit`` with a device flush and
``finish_commit``.  The others say so only where they differ.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace

from lfs import acl
from lfs.access import AccessLists
from lfs.attributes import Attributes
from lfs.checkpoint import Checkpointer
from lfs.cleaner import Cleaner
from lfs.commit import Committer
from lfs.device.base import BlockDevice
from lfs.directory import Directories, DirectoryEntry, NameHash
from lfs.errors import DamageError, DeviceError, FilesystemError, FormatError
from lfs.file_data import FileData
from lfs.inodes import S_IFDIR, S_IFLNK, S_IFMT, Inode, InodeTable
from lfs.maintenance import Maintenance
from lfs.namespace import Namespace
from lfs.ondisk import (
    KIND_ORPHAN,
    SYSTEM_INO,
    TIME_NS_MAX,
    TIME_NS_MIN,
    Checkpoint,
    Superblock,
    pack_key,
    unpack_key,
)
from lfs.recovery import Recovery, read_checkpoints, read_superblock, require_writable
from lfs.space import Space, SpaceRules
from lfs.volume import SECOND_NS, Options, Volume
from lfs.write_out import WriteOut

__all__ = ["Filesystem", "Inode", "Options", "Space"]

_RELATIME_NS = 24 * 3600 * SECOND_NS


def _ignore(message: str) -> None:
    """Report to nobody."""


class Filesystem:
    """A mounted filesystem.  Use ``mount``, and ``unmount`` at the end."""

    def __init__(self, volume: Volume) -> None:
        """Put the parts together over a volume that has not been recovered yet."""
        self._volume = volume
        self.superblock = volume.superblock
        self.device = volume.device
        name_hash = NameHash(volume.superblock.hash_seed)
        self._inodes = InodeTable(volume)
        self._space = SpaceRules(volume, self._inodes)
        self._write_out = WriteOut(volume, self._inodes, self._space)
        self._data = FileData(volume, self._inodes, self._space, self._write_out)
        self._directories = Directories(volume.imap, name_hash)
        self._attributes = Attributes(volume, self._inodes, self._space, name_hash)
        self._access = AccessLists(self._inodes, self._attributes)
        self._names = Namespace(
            self._inodes, self._directories, self._data, self._access, self._space
        )
        self._committer = Committer(volume, self._inodes, self._space, self._write_out)
        self._checkpointer = Checkpointer(volume, self._committer)
        self._cleaner = Cleaner(
            volume,
            self._inodes,
            self._space,
            self._write_out,
            self._committer,
            self._checkpointer,
        )
        self._maintenance = Maintenance(
            volume,
            self._inodes,
            self._space,
            self._committer,
            self._checkpointer,
            self._cleaner,
        )
        self._now_ns = 0
        self._needs_checkpoint = False
        self._space.make_room = lambda blocks: self._cleaner.make_room(blocks, self._now_ns)
        self._space.checkpoint = lambda: self._checkpointer.checkpoint(self._now_ns)
        self._committer.checkpoint = self._checkpointer.checkpoint

    # ----------------------------------------------------------- mounting, unmounting

    @classmethod
    def mount(
        cls,
        device: BlockDevice,
        now_ns: int,
        options: Options | None = None,
        report: Callable[[str], None] = _ignore,
    ) -> Filesystem:
        """Open the filesystem on ``device`` as of its last commit.

        ``report`` gets one line for each thing worth logging.  A read-write mount
        after a crash writes two checkpoints, so that both regions know the end of
        the log; a crash meanwhile changes nothing.  If it can't write them, because
        a node that changed is damaged, or because the newer checkpoint was and a full
        disk has no room for it twice, the filesystem is read-only.  Raises FormatError
        when there is no usable filesystem, LogDamageError and DamageError when it is
        damaged.
        """
        options = options or Options()
        superblock = read_superblock(device)
        require_writable(superblock, options.read_only or device.read_only)
        checkpoints = read_checkpoints(device, superblock)
        if not checkpoints:
            raise FormatError("both checkpoint regions are damaged")
        filesystem, recovery = cls._recovered(device, superblock, options, report, checkpoints)
        filesystem._begin_mounted(recovery, now_ns)
        return filesystem

    @classmethod
    def _recovered(
        cls,
        device: BlockDevice,
        superblock: Superblock,
        options: Options,
        report: Callable[[str], None],
        checkpoints: list[Checkpoint],
    ) -> tuple[Filesystem, Recovery]:
        """Recover from the newest checkpoint that leads to an undamaged whole.

        Both lead to the same tree, by different nodes.  If neither is whole, the
        newest serves with its damage, read-only, unless it can't serve at all.
        """
        attempts = [(checkpoints[index:], False) for index in range(len(checkpoints))]
        for usable, tolerant in (*attempts, (checkpoints, True)):
            filesystem = cls(Volume(device, superblock, options, report))
            is_fallback = len(usable) < len(checkpoints)
            recovery = Recovery(filesystem._volume, tolerant, is_fallback)
            try:
                recovery.run(usable)
            except DamageError as error:
                if tolerant:
                    raise
                report(f"checkpoint {usable[0].number} has damage: {error}")
            else:
                return filesystem, recovery
        raise AssertionError("the last attempt returns or raises")

    def _begin_mounted(self, recovery: Recovery, now_ns: int) -> None:
        """Make what was recovered the start of the next mount, and remove orphans."""
        volume = self._volume
        if recovery.commit_count:
            volume.report(f"recovered {recovery.commit_count} commits from the log")
        self._checkpointer.last_clean = recovery.was_clean
        self._needs_checkpoint = recovery.needs_checkpoint
        if not self.read_only:
            self._begin_writing(now_ns)

    def _begin_writing(self, now_ns: int) -> None:
        """Write what recovery left to be written; the volume is writable, or fails here."""
        volume = self._volume
        self._now_ns = self._maintenance.commit_time_ns = self._checkpointer.time_ns = now_ns
        # What the log says may still be in the device's cache only.
        volume.flush(volume.log.flushed_sequence)
        try:
            if self._needs_checkpoint:
                self._checkpointer.checkpoint(now_ns)
                self._checkpointer.checkpoint(now_ns)
                self._needs_checkpoint = False
        except DeviceError:
            raise
        except FilesystemError:
            # Read-only now, which lets people have all that is not damaged.
            return
        self._remove_orphans()

    def _remove_orphans(self) -> None:
        """Remove the inodes that had no name at the last commit."""
        start = pack_key(SYSTEM_INO, KIND_ORPHAN, 0)
        end = pack_key(SYSTEM_INO, KIND_ORPHAN + 1, 0)
        for key, _ in self._volume.imap.scan(start, end):
            ino = unpack_key(key)[2]
            self._inodes.orphans.add(ino)
            try:
                self.forget(ino)
            except DamageError as error:
                self._volume.report(f"orphan {ino} can't be removed: {error}")

    def unmount(self, now_ns: int) -> None:
        """Write a checkpoint marked clean unless nothing changed; then only ``device`` is left.

        Raises DeviceError when that fails; what was committed and flushed stays.
        """
        if self.read_only:
            return
        for ino in self._inodes.orphans:
            self._inodes.get(ino).open_count = 0
        self._end_writing(now_ns)

    def _end_writing(self, now_ns: int) -> None:
        """Remove the orphans, which nobody has open, and write a clean checkpoint."""
        for ino in list(self._inodes.orphans):
            self.forget(ino)
        unchanged = not self._committer.dirty and self._volume.log.blocks_since_checkpoint == 0
        if not (unchanged and self._checkpointer.last_clean):
            self._checkpointer.checkpoint(now_ns, clean=True)

    def remount(
        self,
        now_ns: int,
        *,
        read_only: bool | None = None,
        atime: str | None = None,
        directory_atime: bool | None = None,
        commit_interval_ns: int | None = None,
        cleaner_policy: str | None = None,
    ) -> None:
        """Change how it is mounted; None leaves a choice alone, an error leaves all of them.

        Read-only writes the checkpoint of ``unmount`` first, after which the image is
        clean and nothing is written any more; EBUSY while an orphan is open.  Writable
        does what a mount of the image would do, whose device must be writable by then;
        EROFS when it is not, when writing has failed before, or when the log was not
        read.  Raises FormatError too when the features allow no writing, DeviceError
        when it fails, and then the volume has failed.
        """
        if read_only is not None and read_only != self.read_only:
            if read_only:
                self._become_read_only(now_ns)
            else:
                self._become_writable(now_ns)
        options = self._volume.options
        self._volume.options = replace(
            options,
            read_only=self._volume.read_only,
            atime=atime or options.atime,
            directory_atime=(
                options.directory_atime if directory_atime is None else directory_atime
            ),
            commit_interval_ns=commit_interval_ns or options.commit_interval_ns,
            cleaner_policy=cleaner_policy or options.cleaner_policy,
        )

    def _become_read_only(self, now_ns: int) -> None:
        for ino in self._inodes.orphans:
            if self._inodes.get(ino).open_count:
                raise FilesystemError(errno.EBUSY, "a file without a name is open")
        self._end_writing(now_ns)
        self._volume.read_only = True

    def _become_writable(self, now_ns: int) -> None:
        volume = self._volume
        if volume.failed:
            raise FilesystemError(errno.EROFS, "writing has failed: unmount and mount again")
        if not self.options.roll_forward:
            raise FilesystemError(errno.EROFS, "what the log holds would be lost (norecovery)")
        if self.device.read_only:
            raise FilesystemError(errno.EROFS, "the device is read-only")
        require_writable(self.superblock, read_only=False)
        volume.read_only = False
        self._begin_writing(now_ns)
        if volume.failed:
            raise FilesystemError(errno.EROFS, "no checkpoint can be written")

    def create_root(self, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
        """Create the root directory of a filesystem that has no inode yet."""
        return self._names.create_root(mode, uid, gid, now_ns)

    @property
    def options(self) -> Options:
        """Return what the mount chose, as the last ``remount`` left it."""
        return self._volume.options

    @property
    def read_only(self) -> bool:
        """Tell whether changes are refused, by choice or because writing failed."""
        return self._volume.read_only or self._volume.failed

    # ------------------------------------------------------------------------ inodes

    def lookup(self, parent_ino: int, name: bytes) -> Inode:
        """Return the inode called ``name``; raises ENOENT, ENOTDIR, ENAMETOOLONG, ESTALE."""
        return self._names.lookup(parent_ino, name)

    def getattr(self, ino: int) -> Inode:
        """Return inode ``ino``; raises ESTALE."""
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
        inode = self._inodes.get(ino)
        if mode is not None:
            self._access.check_readable(inode)
        if size is not None:
            if not inode.is_regular:
                raise FilesystemError(errno.EISDIR if inode.is_directory else errno.EINVAL)
            self._data.truncate(inode, size, now_ns)
        if mode is not None:
            self._access.change_mode(inode, mode)
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
        inode = self._inodes.get(ino)
        inode.open_count += 1
        return inode

    def release(self, ino: int) -> None:
        """Count one user of ``ino`` less."""
        inode = self._inodes.get(ino)
        assert inode.open_count > 0, ino
        inode.open_count -= 1

    def forget(self, ino: int) -> None:
        """Remove ``ino`` if it has neither a name nor a user; otherwise do nothing."""
        if ino not in self._inodes.orphans or self.read_only:
            return
        inode = self._inodes.find(ino)
        if inode is None:
            raise DamageError(f"orphan {ino} does not exist")
        if inode.open_count:
            return
        self._space.cover()
        self._data.discard(inode)
        self._attributes.discard(inode)
        self._inodes.remove(inode)

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
        if mode & S_IFMT in (S_IFDIR, S_IFLNK, 0):
            raise FilesystemError(errno.EINVAL)
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
        self._begin(now_ns)
        mode = S_IFDIR | mode & ~S_IFMT
        inode = self._names.create(parent_ino, name, mode, uid, gid, now_ns, umask=umask)
        self._end()
        return inode

    def symlink(
        self, parent_ino: int, name: bytes, target: bytes, uid: int, gid: int, now_ns: int
    ) -> Inode:
        """Create a symbolic link."""
        self._begin(now_ns)
        inode = self._names.symlink(parent_ino, name, target, uid, gid, now_ns)
        self._end()
        return inode

    def link(self, ino: int, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Give ``ino`` another name."""
        self._begin(now_ns)
        inode = self._names.link(ino, parent_ino, name, now_ns)
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
    ) -> Inode | None:
        """Rename as renameat2(2); returns the inode that lost this name, if one did."""
        self._begin(now_ns)
        lost = self._names.rename(parent_ino, name, new_parent_ino, new_name, now_ns, flags)
        self._end()
        return lost

    def readlink(self, ino: int) -> bytes:
        """Return the target of a symbolic link."""
        inode = self._inodes.get(ino)
        if not inode.is_symlink:
            raise FilesystemError(errno.EINVAL)
        return self._data.read(inode, 0, inode.size)

    def readdir(self, ino: int, cookie: int = 0) -> Iterator[DirectoryEntry]:
        """Yield the entries after ``cookie``, without ``.`` and ``..``.

        Entries that come or go meanwhile may or may not be seen; all others are
        seen exactly once.
        """
        return self._directories.listing(self._names.directory(ino).ino, cookie)

    # ---------------------------------------------------------------------- contents

    def read(self, ino: int, offset: int, size: int, now_ns: int) -> bytes:
        """Return up to ``size`` bytes; raises DamageError when they can't be verified."""
        inode = self._inodes.get(ino)
        if inode.is_directory:
            raise FilesystemError(errno.EISDIR)
        data = self._data.read(inode, offset, size)
        self._accessed(inode, now_ns)
        return data

    def accessed(self, ino: int, now_ns: int) -> None:
        """Note that somebody listed a directory or read a symbolic link."""
        self._accessed(self._inodes.get(ino), now_ns)

    def _accessed(self, inode: Inode, now_ns: int) -> None:
        """Update the access time as the mount options say, unless the disk is too full."""
        mode = self.options.atime
        if mode == "noatime" or self.read_only:
            return
        if inode.is_directory and not self.options.directory_atime:
            return
        if mode == "relatime":
            stale = inode.atime_ns <= max(inode.mtime_ns, inode.ctime_ns)
            if not stale and now_ns - inode.atime_ns < _RELATIME_NS:
                return
        if self._space.shortage_blocks(0) > 0:
            return
        inode.atime_ns = now_ns
        self._inodes.mark_dirty(inode)

    def write(
        self, ino: int, offset: int, data: bytes, now_ns: int, privileged: bool = False
    ) -> int:
        """Write ``data``; returns its length.  ENOSPC comes here or never."""
        self._begin(now_ns)
        inode = self._inodes.get(ino)
        if inode.is_directory:
            raise FilesystemError(errno.EISDIR)
        written = self._data.write(inode, offset, data, now_ns, privileged)
        dirty_bytes = self._space.reservations.dirty_blocks * self._volume.block_bytes
        if dirty_bytes >= self.options.dirty_bytes_max:
            for other in [*self._inodes.with_dirty_blocks.values()]:
                self._data.write_out(other, now_ns)
        self._end()
        return written

    def extents(self, ino: int) -> list[tuple[int, int, int]]:
        """Return ``(file_block, address, count)`` of the file's extents on disk."""
        return self._data.extents(self._inodes.get(ino))

    # -------------------------------------------------------------------- attributes

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """Return an extended attribute; raises ENODATA."""
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
    ) -> None:
        """Set an extended attribute; ``flags`` 1 creates only, 2 replaces only.

        An access list (``acl.ACCESS``) also sets the permissions of the mode and,
        with ``clear_setgid``, takes the set-group-ID bit.  One that says no more
        than a mode is not kept; an empty list removes.
        """
        self._begin(now_ns)
        inode = self._inodes.get(ino)
        if name in acl.NAMES:
            self._access.set(inode, name, value, now_ns, flags, clear_setgid)
        else:
            self._attributes.set(inode, name, value, now_ns, flags)
        self._end()

    def removexattr(self, ino: int, name: bytes, now_ns: int) -> None:
        """Remove an extended attribute; raises ENODATA."""
        self._begin(now_ns)
        inode = self._inodes.get(ino)
        if name in acl.NAMES:
            self._access.remove(inode, name, now_ns)
        else:
            self._attributes.remove(inode, name, now_ns)
        self._end()

    def listxattr(self, ino: int) -> list[bytes]:
        """Return the names of the extended attributes."""
        return self._attributes.names(self._inodes.get(ino))

    # ------------------------------------------------------------- space, durability

    def statfs(self) -> Space:
        """Return total, free and available blocks, and the number of inodes."""
        return self._space.statistics()

    @property
    def dirty(self) -> bool:
        """Tell whether there is anything that no commit has logged."""
        return self._committer.dirty and not self.read_only

    def begin_commit(self, now_ns: int) -> int:
        """Log everything up to now; returns a ticket for ``finish_commit``.

        It lasts once the device has been flushed after this.  Where the log could not
        be written in its place, everything is durable already.  Raises DeviceError.
        """
        if self._volume.failed:
            raise FilesystemError(errno.EIO, "the log could not be written")
        self._now_ns = max(self._now_ns, now_ns)
        if self._volume.read_only:
            return self._volume.log.written_sequence
        self._maintenance.commit_time_ns = now_ns
        return self._committer.commit(now_ns)

    def finish_commit(self, ticket: int) -> None:
        """Note that the device was flushed after ``begin_commit`` returned ``ticket``."""
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
        self._volume.check_writable()
        self._checkpointer.checkpoint(now_ns)

    # -------------------------------------------------------------------- background

    def commit_due(self, now_ns: int) -> bool:
        """Tell whether the commit interval has passed with something to commit."""
        return not self.read_only and self._maintenance.commit_due(now_ns)

    def tick(self, now_ns: int, idle: bool) -> bool:
        """Do a bounded piece of background work; returns whether more should follow at once.

        Commits and flushes when the interval has passed; checkpoints when the log
        or the time since the last one is long; cleans when ``idle`` or when clean
        segments are scarce.  Raises DeviceError.
        """
        if self.read_only:
            return False
        self._now_ns = max(self._now_ns, now_ns)
        if self.commit_due(now_ns):
            self.sync(now_ns)
            return True
        return self._maintenance.step(now_ns, idle)

    def _begin(self, now_ns: int) -> None:
        """Start a request that changes something."""
        self._volume.check_writable()
        self._now_ns = now_ns
        self._space.cover()

    def _end(self) -> None:
        """End a request that changed something."""
        self._maintenance.keep_bounds(self._now_ns)


def _storable(time_ns: int) -> int:
    """Return the time nearest to ``time_ns`` that an inode can hold."""
    return min(max(time_ns, TIME_NS_MIN), TIME_NS_MAX)
