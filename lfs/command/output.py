"""What commands print for programs: one JSON object on one line, with ``--json``.

Held by ``tests/control/test_answers.py``.
"""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command print for programs."""
    parser.add_argument("--json", action="store_true", help="for programs: JSON, on one line")


def print_json(answer: Any) -> None:
    """Print what a program is to read."""
    print(json.dumps(answer))
