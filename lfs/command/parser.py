"""Command lines: one parser for all commands.

Held by ``tests/cli/test_main.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from lfs.common.compiled import core_name
from lfs.common.version import __version__


class _ShowVersion(argparse.Action):
    """Prints the version and ends."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        help: str,  # noqa: A002  # argparse gives it by this name
    ) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"{parser.prog.split()[0]} {__version__} ({core_name()})")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line and knows ``-V`` and ``--version``."""

    usage_code = 2
    """The exit code for a wrong call."""
    help_option = "--help"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Take what an ArgumentParser takes."""
        super().__init__(*arguments, **keywords)
        self.add_argument(
            "-V", "--version", action=_ShowVersion, help="print the version, and which core runs"
        )

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit."""
        name = self.prog.split()[0]
        text = f"{name}: {message} (see {self.prog} {self.help_option})\n"
        self.exit(self.usage_code, text)
