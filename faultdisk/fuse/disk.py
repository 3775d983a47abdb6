"""A block device as a file: a directory with nothing in it but ``disk``.

A loop device over that file makes a disk of it for any filesystem.  This module
knows nothing of what the device does; it passes requests on.

*Caching.*  The file is opened for direct I/O, so that the kernel keeps none of
it: every read, write and fsync of a loop device with direct I/O comes here.
*Threads.*  Each request on the device runs in a worker thread, at most
``THREADS_MAX`` at a time, so that slow requests do not hold up each other.  By
itself the kernel sends twelve asynchronous requests at a time and no more; as
root the session raises that.  It sends an fsync alone, and system calls that
write to the file itself one by one; those of a loop device overlap.
*Names.*  The file behaves as a block device does: it has one size, a write at
its end finds no space.  It cannot be truncated, renamed or removed.  pyfuse3
has no ``fallocate``, so there are no discards, and it does not tell which
writes are ``O_DSYNC``.

Held by ``tests/faultdisk/test_door.py``.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from lfs.common.errors import FilesystemError
from lfs.device.base import BlockDevice
from lfs.device.unaligned import ByteAccess
from lfs.kernel.connection import END_SIGNALS, connect, release_signals
from lfs.kernel.mountpoint import MountError, detach, find_mount
from lfs.mount.options import escaped

NAME = b"disk"
THREADS_MAX = 64
GRACE_SECONDS = 2.0
_TASKS_MAX = THREADS_MAX + 16
_DISK_INO = pyfuse3.ROOT_INODE + 1
_BLOCK_BYTES = 4096
_VALID_SECONDS = 86400.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class DiskOperations(pyfuse3.Operations):
    """Serves one device as the file ``disk``."""

    def __init__(self, device: BlockDevice, on_init: Callable[[], None] = lambda: None) -> None:
        """Serve ``device``; ``on_init`` is called when the kernel has connected."""
        super().__init__()
        self._device = device
        self._bytes = ByteAccess(device)
        self._on_init = on_init
        self._limiter = trio.CapacityLimiter(THREADS_MAX)

    def init(self) -> None:
        """Take note that the kernel has connected."""
        self._on_init()

    # ------------------------------------------------------------------- attributes

    def _entry(self, inode: int) -> EntryAttributes:
        is_disk = inode == _DISK_INO
        entry = EntryAttributes()
        entry.st_ino = inode
        entry.entry_timeout = entry.attr_timeout = _VALID_SECONDS
        if is_disk:
            entry.st_mode = stat.S_IFREG | (0o400 if self._device.read_only else 0o600)
            entry.st_size = self._device.size_bytes
            entry.st_blocks = self._device.size_bytes // 512
        else:
            entry.st_mode = stat.S_IFDIR | 0o555
        entry.st_nlink = 1 if is_disk else 2
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        entry.st_blksize = _BLOCK_BYTES
        return entry

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of the directory or the disk."""
        return self._entry(inode)

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Find ``disk``."""
        if name != NAME:
            raise FUSEError(errno.ENOENT)
        return self._entry(_DISK_INO)

    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Accept the size that the disk has, and times, which it has not; refuse the rest."""
        resized = fields.update_size and attr.st_size != self._device.size_bytes
        if resized or fields.update_mode or fields.update_uid or fields.update_gid:
            raise FUSEError(errno.EPERM)
        return self._entry(inode)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Say that there is room for nothing else."""
        data = StatvfsData()
        data.f_bsize = data.f_frsize = _BLOCK_BYTES
        data.f_blocks = self._device.size_bytes // _BLOCK_BYTES
        data.f_files, data.f_namemax = 1, 255
        return data

    # -------------------------------------------------------------------- directory

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open the directory."""
        return inode

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List the disk."""
        if start_id == 0:
            pyfuse3.readdir_reply(token, NAME, self._entry(_DISK_INO), 1)

    async def releasedir(self, fh: int) -> None:
        """Close the directory."""

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Flush the disk: ``sync DIR`` means that."""
        await self.fsync(fh, datasync)

    async def _refuse(self, *_: object) -> NoReturn:
        """Refuse to change the directory."""
        raise FUSEError(errno.EPERM)

    # Each has arguments of its own, and one refusal serves them all.
    create = mknod = mkdir = symlink = _refuse  # type: ignore[assignment]
    link = unlink = rmdir = rename = _refuse  # type: ignore[assignment]

    # ------------------------------------------------------------------------- disk

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open the disk for direct I/O."""
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        if writes and self._device.read_only:
            raise FUSEError(errno.EROFS)
        if flags & os.O_TRUNC:
            raise FUSEError(errno.EPERM)
        return FileInfo(fh=inode, direct_io=True, keep_cache=False)

    async def release(self, fh: int) -> None:
        """Close the disk."""

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return what there is in a range."""
        length_bytes = min(size, self._device.size_bytes - off)
        if length_bytes <= 0:
            return b""
        return await self._run(self._bytes.read, off, length_bytes)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write what has room, and say how much that was."""
        room_bytes = self._device.size_bytes - off
        if room_bytes <= 0:
            raise FUSEError(errno.ENOSPC)
        data = buf if len(buf) <= room_bytes else buf[:room_bytes]
        await self._run(self._bytes.write, off, data)
        return len(data)

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Flush the device."""
        await self._run(self._device.flush)

    async def _run(self, serve: Callable[..., T], *arguments: object) -> T:
        """Run a request on the device in a thread; an error becomes its errno."""
        try:
            return await trio.to_thread.run_sync(serve, *arguments, limiter=self._limiter)
        except FilesystemError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        except Exception:
            log.exception("request failed unexpectedly")
            raise FUSEError(errno.EIO) from None


