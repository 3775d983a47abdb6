"""Which runs to clean first.

Greedy takes the run with the fewest live blocks for its size.  Cost-benefit
takes the one with the best ratio of space gained times the time it is likely to
stay gained to the cost of reading all of it and writing back what lives:
``(1 - u) * age / (1 + u)`` (M. Rosenblum, J. K. Ousterhout, "The Design and
Implementation of a Log-Structured File System", ACM TOCS 10(1), 1992).  Age is
counted in log writes since the youngest one in the run, so that the choice does
not depend on a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from heapq import nsmallest

from lfs.segments.usage import UsageTable

POLICIES = ("cost-benefit", "greedy")
SEGMENTS_AT_ONCE = 8192
"""So many are looked at in one step."""
_CANDIDATES_MAX = 4096
"""So many runs are kept in mind: on a large disk a round does not take more."""


def choosing_victims(
    usage: UsageTable,
    policy: str,
    now_sequence: int,
    excluded: Callable[[], Collection[int]],
    live_blocks_max: int,
    utilisation_max: float = 0.999,
    gain_blocks: int | None = None,
) -> Generator[None, None, list[int]]:
    """Choose runs to clean, in steps: best first, up to ``live_blocks_max`` live blocks together.

    No more than it takes to gain ``gain_blocks``: what waits loses more live blocks.
    What changes between steps does so for the choice, too, but for the order.

    Runs that are ``excluded`` at the end, dead runs and runs used above ``utilisation_max`` are
    no victims.  The first one may alone not exceed the limit either.
    """
    scored: list[tuple[float, int]] = []
    for start in range(0, usage.segment_count, SEGMENTS_AT_ONCE):
        if start:
            yield None
        left_out = excluded()
        for run, live, blocks, last in usage.partly_live(utilisation_max, start, SEGMENTS_AT_ONCE):
            if run not in left_out:
                scored.append((-_score(policy, live / blocks, now_sequence - last), run))
        scored = nsmallest(_CANDIDATES_MAX, scored)
    left_out = excluded()
    victims: list[int] = []
    budget_blocks = live_blocks_max
    gained_blocks = 0
    for _, run in scored:
        live = usage.live_blocks(run)
        if gain_blocks is not None and gained_blocks >= gain_blocks:
            break
        if run in left_out or not 0 < live <= utilisation_max * usage.run_blocks(run):
            continue
        if live <= budget_blocks:
            victims.append(run)
            budget_blocks -= live
            gained_blocks += usage.run_blocks(run) - live
        elif victims:
            break
    return victims


def _score(policy: str, utilisation: float, age: int) -> float:
    """Return how good a victim is; more is better."""
    if policy == "greedy":
        return -utilisation
    return (1 - utilisation) * max(1, age) / (1 + utilisation)
