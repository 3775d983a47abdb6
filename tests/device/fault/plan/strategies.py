"""Hypothesis strategies: any fault plan, as rules and not as text."""

from __future__ import annotations

import errno
from dataclasses import replace

from hypothesis import strategies as st

from lfs.device.fault.plan import faults, power, timing
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.power import Survival
from lfs.device.fault.plan.rule import SECTOR_BYTES, Chance, Rule, When

_EXACT = 2**50
"""Times and sizes are read as doubles; up to here every whole number is one."""

counts = st.integers(1, 10**6)
maybe_counts = st.one_of(st.just(0), counts)
times_ns = st.integers(0, _EXACT)
sizes = st.integers(0, _EXACT)
probabilities = st.one_of(
    st.floats(0, 1, allow_subnormal=False),
    st.integers(1, 10**9).map(lambda divisor: 1 / divisor),
    st.sampled_from([0.0, 0.001, 0.25, 0.5, 1.0]),
)
chances = st.builds(Chance, probabilities, probabilities)
distributions = st.sampled_from(timing.DISTRIBUTIONS)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=12)
ranges = st.one_of(
    st.tuples(sizes, st.integers(1, _EXACT)).map(lambda pair: (pair[0], sum(pair))),
    sizes.map(lambda start: (start, 2**62)),
)
sectors = st.integers(1, 2**20).map(lambda count: count * SECTOR_BYTES)
few_counts = st.lists(counts, min_size=1, max_size=4).map(tuple)


@st.composite
def whens(draw: st.DrawFn, about: tuple[str, ...]) -> When:
    operations = tuple(draw(st.lists(st.sampled_from(about), max_size=4)))
    from_ns = draw(times_ns)
    until_ns = draw(st.one_of(st.just(0), st.integers(from_ns + 1, 2 * _EXACT)))
    down_ns = draw(times_ns)
    return When(
        operations,
        tuple(draw(st.lists(ranges, max_size=2))),
        skip=draw(maybe_counts),
        nth=draw(maybe_counts),
        every=draw(maybe_counts),
        times=draw(maybe_counts),
        from_ns=from_ns,
        until_ns=until_ns,
        up_ns=draw(times_ns) if down_ns else 0,
        down_ns=down_ns,
        file=draw(st.one_of(st.just(""), texts)),
    )


@st.composite
def delays(draw: st.DrawFn) -> Rule:
    jitter_ns = draw(times_ns)
    named = draw(distributions) if jitter_ns else "uniform"
    return timing.Delay(draw(times_ns), jitter_ns, draw(probabilities), named)


@st.composite
def slots(draw: st.DrawFn) -> Rule:
    named = draw(st.sampled_from(["", *timing.DISTRIBUTIONS]))
    first_ns, second_ns = draw(times_ns), draw(times_ns)
    if not named:
        first_ns, second_ns = min(first_ns, second_ns), max(first_ns, second_ns)
    return timing.Slot(first_ns, second_ns, named, draw(counts), draw(sizes))


@st.composite
def seeks(draw: st.DrawFn) -> Rule:
    min_ns, max_ns = sorted((draw(times_ns), draw(times_ns)))
    return timing.Seek(min_ns, max_ns, draw(times_ns), draw(counts))


@st.composite
def losses(draw: st.DrawFn) -> Rule:
    half = st.sampled_from([0.0, 0.01, 1 / 3, 0.5])
    model = draw(
        st.one_of(
            st.builds(faults.RandomLoss, chances),
            st.builds(faults.StateLoss, half, half, half, probabilities, half),
            st.builds(
                faults.GilbertElliottLoss,
                probabilities,
                probabilities,
                probabilities,
                probabilities,
            ),
        )
    )
    return faults.Loss(model, draw(st.booleans()))


@st.composite
def corruptions(draw: st.DrawFn) -> Rule:
    if draw(st.booleans()):
        return faults.Corrupt(draw(chances), byte=draw(sizes), value=draw(st.integers(0, 255)))
    return faults.Corrupt(draw(chances), at_rest=draw(st.booleans()))


@st.composite
def cuts(draw: st.DrawFn) -> Rule:
    mode = draw(st.sampled_from(["", *power.CUT_MODES]))
    writes = () if mode else draw(st.one_of(st.just(()), few_counts))
    after_ns, mark = draw(times_ns), draw(st.one_of(st.just(""), texts))
    if not (mode or writes or mark):
        after_ns = max(1, after_ns)
    survival = draw(
        st.one_of(
            st.builds(Survival, st.sampled_from(power.SURVIVAL_MODES), st.just(()), sectors),
            st.builds(Survival, st.just("writes"), few_counts, sectors),
        )
    )
    return power.Cut(writes, mode, mark, after_ns, survival)


bare_rules: st.SearchStrategy[Rule] = st.one_of(
    delays(),
    st.builds(timing.Rate, st.floats(1e-3, 1e15).map(lambda bits: bits / 8), sizes, sizes, sizes),
    slots(),
    seeks(),
    st.builds(timing.Limit, counts),
    losses(),
    st.builds(faults.IgnoreFlush, chances),
    corruptions(),
    st.builds(faults.Stuck, counts),
    st.builds(faults.Torn, chances, sectors),
    st.builds(faults.Misdirect, chances, st.one_of(st.just(0), sectors)),
    st.builds(faults.Stale, chances),
    st.builds(faults.Duplicate, chances, counts),
    st.builds(faults.Reorder, chances, counts),
    st.builds(faults.Error, st.sampled_from(sorted(errno.errorcode)), chances, st.booleans()),
    st.builds(faults.Bad, st.lists(ranges, min_size=1, max_size=3).map(tuple), counts),
    st.just(faults.ReadOnly()),
    st.just(faults.Vanish()),
    st.builds(faults.Full, sizes),
    st.builds(power.Cache, sizes),
    cuts(),
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule with any conditions that it takes."""
    rule = draw(bare_rules)
    if rule.conditional and draw(st.booleans()):
        return replace(rule, when=draw(whens(rule.about)))
    return rule


_ONCE = (timing.Rate, timing.Seek, timing.Limit, power.Cache, power.Cut)


@st.composite
def fault_plans(draw: st.DrawFn) -> FaultPlan:
    """Any plan that text can say."""
    chosen: list[Rule] = []
    for rule in draw(st.lists(rules(), max_size=6)):
        if not (isinstance(rule, _ONCE) and any(type(rule) is type(other) for other in chosen)):
            chosen.append(rule)
    return FaultPlan(tuple(chosen), draw(st.integers(0, 2**64)))
