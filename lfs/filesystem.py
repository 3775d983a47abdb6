"""The filesystem without FUSE: the interface of docs/library.md.

Synchronous and single-threaded: a request runs to its end before the next one
begins.  It has no clock and no randomness: the time comes with each request, and
the same requests give the same bytes on the device (P7).

Requests change memory.  What survives a crash is what a commit has logged and a
flush has made durable: ``sync``, or ``begin_commit`` with a device flush and
``finish_commit``.  The others say so only where they differ.

Held by ``tests/library`` and ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable
from typing import NoReturn, Self

from lfs.alloc.delayed.ledger import Space
from lfs.common.errors import FilesystemError
from lfs.device.base import BlockDevice
from lfs.inodes.inode import Inode
from lfs.mounting import Mount
from lfs.ondisk import Superblock
from lfs.requests.attributes import AttributeRequests
from lfs.requests.background import BackgroundRequests
from lfs.requests.contents import ContentRequests
from lfs.requests.inodes import InodeRequests
from lfs.requests.names import NameRequests
from lfs.volume.arguments import check_time
from lfs.volume.options import Options

__all__ = ["Filesystem", "Inode", "Options", "Space"]


def _ignore(message: str) -> None:
    """Report to nobody."""


class Filesystem(
    InodeRequests, NameRequests, ContentRequests, AttributeRequests, BackgroundRequests
):
    """A mounted filesystem.  Use ``mount``, and ``unmount`` at the end.

    ``core`` has its parts, for those who look inside.
    """

    def __init__(self, mount: Mount) -> None:
        """Offer the requests of what has been mounted."""
        self.core = mount.core
        self.device: BlockDevice = mount.core.volume.device
        self._mount = mount

    @classmethod
    def mount(
        cls,
        device: BlockDevice,
        now_ns: int,
        options: Options | None = None,
        report: Callable[[str], None] = _ignore,
        *,
        nonce: int | None = None,
    ) -> Self:
        """Open the filesystem on ``device`` as of its last commit.

        ``report`` gets one line for each thing worth logging.  A read-write mount
        after a crash writes two checkpoints, so that both regions know the end of
        the log; a crash meanwhile changes nothing.  If it can't write them, because
        a node that changed is damaged, or because the newer checkpoint was and a full
        disk has no room for it twice, the filesystem is read-only.  So it is when
        anything is damaged or unreadable that writing needs (docs/design/damage.md, "What
        is lost").  Raises FormatError when there is no usable filesystem, DamageError when
        no checkpoint leads to a root that can be read, FilesystemError(EBUSY) while another
        on this device may write.

        ``nonce``, 32 bits, becomes the generation of the inodes that this mount makes; no
        two mounts of an image should have the same.  None derives one from ``now_ns`` and
        the checkpoint.
        """
        return cls(Mount.of(device, now_ns, options or Options(), report, nonce))

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
        read; ESTALE when somebody else has written to it since.  Raises FormatError too when
        the features allow no writing or no checkpoint is left, DeviceError when it fails, and
        then the volume has failed.
        """
        check_time(now_ns)
        choices = {
            "atime": atime,
            "directory_atime": directory_atime,
            "commit_interval_ns": commit_interval_ns,
            "cleaner_policy": cleaner_policy,
        }
        chosen = {name: value for name, value in choices.items() if value is not None}
        self._mount.change(now_ns, read_only, chosen)

    def unmount(self, now_ns: int) -> None:
        """Write a checkpoint marked clean unless nothing changed; then only ``device`` is left.

        Raises DeviceError when that fails, DamageError when a node can't be read that it
        has to write anew; what was committed is in the log, and the next mount has it.
        Where writing has failed before, ``failure`` says so, and nothing is written.  No
        call is answered afterwards; to unmount again does nothing.
        """
        check_time(now_ns)
        try:
            self._mount.end(now_ns)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the device and write nothing: it holds what a crash would leave."""
        volume = self.core.volume
        if volume.is_closed:
            # It was kept from before: the device may be somebody else's by now.
            return
        if not volume.read_only:
            self.device.is_mounted = False
        # What somebody has begun or kept must not write any more, either.
        volume.close()
        for name in _CALLS:
            setattr(self, name, _refuse)
        for name in _ENDS:
            setattr(self, name, _do_nothing)

    @property
    def superblock(self) -> Superblock:
        """Return the superblock, as it was written last."""
        return self.core.volume.superblock

    @property
    def options(self) -> Options:
        """Return what the mount chose, as the last ``remount`` left it."""
        return self.core.volume.options

    @property
    def read_only(self) -> bool:
        """Tell whether changes are refused, by choice or because writing failed."""
        return self.core.read_only

    @property
    def failure(self) -> str:
        """Return why writing failed; nothing while it has not."""
        return self.core.volume.failure


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
