"""``lfs state``: whether a mounted filesystem takes changes, and if not, why.

The mount table can't say it of every mount: the kernel makes none read-only while a file
is open for writing, nor for an ordinary user.  Anybody may ask, by the virtual attribute
``system.lfs.state`` that everything on the filesystem has.
"""

from __future__ import annotations

import argparse
import os

from lfs.cli.target import asked_of_lfs

STATE_ATTRIBUTE = b"system.lfs.state"
_FAILED = b"failed: "


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "state",
        help="tell whether a mounted filesystem takes changes, and if not, why",
        description="Tell whether a mounted filesystem takes changes, and if not, why."
        " Exit code 1 when writing has failed.",
    )
    parser.add_argument("directory", metavar="DIR", help="anything on the filesystem")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the state; return 1 when writing has failed; raises UsageError, OSError."""
    with asked_of_lfs(arguments.directory):
        state = os.getxattr(arguments.directory, STATE_ATTRIBUTE)
    print(state.decode(errors="backslashreplace"))
    return int(state.startswith(_FAILED))


def has_failed(directory: str) -> bool:
    """Tell whether writing has failed on a mounted lfs; raises OSError."""
    return os.getxattr(directory, STATE_ATTRIBUTE).startswith(_FAILED)


def format_state(read_only: bool, failure: str) -> bytes:
    """Return the state in a line; ``failure`` says why writing failed, if it has."""
    if failure:
        return _FAILED + f"every change is refused: {failure}".encode(errors="backslashreplace")
    return b"read-only" if read_only else b"writable"
