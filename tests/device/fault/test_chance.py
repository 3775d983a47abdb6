"""Whether chances are what a plan says: with fixed seeds, and bounds from the sample size.

A bound of ``SIGMAS`` standard deviations is missed by a right generator once in
two million samples, and by a wrong one always, as samples are large.
"""

from __future__ import annotations

import random
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from lfs.device.fault.chance import (
    Correlated,
    Die,
    Duration,
    GilbertElliottDie,
    StateDie,
    loss_die,
)
from lfs.device.fault.plan.faults import GilbertElliottLoss, RandomLoss, StateLoss
from lfs.device.fault.plan.rule import Chance
from lfs.device.fault.plan.timing import DISTRIBUTIONS

SIGMAS = 5.0
COUNT = 50_000
KOLMOGOROV_BOUND = 1.95
"""A right sample's largest distance, times the root of its size, is above this 1 in 1000."""
CUT = 32767 / 8192

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def _middles(count: int) -> Numbers:
    return (np.arange(count) + 0.5) / count


def _quantiles(distribution: str) -> Numbers:
    """Return the distribution's values at 20000 evenly spaced probabilities."""
    evenly = _middles(20_000)
    normal = np.array([NormalDist().inv_cdf(each) for each in evenly])
    pareto = np.minimum(CUT, ((1 - evenly) ** (-1 / 3) - 1.5) / 0.75)
    return {
        "uniform": 2 * evenly - 1,
        "normal": normal,
        "pareto": pareto,
        "paretonormal": 0.25 * normal + 0.75 * pareto,
    }[distribution]


def _spread(distribution: str, correlation: float = 0.0, seed: int = 1) -> Numbers:
    """Draw delays and return how many jitters each is from its mean."""
    time_ns, jitter_ns = 10**12, 10**11
    duration = Duration(random.Random(seed), time_ns, jitter_ns, correlation, distribution)
    drawn = np.array([duration.draw_ns() for _ in range(COUNT)], dtype=np.float64)
    return (drawn - time_ns) / jitter_ns


def _autocorrelation(values: Numbers) -> float:
    return float(np.corrcoef(values[:-1], values[1:])[0, 1])


def _assert_rate(happened: int, count: float, probability: float) -> None:
    """Assert that of ``count`` independent events a share of ``probability`` happened."""
    sigma = np.sqrt(count * probability * (1 - probability))
    assert abs(happened - count * probability) <= SIGMAS * sigma + 1e-6


# ------------------------------------------------------------------- distributions


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_distribution_has_its_mean_and_deviation(distribution: str) -> None:
    expected = _quantiles(distribution)
    drawn = _spread(distribution)
    deviation = expected.std()
    fourth = ((expected - expected.mean()) ** 4).mean()
    assert abs(drawn.mean() - expected.mean()) < SIGMAS * deviation / np.sqrt(COUNT)
    spread_of_variance = np.sqrt((fourth - deviation**4) / COUNT)
    assert abs(drawn.var() - deviation**2) < SIGMAS * spread_of_variance


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_distribution_has_its_shape(distribution: str) -> None:
    quantiles = _quantiles(distribution)
    drawn = np.sort(_spread(distribution))
    inside = drawn[drawn < min(quantiles[-1], CUT) - 1e-3]
    theory = np.interp(inside, quantiles, _middles(len(quantiles)))
    steps = np.arange(len(inside) + 1) / COUNT
    distance = max(np.abs(theory - steps[1:]).max(), np.abs(theory - steps[:-1]).max())
    assert distance * np.sqrt(COUNT) < KOLMOGOROV_BOUND


def test_distribution_uniform_is_mean_plus_and_minus_jitter() -> None:
    drawn = _spread("uniform")
    assert -1 <= drawn.min() < -0.999
    assert 0.999 < drawn.max() <= 1


def test_distribution_normal_has_a_deviation_of_the_jitter() -> None:
    assert abs(_spread("normal").std() - 1) < SIGMAS / np.sqrt(2 * COUNT)


def test_distribution_pareto_is_cut_off_at_four_jitters() -> None:
    drawn = _spread("pareto")
    assert drawn.max() == pytest.approx(CUT)
    assert drawn.min() >= -2 / 3
    # x > 1.5 + 0.75 * 4 for a Pareto variable of shape 3.
    _assert_rate(int((drawn > CUT - 1e-6).sum()), COUNT, (1.5 + 0.75 * CUT) ** -3)


def test_distribution_ends_stay_within_four_jitters() -> None:
    class Extreme(random.Random):
        def __init__(self, value: float) -> None:
            super().__init__(0)
            self.value = value

        def random(self) -> float:
            return self.value

    for distribution in DISTRIBUTIONS:
        for value in (0.0, 1 - 2.0**-53):
            duration = Duration(Extreme(value), 10**10, 10**9, 0.0, distribution)
            assert abs(duration.draw_ns() - 10**10) <= CUT * 10**9 + 1


