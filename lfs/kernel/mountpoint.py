"""Mount points: what is mounted where, with which flags, and how to undo it.

Root unmounts by umount2(2), other users by ``fusermount3``, which may do it for
whoever mounted.  A mount whose daemon has died answers everything with
``ENOTCONN``; a lazy unmount clears it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import re
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lfs.control.door import FILESYSTEM_TYPE

MOUNT_TABLE = Path("/proc/self/mountinfo")
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_MS_REMOUNT = 32
_MS_BIND = 4096
_LINKS_MAX = 40
_ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.002

READ_ONLY = 1
STRICTATIME = 1 << 24
ATIME_FLAGS = {"noatime": 1024, "relatime": 1 << 21, "strictatime": STRICTATIME}
# Flags of mount(2) by the names that the mount table and options have for them.
FLAGS = {
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "dirsync": 128,
    "nosymfollow": 256,
    "nodiratime": 2048,
}


class MountError(Exception):
    """Why something cannot be mounted or unmounted, in a line for the user.

    ``exit_code`` is that of mount(8): 1 for a wrong call or lacking permission,
    2 for the system, 32 for a mount that failed.
    """

    def __init__(self, text: str, exit_code: int = 32) -> None:
        """Take the line and the exit code."""
        super().__init__(text)
        self.exit_code = exit_code


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo."""

    path: str
    filesystem_type: str
    source: str
    read_only: bool
    """Whether the filesystem is, whatever this mount of it says."""
    device_number: str = ""
    options: frozenset[str] = frozenset()
    """Those of the mount and of the filesystem."""
    mount_id: int = 0

    @property
    def is_automount(self) -> bool:
        """Tell whether it only waits for something to be mounted over it."""
        return self.filesystem_type == "autofs"

    @property
    def flags(self) -> int:
        """Return the flags that mount(2) would need for a mount like this one."""
        flags = READ_ONLY if self.read_only else 0
        flags |= sum(value for name, value in FLAGS.items() if name in self.options)
        shown = self.options & ATIME_FLAGS.keys()
        return flags | (ATIME_FLAGS[next(iter(shown))] if shown else STRICTATIME)


def mounts() -> list[Mount]:
    """Return what is mounted in this process's namespace, oldest first."""
    found = []
    for line in MOUNT_TABLE.read_bytes().splitlines():
        fields = line.split(b" ")
        separator = fields.index(b"-", 6)
        kind, source, options = fields[separator + 1 : separator + 4]
        found.append(
            Mount(
                path=_unescaped(fields[4]),
                filesystem_type=_unescaped(kind),
                source=_unescaped(source),
                read_only=b"ro" in options.split(b","),
                device_number=os.fsdecode(fields[2]),
                options=frozenset(_unescaped(b",".join((fields[5], options))).split(",")),
                mount_id=int(fields[0]),
            )
        )
    return found


def find_mount(directory: str) -> Mount | None:
    """Return what is mounted on ``directory`` itself, the uppermost of several."""
    path = real_path(directory)
    return next((mount for mount in reversed(mounts()) if mount.path == path), None)


def real_path(directory: str) -> str:
    """Return an absolute path without symlinks, and ask nothing of what is mounted there.

    It may be a filesystem that never answers.
    """
    for _ in range(_LINKS_MAX):
        parent, name = os.path.split(directory.rstrip("/"))
        if name in ("", ".", ".."):
            break
        path = os.path.join(os.path.realpath(parent), name)
        try:
            # Unlike lstat(2), this the kernel answers by itself for what is no link.
            directory = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return path
    return os.path.realpath(directory)


def find_lfs(directory: str) -> Mount:
    """Return the lfs that is mounted on ``directory`` itself; raises MountError."""
    mount = find_mount(directory)
    if mount is None or mount.filesystem_type != FILESYSTEM_TYPE:
        raise MountError(f"{directory} is not the mount point of an lfs")
    return mount


def prepare_mount_point(directory: str, own_type: str = FILESYSTEM_TYPE) -> str:
    """Return the absolute path of a directory that can be mounted on.

    Clears a mount of ``own_type`` whose daemon has died.  Raises MountError, too, where
    ``fusermount3`` would not let this user mount.
    """
    path = real_path(directory)
    mount = find_mount(path)
    if mount is not None and not mount.is_automount and is_dead(path):
        _clear_dead(mount, own_type)
        mount = find_mount(path)
    if mount is not None and not mount.is_automount:
        raise MountError(f"mount point {directory} is busy: {mount.source} is mounted there")
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise MountError(f"mount point {directory} does not exist") from error
    except OSError as error:
        raise MountError(f"mount point {directory}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(f"mount point {directory} is not a directory")
    if os.geteuid() != 0 and not _may_mount_on(path, status):
        raise MountError(
            f"mount point {directory}: {_user()} may only mount on a directory of his own that he"
            f" may write to: let root run chown {_user()} {directory}, or mount it (`user` in"
            " /etc/fstab gives no more)",
            1,
        )
    return path


def _may_mount_on(path: str, status: os.stat_result) -> bool:
    """Tell whether ``fusermount3`` lets this user mount on a directory, which mount(8) calls, too.

    By a line of /etc/fstab with ``user`` mount(8) runs mount.lfs as that user.
    """
    if status.st_mode & stat.S_ISVTX and status.st_uid != os.getuid():
        return False
    return os.access(path, os.W_OK)


def _user() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_dead(path: str) -> bool:
    """Tell whether the daemon of what is mounted on ``path`` has died.

    The kernel may still know the attributes of the root directory, but it asks for
    free space each time.  A child asks, because a daemon that is alive may never
    answer; who has asked it can't even be killed.
    """
    child = os.fork()
    if child == 0:
        os._exit(_ask_for_space(path))
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) in (errno.ENOTCONN, errno.ECONNABORTED)
        time.sleep(_POLL_SECONDS)
    os.kill(child, signal.SIGKILL)
    return False


