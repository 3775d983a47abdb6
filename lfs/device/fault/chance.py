"""Where a faulty disk gets its chances from: netem's generators, seeded.

netem's rule of correlation makes each draw ``x = fresh * (1 - rho) + last * rho``
of a fresh uniform number and the draw before.  So consecutive draws have a
correlation of ``rho``; but their distribution is no longer uniform, it gathers
around one half.  Therefore a probability below 50 % comes true less often with
a correlation than without one, as it does in netem (FAULTS.md has a table).

Every rule has a generator of its own, seeded by the plan's seed and the rule's
place in the plan, so that what one rule draws does not depend on another.

Sources: ``net/sched/sch_netem.c`` and tc-netem(8) for the meaning of each word;
Salsano, Ludovici, Ordine, "Definition of a general and intuitive loss model for
packet networks" for the chain of four states; Gilbert 1960 and Elliott 1963.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import NormalDist

from lfs.device.fault.plan.faults import GilbertElliottLoss, RandomLoss, StateLoss
from lfs.device.fault.plan.rule import Chance

_PARETO_SHAPE = 3.0
_PARETO_MEAN = 1.5
_PARETO_SCALE = 4.0 / 3.0
"""netem divides by the variance of the distribution where one would expect its root."""
_TABLE_MAX = 32767 / 8192
_NORMAL = NormalDist()
_UNIT = 2.0**-53


class Correlated:
    """Numbers from 0 to 1, each depending on the one before by ``correlation``."""

    def __init__(self, generator: random.Random, correlation: float = 0.0) -> None:
        """Draw from ``generator``."""
        self._random = generator.random
        self._correlation = correlation
        self._last = generator.random() if correlation else 0.0

    def draw(self) -> float:
        """Return the next number."""
        if not self._correlation:
            return self._random()
        fresh = self._random()
        self._last = fresh * (1 - self._correlation) + self._last * self._correlation
        return self._last


class Die:
    """Comes true with a ``Chance``."""

    def __init__(self, generator: random.Random, chance: Chance) -> None:
        """Draw from ``generator``."""
        self._probability = chance.probability
        self._numbers = Correlated(generator, chance.correlation)

    def comes_true(self) -> bool:
        """Draw once.  A probability of 1 is certain, and 0 never comes true."""
        return self._numbers.draw() < self._probability


class StateDie:
    """netem's ``loss state``: what was entered last decides, and two states lose."""

    _WELL, _WELL_IN_BURST, _LOST_IN_BURST, _LOST_ALONE = 1, 2, 3, 4

    def __init__(self, generator: random.Random, model: StateLoss) -> None:
        """Start well, outside a burst."""
        self._random = generator.random
        self._model = model
        self.state = self._WELL

    def comes_true(self) -> bool:
        """Take one step; tell whether it ended in a state that loses."""
        model = self._model
        drawn = self._random()
        if self.state == self._WELL:
            if drawn < model.p14:
                self.state = self._LOST_ALONE
            elif drawn < model.p14 + model.p13:
                self.state = self._LOST_IN_BURST
        elif self.state == self._WELL_IN_BURST:
            if drawn < model.p23:
                self.state = self._LOST_IN_BURST
        elif self.state == self._LOST_IN_BURST:
            if drawn < model.p32:
                self.state = self._WELL_IN_BURST
            elif drawn < model.p32 + model.p31:
                self.state = self._WELL
        else:
            self.state = self._WELL
        return self.state in (self._LOST_IN_BURST, self._LOST_ALONE)


class GilbertElliottDie:
    """netem's ``loss gemodel``: a good and a bad state, each with its own loss."""

    def __init__(self, generator: random.Random, model: GilbertElliottLoss) -> None:
        """Start in the good state."""
        self._random = generator.random
        self._model = model
        self.bad = False

    def comes_true(self) -> bool:
        """Take one step; the state before it decides the probability of loss."""
        model = self._model
        loss = model.loss_bad if self.bad else model.loss_good
        if self._random() < (model.r if self.bad else model.p):
            self.bad = not self.bad
        return self._random() < loss


def loss_die(
    generator: random.Random, model: RandomLoss | StateLoss | GilbertElliottLoss
) -> Die | StateDie | GilbertElliottDie:
    """Return what decides about each write."""
    if isinstance(model, StateLoss):
        return StateDie(generator, model)
    if isinstance(model, GilbertElliottLoss):
        return GilbertElliottDie(generator, model)
    return Die(generator, model.chance)


# ---------------------------------------------------------------------- distributions


def _uniform(drawn: float) -> float:
    return 2 * drawn - 1


def _normal(drawn: float) -> float:
    return max(-_TABLE_MAX, min(_TABLE_MAX, _NORMAL.inv_cdf(max(drawn, _UNIT))))


def _pareto(drawn: float) -> float:
    power: float = max(1 - drawn, _UNIT) ** (-1 / _PARETO_SHAPE)
    return min(_TABLE_MAX, (power - _PARETO_MEAN) * _PARETO_SCALE)


def _paretonormal(drawn: float) -> float:
    return (_normal(drawn) + 3 * _pareto(drawn)) / 4


QUANTILES: dict[str, Callable[[float], float]] = {
    "uniform": _uniform,
    "normal": _normal,
    "pareto": _pareto,
    "paretonormal": _paretonormal,
}
"""Inverse cumulative distribution functions, in units of the jitter around the mean.

As netem's tables have them: normal, Pareto with shape 3, and one quarter normal
with three quarters Pareto, all cut off at four times the jitter.
"""


class Duration:
    """Times around a mean, spread by a jitter in one of netem's distributions."""

    def __init__(
        self,
        generator: random.Random,
        time_ns: int,
        jitter_ns: int,
        correlation: float = 0.0,
        distribution: str = "uniform",
    ) -> None:
        """Draw from ``generator``."""
        self._time_ns = time_ns
        self._jitter_ns = jitter_ns
        self._quantile = QUANTILES[distribution]
        self._numbers = Correlated(generator, correlation)

    def draw_ns(self) -> int:
        """Return the next time, never below zero."""
        if not self._jitter_ns:
            return self._time_ns
        spread = self._quantile(self._numbers.draw())
        return max(0, round(self._time_ns + self._jitter_ns * spread))
