"""The command ``faultdisk``: finds the subcommand, runs it, and reports errors in one line.

Exit codes: 0 done, 1 refused or failed (one line on standard error says why),
2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from faultdisk.commands import COMMANDS, Prepare
from faultdisk.serve import serve
from lfs.command import entries
from lfs.command.parser import Parser
from lfs.common.errors import FilesystemError, UsageError
from lfs.kernel.mountpoint import MountError

_COMMANDS: dict[str, tuple[Prepare, str]] = {
    "serve": (serve, "serve a disk that fails as a plan says"),
    **COMMANDS,
}


def _parser() -> Parser:
    width = max(map(len, _COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in _COMMANDS.items())
    parser = Parser(
        prog="faultdisk",
        usage="faultdisk COMMAND ...",
        description="A disk for any filesystem that fails in every way a plan can say.",
        epilog=f"commands (faultdisk COMMAND --help tells more):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=_COMMANDS, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (default: the command line); return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A parser for each command, not subparsers: only so may options follow a plan.
    name = _parser().parse_args(given[:1]).command
    prepare, text = _COMMANDS[name]
    parser = Parser(prog=f"faultdisk {name}", description=f"{text[0].upper()}{text[1:]}.")
    run = prepare(parser)
    options = parser.parse_intermixed_args(given[1:])
    try:
        run(options)
    except (UsageError, MountError) as error:
        return _fail(str(error))
    except FilesystemError as error:
        return _fail(f"{error.strerror}")
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return 0


def _fail(text: str) -> int:
    print(f"faultdisk: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    entries.faultdisk()
