"""A fault plan: one frozen value that describes everything a faulty disk does.

A plan is a seed and a sequence of rules.  A rule says what happens, how likely that is,
and when it may (``timing``, ``faults``, ``power``).  The same seed and the same rules give
the same faults for the same requests.  ``FaultPlan.text`` is the plan in its own language
(FAULTS.md), and reading that text gives an equal plan: it is the id that
replays a run.

Held by ``tests/device/fault/plan/test_grammar.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lfs.device.fault.plan.rule import (
    Rule,
)


@dataclass(frozen=True)
class FaultPlan:
    """Everything a faulty disk does; without rules it is a good one."""

    rules: tuple[Rule, ...] = ()
    seed: int = 0

    @property
    def text(self) -> str:
        """Return the plan as it can be read again: the id that replays a run."""
        return "; ".join([f"seed {self.seed}", *(rule.text for rule in self.rules)])


R = TypeVar("R", bound=Rule)


def rules_of(rules: Sequence[Rule], kind: type[R]) -> list[R]:
    """Return the rules of one kind, in order."""
    return [rule for rule in rules if isinstance(rule, kind)]
