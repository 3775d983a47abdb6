"""FAULTS.md and the code say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from random import Random

import pytest

from lfs.device.fault.chance import Die
from lfs.device.fault.plan import grammar
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.plan.power import CUT_MODES, SURVIVAL_MODES
from lfs.device.fault.plan.rule import OPERATIONS, Chance
from lfs.device.fault.plan.timing import DISTRIBUTIONS

REFERENCE = (Path(__file__).parents[4] / "FAULTS.md").read_text()


def test_reference_has_every_word() -> None:
    prose = re.sub(r"```.*?```", "", REFERENCE, flags=re.DOTALL)
    described = set(re.findall(r"[a-z-]+", " ".join(re.findall(r"`([^`]+)`", prose))))
    # The words of the language are what its grammar compares words with.
    tree = ast.parse(Path(grammar.__file__).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    compared = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("_accept", "_option", "_expect")
        and isinstance(call.args[0], ast.Constant)
    }
    statements = {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert {"seed", "survive", "delay", "skip"} <= compared | statements
    known = compared | statements | {*DISTRIBUTIONS, *SURVIVAL_MODES, *CUT_MODES, *OPERATIONS}
    assert not known - described


def test_reference_first_example_is_a_plan() -> None:
    example = REFERENCE.split("```")[1]
    plan = parse_plan(example)
    assert plan.seed == 7
    assert len(plan.rules) == 6


def test_reference_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", REFERENCE, re.DOTALL)
    exec(compile(example, "FAULTS.md", "exec"), {})
    said = re.findall(r"print\(disk\.cut\(\)\) +# (.*)", example)
    assert said[0] in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("correlation", "percent"), [(0.25, 1.8), (0.5, 0.1), (0.75, 0.0)])
def test_reference_tells_what_correlation_does(correlation: float, percent: float) -> None:
    die = Die(Random(1), Chance(0.1, correlation))
    count = 200_000
    found = 100 * sum(die.comes_true() for _ in range(count)) / count
    assert round(found, 1) == percent
