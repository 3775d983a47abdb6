"""``lfs state``: whether a mounted filesystem takes changes, and if not, why."""

from __future__ import annotations

import argparse
import os

from lfs.control.state import FAILED, STATE_ATTRIBUTE
from lfs.control.target import asked_of_lfs


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
    return int(state.startswith(FAILED))
