"""What every rule of a fault plan has: when it applies, how likely it is, how it is written.

Held by ``tests/device/fault/plan/test_grammar.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from lfs.device.fault.plan.units import show_probability, show_range, show_size, show_time

READ = "read"
WRITE = "write"
FLUSH = "flush"
DISCARD = "discard"
OPERATIONS = (READ, WRITE, FLUSH, DISCARD)
SECTOR_BYTES = 512


@dataclass(frozen=True)
class Chance:
    """A probability, and how much each draw depends on the one before it (netem's rule)."""

    probability: float = 1.0
    correlation: float = 0.0

    @property
    def text(self) -> str:
        """Return it as a plan has it."""
        return joined(show_probability(self.probability), correlation_text(self.correlation))


ALWAYS = Chance()


@dataclass(frozen=True)
class When:
    """Which requests a rule looks at; the rule's probability comes after all of this.

    Requests are counted from 1 for each rule, among those of the right
    operation, place, time window and trigger file.  ``nth`` takes one of them,
    ``every`` each n-th, both after ``skip`` have passed.  ``times`` is the
    budget: so many faults and no more.  Of the cycle ``up`` and ``down`` the
    disk is well while up and faulty while down, as dm-flakey has it; times
    count from when the plan was set.
    """

    operations: tuple[str, ...] = ()
    """Empty: whatever the rule is about by nature."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Byte ranges, end exclusive; empty: everywhere."""
    skip: int = 0
    nth: int = 0
    every: int = 0
    times: int = 0
    from_ns: int = 0
    until_ns: int = 0
    up_ns: int = 0
    down_ns: int = 0
    file: str = ""

    @property
    def text(self) -> str:
        """Return it as a plan has it."""
        return joined(
            "on " + " ".join(self.operations) if self.operations else "",
            *(f"in {show_range(extent)}" for extent in self.ranges),
            unless_zero("skip", self.skip),
            unless_zero("nth", self.nth),
            unless_zero("every", self.every),
            unless_zero("times", self.times),
            f"from {show_time(self.from_ns)}" if self.from_ns else "",
            f"until {show_time(self.until_ns)}" if self.until_ns else "",
            f"up {show_time(self.up_ns)} down {show_time(self.down_ns)}" if self.down_ns else "",
            f"while {quoted(self.file)}" if self.file else "",
        )


ANYTIME = When()


@dataclass(frozen=True)
class Rule(ABC):
    """What all rules have: when they apply."""

    about: ClassVar[tuple[str, ...]] = OPERATIONS
    """The operations that the rule can apply to, and does unless ``when`` names some."""
    conditional: ClassVar[bool] = True
    """Whether ``when`` may say anything: what is always there has no conditions."""
    when: When = field(default=ANYTIME, kw_only=True)

    @property
    def text(self) -> str:
        """Return the rule as a plan has it."""
        return joined(self._words(), self.when.text)

    @abstractmethod
    def _words(self) -> str:
        """Return all of the text but the conditions."""


# ------------------------------------------------------------------------- text


def joined(*parts: str) -> str:
    """Join what is not empty."""
    return " ".join(part for part in parts if part)


def unless_zero(word: str, number: int) -> str:
    """Return the word with its number, or nothing."""
    return f"{word} {number}" if number else ""


def correlation_text(correlation: float) -> str:
    """Return a correlation, or nothing."""
    return show_probability(correlation) if correlation else ""


def with_chance(words: str, chance: Chance) -> str:
    """Return the words with a chance, unless it is certain."""
    return words if chance == ALWAYS else f"{words} {chance.text}"


def atomic_text(size_bytes: int) -> str:
    """Return what arrives whole, unless it is a sector."""
    return f"atomic {show_size(size_bytes)}" if size_bytes != SECTOR_BYTES else ""


def quoted(text: str) -> str:
    """Return text that may hold anything as one word."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
