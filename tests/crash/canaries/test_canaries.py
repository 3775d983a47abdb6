"""Every safeguard is missed by the explorer when it is taken out.

The table says which exploration catches which canary: crash states (a workload,
and how many of its states), a damaged block (``damaged``), or a disk so full
that a request fails which must not (``run`` in the violation's name).  The whole
filesystem passes every one of these explorations, so those that share one cost it once.
"""

from __future__ import annotations

import pytest

from tests.crash.canaries.catalogue import CANARIES
from tests.crash.explorer import Outcome, Task, explore_all

# Each is made by putting something else into the place of a safeguard.
pytestmark = pytest.mark.pure_core

_ERROR = "seq1-457!error EIO partial on write nth 2"
CAUGHT_BY = {
    "flush in sync": Task("seq2-84890"),
    "flush before the checkpoint region": Task("reuse-0", 250),
    "flush after the checkpoint region": Task("reuse-0", 250),
    "flush at mount": Task("reuse-6", 400),
    "flush when the cleaner makes room": Task("worn-0", 60),
    "flush when requests help the cleaner": Task("brim-0", 250),
    "flush when the cleaner works in the background": Task("clean-1", 400),
    "second checkpoint at mount": Task("seq2-140478"),
    "checkpoint regions in turn": Task("seq2-140478"),
    "checkpoint where the log is broken": Task(_ERROR),
    "second checkpoint where the log is broken": Task(_ERROR),
    "another place after an error": Task(_ERROR),
    "reuse only after a flush": Task("reuse-6", 400),
    "reuse only of log writes before the older checkpoint": Task("reuse-6", 400),
    "checksums of payload in roll-forward": Task("seq2-84890"),
    "checksum of the checkpoint region": Task("seq3-56119495"),
    "checksum of the superblock": Task("seq1-185", damaged=True),
    "checksums of data": Task("seq1-457", damaged=True),
    "checksums of nodes and usage pages": Task("seq1-185", damaged=True),
    "previous_checksum in the chain": Task("seq2-127519"),
    "commit flag": Task("seq2-140478"),
    "checksum of the summary": Task("random-3", 300),
    "records before data": Task("random-3", 300),
    "reuse only of metadata that no checkpoint needs": Task("clean-0", 400),
    "flushed_sequence tells damage from the end": Task("seq3-970761", damaged=True),
    "reservation of dirty data": Task("brim-0", 250),
    "reservation of changed metadata": Task("crowd-0", 8),
    "slack that user data may not use": Task("brim-0", 250),
    "slack beyond the segments that only the cleaner may use": Task("brim-0", 250),
    "segments that only the cleaner may use": Task("clean-0", 250),
    "making room before a request": Task("clean-0", 250),
    "room for what is pending while the cleaner moves": Task("surge-0", 8),
    "flush when files are put together": Task("scatter-7", 200),
    "reuse only of what is empty in a commit": Task("reuse-10", 250),
    "reservation of commit and checkpoint": Task("burst-10", 8),
    "moving only what is still in its place": Task("turn-2", 8),
}

ACCIDENTS = ("AttributeError", "NameError", "TypeError", "ValueError")
"""What a canary raises that does not fit the code any more: no promise was broken."""

REDUNDANT = {
    # A log write whose previous_checksum is right comes after the one that has this
    # checksum, sequence number included: another number needs a collision in 32 bits.
    "sequence in the chain": [Task("seq2-127519"), Task("reuse-5", 250)],
}


def explored(tasks: list[Task]) -> dict[Task, Outcome]:
    return {outcome.task: outcome for outcome in explore_all(tasks)}


def test_canaries_are_all_in_the_table() -> None:
    assert CAUGHT_BY.keys() | REDUNDANT.keys() == CANARIES.keys()


def test_whole_filesystem_passes_what_catches_canaries() -> None:
    redundant = [task for tasks in REDUNDANT.values() for task in tasks]
    tasks = [*dict.fromkeys([*CAUGHT_BY.values(), *redundant])]
    violations = [line for one in explored(tasks).values() for line in one.violations]
    assert not violations, "\n".join(violations)


def test_canaries_are_caught() -> None:
    tasks = {task._replace(canary=name): name for name, task in CAUGHT_BY.items()}
    outcomes = explored(list(tasks))
    missed = [name for task, name in tasks.items() if not outcomes[task].violations]
    assert not missed
    violations = [line for one in outcomes.values() for line in one.violations]
    accidents = [
        line for line in violations if line.partition(" replays: ")[2].startswith(ACCIDENTS)
    ]
    assert not accidents, "\n".join(accidents)


@pytest.mark.parametrize("name", REDUNDANT)
def test_redundant_safeguard_is_not_missed(name: str) -> None:
    tasks = [task._replace(canary=name) for task in REDUNDANT[name]]
    violations = [line for one in explored(tasks).values() for line in one.violations]
    assert not violations, "\n".join(violations)