def _ask_for_space(path: str) -> int:
    """Return the errno of asking, in a child that must not keep anything open for its parent."""
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno or 0
    return 0


def _clear_dead(mount: Mount, own_type: str) -> None:
    path = mount.path
    if mount.filesystem_type != own_type:
        raise MountError(f"the daemon of what is mounted on {path} has died: run umount -l {path}")
    try:
        unmount(path, lazily=True)
    except MountError as error:
        raise MountError(
            f"the daemon of the earlier mount on {path} has died: run fusermount3 -uz {path}"
            f" as the user who mounted it, or umount -l {path} as root"
        ) from error


def unmount(path: str, lazily: bool = False) -> None:
    """Unmount ``path``; ``lazily`` takes it from the tree even while it is in use.

    Raises MountError.
    """
    if os.geteuid() == 0:
        _unmount_as_root(path, lazily)
        return
    # Imported here: whoever serves has them, and root has no use for them.
    import shutil
    import subprocess

    command = shutil.which("fusermount3")
    if command is None:
        raise MountError("fusermount3 is missing: install the package fuse3", 2)
    arguments = [command, "-u", *(["-z"] if lazily else []), "--", path]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise MountError(f"cannot unmount {path}: {lines[-1]}")


def detach(device_number: str) -> bool:
    """Take one filesystem from the tree, even while it is in use, and no other.

    It is named by its device number (``Mount.device_number``).  Where something else is
    mounted over it, or over a directory above, it stays: returns whether all of it has
    gone.  Waits for other filesystems that lie on the way; raises MountError.
    """
    for mount in reversed(mounts()):
        if mount.device_number == device_number:
            _detach_uncovered(mount)
    return all(mount.device_number != device_number for mount in mounts())


def show_read_only(device_number: str) -> None:
    """Let the mount table say that a filesystem is read-only; raises OSError.

    EBUSY while a file there is open for writing, or something else is mounted over it.
    Must not be called by the thread that serves it: the kernel writes back first.
    """
    for mount in reversed(mounts()):
        if mount.device_number == device_number:
            with _uncovered(mount) as path:
                if path is not None:
                    set_flags(path, mount.flags | READ_ONLY)
                    return
    raise OSError(errno.EBUSY, "something else is mounted over it")


def _detach_uncovered(mount: Mount) -> None:
    """Detach a mount if its path leads to it."""
    with _uncovered(mount) as path:
        if path is None:
            return
        if os.geteuid() == 0:
            _umount(path, _MNT_DETACH, mount.path)
            return
    unmount(mount.path, lazily=True)


@contextlib.contextmanager
def _uncovered(mount: Mount) -> Iterator[str | None]:
    """Yield a path to a mount that nothing mounted meanwhile can lead elsewhere.

    None when its own path leads to something else.
    """
    try:
        descriptor = os.open(mount.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        is_there = _mount_id_of(descriptor) == mount.mount_id
        yield f"/proc/self/fd/{descriptor}" if is_there else None
    finally:
        os.close(descriptor)


def _mount_id_of(descriptor: int) -> int:
    """Return which mount a descriptor lies on; asks no filesystem."""
    fields = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
    return int(fields[fields.index("mnt_id:") + 1])


def set_flags(path: str, flags: int, of_mount_only: bool = False) -> None:
    """Give what is mounted on ``path`` the flags of mount(2); raises OSError.

    The kernel refuses to make a filesystem read-only while a file is open for
    writing (EBUSY).  ``of_mount_only`` leaves the filesystem itself as it is.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags |= _MS_REMOUNT | (_MS_BIND if of_mount_only else 0)
    if libc.mount(None, os.fsencode(path), None, ctypes.c_ulong(flags), None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _unmount_as_root(path: str, lazily: bool) -> None:
    _umount(path, _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazily else 0), path)


def _umount(path: str, flags: int, shown: str) -> None:
    """Call umount2(2); raises MountError, which names ``shown``."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), flags) != 0:
        code = ctypes.get_errno()
        if code == errno.EBUSY:
            raise MountError(f"{shown} is busy: a process has a file or its directory there")
        raise MountError(f"cannot unmount {shown}: {os.strerror(code)}")


def _unescaped(field: bytes) -> str:
    """Undo the octal escapes of /proc/self/mountinfo."""
    raw = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
    return os.fsdecode(raw)
