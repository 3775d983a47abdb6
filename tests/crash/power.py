"""Cutting the power of a running workload, again and again.

A *schedule* says after how many device writes the power goes; the count begins
anew at each mount, whose own writes are among them.  After a cut the workload
goes on where the recovered tree says that it is, so it must be re-entrant: what
is open is closed by a cut.  The schedules are those of littlefs's test runner:

- ``none``          never
- ``linear``        after 1 write, then after 2 more, then after 3 more, ...
- ``log``           after 1, 2, 4, 8, ... writes
- ``exhaustive-D``  every position, and in what follows again, D deep
- ``3,5,2``         after 3 writes, then 5, then 2, then never

A run is called ``WORKLOAD:power:3,5,2``, whatever schedule led to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, repeat

from lfs.device.base import BlockDevice, Buffer
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from tests.crash.oracle import ViolationError, check_clean
from tests.crash.recording import Runner, run_on_model
from tests.crash.workloads.names import Workload, empty_medium, find
from tests.support.client import Client, Request
from tests.support.model import Model
from tests.support.state import state_difference, state_digest, tree_state
from tests.support.volumes import ROOT_MODE

_FOREVER = 1 << 62
_CUTS_MAX = 1000


class PowerCutError(Exception):
    """The power is gone."""


class PowerDevice(BlockDevice):
    """Has power for ``write_count`` more writes; the next one finds none."""

    def __init__(self, medium: MemoryDevice, write_count: int) -> None:
        """Wrap ``medium``."""
        self.medium = medium
        self.size_bytes = medium.size_bytes
        self.left = write_count

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Read."""
        return self.medium.read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write; raises PowerCutError."""
        if self.left == 0:
            raise PowerCutError
        self.left -= 1
        self.medium.write(offset_bytes, buffers)

    def flush(self) -> None:
        """Do nothing: what arrived arrived in order."""

    def close(self) -> None:
        """Do nothing."""


@dataclass
class Progress:
    """How far a workload has come over all cuts.

    ``history`` is what happened to the tree: requests, and None for a remount.
    """

    workload: Workload
    medium: MemoryDevice
    history: list[Request | None] = field(default_factory=list)
    done_count: int = 0
    cuts: tuple[int, ...] = ()

    def copy(self) -> Progress:
        """Return a progress that goes its own way."""
        return Progress(
            self.workload, self.medium.copy(), [*self.history], self.done_count, self.cuts
        )

    def model(self) -> Client:
        """Return the model with what has happened so far."""
        client = Client(Model(0, ROOT_MODE))
        for request in self.history:
            if request is not None:
                run_on_model(client, request)
                continue
            client.tree.remount()  # type: ignore[attr-defined]
            client.handles.clear()
        return client

    def run(self, write_count: int) -> int | None:
        """Go on until the power goes; return the writes made, or None when it went.

        Raises ViolationError when the tree found is none that may be.
        """
        device = PowerDevice(self.medium, write_count)
        possible = [(self.done_count, [*self.history])]
        try:
            self._mount_and_run(device, possible)
        except PowerCutError:
            self.cuts += (write_count,)
            self._find_place(possible)
            return None
        return write_count - device.left

    def _mount_and_run(
        self, device: PowerDevice, possible: list[tuple[int, list[Request | None]]]
    ) -> None:
        """Mount and make the rest of the requests; ``possible`` gets what a cut may leave."""
        filesystem = Filesystem.mount(device, 0, self.workload.options)
        runner = Runner(filesystem, self.model())
        history = [*self.history]
        for number, request in enumerate(self.workload.requests[self.done_count :], 1):
            after = [*history, request]
            possible.append((self.done_count + number, after))
            durable, refused = runner.run(number, request)
            if refused:
                possible[-1] = (self.done_count + number, history)
            else:
                history = after
            if durable:
                # No cut leaves less than what a sync has covered.
                del possible[: -(number - durable + 1)]
        filesystem.unmount(0)
        self.history, self.done_count = history, len(self.workload.requests)
        self._compare(runner.model)

    def _compare(self, model: Client) -> None:
        model.tree.remount()  # type: ignore[attr-defined]
        filesystem = Filesystem.mount(self.medium.copy(), 0, self.workload.options)
        found, expected = tree_state(filesystem, 0), tree_state(model.tree, 0)
        if found != expected:
            raise ViolationError(state_difference(expected, found))
        check_clean(self.medium)

    def _find_place(self, possible: list[tuple[int, list[Request | None]]]) -> None:
        """Take the tree on the medium for the place to go on from."""
        check_clean(self.medium)
        found = tree_state(Filesystem.mount(self.medium.copy(), 0, self.workload.options), 0)
        for done_count, history in reversed(possible):
            self.history = [*history, None]
            if state_digest(tree_state(self.model().tree, 0)) == state_digest(found):
                self.done_count = done_count
                return
        self.history = [*possible[0][1], None]
        expected = tree_state(self.model().tree, 0)
        raise ViolationError(
            f"the tree is not that after {possible[0][0]} to {possible[-1][0]} requests; "
            f"from the first it differs in\n{state_difference(expected, found)}"
        )


def positions(schedule: str) -> Iterator[int]:
    """Return after how many writes each cut comes; raises ValueError for no schedule."""
    match schedule:
        case "none":
            return repeat(_FOREVER)
        case "linear":
            return count(1)
        case "log":
            return (1 << n for n in count())
    return chain(map(int, schedule.split(",")), repeat(_FOREVER))


def check_schedule(schedule: str) -> None:
    """Raise ValueError when there is no such schedule."""
    word, _, depth_text = schedule.partition("-")
    if word == "exhaustive":
        int(depth_text or "1")
    else:
        next(positions(schedule))


def run_schedule(name: str, schedule: str) -> Iterator[str]:
    """Run workload ``name`` under ``schedule``; yields the name of every run, or its violation.

    A violation is ``RUN replays: ...``.
    """
    workload = find(name)
    begun = Progress(workload, empty_medium(workload.geometry))
    word, _, depth_text = schedule.partition("-")
    if word == "exhaustive":
        yield from _run_exhaustive(begun, int(depth_text or "1"))
        return
    yield _attempt(begun, positions(schedule))


def _attempt(progress: Progress, cuts: Iterator[int]) -> str:
    try:
        for write_count in cuts:
            if progress.run(write_count) is not None:
                return _run_name(progress)
            assert len(progress.cuts) < _CUTS_MAX, "a workload must come to its end"
    except Exception as error:
        return f"LFS_CRASH={_run_name(progress)} replays: {type(error).__name__}: {error}"
    raise AssertionError("a schedule has no end")


def _run_name(progress: Progress) -> str:
    return f"{progress.workload.name}:power:{','.join(map(str, progress.cuts)) or 'none'}"


def _run_exhaustive(start: Progress, depth: int) -> Iterator[str]:
    """Cut at every position there is, and for ``depth`` above 1 at every one after it."""
    whole = start.copy()
    try:
        write_count = whole.run(_FOREVER)
    except Exception as error:
        yield f"LFS_CRASH={_run_name(whole)} replays: {type(error).__name__}: {error}"
        return
    yield _run_name(whole)
    assert write_count is not None
    for position in range(write_count if depth else 0):
        cut = start.copy()
        try:
            ended = cut.run(position)
        except Exception as error:
            yield f"LFS_CRASH={_run_name(cut)} replays: {type(error).__name__}: {error}"
            continue
        assert ended is None
        yield from _run_exhaustive(cut, depth - 1)
