"""A disk that lies: what it damaged is reported, and nothing else is missing (P3).

The same workload runs again and again over a ``FaultDevice``, each time with
one lie: one write lost, misdirected, torn, or with a flipped bit; bits that
flip at rest; reads that return an old version, the wrong bits, or an error.  A request
may then fail with ``EIO``; never may it do anything else but what the model
does, and never may anything but a ``FilesystemError`` come out.

After an unmount and a mount by an honest disk every path of the model is there
and right, or fails with ``EIO``, and then the error names a block that the lie
had touched.  After lies about flushes and a power cut what can be read is the tree
after one prefix of the requests, or the mount is refused with the reason.

A failure prints the setup and the plan's text, which replay it.
"""

from __future__ import annotations

import errno
import re
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from fsck.check import check_device
from lfs.common.errors import DamageError, FilesystemError, FormatError
from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from tests.support.client import Client, Refused
from tests.support.model import Model
from tests.support.state import FileState, TreeState, tree_state
from tests.support.volumes import ROOT_MODE, format_small, mount
from tests.support.workload import workload

DEVICE_BYTES = 12 << 20
BLOCK_BYTES = 4096
SEGMENT_BLOCKS = 64
CONTENT_BYTES_MAX = 3 << 20
REQUEST_COUNT = 110
LATER_NS = 10**15
LOOK_EVERY = 7
CHANGED = re.compile(r"blocks? (\d+)(?:\+(\d+))?")


@dataclass
class Run:
    """A workload on a lying disk, up to its end or to the first change that failed for good."""

    medium: MemoryDevice
    device: FaultDevice
    model: Model
    states: list[TreeState] = field(default_factory=list)
    synced_count: int = 1
    """States up to the last one that a sync had made durable."""
    gave_up: bool = False
    """Whether the filesystem had turned read-only before the unmount."""
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def touched(self, address: int, count: int) -> bool:
        """Tell whether a lie was about one of these blocks."""
        start, end = address * BLOCK_BYTES, (address + count) * BLOCK_BYTES
        return any(
            fault.offset_bytes < end and start < fault.offset_bytes + fault.length_bytes
            for fault in self.device.faults
        )

    def explain(self, path: bytes, error: FilesystemError) -> None:
        """Note a problem unless ``error`` is damage at a place that was lied about."""
        text = error.strerror or ""
        places = [(int(first), int(count or 1)) for first, count in CHANGED.findall(text)]
        if not isinstance(error, DamageError) or not places:
            self.problems.append(f"{path!r}: {error!r} names no damaged block")
        elif not any(self.touched(*place) for place in places):
            self.problems.append(f"{path!r}: {text}, where nothing was wrong")


def start() -> MemoryDevice:
    """Return an empty filesystem."""
    medium = MemoryDevice(DEVICE_BYTES)
    format_small(medium, BLOCK_BYTES, SEGMENT_BLOCKS)
    return medium


REQUESTS = workload(5, REQUEST_COUNT, CONTENT_BYTES_MAX)
MODEL_STATES: dict[tuple[int, ...], TreeState] = {}
"""The model's trees by the numbers of the requests that made them: most runs share them."""


def state_after(model: Model, done: list[int]) -> TreeState:
    """Return the model's tree after the requests ``done``."""
    key = tuple(done)
    if key not in MODEL_STATES:
        MODEL_STATES[key] = tree_state(model, 0)
    return MODEL_STATES[key]


def run(plan: str) -> Run:
    """Run the workload; a request that fails with EIO is left out of the model."""
    medium = start()
    device = FaultDevice(medium, parse_plan(plan))
    model = Model(0, ROOT_MODE)
    one = Run(medium, device, model)
    done: list[int] = []
    one.states.append(state_after(model, done))
    try:
        filesystem = Filesystem.mount(device, 0, report=one.lines.append)
    except (FilesystemError, FormatError):
        return one
    client, mirror = Client(filesystem), Client(model)
    for number, request in enumerate(REQUESTS):
        outcome = client.run(request)
        one.gave_up = filesystem.read_only
        if not device.powered or one.gave_up:
            # The request may be part of the last commit, or not.
            mirror.run(request)
            one.states.append(state_after(model, [*done, number]))
            return one
        if outcome != Refused("EIO"):
            expected = mirror.run(request)
            done.append(number)
            if outcome != expected:
                one.problems.append(f"request {number} {request}: {outcome}, not {expected}")
        one.states.append(state_after(model, done))
        if request.call in ("sync", "checkpoint") and not isinstance(outcome, Refused):
            one.synced_count = len(one.states)
        if number % LOOK_EVERY == 0:
            look(one, filesystem)
    with suppress(FilesystemError):
        filesystem.unmount(LATER_NS)
    return one


def look(one: Run, filesystem: Filesystem) -> int:
    """Compare every path with the model; return how many cannot be read."""
    client = Client(filesystem)
    unreadable = 0
    for path, expected in one.states[-1].items():
        try:
            found = client.stat(path, now_ns=LATER_NS)
        except FilesystemError as error:
            unreadable += 1
            one.explain(path, error)
            continue
        if not _same(found, expected):
            one.problems.append(f"{path!r} is {found}, not {expected}")
    return unreadable


def _same(found: FileState, expected: FileState) -> bool:
    return found._replace(same_as=b"") == expected._replace(same_as=b"")


