"""``lfs sync``: make a mounted filesystem durable.

The kernel keeps sync(2) and syncfs(2) from a filesystem of type fuse, but an
``fsync`` of any directory commits everything (ARCHITECTURE.md, P2).
"""

from __future__ import annotations

import argparse
import ctypes
import os


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "sync",
        help="make everything on a mounted filesystem durable",
        description="Return when everything on the filesystems of these directories is durable.",
    )
    parser.add_argument("directories", metavar="DIR", nargs="+")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Commit and flush; raises OSError."""
    for directory in arguments.directories:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # What programs changed through mapped memory is still the kernel's: this hands it on.
            _syncfs(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return 0


def _syncfs(descriptor: int) -> None:
    """Call syncfs(2), which Python lacks; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
