"""``lfs log``: the last lines that the daemon of a mounted filesystem has logged.

They are kept in its memory beside what goes to the system log, and so can be seen
where there is none.  The virtual attribute ``system.lfs.control.log`` of the root holds
as many of the last as fit; only root and the user who mounted may read it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from lfs.cli.target import asked_of_lfs

LOG_ATTRIBUTE = b"system.lfs.control.log"
_ATTRIBUTE_BYTES_MAX = 60_000


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


def format_lines(lines: Sequence[str]) -> bytes:
    """Return as many of the last lines as an attribute can hold, each with its line end."""
    kept: list[bytes] = []
    room_bytes = _ATTRIBUTE_BYTES_MAX
    for line in reversed(lines):
        raw = line.encode(errors="backslashreplace") + b"\n"
        room_bytes -= len(raw)
        if room_bytes < 0:
            break
        kept.append(raw)
    return b"".join(reversed(kept))
