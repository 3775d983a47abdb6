"""The commands that talk to a running ``faultdisk serve``, and those that need none.

Each is a function that adds what it takes to a parser of its own and names the
function that runs it with what was given.

Held by ``tests/faultdisk/test_serve.py``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

from faultdisk import offline
from faultdisk.daemon.control import Answer, ask
from faultdisk.daemon.plans import draw_seed, read_plan, read_survival
from faultdisk.tables import state_lines, statistics_lines
from lfs.command.output import add_json, print_json

CONTROL_SUFFIX = ".faultdisk"

Run = Callable[[argparse.Namespace], None]


def control_path(named: str) -> str:
    """Return the control socket of a directory, an NBD socket, or of itself."""
    beside = os.path.abspath(named) + CONTROL_SUFFIX
    return beside if os.path.lexists(beside) else os.path.abspath(named)


def _ask(options: argparse.Namespace, command: str, **arguments: object) -> Answer:
    return ask(control_path(options.disk), command, **arguments)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def add_disk(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a running server."""
    parser.add_argument(
        "disk",
        metavar="DISK",
        help="the directory or NBD socket that is served, or the control socket",
    )


def add_plan(parser: argparse.ArgumentParser, metavar: str = "PLAN") -> None:
    """Add the words of a plan."""
    parser.add_argument(
        "words",
        metavar=metavar,
        nargs="+",
        help='a fault plan (FAULTS.md), or @FILE that holds one; "" is a good disk',
    )
    add_seed(parser)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add the option of a seed."""
    parser.add_argument("--seed", type=seed, metavar="N", help="the seed of a plan that names none")


def seed(text: str) -> int:
    """Return the seed that ``text`` is; raises ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


# ------------------------------------------------------------------ while it runs


def set_plan(parser: argparse.ArgumentParser) -> Run:
    """Replace the plan."""
    add_disk(parser)
    add_plan(parser)

    def run(options: argparse.Namespace) -> None:
        chosen = draw_seed() if options.seed is None else options.seed
        plan = read_plan(options.words, chosen)
        print(f"plan: {_ask(options, 'set', plan=plan.text)['plan']}")

    return run


def show(parser: argparse.ArgumentParser) -> Run:
    """Show the plan and what the disk is doing."""
    add_disk(parser)
    return lambda options: _print_lines(state_lines(_ask(options, "show")))


def stats(parser: argparse.ArgumentParser) -> Run:
    """Show requests, times and faults."""
    add_disk(parser)
    add_json(parser)

    def run(options: argparse.Namespace) -> None:
        answer = _ask(options, "stats")
        if options.json:
            del answer["ok"]
            print_json(answer)
        else:
            _print_lines(statistics_lines(answer))

    return run


def faults(parser: argparse.ArgumentParser) -> Run:
    """List the newest faults."""
    add_disk(parser)
    add_json(parser)

    def run(options: argparse.Namespace) -> None:
        found = _ask(options, "faults")["faults"]
        if options.json:
            print_json(found)
        else:
            _print_lines(fault["text"] for fault in found)

    return run


def mark(parser: argparse.ArgumentParser) -> Run:
    """Put a remark into the write log; a plan may cut the power at it."""
    add_disk(parser)
    parser.add_argument("text", metavar="TEXT", help="the remark")

    def run(options: argparse.Namespace) -> None:
        if not _ask(options, "mark", text=options.text)["powered"]:
            print("the power is off")

    return run


def cut(parser: argparse.ArgumentParser) -> Run:
    """Cut the power now."""
    add_disk(parser)
    parser.add_argument(
        "words",
        metavar="SURVIVAL",
        nargs="*",
        default=[],
        help="which cached writes arrive: none, all, order, any, torn or writes N..., and then "
        "perhaps atomic SIZE; by default as the plan says",
    )

    def run(options: argparse.Namespace) -> None:
        survival = read_survival(options.words)
        told = None
        if survival is not None:
            told = {
                "mode": survival.mode,
                "numbers": survival.numbers,
                "atomic_bytes": survival.atomic_bytes,
            }
        print(_ask(options, "cut", survival=told)["report"])

    return run


def _plain(command: str) -> Callable[[argparse.ArgumentParser], Run]:
    """Return a command that takes nothing and prints nothing."""

    def prepare(parser: argparse.ArgumentParser) -> Run:
        add_disk(parser)

        def run(options: argparse.Namespace) -> None:
            _ask(options, command)

        return run

    return prepare


# ------------------------------------------------------------------ without a server


def replay(parser: argparse.ArgumentParser) -> Run:
    """Apply a write log to a medium."""
    parser.add_argument("log", metavar="LOG", help="the write log")
    parser.add_argument("target", metavar="TARGET", help="what the medium held when the log began")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--to", type=seed, metavar="N", help="only the first N events")
    end.add_argument("--mark", metavar="TEXT", help="only up to this mark")

    def run(options: argparse.Namespace) -> None:
        print(offline.replay(options.log, options.target, options.to, options.mark))

    return run


def list_log(parser: argparse.ArgumentParser) -> Run:
    """List the events of a write log."""
    parser.add_argument("log", metavar="LOG", help="the write log")
    return lambda options: _print_lines(offline.log_lines(options.log))


def check(parser: argparse.ArgumentParser) -> Run:
    """Read a plan, and print it as faultdisk understands it."""
    add_plan(parser)
    return lambda options: print(read_plan(options.words, options.seed or 0).text)


Prepare = Callable[[argparse.ArgumentParser], Run]

COMMANDS: dict[str, tuple[Prepare, str]] = {
    "set": (set_plan, "replace the plan of a disk while it is served"),
    "show": (show, "show the plan and what the disk is doing"),
    "stats": (stats, "show requests, times and faults"),
    "faults": (faults, "list the newest faults"),
    "mark": (mark, "put a remark into the write log"),
    "cut": (cut, "cut the power"),
    "restart": (_plain("restart"), "let the power come back"),
    "pause": (_plain("pause"), "let all requests wait"),
    "resume": (_plain("resume"), "serve requests again"),
    "stop": (_plain("stop"), "end the server; returns when everything is closed"),
    "replay": (replay, "apply a write log to a medium"),
    "log": (list_log, "list the events of a write log"),
    "check": (check, "read a plan, and print it as it is understood"),
}
