"""What a check found: problems with stable codes, notes, and numbers.

A problem is a rule of FORMAT.md that does not hold.  Its code is stable, so
that programs and tests can tell problems apart; its message is one line with
what was expected and what was found.  What is not as it should be, but is made good
by the next writable mount by itself, is no problem; it is always shown.  A note is
worth knowing and neither.

Held by ``tests/fsck/test_main.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

PROBLEMS_MAX = 10_000


class Problem(NamedTuple):
    """A rule that does not hold, and where."""

    code: str
    message: str
    address: int | None = None
    ino: int | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def _ignore(line: str) -> None:
    """Take a line of progress that nobody wants to see."""


@dataclass
class Report:
    """The result of a check.

    ``problems`` holds at most ``PROBLEMS_MAX`` of the ``problem_count`` found;
    ``mendable`` has a line for each thing that a mount makes good;
    ``statistics`` maps names to counts; ``log_commits`` is the number of
    complete commits after the checkpoint; ``is_clean_unmount`` tells that the
    checkpoint was written at unmount and nothing was logged after it.
    """

    progress: Callable[[str], None] = _ignore
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    mendable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    statistics: dict[str, int] = field(default_factory=dict)
    log_commits: int = 0
    is_clean_unmount: bool = False

    @property
    def is_clean(self) -> bool:
        """Tell whether no rule was found broken."""
        return self.problem_count == 0

    def add(
        self, code: str, message: str, address: int | None = None, ino: int | None = None
    ) -> None:
        """Record a problem at block ``address`` or of inode ``ino``."""
        self.problem_count += 1
        if self.problem_count <= PROBLEMS_MAX:
            self.problems.append(Problem(code, message, address, ino))

    def mend(self, text: str, what: str) -> None:
        """Record what the next writable mount makes good: it ``what``."""
        self.mendable.append(f"{text}; the next writable mount {what}")

    def note(self, text: str) -> None:
        """Record something worth knowing that is no problem."""
        self.notes.append(text)

    def count(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to the statistic ``name``."""
        self.statistics[name] = self.statistics.get(name, 0) + amount
