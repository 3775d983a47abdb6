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

from collections.abc import Collection
from heapq import heapify, heappop

from lfs.segments.usage import UsageTable

POLICIES = ("cost-benefit", "greedy")


def choose_victims(
    usage: UsageTable,
    policy: str,
    now_sequence: int,
    excluded: Collection[int],
    live_blocks_max: int,
    utilisation_max: float = 0.999,
    gain_blocks: int | None = None,
) -> list[int]:
    """Return runs to clean, best first, with at most ``live_blocks_max`` live blocks together.

    No more than it takes to gain ``gain_blocks``: what waits loses more live blocks.

    Runs in ``excluded``, dead runs and runs used above ``utilisation_max`` are
    no victims.  The first one may alone not exceed the limit either.
    """
    scored = []
    for run, live, blocks, last in usage.partly_live(utilisation_max):
        if run not in excluded:
            score = _score(policy, live / blocks, now_sequence - last)
            scored.append((-score, run, live, blocks - live))
    heapify(scored)
    victims: list[int] = []
    budget_blocks = live_blocks_max
    gained_blocks = 0
    while scored and (gain_blocks is None or gained_blocks < gain_blocks):
        _, run, live, dead = heappop(scored)
        if live <= budget_blocks:
            victims.append(run)
            budget_blocks -= live
            gained_blocks += dead
        elif victims:
            break
    return victims


def _score(policy: str, utilisation: float, age: int) -> float:
    """Return how good a victim is; more is better."""
    if policy == "greedy":
        return -utilisation
    return (1 - utilisation) * max(1, age) / (1 + utilisation)
