from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfs.device.fault.plan import faults, power, timing
from lfs.device.fault.plan.grammar import PlanError, parse_plan
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.power import Survival
from lfs.device.fault.plan.rule import Chance, Rule, When
from tests.device.fault.plan.strategies import fault_plans

MS = 1_000_000


@given(fault_plans())
@settings(max_examples=400)
def test_grammar_every_plan_is_read_as_it_was_written(plan: FaultPlan) -> None:
    assert parse_plan(plan.text) == plan
    assert "\n" not in plan.text


@given(fault_plans(), st.sampled_from(["\n", ";;", " ; ", "\n# a remark; seed 5\n"]))
@settings(max_examples=50)
def test_grammar_statements_are_separated_by_anything(plan: FaultPlan, border: str) -> None:
    statements = [f"seed {plan.seed}", *(rule.text for rule in plan.rules)]
    assert parse_plan(border.join(statements)) == plan


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("delay 300", timing.Delay(300_000)),
        ("delay 10ms 2ms 25", timing.Delay(10 * MS, 2 * MS, 0.25)),
        ("delay 10ms 2ms distribution pareto", timing.Delay(10 * MS, 2 * MS, 0, "pareto")),
        ("rate 8000 16 512 8", timing.Rate(1000.0, 16, 512, 8)),
        ("slot 20ms", timing.Slot(20 * MS, 20 * MS)),
        ("slot 10ms 30ms requests 5 bytes 64K", timing.Slot(10 * MS, 30 * MS, "", 5, 65536)),
        ("slot distribution normal 10ms 1ms", timing.Slot(10 * MS, MS, "normal")),
        ("seek 1ms 9ms rotation 8ms heads 4", timing.Seek(MS, 9 * MS, 8 * MS, 4)),
        ("limit 32", timing.Limit(32)),
        ("loss 1", faults.Loss(faults.RandomLoss(Chance(0.01)))),
        ("loss random 1% 25% ecn", faults.Loss(faults.RandomLoss(Chance(0.01, 0.25)), ecn=True)),
        ("loss state 10", faults.Loss(faults.StateLoss(0.1, 0.9, 0, 1, 0))),
        ("loss state 1 2 3 4 5", faults.Loss(faults.StateLoss(0.01, 0.02, 0.03, 0.04, 0.05))),
        ("loss state 0.71% 1 1 1 99.29%", None),
        ("loss gemodel 10", faults.Loss(faults.GilbertElliottLoss(0.1, 0.9, 1, 0))),
        ("loss gemodel 1 2 3 4", faults.Loss(faults.GilbertElliottLoss(0.01, 0.02, 0.03, 0.04))),
        ("ignore-flush", faults.IgnoreFlush()),
        ("ignore-flush 50%", faults.IgnoreFlush(Chance(0.5))),
        ("corrupt 1%", faults.Corrupt(Chance(0.01))),
        ("corrupt rest 1%", faults.Corrupt(Chance(0.01), at_rest=True)),
        ("corrupt 1% byte 0 value 255", faults.Corrupt(Chance(0.01), byte=0, value=255)),
        ("stuck 3", faults.Stuck(3)),
        ("torn 1%", faults.Torn(Chance(0.01))),
        ("torn 1% atomic 4K", faults.Torn(Chance(0.01), 4096)),
        ("misdirect 1%", faults.Misdirect(Chance(0.01))),
        ("misdirect 1% by 1M", faults.Misdirect(Chance(0.01), 1 << 20)),
        ("stale 1:4", faults.Stale(Chance(0.25))),
        ("duplicate 1%", faults.Duplicate(Chance(0.01))),
        ("duplicate 1% after 7", faults.Duplicate(Chance(0.01), 7)),
        ("reorder 25% 50%", faults.Reorder(Chance(0.25, 0.5))),
        ("reorder 25% gap 5", faults.Reorder(Chance(0.25), 5)),
        ("error EIO", faults.Error(errno.EIO)),
        ("error ENOSPC 1% partial", faults.Error(errno.ENOSPC, Chance(0.01), partial=True)),
        ("bad 0-512 1M+4K spare 2", faults.Bad(((0, 512), (1 << 20, (1 << 20) + 4096)), 2)),
        ("readonly", faults.ReadOnly()),
        ("vanish", faults.Vanish()),
        ("full 1M", faults.Full(1 << 20)),
        ("cache 1M", power.Cache(1 << 20)),
        ("cut at 3 5 2", power.Cut((3, 5, 2))),
        ("cut linear", power.Cut(mode="linear")),
        ("cut log survive none", power.Cut(mode="log", survival=Survival("none"))),
        ("cut after 1s mark half", power.Cut(mark="half", after_ns=10**9)),
        (
            "cut at 1 survive torn atomic 4K",
            power.Cut((1,), survival=Survival("torn", atomic_bytes=4096)),
        ),
        ("cut at 1 survive writes 1 3", power.Cut((1,), survival=Survival("writes", (1, 3)))),
    ],
)
def test_grammar_statement_has_netems_units_and_defaults(text: str, rule: Rule | None) -> None:
    plan = parse_plan(text)
    if rule is not None:
        assert plan.rules == (rule,)
    assert parse_plan(plan.text) == plan


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("on read write", When(("read", "write"))),
        ("in 0-1M in 2M-", When(ranges=((0, 1 << 20), (2 << 20, 2**62)))),
        ("skip 2 every 3 times 4", When(skip=2, every=3, times=4)),
        ("nth 5", When(nth=5)),
        ("from 1s until 2s", When(from_ns=10**9, until_ns=2 * 10**9)),
        ("until 2s from 1s", When(from_ns=10**9, until_ns=2 * 10**9)),
        ("up 0 down 5ms", When(down_ns=5 * MS)),
        ("up 5ms down 5ms", When(up_ns=5 * MS, down_ns=5 * MS)),
        ('while "/a file"', When(file="/a file")),
        ("while /tmp/trigger", When(file="/tmp/trigger")),
        (r'while "a\"b\\c\nd"', When(file='a"b\\c\nd')),
        ('while "on # ; write"', When(file="on # ; write")),
    ],
)
def test_grammar_condition_is_read_and_written(text: str, when: When) -> None:
    plan = parse_plan(f"stale 1% {text}" if "write" not in text else f"error EIO 1% {text}")
    assert plan.rules[0].when == when
    assert parse_plan(plan.text) == plan


