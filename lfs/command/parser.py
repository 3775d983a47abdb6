"""Command lines: one parser for all commands.

Held by ``tests/cli/test_main.py``.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from lfs.common.version import __version__


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line and knows ``-V`` and ``--version``."""

    usage_code = 2
    """The exit code for a wrong call."""
    help_option = "--help"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Take what an ArgumentParser takes."""
        super().__init__(*arguments, **keywords)
        version = f"{self.prog.split()[0]} {__version__}"
        self.add_argument(
            "-V", "--version", action="version", version=version, help="print the version"
        )

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit."""
        name = self.prog.split()[0]
        text = f"{name}: {message} (see {self.prog} {self.help_option})\n"
        self.exit(self.usage_code, text)
