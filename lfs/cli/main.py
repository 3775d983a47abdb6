"""The command ``lfs``: finds the subcommand, runs it, and reports errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from lfs import __version__
from lfs.cli import filefrag, helpers, log, requests, sync
from lfs.errors import FormatError, UsageError

_COMMANDS = (filefrag, requests, log, sync, helpers)


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit with code 2."""
        self.exit(2, f"lfs: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments``; return its exit code, 2 for a wrong call."""
    parser = _Parser(prog="lfs", description="Look after lfs filesystems.")
    parser.add_argument("-V", "--version", action="version", version=f"lfs {__version__}")
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
    sys.exit(main())
