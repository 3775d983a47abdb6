"""One lock on the bytes of an image, held by whoever uses it, however they are reached.

Theory.  A lock is taken at every place in which the image has its bytes
(``lfs.device.exclusion.identity``): the range of the file or device itself and of all that it is
made of.  Writers hold it exclusively, read-only users share it.  So two users exclude
each other when their bytes overlap, by whatever paths they came.  The locks are those
of open file descriptions (``F_OFD_SETLK``): nothing to clean up, gone with their last
holder, inherited by a daemon that forks, and sent to the server by NFS.

What a lock can't tell the kernel can: a filesystem, or another user of a disk, has
claimed it (``O_EXCL``).  A writer therefore claims the block device that it opens
(``lfs.device.file``), and refuses bytes over which another device lies that somebody
has claimed.  Claims also keep writers apart where the file behind a loop device can't
be opened to lock it: it is another user's, or has no name any more.

Plain ``umount`` may return before the daemon has written its last checkpoint; so what
is in use may be waited for, but for a bounded time.  Who waits says so at once, and for
whom, unless it takes ``LOOKUP_SECONDS`` to find out; who is refused in the end has time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from lfs.common.errors import UsageError
from lfs.device.exclusion.descriptors import copy_above_standard, open_above_standard
from lfs.device.exclusion.holders import (
    LockedRange,
    describe_device,
    describe_mount,
    describe_process,
    in_time,
    inode_as_listed,
    is_locked,
    listed_inode,
)
from lfs.device.exclusion.identity import (
    END,
    Place,
    loops_over,
    partition_places,
    partitions_of,
    places_of,
    whole_disk,
)

LOOKUP_SECONDS = 0.5
"""How long finding out who it is may hold up the line that says so."""
_CLAIM_SECONDS = 0.3
"""How long to wait for a claim of the system: others may only have tried for one."""
_POLL_SECONDS = 0.05
_FLOCK = struct.Struct("@hhqqi4x")
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_OPEN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

_T = TypeVar("_T")


class InUseError(UsageError):
    """The image is somebody's; the text, which takes a while to find, names them."""

    def __init__(
        self,
        path: Path,
        places: list[Place],
        locked: LockedRange | None = None,
        claimed: int | None = None,
    ) -> None:
        """Take the image and the bytes that are locked, or the device that is claimed."""
        super().__init__(path)
        self.image = path
        self._places = places
        self._locked = locked
        self._claimed = claimed

    def __str__(self) -> str:
        """Return the line for the user."""
        return f"{self.image} is in use by {self._holder()}"

    def may_pass(self) -> bool:
        """Tell whether it is worth waiting: not for what the system itself has claimed."""
        return self._claimed is None or self._process() is not None

    def _holder(self) -> str:
        process = self._process()
        if process is None and self._claimed is not None:
            return f"the system (mounted?){describe_device(self._claimed)}"
        sources = {place.path for place in self._places} | {str(self.image)}
        with suppress(OSError):
            sources.add(os.path.realpath(self.image))
            sources |= {loop.path for loop in loops_over(self._places)}
        return (process or "another process") + describe_mount(sources)

    def _process(self) -> str | None:
        ranges = map(_locked_range, self._places) if self._locked is None else [self._locked]
        found = (describe_process(locked) for locked in ranges if locked is not None)
        return next((process for process in found if process is not None), None)