def test_duration_is_never_below_zero() -> None:
    duration = Duration(random.Random(1), 10, 100, 0.0, "normal")
    drawn = [duration.draw_ns() for _ in range(COUNT)]
    assert min(drawn) == 0
    _assert_rate(drawn.count(0), COUNT, NormalDist(10, 100).cdf(0.5))


def test_duration_without_jitter_draws_nothing() -> None:
    generator = random.Random(1)
    before = generator.getstate()
    assert Duration(generator, 77, 0, 0.0, "pareto").draw_ns() == 77
    assert generator.getstate() == before


# --------------------------------------------------------------------- correlation


@pytest.mark.parametrize("correlation", [0.0, 0.25, 0.5, 0.9])
def test_correlation_of_consecutive_draws_is_what_was_asked_for(correlation: float) -> None:
    numbers = Correlated(random.Random(2), correlation)
    drawn = np.array([numbers.draw() for _ in range(COUNT)])
    bound = SIGMAS * np.sqrt((1 - correlation**2) / COUNT)
    assert abs(_autocorrelation(drawn) - correlation) < bound
    # The draws gather around one half: this is the variance of the sum of a geometric series.
    expected_deviation = np.sqrt((1 - correlation) / (1 + correlation) / 12)
    effective = COUNT * (1 - correlation) / (1 + correlation)
    assert abs(drawn.mean() - 0.5) < SIGMAS * expected_deviation / np.sqrt(effective)
    assert drawn.std() == pytest.approx(expected_deviation, rel=SIGMAS / np.sqrt(effective))


@pytest.mark.parametrize("correlation", [0.25, 0.75])
def test_correlation_of_uniform_delays_is_what_was_asked_for(correlation: float) -> None:
    drawn = _spread("uniform", correlation)
    bound = SIGMAS * np.sqrt((1 - correlation**2) / COUNT)
    assert abs(_autocorrelation(drawn) - correlation) < bound


def _share_below(probability: float, correlation: float) -> float:
    """Return how often a correlated draw is below ``probability``.

    Iterates the distribution function of ``x = fresh * (1 - c) + last * c`` from
    the uniform one until it stands still.
    """
    places = np.linspace(0, 1, 2001)
    distribution = places.copy()
    fresh = _middles(500) * (1 - correlation)
    for _ in range(200):
        last = (places[:, None] - fresh[None, :]) / correlation
        after = np.interp(last, places, distribution).mean(axis=1)
        still = np.abs(after - distribution).max() < 1e-7
        distribution = after
        if still:
            break
    return float(np.interp(probability, places, distribution))


@pytest.mark.parametrize("correlation", [0.25, 0.5, 0.75])
def test_chance_with_correlation_comes_true_as_netems_rule_has_it(correlation: float) -> None:
    for probability in (0.1, 0.3, 0.5, 0.8):
        expected = _share_below(probability, correlation)
        die = Die(random.Random(3), Chance(probability, correlation))
        happened = sum(die.comes_true() for _ in range(COUNT))
        # Dependent draws say less than independent ones.
        effective = (1 - correlation) / (1 + correlation)
        sigma = np.sqrt(max(expected * (1 - expected), 1 / COUNT) / (COUNT * effective))
        assert abs(happened / COUNT - expected) < SIGMAS * sigma


def test_chance_of_ten_percent_is_rarer_with_correlation() -> None:
    assert _share_below(0.1, 0.25) == pytest.approx(0.018, abs=0.0015)
    assert _share_below(0.1, 0.5) == pytest.approx(0.001, abs=0.0005)
    assert _share_below(0.1, 0.75) < 1e-4


# ------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("probability", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_chance_comes_true_with_its_probability(probability: float) -> None:
    die = Die(random.Random(4), Chance(probability))
    _assert_rate(sum(die.comes_true() for _ in range(COUNT)), COUNT, probability)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_chance_certain_and_impossible_are_so_at_any_correlation(correlation: float) -> None:
    always = Die(random.Random(5), Chance(1.0, correlation))
    never = Die(random.Random(5), Chance(0.0, correlation))
    assert all(always.comes_true() for _ in range(1000))
    assert not any(never.comes_true() for _ in range(1000))


def test_chance_draws_are_independent_without_correlation() -> None:
    die = Die(random.Random(6), Chance(0.3))
    drawn = np.array([die.comes_true() for _ in range(COUNT)], dtype=np.float64)
    assert abs(_autocorrelation(drawn)) < SIGMAS / np.sqrt(COUNT)


# -------------------------------------------------------------------------- bursts