class DiskSession:
    """One device, mounted as a directory, until it is unmounted or a signal comes."""

    def __init__(self, device: BlockDevice, mount_point: str, source: str, subtype: str) -> None:
        """Serve ``device`` on ``mount_point``; mount(8) shows ``source`` and ``fuse.subtype``."""
        self._device = device
        self._mount_point = mount_point
        self._options = {
            f"fsname={escaped(source)}",
            f"subtype={subtype}",
            "default_permissions",
            "ro" if device.read_only else "rw",
        }
        self._connected = trio.Event()
        self._over = trio.Event()
        self._device_number = ""
        self._detached = False
        self._ended_by: signal.Signals | None = None

    def serve(
        self, ready: Callable[[], None], leaving: Callable[[], None]
    ) -> signal.Signals | None:
        """Mount, call ``ready`` once the disk can be used, and return when it is unmounted.

        By SIGTERM, SIGINT or SIGHUP it unmounts itself.  It calls ``leaving``
        then, after which every request must end soon, and returns the signal.
        Raises MountError.
        """
        connect(DiskOperations(self._device, self._connected.set), self._mount_point, self._options)
        mount = find_mount(self._mount_point)
        self._device_number = "" if mount is None else mount.device_number
        try:
            trio.run(self._run, ready, leaving)
        finally:
            leaving()
            # The library would unmount by the path, whatever is mounted there by now.
            pyfuse3.close(unmount=False)
            if not self._detached:
                with suppress(MountError):
                    detach(self._device_number)
        return self._ended_by

    async def _run(self, ready: Callable[[], None], leaving: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._await_signal, leaving)
            nursery.start_soon(self._announce, ready)
            await pyfuse3.main(max_tasks=_TASKS_MAX)
            self._over.set()
            nursery.cancel_scope.cancel()

    async def _announce(self, ready: Callable[[], None]) -> None:
        await self._connected.wait()
        status = await trio.to_thread.run_sync(os.stat, self._mount_point)
        allow_requests(status.st_dev, THREADS_MAX)
        ready()

    async def _await_signal(
        self,
        leaving: Callable[[], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(*END_SIGNALS) as received:
            release_signals()
            task_status.started()
            async with trio.open_nursery() as nursery:
                async for number in received:
                    self._ended_by = signal.Signals(number)
                    log.info("unmounting by %s", self._ended_by.name)
                    leaving()
                    nursery.start_soon(self._leave)

    async def _leave(self) -> None:
        """Unmount while serving; stop serving when that takes too long."""
        with trio.move_on_after(GRACE_SECONDS), suppress(MountError):
            self._detached = await trio.to_thread.run_sync(
                detach, self._device_number, abandon_on_cancel=True
            )
            await self._over.wait()
        pyfuse3.terminate()


def allow_requests(device_number: int, count: int) -> None:
    """Let the kernel send up to ``count`` asynchronous requests at a time, where it lets us."""
    folder = Path("/sys/fs/fuse/connections", str(os.minor(device_number)))
    for name in ("max_background", "congestion_threshold"):
        with suppress(OSError):
            (folder / name).write_text(str(count))
