"""The command ``umount.lfs DIR``: unmount, and return when the image is clean.

umount(8) and ``fusermount3 -u`` return when the kernel has let go, which with
FUSE is before the daemon has written its last checkpoint.  This command then
waits for the lock on the image, which the daemon gives back last, and looks at
the image.  Linked as ``/sbin/umount.fuse.lfs`` it is what umount(8) runs where that
looks into the mount table first, hence the options that it would pass.  A lazy unmount,
and one that leaves the filesystem mounted elsewhere, have nothing to wait for.  When
elsewhere is another mount namespace, where nobody sees it who unmounts here, the command
says who keeps it.  It succeeds as umount(8) does: what was asked for, that nothing is
mounted here, is done.

Exit codes are those of mount(8): 1 wrong call, 2 unmounted but not clean, 32 not
unmounted.

Held by ``tests/mount/unmounting``.
"""

from __future__ import annotations

import contextlib
import errno
import math
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from lfs.command import entries
from lfs.command.notes import noting
from lfs.command.parser import Parser
from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.errors import DamageError, FormatError, UsageError
from lfs.control.door import ask
from lfs.control.questions import FAILED, STATE, SYNC, has_failed, mounted_target
from lfs.device.base import BlockDevice
from lfs.device.exclusion.holders import Copy, copies, describe_copy
from lfs.device.exclusion.lock import InUseError
from lfs.device.file import FileDevice
from lfs.kernel.mountpoint import Mount, MountError, find_lfs, mounts, unmount
from lfs.segments.reader import LogReader

WAIT_SECONDS_DEFAULT = 60.0
MOMENT_SECONDS = 1.0
"""How long a daemon takes at most, as a rule, to end once nothing is mounted any more."""
COPY_SECONDS = 5.0
"""How long a copy of the mount in another mount namespace may take to go: one that was
made for a moment does, that of a container does not."""
_POLL_SECONDS = 0.05


class _Parser(Parser):
    """Reports a wrong call with the exit code of mount(8)."""

    def error(self, message: str) -> NoReturn:
        raise MountError(f"{message} (see umount.lfs -h)", 1)


