"""Which workloads a run explores, and in what order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import count

from tests.crash import ace
from tests.crash.explorer import Task
from tests.crash.workloads import trace_names

_STRIDE = 1_000_003
"""A prime that divides no count of workloads: steps of it visit every number once."""
_SEEDED = (("clean", 400), ("full", 400), ("reuse", 400), ("random", 400), ("script", 600))


def short_plan(seed: int) -> list[Task]:
    """Return the tasks of a test run: enough of everything, long ones first."""
    choose = random.Random(f"short plan {seed}")
    tasks = [Task(f"script-{number}", 2000, seed) for number in (1, 2)]
    tasks += [Task(name, 250, seed) for name in trace_names()]
    tasks += [Task(f"{kind}-{choose.randrange(10**6)}", 250, seed) for kind, _ in _SEEDED[:4] * 7]
    for length, sample_count in ((3, 200), (2, 200)):
        numbers = choose.sample(range(ace.workload_count(length)), sample_count)
        tasks += [Task(f"seq{length}-{number}", 0, seed) for number in numbers]
    tasks += [Task(f"seq1-{number}", 0, seed) for number in range(ace.workload_count(1))]
    return tasks


def long_plan(seed: int, pattern: str = "*") -> Iterator[Task]:
    """Yield tasks without end: every kind in turn, each walked from where ``seed`` says.

    Only workloads whose names match ``pattern`` are among them, and one that has
    no ``*`` is explored whole and once.
    """
    if "*" not in pattern:
        yield Task(pattern, 0, seed)
        return
    for turn in count():
        for task in _turn(seed, turn):
            if fnmatch(task.workload, pattern):
                yield task


def _turn(seed: int, turn: int) -> Iterator[Task]:
    for name in trace_names():
        yield Task(name, 300, seed + turn)
    for kind, states_max in _SEEDED:
        yield Task(f"{kind}-{seed % 10**6 * 1000 + turn}", states_max, seed)
    for length, share in ((1, 10), (2, 60), (3, 40)):
        workload_count = ace.workload_count(length)
        for step in range(turn * share, (turn + 1) * share):
            yield Task(f"seq{length}-{(seed + step * _STRIDE) % workload_count}", 0, seed)
