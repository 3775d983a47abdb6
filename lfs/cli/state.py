"""``lfs state``: whether a mounted filesystem takes changes, and if not, why.

Held by ``tests/control/test_answers.py``.
"""

from __future__ import annotations

import argparse

from lfs.command.output import add_json, print_json
from lfs.control.door import ask, asking
from lfs.control.questions import FAILED, STATE


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "state",
        help="tell whether a mounted filesystem takes changes, and if not, why",
        description="Tell whether a mounted filesystem takes changes, and if not, why."
        " Exit code 1 when writing has failed.",
    )
    add_json(parser)
    parser.add_argument("directory", metavar="DIR", help="anything on the filesystem")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the state; return 1 when writing has failed; raises UsageError, OSError."""
    with asking(arguments.directory):
        answer = ask(arguments.directory, STATE)
    has_failed = answer["state"] == FAILED
    if arguments.json:
        print_json(answer)
    elif has_failed:
        print(f"{FAILED}: every change is refused: {answer['failure']}")
    else:
        print(answer["state"])
    return int(has_failed)
