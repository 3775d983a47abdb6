from __future__ import annotations

import pytest

from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.plan.power import Survival
from lfs.device.fault.power import PowerSchedule


def _cuts(text: str, cycles: int) -> list[int]:
    """Return the write that each power cycle ends with; 0 for none within 100."""
    power = PowerSchedule(parse_plan(text), 0)
    found = []
    for _ in range(cycles):
        found.append(next((write for write in range(1, 101) if power.cuts_write()), 0))
        power.restart(0)
    return found


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("", [0, 0]),
        ("cut at 3 5 2", [3, 5, 2, 0, 0]),
        ("cut linear", [1, 2, 3, 4, 5]),
        ("cut log", [1, 2, 4, 8, 16]),
        ("cut after 1s", [0, 0]),
        ("cut mark half", [0]),
    ],
)
def test_power_goes_during_the_writes_of_the_schedule(text: str, cuts: list[int]) -> None:
    assert _cuts(text, len(cuts)) == cuts


def test_power_goes_a_time_after_it_came() -> None:
    power = PowerSchedule(parse_plan("cut after 1s"), 500)
    assert not power.cuts_at(10**9 + 499)
    assert power.cuts_at(10**9 + 500)
    power.restart(2 * 10**9)
    assert not power.cuts_at(3 * 10**9 - 1)
    assert power.cuts_at(3 * 10**9)


def test_power_goes_at_its_mark_alone() -> None:
    power = PowerSchedule(parse_plan('cut mark "half way"'), 0)
    assert power.cuts_mark("half way")
    assert not power.cuts_mark("half")
    assert not PowerSchedule(parse_plan("cut linear"), 0).cuts_mark("")


def test_power_survival_is_any_unless_the_plan_says() -> None:
    assert PowerSchedule(parse_plan(""), 0).survival == Survival("any")
    assert PowerSchedule(parse_plan("cut log survive order"), 0).survival == Survival("order")
