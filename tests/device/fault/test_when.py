from __future__ import annotations

from pathlib import Path

import pytest

from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.when import Gate, Request

MS = 1_000_000


def _gate(conditions: str) -> Gate:
    rule = parse_plan(f"delay 0 {conditions}").rules[0]
    return Gate(rule.when, rule.about)


def _passed(conditions: str, requests: list[Request]) -> list[int]:
    """Return the places of the requests that pass, counted from 1."""
    gate = _gate(conditions)
    return [number for number, each in enumerate(requests, 1) if gate.lets_through(each)]


def _reads(count: int) -> list[Request]:
    return [Request("read", 4096 * number, 4096, number * MS) for number in range(count)]


@pytest.mark.parametrize(
    ("conditions", "passed"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("skip 3", [4, 5, 6, 7, 8, 9, 10]),
        ("nth 4", [4]),
        ("every 3", [3, 6, 9]),
        ("skip 2 every 3", [5, 8]),
        ("skip 2 nth 3", [5]),
        ("in 8K-20K", [3, 4, 5]),
        ("in 8K-8193", [3]),
        ("in 4095+1", [1]),
        ("in 0-4K in 36K-", [1, 10]),
        ("in 1G-", []),
        ("in 8K-20K nth 2", [4]),
        ("from 3ms", [4, 5, 6, 7, 8, 9, 10]),
        ("until 3ms", [1, 2, 3]),
        ("from 2ms until 5ms", [3, 4, 5]),
        ("from 2ms every 2", [4, 6, 8, 10]),
        ("up 2ms down 1ms", [3, 6, 9]),
        ("up 0 down 1ms", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("on write", []),
        ("on read write", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("while /no/such/file", []),
        ("while /", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_gate_lets_through_what_the_conditions_name(conditions: str, passed: list[int]) -> None:
    assert _passed(conditions, _reads(10)) == passed


def test_gate_counts_only_what_meets_operation_place_and_time() -> None:
    requests = [
        Request("write", 0, 512, 0),
        Request("read", 1 << 20, 512, 0),
        Request("read", 0, 512, 99 * MS),
        Request("read", 0, 512, 0),
        Request("read", 0, 512, 0),
    ]
    assert _passed("on read in 0-4K until 50ms nth 2", requests) == [5]


def test_gate_flush_has_no_place_and_passes_any_range() -> None:
    assert _passed("in 1G-", [Request("flush", 0, 0, 0)]) == [1]


def test_gate_empty_request_is_in_its_place() -> None:
    assert _passed("in 4K-8K", [Request("write", at, 0, 0) for at in (0, 6144, 8192)]) == [2]


def test_gate_budget_counts_faults_and_not_requests() -> None:
    gate = _gate("times 2")
    request = Request("read", 0, 512, 0)
    assert [gate.lets_through(request) for _ in range(3)] == [True, True, True]
    gate.spend()
    assert gate.lets_through(request)
    gate.spend()
    assert not gate.lets_through(request)


def test_gate_spent_budget_goes_on_counting_requests() -> None:
    gate = _gate("every 2 times 1")
    request = Request("read", 0, 512, 0)
    passed = []
    for _ in range(6):
        passed.append(gate.lets_through(request))
        if passed[-1]:
            gate.spend()
    assert passed == [False, True, False, False, False, False]


def test_gate_trigger_file_counts_while_it_exists(tmp_path: Path) -> None:
    trigger = tmp_path / "a trigger"
    gate = _gate(f'while "{trigger}" nth 2')
    request = Request("read", 0, 512, 0)
    assert not gate.lets_through(request)
    trigger.touch()
    assert not gate.lets_through(request)
    trigger.unlink()
    assert not gate.lets_through(request)
    trigger.touch()
    assert gate.lets_through(request)
