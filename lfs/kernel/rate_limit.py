"""How often a line may be logged: a fault that goes on must not fill the log, nor feed itself.

Theory.  Who writes the log to this very filesystem makes a request by each line, and where
requests fail each makes a line.  So of each *kind* of line, in ``WINDOW_SECONDS`` from the
first on, ``BURST`` are logged and the others counted; one more line then says how many,
with the next line of any kind or when somebody looks.  A kind is a text without its
numbers and its quoted names.

Invariants: the first line of a kind is always logged, so is what is said once, and every
line is logged or counted.  Nothing is waited for.  At most ``KINDS_MAX`` kinds are known;
for one more the oldest is told and forgotten.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

BURST = 10
WINDOW_SECONDS = 30.0
KINDS_MAX = 100
_TEXT_MAX = 1000
_VARIABLE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|0x[0-9a-f]+|\d+""")


class _Window:
    """What there was of one kind since its first line."""

    def __init__(self, start_seconds: float) -> None:
        self.start_seconds = start_seconds
        self.logged_count = 0
        self.left_out_count = 0
        self.text = ""
        """The last that was left out."""

    def summary(self) -> str:
        return f"{self.left_out_count} more like it were not logged: {self.text}"


class RateLimit:
    """Decides line by line; the caller keeps threads apart."""

    def __init__(self, now_seconds: Callable[[], float] = time.monotonic) -> None:
        """Take the clock, which must not go back."""
        self._now_seconds = now_seconds
        # In the order of their starts.
        self._windows: dict[str, _Window] = {}

    def admits(self, text: str) -> bool:
        """Tell whether a line may be logged, and count it; ``ended`` comes first."""
        text = text[:_TEXT_MAX]
        kind = _VARIABLE.sub("#", text)
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(self._now_seconds())
        if window.logged_count < BURST:
            window.logged_count += 1
            return True
        window.left_out_count += 1
        window.text = text
        return False

    def ended(self, all_of_them: bool = False) -> list[str]:
        """Return a line for each window that is over, if it left anything out, and forget it."""
        summaries = []
        now_seconds = self._now_seconds()
        for kind, window in list(self._windows.items()):
            is_over = now_seconds >= window.start_seconds + WINDOW_SECONDS
            if not (is_over or all_of_them or len(self._windows) >= KINDS_MAX):
                break
            del self._windows[kind]
            if window.left_out_count:
                summaries.append(window.summary())
        return summaries
