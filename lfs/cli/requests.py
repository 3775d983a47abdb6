"""``lfs requests``: what the kernel asks of a mounted filesystem.

Each request costs two changes of process, more than most answers cost.  How many a
program causes depends on what the kernel has in its caches, and no clock is needed
to see it: it is the figure to compare when something became slower.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections import Counter
from collections.abc import Sequence
from types import FrameType

from lfs.command.output import add_json, print_json
from lfs.control.door import asking
from lfs.control.questions import read_counts

_SIGNALLED = 128
"""What shells add to the number of a signal that ended a command."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "requests",
        help="count the requests that the kernel sends to a mounted filesystem",
        description="Print how many requests of each kind the kernel has sent since the mount, or "
        "while COMMAND ran. Others that use the filesystem meanwhile are counted too.",
    )
    add_json(parser)
    parser.add_argument("directory", metavar="DIR", help="any directory of the filesystem")
    command = parser.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="what to run"
    )
    # Before Python 3.12 a remainder counts as required when another argument is missing.
    command.required = False
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Count and print; return the command's exit code.  Raises OSError, UsageError."""
    # The first look at the directory may cause requests of its own.
    total = _first_counts(arguments.directory)
    if not arguments.command:
        _print(total, arguments.json)
        return 0
    before = read_counts(arguments.directory)
    command = arguments.command[1:] if arguments.command[0] == "--" else arguments.command
    exit_code = _run_command(command)
    _print(read_counts(arguments.directory) - before, arguments.json)
    return exit_code if exit_code >= 0 else _SIGNALLED - exit_code


def _run_command(command: Sequence[str]) -> int:
    """Run a command and return its exit code, negative for a signal; raises OSError.

    Whether Ctrl-C ends it is its own choice: a terminal tells it as well.  Without a
    terminal SIGINT comes here alone, and is passed on.
    """
    import subprocess

    started: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if started and not _has_terminal():
            started[0].send_signal(number)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, pass_on)
    try:
        started.append(subprocess.Popen(command))
        return started[0].wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _has_terminal() -> bool:
    """Tell whether this process is among those that a terminal sends its signals to."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _first_counts(directory: str) -> Counter[str]:
    with asking(directory):
        return read_counts(directory)


def _print(counts: Counter[str], as_json: bool) -> None:
    if as_json:
        print_json({"requests": +counts})
        return
    for kind, count in [*(+counts).most_common(), ("total", counts.total())]:
        print(f"{count:>10,}  {kind}")
