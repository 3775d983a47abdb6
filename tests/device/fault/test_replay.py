"""The same seed, plan and requests give the same faults; the plan's text is what replays them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfs.device.fault.plan import faults
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.rule import Chance, Rule
from tests.device.fault.disks import Disk, trace
from tests.device.fault.plan.strategies import bare_rules

CHANCES = [
    "loss 20%",
    "loss 50% 30%",
    "loss state 20% 40%",
    "loss gemodel 20% 40%",
    "loss 20% ecn",
    "ignore-flush 50%; cache 64K",
    "corrupt 20%",
    "corrupt 20% on read",
    "corrupt 20% byte 5 value 7",
    "corrupt rest 20%",
    "stuck 5000",
    "torn 30%",
    "torn 30% atomic 4K",
    "misdirect 20%",
    "misdirect 20% by 8K",
    "stale 40%",
    "duplicate 30% after 3",
    "error EIO 20%",
    "error EIO 40% partial on write",
    "cache 64K; reorder 30%; cut at 100 survive none",
    "cache 1M; cut at 60 survive any",
    "cache 1M; cut at 60 survive order",
    "cache 1M; cut at 60 survive torn",
    "delay 5ms 2ms distribution pareto",
    "seek 1ms 9ms rotation 8ms",
    "slot 10ms 20ms",
]


@pytest.mark.parametrize("text", CHANCES)
def test_replay_of_the_plans_text_repeats_every_fault(text: str) -> None:
    plan = parse_plan(text, seed=11)
    first = trace(plan)
    assert first == trace(plan)
    assert first == trace(parse_plan(plan.text))
    assert first != trace(FaultPlan(), 150)


@pytest.mark.parametrize("text", CHANCES)
def test_replay_with_another_seed_gives_other_faults(text: str) -> None:
    plan = parse_plan(text, seed=11)
    assert trace(plan) != trace(replace(plan, seed=12))


def test_replay_id_is_in_the_report_and_runs_again() -> None:
    disk = Disk("seed 5; error EIO 30% on write; delay 1ms 1ms 25% distribution normal")
    identity = disk.report()["plan"]
    assert identity == ("seed 5; error EIO 30% on write; delay 1ms 1ms 25% distribution normal")
    assert trace(parse_plan(identity)) == trace(disk.plan)


def test_replay_of_a_rule_that_is_twice_in_a_plan() -> None:
    rule = faults.Loss(faults.RandomLoss(Chance(0.3)))
    plan = FaultPlan((rule, rule), seed=3)
    assert trace(plan) == trace(parse_plan(plan.text))


def test_replay_draws_of_a_rule_do_not_depend_on_rules_behind_it() -> None:
    alone = trace(parse_plan("corrupt 20% on read", seed=4))
    longer = trace(parse_plan("corrupt 20% on read; delay 1ms 1ms; reorder 30%", seed=4))
    assert alone.answers == longer.answers
    assert alone.faults == longer.faults


@given(st.lists(bare_rules, max_size=4), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_replay_of_any_plan_is_the_same(rules: list[Rule], seed: int) -> None:
    once = {type(rule): rule for rule in rules}
    plan = FaultPlan(tuple(once.values()), seed)
    assert trace(plan, 40) == trace(parse_plan(plan.text), 40)
