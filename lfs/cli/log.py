"""``lfs log``: the last lines that the daemon of a mounted filesystem has logged.

Held by ``tests/control/test_answers.py``.
"""

from __future__ import annotations

import argparse

from lfs.command.output import add_json, print_json
from lfs.control.door import ask, asking
from lfs.control.questions import LOG

_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code != 9}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "log",
        help="show the last lines that the daemon of a mounted filesystem has logged",
        description="Show the last lines that the daemon of a mounted filesystem has logged,"
        " whether a system log took them or not.",
    )
    add_json(parser)
    parser.add_argument("directory", metavar="DIR", help="anything on the filesystem")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the lines; raises UsageError, OSError."""
    with asking(arguments.directory):
        answer = ask(arguments.directory, LOG)
    if arguments.json:
        print_json(answer)
        return 0
    for line in answer["lines"]:
        # A name may have a line end in it.
        print(line.translate(_ESCAPED))
    return 0