def test_grammar_comments_and_separators_are_passed_over() -> None:
    text = "# a plan\n seed 7;loss 1%#half\n\n;; delay\n\t10ms ; # end"
    expected = FaultPlan((faults.Loss(faults.RandomLoss(Chance(0.01))), timing.Delay(10 * MS)), 7)
    assert parse_plan(text) == expected


def test_grammar_empty_plan_has_the_callers_seed() -> None:
    assert parse_plan("", seed=9) == FaultPlan((), 9)
    assert parse_plan("seed 3", seed=9) == FaultPlan((), 3)
    assert FaultPlan((), 9).text == "seed 9"


def test_grammar_seed_may_come_last() -> None:
    assert parse_plan("vanish seed 5").seed == 5


PROBABILITY = "a probability from 0% to 100%, such as 0.1% or 1:1000"
TIME = "a time such as 10ms, 1.5s or 300us"
SIZE = "a size such as 512, 4K or 1.5M"
COUNT = "a whole number above 0"
ELSEWHERE = "this belongs to a statement, and none that takes it is before it"
ERROR_NAME = "the name of an error, such as EIO"


@pytest.mark.parametrize(
    ("text", "column", "word", "reason"),
    [
        ("los 1%", 1, "los", "unknown word; is loss meant?"),
        ("delay 1ms dealy 2ms", 11, "dealy", "unknown word; is delay meant?"),
        ("loss 1% tiems 3", 9, "tiems", "unknown word; is times meant?"),
        ("xyzzy", 1, "xyzzy", "unknown word"),
        ('"delay" 1ms', 1, "delay", "unknown word; is delay meant?"),
        ("times 3 loss 1%", 1, "times", ELSEWHERE),
        ("delay", 1, "delay", f"{TIME} is expected after it"),
        ("delay fast", 7, "fast", f"{TIME} is expected here"),
        ("delay -5ms", 7, "-5ms", f"{TIME} is expected here"),
        ("delay 1ms distribution normal", 24, "normal", "a distribution needs a jitter to spread"),
        (
            "delay 1ms 1ms distribution cauchy",
            28,
            "cauchy",
            "one of uniform, normal, pareto, paretonormal is expected here",
        ),
        ("loss 101%", 6, "101%", f"{PROBABILITY} is expected here"),
        ("loss 1:0", 6, "1:0", f"{PROBABILITY} is expected here"),
        ("loss 1% 5ms", 9, "5ms", f"{PROBABILITY} is expected here"),
        ("loss", 1, "loss", f"{PROBABILITY} is expected after it"),
        (
            "loss state 60% 1% 1% 1% 60%",
            25,
            "60%",
            "the ways out of a state add up to over 100%",
        ),
        ("loss state 1% 60% 60%", 19, "60%", "the ways out of a state add up to over 100%"),
        ("rate 0", 6, "0", "a rate above 0 such as 100mbit or 20mibps (bytes) is expected here"),
        ("rate 1mbit rate 2mbit", 12, "rate", "only one rate can be"),
        ("limit 1 limit 2", 9, "limit", "only one limit can be"),
        ("cache 1M; cache 2M", 11, "cache", "only one cache can be"),
        ("seek 1 2 seek 1 2", 10, "seek", "only one seek can be"),
        ("cut linear cut log", 12, "cut", "only one cut can be"),
        ("limit 0", 7, "0", f"{COUNT} is expected here"),
        ("slot 5ms 1ms", 10, "1ms", "the longest pause is below the shortest"),
        ("slot distribution normal 5ms", 26, "5ms", f"{TIME} is expected after it"),
        ("seek 5ms 1ms", 10, "1ms", "the longest seek is below the shortest"),
        ("stuck 0", 7, "0", f"{COUNT} is expected here"),
        ("torn 1% atomic 700", 16, "700", "what arrives as a whole has whole sectors of 512 bytes"),
        ("torn 1% atomic 0", 16, "0", "what arrives as a whole has whole sectors of 512 bytes"),
        ("torn 1% atomic", 9, "atomic", f"{SIZE} is expected after it"),
        ("misdirect 1% by 100", 17, "100", "a write is misdirected by whole sectors of 512"),
        ("corrupt 1% byte 3", 17, "3", "value is expected after it"),
        ("corrupt 1% byte 3 to 5", 19, "to", "value is expected here"),
        ("corrupt 1% byte 3 value 256", 25, "256", "a byte has a value from 0 to 255"),
        ("corrupt rest 1% byte 3", 22, "3", "a byte is of a request, not of what rests"),
        ("error", 1, "error", f"{ERROR_NAME} is expected after it"),
        ("error EIEIO", 7, "EIEIO", f"not {ERROR_NAME}, ENOSPC or ETIMEDOUT"),
        ("error errorcode", 7, "errorcode", f"not {ERROR_NAME}, ENOSPC or ETIMEDOUT"),
        (
            "bad 2M-1M",
            5,
            "2M-1M",
            "a range such as 1M-2M (up to, not including, 2M), 1M+4K or 1M- is expected here",
        ),
        ("cut", 1, "cut", "one of at, after, mark, linear, log is expected after it"),
        ("cut at", 5, "at", f"{COUNT} is expected after it"),
        ("cut mark", 5, "mark", "a mark is expected after it"),
        (
            "cut log survive some",
            17,
            "some",
            "one of none, all, order, any, torn, writes is expected here",
        ),
        ("cut log survive writes", 17, "writes", f"{COUNT} is expected after it"),
        ("loss 1% on flush", 12, "flush", "one of write, discard is expected here"),
        ("stale 1% on write", 13, "write", "one of read is expected here"),
        ("ignore-flush on flush read", 23, "read", "one of flush is expected here"),
        ("rate 1mbit on flush", 15, "flush", "one of read, write is expected here"),
        ("loss 1% on", 9, "on", "one of write, discard is expected after it"),
        ("loss 1% nth 0", 13, "0", f"{COUNT} is expected here"),
        ("loss 1% times 2 times 3", 17, "times", "only one times can be in a statement"),
        ("loss 1% up 5s", 12, "5s", "down is expected after it"),
        ("loss 1% up 5s down 0", 20, "0", "a time above 0 is expected here"),
        ("loss 1% until 0", 15, "0", "a time above 0 is expected here"),
        (
            "loss 1% from 2s until 1s",
            23,
            "1s",
            "the time until which is not after that from which",
        ),
        (
            "loss 1% until 1s from 1s",
            23,
            "1s",
            "the time until which is not after that from which",
        ),
        ("loss 1% while", 9, "while", "the name of a file is expected after it"),
        ("cache 1M on write", 10, "on", "cache takes no conditions"),
        ("limit 5 times 3", 9, "times", "limit takes no conditions"),
        ("cut at 3 from 1s", 10, "from", "cut takes no conditions"),
        ("seed x", 6, "x", "a whole number is expected here"),
    ],
)
def test_grammar_bad_plan_is_refused_in_one_line_at_the_word(
    text: str, column: int, word: str, reason: str
) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert str(caught.value) == f"fault plan, line 1, column {column}: {word!r}: {reason}"
    assert text[column - 1 :].lstrip('"').startswith(word)


