"""A remount: what ``mount.lfs -o remount,...`` asks of the kernel and of the daemon.

Both know whether a mount is read-only, and each must hear it in its turn.  On the
way to read-only the kernel comes first: it refuses while a file is open for
writing, it writes back what programs changed through mapped memory, and after it
no more changes come.  On the way to writable the daemon comes first: until it can
write, the kernel must let nothing through.

The daemon is asked at the door (``lfs.control.door``; ``lfs.mount.answers`` answers).

Held by ``tests/mount/remounting``.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import Any

from lfs.common.errors import FilesystemError
from lfs.control.door import ask
from lfs.control.questions import OPTIONS, REMOUNT
from lfs.kernel.mountpoint import (
    ATIME_FLAGS,
    FLAGS,
    READ_ONLY,
    Mount,
    MountError,
    find_lfs,
    set_flags,
)
from lfs.mount.options import Change, MountOptions

_BUSY_SECONDS = 1.0
_POLL_SECONDS = 0.02


def remount(directory: str, options: MountOptions) -> None:
    """Change the mount on ``directory`` as ``options`` say; raises MountError.

    What they do not name stays as it is, but see ``wanted_flags``.  After a refusal
    nothing has changed.
    """
    mount = find_lfs(directory)
    _check_fixed(mount, options, directory)
    change = options.change()
    flags = wanted_flags(mount, options)
    if flags != mount.flags and os.geteuid() != 0:
        raise MountError(
            "only root may make a mount read-only or writable or change its flags:"
            " unmount it and mount it again",
            1,
        )
    if change.read_only:
        _make_read_only(mount, flags, change, directory)
        return
    answer = _told(mount, change, directory)
    if answer is not None:
        raise MountError(f"{directory}: {answer[1]}")
    _set_flags(mount, flags, directory)


def wanted_flags(mount: Mount, options: MountOptions) -> int:
    """Return the flags that ``mount`` has after a remount with ``options``.

    As in mount(2), a flag that is not named is off: mount(8) names those that are to
    stay, and says ``suid`` by leaving ``nosuid`` away.  But what fusermount3 gave to
    the mount of an ordinary user stays.
    """
    flags = mount.flags
    if "user_id=0" in mount.options:
        flags &= READ_ONLY | sum(ATIME_FLAGS.values())
    for name, value in FLAGS.items():
        given = options.kernel.get(name.removeprefix("no"))
        if given is not None:
            flags = flags | value if given == name else flags & ~value
    change = options.change()
    if change.atime is not None:
        flags = flags & ~sum(ATIME_FLAGS.values()) | ATIME_FLAGS[change.atime]
    if change.read_only is not None:
        flags = flags & ~READ_ONLY | (READ_ONLY if change.read_only else 0)
    return flags


def _make_read_only(mount: Mount, flags: int, change: Change, directory: str) -> None:
    _set_flags(mount, flags, directory)
    deadline = time.monotonic() + _BUSY_SECONDS
    answer = _told(mount, change, directory)
    # The kernel tells the daemon a little later that the last user of a file has gone.
    while answer is not None and answer[0] == errno.EBUSY and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        answer = _told(mount, change, directory)
    if answer is None:
        return
    if answer[0] == errno.EBUSY:
        with suppress(OSError):
            set_flags(mount.path, mount.flags)
        raise MountError(f"{directory} is busy: {answer[1]}")
    raise MountError(f"{directory} is read-only now, but its image is not clean: {answer[1]}")


def _set_flags(mount: Mount, flags: int, directory: str) -> None:
    """Set the flags; raises MountError, for a busy one after ``_BUSY_SECONDS``.

    A file without a name that was just closed keeps the mount busy a little longer.
    """
    if flags == mount.flags:
        return
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            set_flags(mount.path, flags)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise MountError(f"cannot remount {directory}: {error.strerror}") from error
            if time.monotonic() >= deadline:
                text = (
                    f"{directory} is busy: a file there is open for writing,"
                    " or one without a name is in use"
                )
                raise MountError(text) from error
            time.sleep(_POLL_SECONDS)
        else:
            return


def _check_fixed(mount: Mount, options: MountOptions, directory: str) -> None:
    """Raise MountError for an option that differs from the mount's and that can't change."""
    fixed = [option for option in options.fixed() if option not in mount.options]
    if not fixed:
        return
    begun_with = _asked(mount, directory, OPTIONS)["options"]
    for option in fixed:
        if option not in begun_with:
            raise MountError(f"{option} cannot change at a remount: unmount and mount again", 1)


def _told(mount: Mount, change: Change, directory: str) -> tuple[int, str] | None:
    """Make a change; return None, or the errno and the line with which it was refused."""
    try:
        _asked(mount, directory, REMOUNT, change.text())
    except FilesystemError as error:
        return error.errno or errno.EIO, str(error)
    return None


def _asked(mount: Mount, directory: str, question: str, argument: str = "") -> dict[str, Any]:
    """Ask the daemon; raises FilesystemError for what it refuses, MountError for no answer."""
    try:
        return ask(mount.path, question, argument)
    except FilesystemError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise MountError(f"the daemon of {directory} has died: mount again") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            text = (
                f"only who may mount (CAP_SYS_ADMIN), or the user who did, may remount {directory}"
            )
            raise MountError(text, 1) from error
        raise MountError(f"the daemon of {directory}: {error.strerror}") from error
