"""A plan ready to run: every rule with its gate, its die and its own random numbers.

Held by ``tests/device/fault/test_chance.py``.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Generic, TypeVar

from lfs.device.fault.chance import Die, GilbertElliottDie, StateDie, loss_die
from lfs.device.fault.plan.faults import Loss
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.rule import ALWAYS, Chance, Rule
from lfs.device.fault.timing import Timing
from lfs.device.fault.when import Gate, Request

R = TypeVar("R", bound=Rule)


class ArmedRule(Generic[R]):
    """One rule of a plan that runs."""

    def __init__(self, rule: R, generator: random.Random) -> None:
        """Draw from ``generator``, which is the rule's own."""
        self.rule = rule
        self.generator = generator
        self._gate = Gate(rule.when, rule.about)
        self._die: Die | StateDie | GilbertElliottDie
        if isinstance(rule, Loss):
            self._die = loss_die(generator, rule.model)
        else:
            chance = getattr(rule, "chance", ALWAYS)
            assert isinstance(chance, Chance)
            self._die = Die(generator, chance)

    def applies(self, request: Request) -> bool:
        """Tell whether the rule's conditions let it look at ``request``, and count that."""
        return self._gate.lets_through(request)

    def comes_true(self) -> bool:
        """Ask chance alone."""
        return self._die.comes_true()

    def strikes(self, request: Request) -> bool:
        """Tell whether the rule applies to ``request`` and chance wants it."""
        return self._gate.lets_through(request) and self._die.comes_true()

    def spend(self) -> None:
        """Note that it has done something: a budget counts these."""
        self._gate.spend()


class ArmedPlan:
    """All rules of a plan, by kind, and its timing."""

    def __init__(self, plan: FaultPlan, size_bytes: int) -> None:
        """Arm ``plan`` for a device of ``size_bytes``."""
        # Copies, so that a rule that is twice in a plan is two rules, as in its text.
        plan = FaultPlan(tuple(replace(rule) for rule in plan.rules), plan.seed)
        # A name of its own for each rule: what one draws does not depend on the others.
        generators = {
            id(rule): random.Random(f"{plan.seed} {index} {type(rule).__name__}")
            for index, rule in enumerate(plan.rules)
        }
        self._by_kind: dict[type[Rule], list[ArmedRule[Rule]]] = {}
        for rule in plan.rules:
            armed = ArmedRule(rule, generators[id(rule)])
            self._by_kind.setdefault(type(rule), []).append(armed)
        self.timing = Timing(plan, size_bytes, lambda rule: generators[id(rule)])

    def all(self, kind: type[R]) -> list[ArmedRule[R]]:
        """Return the rules of a kind."""
        # The key is the type of the rules, which the dictionary's own type can't say.
        return self._by_kind.get(kind, [])  # type: ignore[return-value]

    def striking(self, kind: type[R], request: Request) -> list[ArmedRule[R]]:
        """Return the rules of a kind that strike; each draws, whatever the others do."""
        rules = self.all(kind)
        return [armed for armed in rules if armed.strikes(request)] if rules else []
