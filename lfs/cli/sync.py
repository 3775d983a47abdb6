"""``lfs sync``: make a mounted filesystem durable.

The kernel keeps sync(2) and syncfs(2) from a filesystem of type fuse, so the daemon is
asked at the door.  Who may not ask can do the same by ``sync DIR``, an ``fsync`` of any
directory.

Held by ``tests/control/test_answers.py``.
"""

from __future__ import annotations

import argparse
import ctypes
import os

from lfs.command.output import add_json, print_json
from lfs.control.door import ask, asking
from lfs.control.questions import SYNC


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "sync",
        help="make everything on a mounted filesystem durable",
        description="Return when everything on the filesystems of these directories is durable.",
    )
    add_json(parser)
    parser.add_argument("directories", metavar="DIR", nargs="+")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Commit and flush; raises UsageError, OSError."""
    for directory in arguments.directories:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # What programs changed through mapped memory is still the kernel's: this hands it on.
            _syncfs(descriptor, directory)
        finally:
            os.close(descriptor)
        with asking(directory, " (see sync)"):
            ask(directory, SYNC)
    if arguments.json:
        print_json({"synced": arguments.directories})
    return 0


def _syncfs(descriptor: int, directory: str) -> None:
    """Call syncfs(2), which Python lacks; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), directory)
