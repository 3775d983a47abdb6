"""The command ``mount.lfs TARGET DIR [-o OPTIONS] [-f]``.

It returns when the filesystem answers, and follows the conventions of mount(8),
which calls it as ``mount -t lfs`` and ``mount -o remount``: exit code 0, 1 for a
wrong call or lacking permission, 2 for an error of the system, 32 for a mount that
failed; errors are one line.

Held by ``tests/mount/mounting``.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from lfs.command import entries
from lfs.command.parser import Parser
from lfs.command.start import Importing
from lfs.common.errors import UsageError
from lfs.device.file import is_write_protected
from lfs.kernel.daemon import run_in_background
from lfs.kernel.logs import (
    SYSTEM_LOG,
    configure_logging,
    finish_logging,
    is_system_log_there,
)
from lfs.kernel.mountpoint import MountError, prepare_mount_point
from lfs.mount.options import FaultOptions, MountOptions, OptionError, parse_options

_FUSE_DEVICE = "/dev/fuse"
_OPTIONS_HELP = """\
options of -o, separated by commas:
  ro, rw                    read-only or not
  relatime, noatime, strictatime
                            when reading changes the access time (default relatime)
  nodiratime, diratime      never for directories, or as for files
  commit=SECONDS            how often changes become durable by themselves (default 5)
  cleaner=cost-benefit|greedy
                            which segments are cleaned first
  errors=remount-ro|continue|panic
                            when the log can't be written any more: refuse changes with EROFS
                            (the default) or with EIO, or end the daemon at once
  norecovery                show the last checkpoint without the log after it; needs ro
  memory=SIZE               keep at most so much of what was read or changed (default 192M, at
                            least 96M; 1.5G, 1GiB ...)
  writeback_cache           let the kernel collect writes: faster, but writes may fail late
                            and files may be reordered by a crash
  cpu_latency=auto|low|any  keep idle processors awake while requests come in quick succession,
                            which is faster and takes power: always (low), never (any), or in
                            virtual machines of 2 to 4 processors (auto, the default); as root
  allow_other, allow_root   who may enter a mount of an ordinary user (root: everybody)
  fault=PLAN                put a faulty disk below: a plan (FAULTS.md), or @FILE with one
  fault_log=FILE            keep all that was asked of it, for faultdisk replay
  fault_control=SOCKET      let faultdisk set, cut, mark ... it while it runs
  debug                     log every request; of use with -f
  remount                   change a mount that is there: ro, rw, access times, commit=,
                            cleaner=, and as root nosuid, nodev, sync ...; the rest stays
and suid, dev, exec, sync, dirsync, auto_unmount, fsname=, subtype=

What is write-protected is mounted read-only, with a notice.
"""


class _Parser(Parser):
    """Reports a wrong call with the exit code of mount(8)."""

    def error(self, message: str) -> NoReturn:
        raise MountError(f"{message} (see mount.lfs -h)", 1)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mount.lfs",
        description="Mount an lfs image or disk.",
        epilog=_OPTIONS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="TARGET", help="image file or block device")
    parser.add_argument("directory", metavar="DIR", help="mount point")
    parser.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[], help="see below"
    )
    parser.add_argument(
        "-f", dest="foreground", action="store_true", help="stay in the foreground and log there"
    )
    parser.add_argument("-r", dest="read_only", action="store_true", help="the same as -o ro")
    parser.add_argument(
        "-w",
        dest="writable",
        action="store_true",
        help="the same as -o rw, and never read-only instead",
    )
    parser.add_argument("-v", dest="verbose", action="store_true", help="say what was mounted")
    parser.add_argument("-n", dest="no_mtab", action="store_true", help="ignored")
    parser.add_argument("-s", dest="sloppy", action="store_true", help="ignore unknown options")
    parser.add_argument("-t", dest="type", help="ignored: the type that mount(8) was given")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments``; return its exit code."""
    try:
        _mount(_parser().parse_args(arguments))
    except MountError as error:
        print(f"mount.lfs: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _mount(arguments: argparse.Namespace) -> None:
    options = _options(arguments)
    if options.remount:
        from lfs.mount.remount import remount

        remount(arguments.directory, options)
        return
    _check_fuse()
    target = os.path.abspath(arguments.target)
    mount_point = prepare_mount_point(arguments.directory)
    protected = not options.read_only and is_write_protected(target)
    if protected:
        if arguments.writable:
            raise MountError(f"{target} is write-protected: mount it with -o ro")
        # As mount(8) does it with the filesystems of the kernel.
        options.read_only = True

    def start(ready: Callable[[], None]) -> None:
        configure_logging(arguments.foreground, options.debug, about=f"{target} on {mount_point}")
        # Imported here, in the process that serves: the libraries below start
        # threads, which do not survive a fork, and cost the parent time.
        with Importing():
            from lfs.mount.session import MountRequest, serve

        ended_by = serve(MountRequest(target, mount_point, options), ready)
        if arguments.foreground and ended_by == signal.SIGINT:
            raise KeyboardInterrupt

    if arguments.foreground:
        try:
            start(lambda: None)
        finally:
            finish_logging()
        return
    run_in_background(start)
    if protected:
        print(f"mount.lfs: {target} is write-protected: mounted read-only", file=sys.stderr)
    if not is_system_log_there():
        print(
            f"mount.lfs: no system log runs here ({SYSTEM_LOG}): lfs log {mount_point} shows"
            " what the daemon has to say",
            file=sys.stderr,
        )
    if arguments.verbose:
        print(f"mount.lfs: {target} mounted on {mount_point}")


def _options(arguments: argparse.Namespace) -> MountOptions:
    switches = [*(["ro"] if arguments.read_only else []), *(["rw"] if arguments.writable else [])]
    try:
        options = parse_options(arguments.options + switches, arguments.sloppy)
    except OptionError as error:
        raise MountError(str(error), 1) from error
    if options.remount:
        return options
    if not options.recovery and not options.read_only:
        raise MountError("norecovery needs ro: what the log holds would be lost", 1)
    _settle_faults(options.fault)
    return options


def _settle_faults(options: FaultOptions) -> None:
    """Read the plan while its errors can still be told, and make its paths absolute."""
    if not options.plan:
        if options.log or options.control:
            raise MountError("fault_log and fault_control need fault=PLAN", 1)
        return
    # Imported here, because a mount on a good disk has no use for it.
    from faultdisk.daemon.plans import read_plan

    try:
        options.plan = read_plan([options.plan]).text
    except UsageError as error:
        raise MountError(str(error), 1) from error
    options.log = options.log and os.path.abspath(options.log)
    options.control = options.control and os.path.abspath(options.control)


def _check_fuse() -> None:
    """Raise MountError unless this process can open /dev/fuse and, if it must, get help."""
    try:
        os.close(os.open(_FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise MountError(
                f"{_FUSE_DEVICE} is missing: load the module with modprobe fuse, or give the"
                " container the device",
                2,
            ) from error
        raise MountError(f"cannot open {_FUSE_DEVICE}: {error.strerror}", 1) from error
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is missing: install the package fuse3", 2)


if __name__ == "__main__":
    entries.mount()
