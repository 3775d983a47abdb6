"""The command ``faultdisk``: finds the subcommand, runs it, and reports errors in one line.

Exit codes: 0 done, 1 refused or failed (one line on standard error says why),
2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from faultdisk.commands import COMMANDS, Prepare
from faultdisk.serve import serve
from lfs import __version__
from lfs.errors import FilesystemError, UsageError
from lfs.fuse.mountpoint import MountError

_COMMANDS: dict[str, tuple[Prepare, str]] = {
    "serve": (serve, "serve a disk that fails as a plan says"),
    **COMMANDS,
}


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit with code 2."""
        self.exit(2, f"faultdisk: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, _COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in _COMMANDS.items())
    parser = _Parser(
        prog="faultdisk",
        usage="faultdisk COMMAND ...",
        description="A disk for any filesystem that fails in every way a plan can say.",
        epilog=f"commands (faultdisk COMMAND --help tells more):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=_COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("-V", "--version", action="version", version=f"faultdisk {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (default: the command line); return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A parser for each command, not subparsers: only so may options follow a plan.
    name = _parser().parse_args(given[:1]).command
    prepare, text = _COMMANDS[name]
    parser = _Parser(prog=f"faultdisk {name}", description=f"{text[0].upper()}{text[1:]}.")
    run = prepare(parser)
    options = parser.parse_intermixed_args(given[1:])
    try:
        run(options)
        sys.stdout.flush()
    except (UsageError, MountError) as error:
        return _fail(str(error))
    except FilesystemError as error:
        return _fail(f"{error.strerror}")
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing more is to be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    return 0


def _fail(text: str) -> int:
    print(f"faultdisk: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
