"""Lines for people on standard error that are neither results nor errors.

Held by ``tests/device/exclusion/test_one_user.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def noting(command: str) -> Callable[[str], None]:
    """Return a function that says a line at once, in the name of ``command``."""

    def say(line: str) -> None:
        print(f"{command}: {line}", file=sys.stderr, flush=True)

    return say
