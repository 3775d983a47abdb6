"""``lfs log``: the last lines that the daemon of a mounted filesystem has logged."""

from __future__ import annotations

import argparse
import os

from lfs.control.log import LOG_ATTRIBUTE
from lfs.control.target import asked_of_lfs


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "log",
        help="show the last lines that the daemon of a mounted filesystem has logged",
        description="Show the last lines that the daemon of a mounted filesystem has logged,"
        " whether a system log took them or not. For root and the user who mounted it.",
    )
    parser.add_argument("directory", metavar="DIR", help="the mount point")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the lines; raises UsageError, OSError."""
    with asked_of_lfs(arguments.directory):
        lines = os.getxattr(arguments.directory, LOG_ATTRIBUTE)
    print(lines.decode(errors="backslashreplace"), end="")
    return 0