def check_after_unmount(one: Run) -> None:
    """Mount by a disk that tells the truth; everything is there but what the lies touched."""
    problems = check_device(one.medium.copy(), data=True).problems
    refusal: Exception | None = None
    try:
        filesystem = mount(one.medium, LATER_NS)
    except (DamageError, FormatError) as error:
        refusal = error
    if refusal is not None:
        one.problems.append(f"a mount after an unmount was refused: {refusal}")
    elif look(one, filesystem) and not problems:
        one.problems.append("fsck finds nothing wrong with what can't be read")


def check_after_cut(one: Run) -> None:
    """Mount after lies about flushes and a power cut: one prefix of the requests, or a refusal."""
    try:
        filesystem = mount(one.medium, LATER_NS)
    except (DamageError, FormatError):
        return
    client = Client(filesystem)
    found: dict[bytes, FileState | None] = {}
    for path in {path for state in one.states for path in state}:
        try:
            found[path] = client.stat(path, now_ns=LATER_NS)
        except DamageError:
            continue
        except FilesystemError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            found[path] = None
    if not any(_agrees(found, state) for state in one.states):
        one.problems.append("what can be read is the tree after no prefix of the requests")


def check_after_error(one: Run) -> None:
    """Mount what a failed write or flush left: whole, and all that had been synced."""
    problems = check_device(one.medium.copy(), data=True).problems
    one.problems.extend(map(str, problems))
    found = tree_state(mount(one.medium, LATER_NS), LATER_NS)
    if found not in one.states[one.synced_count - 1 :]:
        one.problems.append("the tree lacks what was synced, or is none that ever was")


def _agrees(found: dict[bytes, FileState | None], state: TreeState) -> bool:
    return all(
        path not in state if seen is None else path in state and _same(seen, state[path])
        for path, seen in found.items()
    )


WRITE_COUNT = 72
READ_COUNT = 142
FLUSH_COUNT = 24
ONE_WRITE = [
    f"seed {number}; {lie} on write nth {number}"
    for lie in ("loss 100%", "misdirect 100%", "torn 100%", "corrupt 100%")
    for number in range(1, WRITE_COUNT + 1, 2)
]
ONE_READ = [
    f"seed {number}; {lie} on read nth {number}"
    for lie in ("stale 100%", "corrupt 100%", "error EIO")
    for number in range(1, READ_COUNT + 1, 8)
]
AT_REST = [f"seed {number}; corrupt rest 100% nth {number}" for number in range(1, 400, 37)]
MANY = [
    f"seed {seed}; loss 1%; corrupt 1%; misdirect 1%; torn 1%; stale 2%; corrupt rest 1%"
    for seed in range(16)
]
WRITE_ERRORS = [
    *(f"error EIO on write nth {number}" for number in range(1, WRITE_COUNT + 1)),
    *(f"error EIO partial on write nth {number}" for number in range(1, WRITE_COUNT + 1)),
]
FINAL_ERRORS = [
    *(f"error EIO on flush nth {number}" for number in range(2, FLUSH_COUNT + 1, 2)),
    *(f"error ENOSPC on write nth {number}" for number in range(2, WRITE_COUNT + 1, 4)),
    *(f"vanish on write nth {number}" for number in range(2, WRITE_COUNT + 1, 4)),
]
FLUSHES = [
    f"seed {number}; ignore-flush 50%; reorder 30%; cut at {number} survive any"
    for number in range(1, WRITE_COUNT + 1)
]


def test_lies_none_told_and_nothing_is_amiss() -> None:
    one = run("seed 0")
    check_after_unmount(one)
    assert not one.problems
    assert not one.lines
    assert len(one.states) == REQUEST_COUNT + 1
    operations = one.device.statistics
    # The lies below are told at every so many-th of these.
    assert operations["write"].count == WRITE_COUNT
    assert operations["read"].count == READ_COUNT
    assert operations["flush"].count == FLUSH_COUNT


@pytest.mark.parametrize("plan", [*ONE_WRITE, *ONE_READ, *AT_REST])
def test_lies_one_is_reported_and_everything_else_is_there(plan: str) -> None:
    one = run(plan)
    check_after_unmount(one)
    assert not one.problems, "\n".join([plan, *map(str, one.device.faults), *one.problems])


@pytest.mark.parametrize("plan", MANY)
def test_lies_many_are_reported(plan: str) -> None:
    one = run(plan)
    assert not one.problems, "\n".join([plan, *map(str, one.device.faults), *one.problems])


@pytest.mark.parametrize("plan", FLUSHES)
def test_lies_about_flushes_are_refused_or_leave_a_prefix(plan: str) -> None:
    one = run(plan)
    check_after_cut(one)
    assert not one.problems, "\n".join([plan, *map(str, one.device.faults), *one.problems])


@pytest.mark.parametrize("plan", WRITE_ERRORS)
def test_error_of_one_write_is_made_good_elsewhere(plan: str) -> None:
    one = run(plan)
    assert not one.gave_up, plan
    assert one.device.faults, plan
    assert len(one.lines) == 1, one.lines
    one.synced_count = len(one.states)
    check_after_error(one)
    check_after_unmount(one)
    assert not one.problems, "\n".join([plan, *map(str, one.device.faults), *one.problems])


@pytest.mark.parametrize("plan", FINAL_ERRORS)
def test_error_of_a_flush_or_of_a_lost_disk_ends_writing_and_loses_nothing_durable(
    plan: str,
) -> None:
    one = run(plan)
    check_after_error(one)
    assert one.gave_up or len(one.states) == REQUEST_COUNT + 1, plan
    assert not one.problems, "\n".join([plan, *map(str, one.device.faults), *one.problems])
