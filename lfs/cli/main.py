"""The command ``lfs``: finds the subcommand, runs it, and reports errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lfs.cli import filefrag, helpers, log, requests, state, sync
from lfs.command import entries
from lfs.command.parser import Parser
from lfs.common.errors import FormatError, UsageError

_COMMANDS = (filefrag, requests, log, state, sync, helpers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments``; return its exit code, 2 for a wrong call."""
    parser = Parser(prog="lfs", description="Look after lfs filesystems.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    chosen = parser.parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except (UsageError, FormatError) as error:
        text = str(error)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"
    print(f"lfs: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    entries.lfs()
