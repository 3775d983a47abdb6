"""Exploring: the crash states of workloads, judged and counted, in worker processes.

A state is counted once for each workload, by the digest of its medium.  The
same medium at another point has been promised other things: then only that is
looked at.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from lfs.device.memory import MemoryDevice
from tests.crash.canaries.catalogue import installed
from tests.crash.damage import check_flip, flips, last_promise
from tests.crash.oracle import GOES_ON_EVERY, Found, Oracle, medium_digest
from tests.crash.power import run_schedule
from tests.crash.recording import Activity, Recording, record
from tests.crash.states import Point, medium_of, point_at, points, variants
from tests.crash.workloads.names import empty_medium, find, kind_of

AGAIN_EVERY = 24
AGAIN_VARIANTS_MAX = 24
VIOLATIONS_MAX = 3


class Task(NamedTuple):
    """What a worker is to explore: of one workload, at most so many states drawn by ``seed``.

    With ``states_max`` 0 all of them.  ``canary`` names the safeguard to take out.
    Instead of the crash states flipped bits are tried (``damaged``), or a
    schedule of power cuts (``power``).
    """

    workload: str
    states_max: int = 0
    seed: int = 0
    canary: str = ""
    damaged: bool = False
    power: str = ""


@dataclass
class Outcome:
    """What a worker found: distinct states by what was going on, and violations."""

    task: Task
    counts: Counter[Activity] = field(default_factory=Counter)
    digests: set[int] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)


def explore(task: Task) -> Outcome:
    """Explore in this process."""
    with ExitStack() as stack:
        if task.canary:
            # Formatted by a whole filesystem: others get a copy of the same medium.
            empty_medium(find(task.workload).geometry)
            stack.enter_context(installed(task.canary))
            stack.callback(record.cache_clear)
            record.cache_clear()
        return _Exploration(task).run()


class _Exploration:
    """The states of one workload."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._outcome = Outcome(task)
        self._found: dict[int, Found] = {}
        # A canary is known to be broken, and may do anything once it has been seen to be.
        self._violations_max = 1 if task.canary else VIOLATIONS_MAX

    def run(self) -> Outcome:
        if self._task.power:
            self._cut_power()
            return self._outcome
        try:
            recording = record(self._task.workload)
        except Exception as error:
            self._violated(f"{self._task.workload}:run", error)
            return self._outcome
        self._oracle = Oracle(recording)
        self._recording = recording
        if self._task.damaged:
            self._damage()
            return self._outcome
        for point, variant in self._drawn(recording):
            self._visit(point, variant)
            if len(self._outcome.violations) >= self._violations_max:
                break
        return self._outcome

    def _cut_power(self) -> None:
        """Run the workload under a schedule of power cuts."""
        for run in run_schedule(self._task.workload, self._task.power):
            self._outcome.counts[Activity("power cuts", False)] += 1
            if "replays" in run:
                self._outcome.violations.append(run)
                if len(self._outcome.violations) >= self._violations_max:
                    return

    def _damage(self) -> None:
        """Flip bits in what the workload left."""
        choose = random.Random(f"{self._task.seed} {self._task.workload}")
        point = last_promise(self._recording)
        variants = flips(point, self._recording.start, choose)
        limit = self._task.states_max or len(variants)
        for variant in choose.sample(variants, min(limit, len(variants))):
            self._outcome.counts[Activity("damage", False)] += 1
            try:
                check_flip(self._recording, point, variant)
            except Exception as error:
                self._violated(f"{point.key}:{point.event_count}:{variant}", error)
            if len(self._outcome.violations) >= self._violations_max:
                return

    def _drawn(self, recording: Recording) -> list[tuple[Point, str]]:
        """Return the states to visit, in order: all of them, or some drawn by the seed."""
        prologue_count = recording.workload.prologue_count
        cases = [
            (point, variant)
            for point in points(recording.workload.name, recording.start, recording.events)
            if recording.begun[point.event_count] > prologue_count
            for variant in variants(point)
        ]
        limit = self._task.states_max
        if not limit or len(cases) <= limit:
            return cases
        choose = random.Random(f"{self._task.seed} {recording.workload.name}")
        by_activity: dict[Activity, list[int]] = {}
        for index, (point, _) in enumerate(cases):
            by_activity.setdefault(recording.activities[point.event_count - 1], []).append(index)
        drawn: set[int] = set()
        # What is rare gets its share first.
        for left, group in enumerate(sorted(by_activity.values(), key=len), -len(by_activity)):
            share = (limit - len(drawn)) // -left
            # A promise is always held against its state; a prefix is as likely as two others.
            keys = [
                choose.random() / (1 + (cases[n][1] == "all") + 99 * cases[n][0].is_promise)
                for n in group
            ]
            drawn.update(index for _, index in sorted(zip(keys, group, strict=True))[:share])
        return [cases[index] for index in sorted(drawn)]

    def _visit(self, point: Point, variant: str) -> None:
        recording = self._recording
        state_id = f"{point.key}:{point.event_count}:{variant}"
        try:
            medium = medium_of(point, variant)
            digest = medium_digest(recording.start, medium)
            found = self._found.get(digest)
            is_new = found is None
            mending = recording.struck[point.event_count]
            if found is None:
                self._count(digest, recording.activities[point.event_count - 1])
                look = self._oracle.look(medium, digest, recovering=mending)
                found = self._found[digest] = look
            allowed = recording.allowed(point.event_count)
            request_count = self._oracle.judge(found, medium, allowed)
            if is_new and digest // 64 % GOES_ON_EVERY == 0:
                self._oracle.check_goes_on(medium.copy(), request_count, mending)
        except Exception as error:
            self._violated(state_id, error)
            return
        if variant == "killed" or (is_new and digest // 4096 % AGAIN_EVERY == 0):
            self._visit_again(point, variant, found, digest)

    def _visit_again(self, point: Point, variant: str, found: Found, digest: int) -> None:
        """Crash once more, during the mount that follows."""
        recording = self._recording
        activity = Activity("recovery", recording.activities[point.event_count - 1].full)
        key = f"{point.key}:{point.event_count}:{variant}"
        cases = [
            (again, again_variant)
            for again in points_again(key, point, variant, found)
            for again_variant in variants(again)
        ]
        choose = random.Random(digest)
        for again, again_variant in choose.sample(cases, min(AGAIN_VARIANTS_MAX, len(cases))):
            try:
                medium = medium_of(again, again_variant)
                self._judge_again(medium, activity, recording.allowed(point.event_count))
            except Exception as error:
                self._violated(f"{key}/{again.event_count}:{again_variant}", error)

    def _judge_again(self, medium: MemoryDevice, activity: Activity, allowed: range) -> None:
        digest = medium_digest(self._recording.start, medium)
        found = self._found.get(digest)
        if found is None:
            self._count(digest, activity)
            found = self._found[digest] = self._oracle.look(medium, digest, recovering=True)
        self._oracle.judge(found, medium, allowed)

    def _count(self, digest: int, activity: Activity) -> None:
        self._outcome.counts[activity] += 1
        self._outcome.digests.add(digest)

    def _violated(self, state_id: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        self._outcome.violations.append(f"LFS_CRASH={state_id} replays: {text}")


def points_again(key: str, point: Point, variant: str, found: Found) -> Iterator[Point]:
    """Yield the points of the mount after a crash at ``point``.

    After a kill only those count where something older than the mount can still
    be lost: the others are those of a power cut that lost nothing.
    """
    if variant != "killed":
        yield from points(key, medium_of(point, variant), found.events)
        return
    for again in points(key, point.durable, found.events, point.pending):
        if again.pending and again.pending[0] is point.pending[0]:
            yield again


def replay_state(state_id: str) -> str:
    """Check one state alone, in every way; return what is violated, or nothing.

    Raises ValueError when there is no such state.
    """
    first, _, second = state_id.partition("/")
    name, count_text, variant = [*first.split(":", 2), "", ""][:3]
    if count_text == "power":
        run = next(run_schedule(name, variant))
        return run if "replays" in run else ""
    try:
        recording = record(name)
        if count_text == "run":
            return ""
        oracle = Oracle(recording)
        point = point_at(name, recording.start, recording.events, int(count_text))
        if variant.startswith("flip"):
            check_flip(recording, point, variant)
            return ""
        medium = medium_of(point, variant)
        mending = recording.struck[point.event_count]
        found = oracle.look(medium, 0, everything=not second, recovering=mending)
        if second:
            again_text, _, again_variant = second.partition(":")
            again = next(
                again
                for again in points_again(first, point, variant, found)
                if again.event_count == int(again_text)
            )
            medium = medium_of(again, again_variant)
            found = oracle.look(medium, 0, everything=True, recovering=True)
        request_count = oracle.judge(found, medium, recording.allowed(point.event_count))
        oracle.check_goes_on(medium, request_count, mending)
    except ValueError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


# ----------------------------------------------------------------------- processes


@dataclass
class Totals:
    """What has been found so far, over all workloads."""

    counts: Counter[Activity] = field(default_factory=Counter)
    states_of_kind: Counter[str] = field(default_factory=Counter)
    digests: set[int] = field(default_factory=set)
    workload_count: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Add what one worker found; a medium that two workloads share counts once."""
        before = len(self.digests)
        self.digests |= outcome.digests
        self.states_of_kind[kind_of(outcome.task.workload)] += len(self.digests) - before
        self.counts += outcome.counts
        self.workload_count += 1
        self.violations += outcome.violations

    def lines(self) -> Iterator[str]:
        """Yield a report in lines."""
        yield f"{len(self.digests)} distinct states of {self.workload_count} workloads"
        yield from (
            f"  {kind}: {count}" for kind, count in sorted(self.states_of_kind.items()) if count
        )
        yield "states by what was going on"
        yield from (f"  {activity}: {count}" for activity, count in sorted(self.counts.items()))
        yield f"{len(self.violations)} violations"


def explore_all(tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
    """Explore in a process for each core; yields outcomes as they come.

    Closing the iterator leaves what has not been begun undone.
    """
    worker_count = os.cpu_count() or 1
    remaining = iter(tasks)
    running: set[Future[Outcome]] = set()
    # New interpreters: forking one that may have threads is not safe.
    pool = ProcessPoolExecutor(worker_count, multiprocessing.get_context("spawn"), _ignore_signals)
    try:
        while True:
            for task in islice(remaining, 2 * worker_count - len(running)):
                running.add(pool.submit(explore, task))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_signals() -> None:
    """Leave Ctrl-C, which the terminal sends to every process, to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