class ImageLock:
    """A lock on an open image, held until ``release`` or the process's end."""

    def __init__(self, descriptor: int, path: Path, exclusive: bool) -> None:
        """Lock the image that ``descriptor`` is open on, for writing too if ``exclusive``.

        Raises InUseError, UsageError.  ``path`` is where it was opened.
        """
        self._path = path
        try:
            self._places = places_of(os.fstat(descriptor), os.path.abspath(path))
        except OSError as error:
            raise UsageError(f"cannot tell what {path} is made of: {error.strerror}") from error
        self._held = self._take(descriptor, exclusive)

    def make_exclusive(self, descriptor: int) -> None:
        """Lock the same image exclusively by a descriptor that is open for writing.

        Raises InUseError when others share it; then it stays shared.  The old lock has
        to be given up first, so that somebody else may get in between and keep the
        image: that is an InUseError too, without a lock.
        """
        for held, place in self._held:
            _set_lock(held, place, fcntl.F_UNLCK)
        try:
            taken = self._take(descriptor, True)
        except InUseError:
            self.share()
            raise
        self.release()
        self._held = taken

    def share(self) -> None:
        """Let others read the image; raises InUseError only without an earlier lock."""
        for held, place in self._held:
            self._lock(held, place, False)

    def release(self) -> None:
        """Close what the lock added to the image's own descriptor, which carries it too.

        Doing so twice is allowed.  A child that inherited the descriptors keeps the lock.
        """
        for descriptor, _ in self._held:
            os.close(descriptor)
        self._held = []

    def _take(self, descriptor: int, exclusive: bool) -> list[tuple[int, Place]]:
        held: list[tuple[int, Place]] = []
        try:
            for place in self._places:
                opened = _opened(place, descriptor, exclusive and place.exact)
                if opened is None:
                    self._refuse_listed(place, exclusive)
                    continue
                held.append((opened, place))
                self._lock(opened, place, exclusive and place.exact)
            if exclusive:
                self._refuse_claimed()
        except BaseException:
            for opened, place in held:
                # The image's own descriptor, of which one is a copy, may stay open.
                with suppress(OSError):
                    _set_lock(opened, place, fcntl.F_UNLCK)
                os.close(opened)
            raise
        return held

    def _lock(self, descriptor: int, place: Place, exclusive: bool) -> None:
        try:
            _set_lock(descriptor, place, fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                # Imported here: whoever serves has it, and most commands have no use for it.
                import logging

                text = "%s can't be locked (%s): nothing keeps others from using it"
                logging.getLogger(__name__).warning(text, place.path or self._path, error.strerror)
            elif error.errno in (errno.EAGAIN, errno.EACCES):
                locked = LockedRange(inode_as_listed(descriptor), place.start, place.end)
                raise InUseError(self._path, self._places, locked) from None
            else:
                raise UsageError(f"cannot lock {self._path}: {error.strerror}") from error

    def _refuse_listed(self, place: Place, exclusive: bool) -> None:
        """Raise InUseError when a place that can't be opened is known to be locked."""
        if place.is_disk or not exclusive:
            return
        inode = listed_inode(os.major(place.device), os.minor(place.device), place.ino)
        locked = LockedRange(inode, place.start, place.end)
        if is_locked(locked):
            raise InUseError(self._path, self._places, locked)

    def _refuse_claimed(self) -> None:
        """Raise InUseError when a device with bytes of the image is claimed.

        Of the disk that the image itself is, or is a part of, the kernel has decided that.
        """
        first = self._places[0]
        own = whole_disk(first.device) if first.is_disk else None
        below = [place for place in self._places if place.is_disk]
        below = [place for place in below if own is None or whole_disk(place.device) != own]
        for device in (*below, *loops_over(self._places)):
            if _is_claimed(device, self._places):
                raise InUseError(self._path, [*self._places, device], claimed=device.device)


def until_free(
    attempt: Callable[[], _T], wait_seconds: float, on_wait: Callable[[str], None] | None
) -> _T:
    """Return what ``attempt`` does once it raises no InUseError, or raise that in time.

    ``on_wait`` gets one line before anything is waited for.
    """
    start = time.monotonic()
    told = on_wait is None or wait_seconds <= 0
    while True:
        try:
            return attempt()
        except InUseError as error:
            waited = time.monotonic() - start
            if waited >= wait_seconds or (waited >= _CLAIM_SECONDS and not error.may_pass()):
                raise
            if not told and on_wait is not None:
                told = True
                _tell(error, wait_seconds, on_wait)
        time.sleep(min(_POLL_SECONDS, max(0.0, start + wait_seconds - time.monotonic())))


def _tell(error: InUseError, wait_seconds: float, on_wait: Callable[[str], None]) -> None:
    """Say for whom is waited, as far as that is found in time; of a claim its refusal tells."""
    wait = f"waiting for up to {wait_seconds:g} seconds"
    line = in_time(lambda: f"{error}: {wait}" if error.may_pass() else "", LOOKUP_SECONDS)
    if line is None:
        line = f"{error.image} is in use: {wait}"
    if line:
        on_wait(line)


@contextmanager
def locked_file(
    path: str | Path, exclusive: bool = True, wait_seconds: float = 0.0
) -> Iterator[None]:
    """Hold the lock on a file that is no image but wants one; raises UsageError.

    A pipe or a terminal needs none, and is not opened.
    """
    if stat.S_ISFIFO(mode := _mode(path)) or stat.S_ISCHR(mode):
        yield
        return
    try:
        flags = (os.O_RDWR if exclusive else os.O_RDONLY) | _OPEN_FLAGS
        descriptor = open_above_standard(path, flags)
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}") from error
    try:
        lock = until_free(lambda: ImageLock(descriptor, Path(path), exclusive), wait_seconds, None)
        try:
            yield
        finally:
            lock.release()
    finally:
        os.close(descriptor)


