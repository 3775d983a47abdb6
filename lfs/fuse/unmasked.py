"""Mounting so that the kernel leaves the umask to the filesystem.

Theory.  The umask must not play a part where a directory has a default access
control list, and who knows that is the filesystem.  The kernel leaves the umask
to it in two cases: when the reply to FUSE_INIT has FUSE_DONT_MASK, which pyfuse3
has no way to ask for, or when mount(2) was called with MS_POSIXACL, which libfuse
has no option for.  So root's mounts are made here, in libfuse's place: it is
given the descriptor of a mount as a mount point (``/dev/fd/N``), and then leaves
unmounting to who mounted.

``fusermount3`` has no such option either.  On a mount by another user the kernel
applies the umask before it asks; what inherits a default list gets the
permissions that the umask leaves, less than it might, never more.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import stat
from contextlib import suppress

from lfs.fuse.mountpoint import ATIME_FLAGS, FLAGS, READ_ONLY, MountError, unmount

_MS_POSIXACL = 1 << 16
_FLAGS = {
    "ro": READ_ONLY,
    "noatime": ATIME_FLAGS["noatime"],
    **FLAGS,
    **dict.fromkeys(("rw", "suid", "dev", "exec", "async", "diratime", "symfollow"), 0),
}
# libfuse itself keeps others out when only root is to be let in.
_KERNEL_OPTIONS = {
    "default_permissions": "default_permissions",
    "allow_other": "allow_other",
    "allow_root": "allow_other",
}
_SESSION_OPTIONS = ("debug",)


class UnmaskedMount:
    """A mount that was made here; it has no server until libfuse gets ``descriptor``."""

    def __init__(self, mount_point: str, descriptor: int) -> None:
        """Take over what ``mount_unmasked`` made."""
        self._mount_point = mount_point
        self.descriptor = descriptor

    @property
    def name_for_libfuse(self) -> str:
        """Return what libfuse takes for the mount point."""
        return f"/dev/fd/{self.descriptor}"

    def is_connected(self) -> bool:
        """Tell whether it is still mounted; the descriptor must be open."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return not any(events & select.POLLERR for _, events in poll.poll(0))

    def unmount(self) -> None:
        """Unmount once the descriptor is closed, or the kernel would wait for answers."""
        with suppress(MountError):
            unmount(self._mount_point, lazily=True)


def mount_unmasked(mount_point: str, options: set[str]) -> UnmaskedMount | None:
    """Mount with the ``options`` that libfuse would be given.

    Returns None, and nothing is mounted, when that is for libfuse to do: where it
    mounts by ``fusermount3``, or says better why it cannot.
    """
    parsed = _parsed(options)
    if parsed is None or os.geteuid() != 0:
        return None
    flags, data, values = parsed
    try:
        root_type = stat.S_IFMT(os.stat(mount_point).st_mode)
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    data = [
        f"fd={descriptor}",
        f"rootmode={root_type:o}",
        f"user_id={os.geteuid()}",
        f"group_id={os.getegid()}",
        *data,
    ]
    result = ctypes.CDLL(None, use_errno=True).mount(
        values["fsname"].encode(),
        os.fsencode(mount_point),
        f"fuse.{values['subtype']}".encode(),
        ctypes.c_ulong(flags | _MS_POSIXACL),
        ",".join(data).encode(),
    )
    if result != 0:
        os.close(descriptor)
        return None
    return UnmaskedMount(mount_point, descriptor)


def _parsed(options: set[str]) -> tuple[int, list[str], dict[str, str]] | None:
    """Return flags and data for mount(2), and name and type; None for what libfuse must do."""
    flags, data, values = 0, [], {}
    for option in sorted(options):
        name, has_value, value = option.partition("=")
        if name in ("fsname", "subtype"):
            values[name] = re.sub(r"\\(.)", r"\1", value)
        elif has_value or name not in {*_FLAGS, *_KERNEL_OPTIONS, *_SESSION_OPTIONS}:
            return None
        elif name in _FLAGS:
            flags |= _FLAGS[name]
        elif name in _KERNEL_OPTIONS:
            data.append(_KERNEL_OPTIONS[name])
    return flags, data, values
