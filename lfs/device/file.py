"""An image file or a real disk.

Requests go through the page cache of the host with ``preadv(2)`` and
``pwritev(2)``: nothing is copied here, and a read of what was just written
costs no device access.  ``flush`` is ``fdatasync(2)``.  Holes of an image file are
filled ahead of commits (``lfs.device.holes``), and large writes begin before the flush
(``lfs.device.writeback``).

After a failed ``fdatasync`` the kernel forgets which pages it could not write,
and the next call succeeds without them; of two calls at once it tells only one.
Therefore one flush runs at a time, and a device that has failed one, or was told of
an error while a write began early, fails all later ones: what it holds is known again
after the next open.

Whoever opens an image has it to himself, or with other readers if he only reads
(``lfs.device.exclusion.lock``): who asks for a device need not think of locks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from lfs.common.errors import DeviceError, UsageError
from lfs.common.sizes import format_size
from lfs.device.base import BlockDevice, Buffer
from lfs.device.exclusion.descriptors import open_above_standard
from lfs.device.exclusion.identity import places_of
from lfs.device.exclusion.lock import ImageLock, InUseError, until_free
from lfs.device.file_limit import file_limit_bytes
from lfs.device.holes import HoleFiller, is_solid, make_solid
from lfs.device.writeback import WRITEBACK_BYTES_MIN, Writeback

_BUFFERS_MAX = os.sysconf("SC_IOV_MAX")
_BLKDISCARD = 0x1277
_BLKROGET = 0x125E
_BLKSSZGET = 0x1268
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISCARD_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EINVAL)


def _device_error(error: OSError, request: str, offset_bytes: int) -> DeviceError:
    """Return what the caller of a failed request gets: ENOSPC, EROFS or EIO."""
    if error.errno in _OUT_OF_SPACE:
        code = errno.ENOSPC
    elif error.errno == errno.EROFS:
        code = errno.EROFS
    else:
        code = errno.EIO
    return DeviceError(code, f"{request} failed ({error.strerror})", offset_bytes)


class FileDevice(BlockDevice):
    """A device over the image file or block device ``path``.  One thread writes at a time."""

    def __init__(
        self,
        path: str | Path,
        read_only: bool = False,
        *,
        wait_seconds: float = 0.0,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        """Open ``path`` and lock it; its size is what it is now, in whole ``align_bytes``.

        Nobody else may have it open, but for reading if ``read_only``, until it is
        closed or the process ends.  It is waited for up to ``wait_seconds``, and
        ``on_wait`` gets a line that says for whom before that.

        Raises UsageError when it cannot be opened, is no file and no block device, or
        is in use: by whoever has opened it so under this or another name, or, unless
        ``read_only``, by the system (mounted, part of an array).
        """
        self.path = Path(path)
        self.read_only = read_only
        self._descriptor, self._lock = until_free(
            lambda: _open_locked(self.path, read_only), wait_seconds, on_wait
        )
        self._flush_failure: OSError | None = None
        self._flushing = threading.Lock()
        size_bytes = os.lseek(self._descriptor, 0, os.SEEK_END)
        self.size_bytes = size_bytes - size_bytes % self.align_bytes
        self.is_block_device = stat.S_ISBLK(os.fstat(self._descriptor).st_mode)
        if self.is_block_device:
            self.sector_bytes = _number_of(self._descriptor, _BLKSSZGET)
        self._holes = None if self.is_block_device else HoleFiller(self.size_bytes)
        self._writeback = Writeback(self._descriptor)

    def make_writable(self) -> None:
        """Open for writing what was opened read-only, or has been shared; raises UsageError.

        It is the same file or disk, whatever its path leads to by now.  Nobody else has
        it open afterwards.
        """
        if not self.read_only:
            self._lock.make_exclusive(self._descriptor)
            return
        if is_write_protected(self.path):
            raise UsageError(f"{self.path} is write-protected")
        again = _open(Path(f"/proc/self/fd/{self._descriptor}"), False, self.path)
        try:
            self._lock.make_exclusive(again)
        except BaseException:
            os.close(again)
            raise
        self._close_descriptor()
        self._descriptor = again
        self._writeback = Writeback(again)
        self.read_only = False

    def share(self) -> None:
        """Let others read what is written to no more until ``make_writable``.

        Raises UsageError.
        """
        self._lock.share()

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self._descriptor

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return the bytes of a range; raises DeviceError (EIO, EINVAL)."""
        end = offset_bytes + length_bytes
        if (
            (offset_bytes | length_bytes) % self.align_bytes
            or offset_bytes < 0
            or end > self.size_bytes
        ):
            self.check_range(offset_bytes, length_bytes)
        parts: list[bytes] = []
        position = offset_bytes
        while position < end:
            try:
                part = os.pread(self._descriptor, end - position, position)
            except OSError as error:
                raise _device_error(error, "read", position) from error
            if not part:
                raise DeviceError(errno.EIO, "device ends early", position)
            position += len(part)
            if position == end and not parts:
                return part
            parts.append(part)
        return b"".join(parts)

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write ``buffers`` in a row; raises DeviceError (EROFS, ENOSPC, EIO, EINVAL)."""
        length_bytes = 0
        for buffer in buffers:
            length_bytes += len(buffer)
        end = offset_bytes + length_bytes
        if (
            self.read_only
            or (offset_bytes | length_bytes) % self.align_bytes
            or offset_bytes < 0
            or end > self.size_bytes
        ):
            self.check_write(offset_bytes, length_bytes)
        descriptor = self._descriptor
        position = offset_bytes
        if len(buffers) <= _BUFFERS_MAX:
            position = _write_all(descriptor, position, end, buffers)
        else:
            for start in range(0, len(buffers), _BUFFERS_MAX):
                part = buffers[start : start + _BUFFERS_MAX]
                position = _write_all(descriptor, position, position + sum(map(len, part)), part)
        if self._holes is not None:
            self._holes.wrote(descriptor, offset_bytes, position)
        if position - offset_bytes >= WRITEBACK_BYTES_MIN:
            self._writeback.begin(offset_bytes, position - offset_bytes)

    def flush(self) -> None:
        """Make every completed write durable; raises DeviceError, and then for ever."""
        if self.read_only and self._flush_failure is None:
            return
        with self._flushing:
            if self._flush_failure is None:
                if self._holes is not None:
                    self._holes.flushed()
                try:
                    os.fdatasync(self._descriptor)
                except OSError as error:
                    self._flush_failure = error
                else:
                    self._flush_failure = self._writeback.error
            failure = self._flush_failure
        if failure is not None:
            raise _device_error(failure, "flush", 0)

    def will_read(self, offset_bytes: int, length_bytes: int) -> None:
        """Let the host read a range into its page cache, without waiting for it."""
        # Whoever reads it is told what is wrong.
        with contextlib.suppress(OSError, OverflowError):
            os.posix_fadvise(self._descriptor, offset_bytes, length_bytes, os.POSIX_FADV_WILLNEED)

    def is_stored(self, offset_bytes: int, length_bytes: int) -> bool:
        """Tell whether a range of an image file has no hole; a disk has none."""
        if self.is_block_device:
            return True
        return is_solid(self._descriptor, offset_bytes, offset_bytes + length_bytes)

    def keep_room(self, offset_bytes: int, length_bytes: int) -> None:
        """Fill the holes of a range that holds nothing with zeros."""
        self.check_write(offset_bytes, length_bytes)
        if not self.is_block_device:
            make_solid(self._descriptor, offset_bytes, offset_bytes + length_bytes)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Give the range back to the host or the disk where that is supported."""
        self.check_write(offset_bytes, length_bytes)
        if length_bytes == 0:
            return
        try:
            if self.is_block_device:
                fcntl.ioctl(
                    self._descriptor, _BLKDISCARD, struct.pack("=QQ", offset_bytes, length_bytes)
                )
            else:
                _punch_hole(self._descriptor, offset_bytes, length_bytes)
                if self._holes is not None:
                    self._holes.discarded()
        except OSError as error:
            if error.errno not in _DISCARD_UNSUPPORTED:
                raise _device_error(error, "discard", offset_bytes) from error

    def close(self) -> None:
        """Close the descriptor and give the lock back."""
        self._close_descriptor()
        self._lock.release()

    def _close_descriptor(self) -> None:
        self._writeback.close()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            # What close could report belongs to writes that nobody flushed.
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _write_all(descriptor: int, position: int, end: int, buffers: Sequence[Buffer]) -> int:
    """Write at most ``_BUFFERS_MAX`` buffers, however many calls it takes; return ``end``."""
    while position < end:
        try:
            written = os.pwritev(descriptor, buffers, position)
        except OSError as error:
            raise _device_error(error, "write", position) from error
        position += written
        if position < end:
            buffers = _rest(buffers, written)
    return end


