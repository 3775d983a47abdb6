"""One run of a workload: what reached the device, and what was promised by when.

The run itself is held against the model: outcomes are equal, nothing that must
never be refused is, and what is refused for want of space changes nothing.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from lfs.device.base import BlockDevice
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, Mark, RecordingDevice, Write
from lfs.filesystem import Filesystem
from lfs.ondisk import (
    CHECKPOINT_REGION_BYTES,
    HEAD_AREA_BYTES,
    SUMMARY_CHECKPOINT,
    SUMMARY_CLEANER,
    SUMMARY_COMMIT,
    SUMMARY_JUMP,
)
from tests.crash.workloads.names import Workload, empty_medium, find
from tests.support.client import Client, Refused, Request
from tests.support.model import Model
from tests.support.state import state_digest, tree_state
from tests.support.volumes import ROOT_MODE

MAY_BE_REFUSED = frozenset(
    {"create", "mkdir", "symlink", "link", "write", "write_handle", "setxattr", "removexattr"}
    | {"rename"}
)
"""Calls that may need space; truncating may when it extends."""
_UNCHANGING = frozenset({"sync", "checkpoint", "tick", "open", "begin_commit", "finish_commit"})
_FULL_SHARE = 16

ACTIVITIES = ("commit", "write-out", "cleaner", "checkpoint", "region", "recovery")


class Activity(NamedTuple):
    """What the filesystem was doing at an event, and whether the disk was full."""

    name: str
    full: bool

    def __str__(self) -> str:
        return f"{self.name}, full disk" if self.full else self.name


@dataclass
class Recording:
    """What a run left.

    ``promised`` and ``begun`` tell for a count of events how many requests were
    durable by then, and how many had come in; ``digests`` has the tree after
    each count of requests.
    """

    workload: Workload
    start: MemoryDevice
    events: list[Event]
    digests: list[bytes]
    refused: frozenset[int]
    promised: list[int] = field(default_factory=lambda: [0])
    begun: list[int] = field(default_factory=lambda: [0])
    activities: list[Activity] = field(default_factory=list)
    struck: list[bool] = field(default_factory=lambda: [False])
    """For a count of events, whether a fault struck in the request that was going on."""
    counting: dict[int, int] = field(default_factory=dict)
    """For a flush that other requests came before, the count of events it was for.

    It may have flushed more, but the filesystem can't know that.
    """

    def __post_init__(self) -> None:
        """Read the marks among the events."""
        full = False
        names = activity_names(self.events)
        for event, name in zip(self.events, names, strict=True):
            word, _, rest = (event.text if isinstance(event, Mark) else "").partition(" ")
            self.begun.append(self.begun[-1] + (word == "begun"))
            self.promised.append(int(rest) if word == "promised" else self.promised[-1])
            full = word == "full" or (full and word != "roomy")
            self.activities.append(Activity(name, full))
            self.struck.append(False)
            if word == "struck":
                begun = self.begun.index(self.begun[-1])
                self.struck[begun:] = [True] * (len(self.struck) - begun)

    def allowed(self, event_count: int) -> range:
        """Return after how many requests the tree may be that a crash then leaves."""
        return range(self.promised[event_count], self.begun[event_count] + 1)

    def model_after(self, request_count: int) -> Client:
        """Return the model after the first requests and a remount."""
        model = Model(0, ROOT_MODE)
        client = Client(model)
        for number, request in enumerate(self.workload.requests[:request_count]):
            if number not in self.refused:
                run_on_model(client, request)
        model.remount()
        return Client(model)


def run_on_model(model: Client, request: Request) -> object:
    """Make a request of the model, which has no commits to begin or finish."""
    if request.call in ("begin_commit", "finish_commit"):
        return None
    return model.run(request)


class Runner:
    """Makes requests of a filesystem and of the model, and knows what was promised."""

    def __init__(self, filesystem: Filesystem, model: Client) -> None:
        """Go on from the same tree in both."""
        self.filesystem = filesystem
        self.client = Client(filesystem)
        self.model = model
        self._commits: list[tuple[int, int]] = []

    def run(self, number: int, request: Request) -> tuple[int, bool]:
        """Make request ``number``; return how many are durable now (0: as before).

        The second value tells whether it was refused for want of space.
        """
        filesystem = self.filesystem
        if request.call == "begin_commit":
            self._commits.append((filesystem.begin_commit(request.now_ns), number))
            return 0, False
        if request.call == "finish_commit":
            if not self._commits:
                # It was begun before the power went.
                return 0, False
            ticket, durable = self._commits.pop(0)
            filesystem.device.flush()
            filesystem.finish_commit(ticket)
            return durable, False
        before = self._size_before(request)
        outcome = self.client.run(request)
        if outcome == Refused(errno.errorcode[errno.ENOSPC]):
            grows = before is not None and int(request.arguments[1]) > before
            may_be = request.call in MAY_BE_REFUSED and not self._overwrites(request)
            assert may_be or grows, f"{request} refused: {outcome}"
            return 0, True
        expected = self.model.run(request)
        assert outcome == expected, f"{request}: {outcome!r} instead of {expected!r}"
        return (number if request.call in ("sync", "checkpoint") else 0), False

    def _overwrites(self, request: Request) -> bool:
        """Tell whether a request writes only to blocks that have a place on disk."""
        if request.call != "write":
            return False
        path, offset, data = request.arguments
        filesystem = self.filesystem
        block_bytes = filesystem.superblock.block_bytes
        end = int(offset) + len(data.bytes())
        blocks = range(int(offset) // block_bytes, -(-end // block_bytes))
        mapped = {
            block
            for first, _, count in filesystem.extents(self.client.ino(path))
            for block in range(first, first + count)
        }
        return mapped.issuperset(blocks)

    def _size_before(self, request: Request) -> int | None:
        """Return the size of the file that a request truncates."""
        if request.call != "truncate":
            return None
        state = self.model.run(Request("stat", request.arguments[:1], 0))
        return None if isinstance(state, Refused) else state.size  # type: ignore[attr-defined]


@lru_cache(maxsize=4)
def record(name: str) -> Recording:
    """Run the workload called ``name``; raises AssertionError when the run itself is wrong."""
    workload = find(name)
    start = empty_medium(workload.geometry)
    device = RecordingDevice(start.copy())
    faulty = FaultDevice(device, parse_plan(workload.plan)) if workload.plan else None
    disk: BlockDevice = faulty or device
    filesystem = Filesystem.mount(disk, 0, workload.options)
    model = Model(0, ROOT_MODE)
    runner = Runner(filesystem, Client(model))
    digests = [state_digest(tree_state(model, 0))]
    refused: set[int] = set()
    counting: dict[int, int] = {}
    tickets: list[int] = []
    fault_count = 0
    for number, request in enumerate(workload.requests, 1):
        device.mark("begun")
        durable, was_refused = runner.run(number, request)
        if request.call == "begin_commit":
            tickets.append(len(device.events))
        elif request.call == "finish_commit" and tickets:
            counting[len(device.events) - 1] = tickets.pop(0)
        if durable:
            device.mark(f"promised {durable}")
        if was_refused:
            refused.add(number - 1)
        if faulty is not None and len(faulty.faults) > fault_count:
            fault_count = len(faulty.faults)
            device.mark("struck")
        device.mark("roomy" if _is_roomy(filesystem) else "full")
        same = was_refused or request.call in _UNCHANGING
        digests.append(digests[-1] if same else state_digest(tree_state(model, 0)))
    return Recording(workload, start, device.events, digests, frozenset(refused), counting=counting)


def _is_roomy(filesystem: Filesystem) -> bool:
    space = filesystem.statfs()
    return space.available_blocks * _FULL_SHARE > space.total_blocks


def activity_names(events: Sequence[Event]) -> list[str]:
    """Return for each event what the filesystem was doing.

    A log write says so in its summary; what has none of its own (payload ahead
    of its summary, jumps, flushes, marks) belongs to the next that has.
    """
    names = [_own_activity(event) for event in events]
    following = "commit"
    for index in range(len(names) - 1, -1, -1):
        following = names[index] = names[index] or following
    return names


def _own_activity(event: Event) -> str:
    if not isinstance(event, Write):
        return ""
    if HEAD_AREA_BYTES <= event.offset_bytes < HEAD_AREA_BYTES + 2 * CHECKPOINT_REGION_BYTES:
        return "region"
    if event.data[:4] != b"LSUM":
        return ""
    (flags,) = struct.unpack_from("<H", event.data, 102)
    (record_count,) = struct.unpack_from("<I", event.data, 108)
    if flags & SUMMARY_JUMP:
        return ""
    if flags & SUMMARY_CLEANER:
        return "cleaner"
    if flags & SUMMARY_CHECKPOINT:
        return "checkpoint"
    return "commit" if flags & SUMMARY_COMMIT or record_count else "write-out"


def writes_of(events: Sequence[Event]) -> Iterator[Write]:
    """Yield the writes among ``events``."""
    return (event for event in events if isinstance(event, Write))