def test_grammar_error_names_line_and_column_of_a_longer_plan() -> None:
    with pytest.raises(PlanError, match=r"^fault plan, line 3, column 8: '5x': a time such as"):
        parse_plan("# first\nloss 1%\n delay 5x\n")


def test_grammar_quote_without_end_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan('vanish while "file')
    assert str(caught.value) == "fault plan, line 1, column 14: a quote without its end"


@given(st.text(max_size=40))
def test_grammar_any_text_is_a_plan_or_one_line(text: str) -> None:
    _plan_or_one_line(text)


_WORDS = [
    "delay",
    "loss",
    "1%",
    "5ms",
    "on",
    "write",
    "in",
    "0-1M",
    "state",
    "at",
    "cut",
    "survive",
    "error",
    "EIO",
    "byte",
    "3",
    "seed",
    "times",
]


@given(st.lists(st.sampled_from(_WORDS), max_size=12))
def test_grammar_any_words_are_a_plan_or_one_line(words: list[str]) -> None:
    _plan_or_one_line(" ".join(words))


def _plan_or_one_line(text: str) -> None:
    message = ""
    try:
        plan = parse_plan(text)
    except PlanError as error:
        message = str(error)
    if message:
        assert message.startswith("fault plan")
        assert "\n" not in message
    else:
        assert parse_plan(plan.text) == plan