def is_write_protected(path: str | Path) -> bool:
    """Tell whether a file or disk that can be opened for reading can't be for writing.

    By its permissions, its filesystem (mounted read-only), or as a disk is set.
    """
    if not os.access(path, os.R_OK, effective_ids=True):
        return False
    if not os.access(path, os.W_OK, effective_ids=True):
        return True
    if not stat.S_ISBLK(os.stat(path).st_mode):
        return False
    answer = bytearray(struct.calcsize("i"))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # no disk in the drive, or gone
        return False
    try:
        fcntl.ioctl(descriptor, _BLKROGET, answer)
    finally:
        os.close(descriptor)
    return any(answer)


def _open_locked(path: Path, read_only: bool) -> tuple[int, ImageLock]:
    """Return a descriptor of ``path`` and the lock on it; raises UsageError."""
    descriptor = _open(path, read_only)
    try:
        return descriptor, ImageLock(descriptor, path, not read_only)
    except OSError as error:
        os.close(descriptor)
        raise UsageError(f"cannot open {path}: {error.strerror}") from error
    except BaseException:
        os.close(descriptor)
        raise


def _open(path: Path, read_only: bool, shown: Path | None = None) -> int:
    """Return a descriptor of ``path``; raises UsageError with one line that names ``shown``."""
    shown = shown or path
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise UsageError(f"{shown} is neither an image file nor a block device")
        if stat.S_ISREG(mode) and not read_only:
            _refuse_beyond_limit(shown, path.stat().st_size)
        flags = os.O_RDONLY if read_only else os.O_RDWR
        if stat.S_ISBLK(mode) and not read_only:
            # Without O_CREAT this claims the disk: the kernel refuses it while it is mounted.
            flags |= os.O_EXCL
        return open_above_standard(path, flags)
    except OSError as error:
        if error.errno == errno.EBUSY:
            status = path.stat()
            places = places_of(status, str(shown))
            raise InUseError(shown, places, claimed=status.st_rdev) from error
        raise UsageError(f"cannot open {shown}: {error.strerror}") from error


def _refuse_beyond_limit(shown: Path, size_bytes: int) -> None:
    limit_bytes = file_limit_bytes()
    if limit_bytes is not None and limit_bytes < size_bytes:
        raise UsageError(
            f"{shown} has {format_size(size_bytes)}, but this process may write files of"
            f" {format_size(limit_bytes)} only: raise the limit (ulimit -f)"
        )


def _number_of(descriptor: int, request: int) -> int:
    """Return the number that an ioctl of a block device answers; raises OSError."""
    answer = bytearray(struct.calcsize("i"))
    fcntl.ioctl(descriptor, request, answer)
    return int(struct.unpack("i", answer)[0])


def _rest(buffers: Sequence[Buffer], written: int) -> list[Buffer]:
    """Return what is left of ``buffers`` after their first ``written`` bytes."""
    for index, buffer in enumerate(buffers):
        if written < len(buffer):
            return [memoryview(buffer)[written:], *buffers[index + 1 :]]
        written -= len(buffer)
    return []


def _punch_hole(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    """Free a range of a file; raises OSError.  Python has no call for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    result = libc.fallocate(
        descriptor, mode, ctypes.c_int64(offset_bytes), ctypes.c_int64(length_bytes)
    )
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
