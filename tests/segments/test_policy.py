from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.turns import finished
from lfs.segments import policy as policy_module
from lfs.segments import usage_loading
from lfs.segments.policy import POLICIES, choosing_victims
from lfs.segments.usage import UsageTable
from tests.segments.logs import SEGMENT_BLOCKS, usage_table

NOW = 1000
PLENTY = 1 << 40


def table(runs: list[tuple[int, int, int]]) -> UsageTable:
    """Return a table with a run for each ``(order, live_blocks, last_sequence)``."""
    usage = usage_table()
    usage_loading.finish_loading(usage, ())
    for order, live_blocks, last_sequence in runs:
        run = usage.open_run(order, last_sequence)
        assert run is not None
        usage.add_live(usage.address_of(run), live_blocks)
    return usage


def choose_victims(
    usage: UsageTable,
    policy: str,
    now_sequence: int,
    excluded: Collection[int],
    live_blocks_max: int,
    utilisation_max: float = 0.999,
    gain_blocks: int | None = None,
) -> list[int]:
    return finished(
        choosing_victims(
            usage,
            policy,
            now_sequence,
            lambda: excluded,
            live_blocks_max,
            utilisation_max,
            gain_blocks,
        )
    )


def live_of(usage: UsageTable, victims: list[int]) -> list[int]:
    return [usage.live_blocks(run) for run in victims]


def test_policy_greedy_takes_the_emptiest_first() -> None:
    usage = table([(0, 9, 1), (0, 3, 900), (0, 12, 1), (0, 5, 500)])
    assert live_of(usage, choose_victims(usage, "greedy", NOW, (), PLENTY)) == [3, 5, 9, 12]


def test_policy_greedy_goes_by_share_not_by_count() -> None:
    usage = table([(0, 4, 1), (2, 8, 1)])
    assert live_of(usage, choose_victims(usage, "greedy", NOW, (), PLENTY)) == [8, 4]


def test_policy_cost_benefit_prefers_old_to_empty() -> None:
    # (1 - u) * age / (1 + u): 0.6 * 10 = 6 against 1 / 3 * 900 = 300.
    usage = table([(0, 4, NOW - 10), (0, 8, NOW - 900)])
    assert live_of(usage, choose_victims(usage, "cost-benefit", NOW, (), PLENTY)) == [8, 4]
    assert live_of(usage, choose_victims(usage, "greedy", NOW, (), PLENTY)) == [4, 8]


def test_policy_cost_benefit_of_equal_age_takes_the_emptiest() -> None:
    usage = table([(0, 9, 5), (0, 3, 5), (0, 12, 5)])
    assert live_of(usage, choose_victims(usage, "cost-benefit", NOW, (), PLENTY)) == [3, 9, 12]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, SEGMENT_BLOCKS - 1), st.integers(1, NOW)),
        min_size=1,
        max_size=20,
    )
)
def test_policy_cost_benefit_is_the_formula(runs: list[tuple[int, int, int]]) -> None:
    usage = table(runs)
    benefit = {}
    for run in usage.runs():
        utilisation = usage.live_blocks(run) / usage.run_blocks(run)
        age = max(1, NOW - usage.last_sequence(run))
        benefit[run] = (1 - utilisation) * age / (1 + utilisation)
    victims = choose_victims(usage, "cost-benefit", NOW, (), PLENTY)
    assert sorted(victims) == sorted(benefit)
    found = [benefit[run] for run in victims]
    assert found == pytest.approx(sorted(found, reverse=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_passes_over_dead_full_and_excluded_runs(policy: str) -> None:
    usage = table([(0, 0, 1), (0, SEGMENT_BLOCKS, 1), (0, 5, 1), (0, 6, 1), (0, 13, 1)])
    excluded = next(run for run in usage.runs() if usage.live_blocks(run) == 5)
    victims = choose_victims(usage, policy, NOW, {excluded}, PLENTY)
    assert live_of(usage, victims) == [6, 13]
    assert live_of(usage, choose_victims(usage, policy, NOW, (), PLENTY, 0.8)) == [5, 6]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("budget_blocks", "chosen"),
    [(24, [3, 9, 12]), (23, [3, 9]), (12, [3, 9]), (11, [3]), (3, [3]), (2, []), (0, []), (-5, [])],
)
def test_policy_victims_stay_within_the_budget(
    policy: str, budget_blocks: int, chosen: list[int]
) -> None:
    usage = table([(0, 9, 5), (0, 3, 5), (0, 12, 5)])
    assert live_of(usage, choose_victims(usage, policy, NOW, (), budget_blocks)) == chosen


def test_policy_run_too_large_for_the_budget_does_not_hide_others() -> None:
    usage = table([(3, 20, 1), (0, 4, 1)])
    assert live_of(usage, choose_victims(usage, "greedy", NOW, (), 10)) == [4]


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_of_an_empty_table_chooses_nothing(policy: str) -> None:
    assert choose_victims(table([]), policy, NOW, (), PLENTY) == []


def test_policy_takes_no_more_than_it_takes_to_gain_enough() -> None:
    usage = table([(0, 9, 1), (0, 3, 900), (0, 12, 1), (0, 5, 500)])
    wanted = 2 * SEGMENT_BLOCKS - 8
    victims = choose_victims(usage, "greedy", NOW, (), PLENTY, gain_blocks=wanted)
    assert live_of(usage, victims) == [3, 5]
    victims = choose_victims(usage, "greedy", NOW, (), PLENTY, gain_blocks=wanted + 1)
    assert live_of(usage, victims) == [3, 5, 9]


@pytest.mark.pure_core
def test_policy_chooses_among_what_is_not_excluded_however_good_that_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy_module, "_CANDIDATES_MAX", 3)
    usage = table([(0, live, 1) for live in (2, 3, 4, 5, 9, 10)])
    best = choose_victims(usage, "greedy", NOW, (), PLENTY)
    assert live_of(usage, best) == [2, 3, 4]
    rest = choose_victims(usage, "greedy", NOW, best, PLENTY)
    assert live_of(usage, rest) == [5, 9, 10]