def _losses(die: StateDie | GilbertElliottDie) -> Flags:
    return np.array([die.comes_true() for _ in range(COUNT)])


def _runs(flags: Flags, value: bool) -> Numbers:
    """Return the lengths of the whole runs of ``value``."""
    borders = np.flatnonzero(np.diff(flags.astype(np.int8))) + 1
    lengths = np.diff(borders)
    chosen: Numbers = lengths[flags[borders[:-1]] == value].astype(np.float64)
    return chosen


def _assert_geometric(lengths: Numbers, chance_to_end: float) -> None:
    deviation = np.sqrt(1 - chance_to_end) / chance_to_end
    assert abs(lengths.mean() - 1 / chance_to_end) < SIGMAS * deviation / np.sqrt(len(lengths))


STATE = StateLoss(p13=0.05, p31=0.2, p32=0.3, p23=0.4, p14=0.02)


def _state_transitions(model: StateLoss) -> Numbers:
    return np.array(
        [
            [1 - model.p13 - model.p14, 0, model.p13, model.p14],
            [0, 1 - model.p23, model.p23, 0],
            [model.p31, model.p32, 1 - model.p31 - model.p32, 0],
            [1, 0, 0, 0],
        ]
    )


def test_loss_state_moves_as_its_chain_says() -> None:
    die = StateDie(random.Random(7), STATE)
    states = [die.state]
    for _ in range(COUNT):
        lost = die.comes_true()
        assert lost == (die.state in (3, 4))
        states.append(die.state)
    counts = np.zeros((4, 4))
    np.add.at(counts, (np.array(states[:-1]) - 1, np.array(states[1:]) - 1), 1)
    for row, expected in zip(counts, _state_transitions(STATE), strict=True):
        for happened, probability in zip(row, expected, strict=True):
            _assert_rate(int(happened), row.sum(), probability)


def test_loss_state_has_its_stationary_share_of_losses() -> None:
    stationary = np.linalg.matrix_power(_state_transitions(STATE), 1000)[0]
    lost = _losses(StateDie(random.Random(8), STATE))
    blocks = lost.reshape(-1, 100).mean(axis=1)
    sigma = blocks.std() / np.sqrt(len(blocks))
    assert abs(lost.mean() - (stationary[2] + stationary[3])) < SIGMAS * sigma


def test_loss_state_bursts_and_gaps_have_their_mean_lengths() -> None:
    lost = _losses(StateDie(random.Random(9), StateLoss(0.05, 0.25, 0, 1, 0)))
    _assert_geometric(_runs(lost, True), 0.25)
    _assert_geometric(_runs(lost, False), 0.05)


def test_loss_state_isolated_losses_are_alone() -> None:
    lost = _losses(StateDie(random.Random(10), StateLoss(0, 1, 0, 1, 0.1)))
    assert (_runs(lost, True) == 1).all()
    # A write that follows such a loss is always well, then each has its chance again.
    _assert_geometric(_runs(lost, False), 0.1)


def test_loss_gemodel_bursts_and_gaps_have_their_mean_lengths() -> None:
    lost = _losses(GilbertElliottDie(random.Random(11), GilbertElliottLoss(0.02, 0.25, 1, 0)))
    _assert_geometric(_runs(lost, True), 0.25)
    _assert_geometric(_runs(lost, False), 0.02)


def test_loss_gemodel_has_its_rate_and_memory() -> None:
    model = GilbertElliottLoss(p=0.1, r=0.2, loss_bad=0.7, loss_good=0.05)
    lost = _losses(GilbertElliottDie(random.Random(12), model)).astype(np.float64)
    bad = model.p / (model.p + model.r)
    rate = bad * model.loss_bad + (1 - bad) * model.loss_good
    blocks = lost.reshape(-1, 100).mean(axis=1)
    assert abs(lost.mean() - rate) < SIGMAS * blocks.std() / np.sqrt(len(blocks))
    memory = 1 - model.p - model.r
    covariance = bad * (1 - bad) * (model.loss_bad - model.loss_good) ** 2 * memory
    expected = covariance / (rate * (1 - rate))
    assert abs(_autocorrelation(lost) - expected) < SIGMAS * 2 / np.sqrt(COUNT)


def test_loss_gemodel_good_state_loses_by_its_own_chance() -> None:
    lost = _losses(GilbertElliottDie(random.Random(13), GilbertElliottLoss(0, 1, 1, 0.3)))
    _assert_rate(int(lost.sum()), COUNT, 0.3)


def test_loss_random_is_a_chance() -> None:
    assert isinstance(loss_die(random.Random(1), RandomLoss(Chance(0.5))), Die)
    assert isinstance(loss_die(random.Random(1), STATE), StateDie)
