"""Plans and what survives a cut, as command lines have them.

Held by ``tests/faultdisk/test_main.py``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lfs.common.errors import UsageError
from lfs.device.fault.plan.grammar import PlanError, parse_plan
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.power import Cut, Survival

_SEED_MAX = 2**32 - 1


def draw_seed() -> int:
    """Return a seed that nobody can foresee."""
    return random.SystemRandom().randint(0, _SEED_MAX)


def read_plan(words: Sequence[str], seed: int | None = None) -> FaultPlan:
    """Return the plan of ``words``: its text in pieces, or ``@FILE`` with its text.

    A plan that names no seed gets ``seed``, or a drawn one.  Files that a plan
    speaks of are those of the caller's directory.  Raises PlanError, and
    UsageError when the file cannot be read.
    """
    text = " ".join(words)
    if text.startswith("@"):
        text = _read_text(text[1:])
    plan = parse_plan(text, draw_seed() if seed is None else seed)
    rules = tuple(
        replace(rule, when=replace(rule.when, file=os.path.abspath(rule.when.file)))
        if rule.when.file
        else rule
        for rule in plan.rules
    )
    return replace(plan, rules=rules)


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the plan {path}: it is not text") from error


def read_survival(words: Sequence[str]) -> Survival | None:
    """Return what ``words`` say of the writes that arrive; None for no words.

    They are those after ``survive`` in a plan.  Raises UsageError.
    """
    if not words:
        return None
    try:
        rules = parse_plan(f"cut after 1s survive {' '.join(words)}").rules
    except PlanError as error:
        reason = str(error).partition(": ")[2]
        raise UsageError(f"cut: {reason}") from error
    rule = rules[0]
    assert isinstance(rule, Cut)
    if len(rules) > 1:
        raise UsageError(f"cut: {' '.join(words)!r} says more than what survives")
    return rule.survival
