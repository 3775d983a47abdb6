"""Which workloads a run explores, and in what order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import count

from tests.crash.explorer import Task
from tests.crash.workloads import ace
from tests.crash.workloads.names import find, trace_names

_STRIDE = 1_000_003
"""A prime that divides no count of workloads: steps of it visit every number once."""
_SEEDED = (
    ("clean", 400),
    ("full", 400),
    ("reuse", 400),
    ("random", 400),
    ("script", 600),
    ("scatter", 200),
    ("crowd", 60),
    ("worn", 60),
    ("brim", 200),
    ("burst", 60),
    ("surge", 60),
    ("turn", 60),
    ("merge", 300),
)


def short_plan(seed: int) -> list[Task]:
    """Return the tasks of a test run: enough of everything, long ones first."""
    choose = random.Random(f"short plan {seed}")
    tasks = [Task(f"script-{number}", 700, seed) for number in (1, 2)]
    tasks += [Task(name, 250, seed) for name in trace_names()]
    # Keeps so much that the cleaner works on a full disk, as few of its kind do.
    tasks.append(Task("clean-6", 150, seed))
    tasks += [Task(f"crowd-{choose.randrange(10**6)}", 30, seed) for _ in range(2)]
    tasks += [Task(f"scatter-{choose.randrange(10**6)}", 100, seed) for _ in range(2)]
    tasks += [Task(f"merge-{choose.randrange(10**6)}", 150, seed) for _ in range(2)]
    tasks += [Task(f"{kind}-{choose.randrange(10**6)}", 200, seed) for kind, _ in _SEEDED[:4] * 2]
    for length, sample_count in ((3, 90), (2, 90)):
        numbers = choose.sample(range(ace.workload_count(length)), sample_count)
        tasks += [Task(f"seq{length}-{number}", 0, seed) for number in numbers]
    for kind in ("clean", "reuse", "random", "crowd"):
        tasks.append(Task(f"{kind}-{choose.randrange(10**6)}", 80, seed, damaged=True))
    for length in (1, 2, 3):
        for number in choose.sample(range(ace.workload_count(length)), 8):
            tasks.append(Task(f"seq{length}-{number}", 100, seed, damaged=True))
    tasks += [Task(f"seq1-{number}", 0, seed) for number in range(ace.workload_count(1))]
    return tasks


def long_plan(seed: int, pattern: str = "*", power: str = "") -> Iterator[Task]:
    """Yield tasks without end: every kind in turn, each walked from where ``seed`` says.

    Only workloads whose names match ``pattern`` are among them, and one that has
    no ``*`` is explored whole and once.  ``power`` is a schedule to cut the power
    by, instead of trying crash states.
    """
    if "*" not in pattern:
        find(pattern)
        yield Task(pattern, 0, seed, power=power)
        return
    _check_matches(pattern)
    for turn in count():
        for task in _turn(seed, turn):
            if fnmatch(task.workload, pattern):
                yield task._replace(power=power)


def _check_matches(pattern: str) -> None:
    """Raise ValueError when no workload can have a name like ``pattern``."""
    kinds = [kind for kind, _ in _SEEDED] + ["seq1", "seq2", "seq3", "trace"]
    if not any(fnmatch(f"{kind}-", pattern) or pattern.startswith(f"{kind}-") for kind in kinds):
        raise ValueError(f"no workload is called {pattern!r}")


def _turn(seed: int, turn: int) -> Iterator[Task]:
    for name in trace_names():
        yield Task(name, 300, seed + turn)
    for kind, states_max in _SEEDED:
        yield Task(f"{kind}-{seed % 10**6 * 1000 + turn}", states_max, seed)
    for length, share in ((1, 10), (2, 60), (3, 40)):
        workload_count = ace.workload_count(length)
        for step in range(turn * share, (turn + 1) * share):
            yield Task(f"seq{length}-{(seed + step * _STRIDE) % workload_count}", 0, seed)
        number = (seed + turn * _STRIDE) % workload_count
        yield Task(f"seq{length}-{number}", 0, seed, damaged=True)
