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
    # Imported here for the same reason as in ``usage``.
    import numpy as np

    runs, live, blocks, last = usage.columns()
    utilisation = live / blocks
    wanted = (live > 0) & (utilisation <= utilisation_max)
    if excluded:
        wanted &= ~np.isin(runs, list(excluded))
    runs, live, blocks, last = runs[wanted], live[wanted], blocks[wanted], last[wanted]
    utilisation = utilisation[wanted]
    if policy == "greedy":
        score = -utilisation
    else:
        age = np.maximum(1, now_sequence - last)
        score = (1 - utilisation) * age / (1 + utilisation)
    order = np.lexsort((runs, -score))
    victims = []
    budget_blocks = live_blocks_max
    gained_blocks = 0
    dead = (blocks - live)[order].tolist()
    for run, live_blocks, dead_blocks in zip(
        runs[order].tolist(), live[order].tolist(), dead, strict=True
    ):
        if gain_blocks is not None and gained_blocks >= gain_blocks:
            break
        if live_blocks <= budget_blocks:
            victims.append(run)
            budget_blocks -= live_blocks
            gained_blocks += dead_blocks
        elif budget_blocks < live_blocks_max:
            break
    return victims