def _mode(path: str | Path) -> int:
    try:
        return os.stat(path).st_mode
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}") from error


def _set_lock(descriptor: int, place: Place, kind: int) -> None:
    """Set or give back the lock on a place; raises OSError, EAGAIN when it is another's."""
    length = 0 if place.end >= END else place.end - place.start
    request = _FLOCK.pack(kind, os.SEEK_SET, place.start, length, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)


def _opened(place: Place, descriptor: int, for_writing: bool) -> int | None:
    """Return a descriptor to lock a place by, or None where there is no way to one.

    The image's own file serves itself.  For a device it is the node that the kernel has
    for it, where there is one: locks are on nodes, and there may be several.
    """
    own = os.fstat(descriptor)
    is_own = place.is_of(own)
    if not is_own or place.is_disk:
        with suppress(OSError, ValueError):
            status = os.stat(place.path)
            if place.is_of(status) and not os.path.samestat(status, own):
                flags = (os.O_RDWR if for_writing else os.O_RDONLY) | _OPEN_FLAGS
                opened = open_above_standard(place.path, flags)
                if place.is_of(os.fstat(opened)):
                    return opened
                os.close(opened)
    return copy_above_standard(descriptor) if is_own else None


def _is_claimed(device: Place, places: list[Place]) -> bool:
    """Tell whether a device, or a partition of it with some of ``places``, is claimed."""
    if not _is_busy(device):
        return False
    busy = [part for part in partitions_of(device.device) if _is_busy(part)]
    overlapping = [
        part
        for part in busy
        if any(a.overlaps(b) for a in partition_places(part.device) for b in places)
    ]
    return bool(overlapping) or not busy


def _is_busy(device: Place) -> bool:
    try:
        os.close(os.open(device.path, os.O_RDONLY | os.O_EXCL | _OPEN_FLAGS))
    except OSError as error:
        # Who may not try for a claim can still see what is mounted.
        refused = error.errno in (errno.EACCES, errno.EPERM)
        return error.errno == errno.EBUSY or (refused and bool(describe_device(device.device)))
    return False


def _locked_range(place: Place) -> LockedRange | None:
    """Return a place as lists of locks show it, or None when it can't be opened."""
    try:
        descriptor = os.open(place.path, os.O_RDONLY | _OPEN_FLAGS)
    except OSError:
        return None
    try:
        if not place.is_of(os.fstat(descriptor)):
            return None
        return LockedRange(inode_as_listed(descriptor), place.start, place.end)
    finally:
        os.close(descriptor)