def _parser() -> Parser:
    parser = _Parser(
        prog="umount.lfs", description="Unmount an lfs and wait until its image is clean."
    )
    parser.add_argument("directory", metavar="DIR", help="mount point")
    parser.add_argument(
        "-t",
        dest="wait",
        metavar="SECONDS",
        default=str(WAIT_SECONDS_DEFAULT),
        help="how long to wait for the daemon (default 60)",
    )
    parser.add_argument(
        "-l", dest="lazy", action="store_true", help="even while it is in use; does not wait"
    )
    for ignored in ("-n", "-v", "-f", "-r"):
        parser.add_argument(ignored, action="store_true", help="ignored")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments``; return its exit code."""
    try:
        parsed = _parser().parse_args(arguments)
        wait_seconds = _wait_seconds(parsed.wait)
        if parsed.lazy:
            unmount(find_lfs(parsed.directory).path, lazily=True)
        else:
            _unmount_and_wait(parsed.directory, wait_seconds)
    except MountError as error:
        print(f"umount.lfs: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _wait_seconds(text: str) -> float:
    """Read the value of ``-t``; umount(8) passes the type of the filesystem by the same name."""
    if text.startswith("fuse"):
        return WAIT_SECONDS_DEFAULT
    try:
        seconds = float(text)
        if math.isnan(seconds):
            raise ValueError(text)
        return max(0.0, seconds)
    except ValueError as error:
        raise MountError(f"-t {text}: a number of seconds", 1) from error


def _unmount_and_wait(directory: str, wait_seconds: float) -> None:
    """Unmount and return when the image is clean; raises MountError."""
    mount = find_lfs(directory)
    target, has_nothing_to_write = _asked(mount)
    failure = "" if has_nothing_to_write or target is None else _sync_failure(mount.path)
    unmount(mount.path)
    if any(other.device_number == mount.device_number for other in mounts()):
        return
    if target is None:
        raise MountError(
            f"{directory} is unmounted; its daemon had died, the next mount recovers", 2
        )
    if failure:
        raise MountError(
            f"{directory} is unmounted, but what came last may be lost: {failure}:"
            f" the next mount recovers the rest; {_where_to_look()}",
            2,
        )
    copy = _lasting_copy(mount, min(wait_seconds, COPY_SECONDS))
    if copy is not None:
        print(
            f"umount.lfs: {directory} is unmounted here, but the image stays in use:"
            f" it is {describe_copy(copy)}",
            file=sys.stderr,
        )
        return
    try:
        image = _image_when_free(target, mount, wait_seconds)
        if image is None:
            print(
                f"umount.lfs: {directory} is unmounted, and its image has been mounted again",
                file=sys.stderr,
            )
            return
        with contextlib.closing(image) as device:
            clean = has_nothing_to_write or is_clean(device)
    except (UsageError, FormatError, DamageError) as error:
        raise MountError(f"{directory} is unmounted, but: {error}", 2) from error
    if not clean:
        raise MountError(
            f"{directory} is unmounted, but the last checkpoint of {target} is missing:"
            f" the next mount recovers; {_where_to_look()}",
            2,
        )


def _image_when_free(target: str, mount: Mount, wait_seconds: float) -> FileDevice | None:
    """Open the image once its daemon is done, and say so where that takes more than a moment.

    Returns None when somebody who waited for it, too, has mounted it: the daemon is done.
    """
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        rest_seconds = max(0.0, deadline - time.monotonic())
        try:
            return FileDevice(target, True, wait_seconds=min(rest_seconds, MOMENT_SECONDS))
        except InUseError as error:
            if any(other.source in (target, mount.source) for other in mounts()):
                return None
            rest_seconds = deadline - time.monotonic()
            if rest_seconds <= 0:
                raise
            if not told:
                told = True
                noting("umount.lfs")(f"{error}: waiting for up to {rest_seconds:.0f} seconds")


def _lasting_copy(mount: Mount, wait_seconds: float) -> Copy | None:
    """Return a copy that another mount namespace still has after that time, or None."""
    deadline = time.monotonic() + wait_seconds
    while True:
        copy = next(copies(lambda other: other.device_number == mount.device_number), None)
        if copy is None or time.monotonic() >= deadline:
            return copy
        time.sleep(_POLL_SECONDS)


def _asked(mount: Mount) -> tuple[str | None, bool]:
    """Return the path of what is mounted, or None when its daemon has died.

    And whether it is read-only by somebody's wish: after a failure it is read-only, too,
    but then there was something to write.
    """
    try:
        return mounted_target(mount.path), mount.read_only and not has_failed(mount.path)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            # An ordinary user mounted it, and lets not even root look.
            return mount.source, mount.read_only
        return None, False


def _sync_failure(path: str) -> str:
    """Make durable what is on a mounted lfs; return why that can't be, or nothing.

    Where nothing more reaches the image it goes on looking as clean as it was.
    """
    try:
        state = ask(path, STATE)
        if state["state"] == FAILED:
            return str(state["failure"])
        ask(path, SYNC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return ""
        return error.strerror or str(error)
    return ""


def _where_to_look() -> str:
    # Imported here, because hardly ever has this to be said.
    from lfs.kernel.logs import where_to_look

    return where_to_look()


def is_clean(device: BlockDevice) -> bool:
    """Tell whether the newest checkpoint was written by an unmount and nothing came after it.

    Raises FormatError when there is no lfs, DamageError when it has no checkpoint.
    """
    superblock = read_superblock(device)
    checkpoints = read_checkpoints(device, superblock)
    if not checkpoints:
        raise DamageError("both checkpoint regions are damaged")
    newest = checkpoints[0]
    log = LogReader(device, superblock).follow(
        newest.next_address, newest.next_sequence, newest.previous_checksum
    )
    return newest.clean and next(log, None) is None


if __name__ == "__main__":
    entries.umount()
