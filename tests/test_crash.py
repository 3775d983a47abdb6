"""A crash at every single device write of a scripted workload.

The workload runs once over a ``RecordingDevice``.  Then, for each write, the
medium is rebuilt as a power cut may leave it:

- ``cut``      this write and all before it arrived, nothing after;
- ``torn-K``   the same, but of this write only some 512-byte sectors;
- ``lost-N``   the same, but write N, not flushed by then, never arrived: all of
  them in turn when the next event is a flush, else the newest and a few others.

Every such medium must be clean by ``fsck``, mount without it, hold exactly the
tree after some prefix of the requests, no shorter than what the last ``sync``
covered (P1 and P2).  A part of them must also take new writes that last.

Failures print ids; ``LFS_CRASH=ID pytest tests/test_crash.py`` replays one.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import pytest

from fsck.check import check_device
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, Flush, Mark, RecordingDevice, Write, replay
from lfs.filesystem import Filesystem
from tests.client import Client, Data, Refused, Request
from tests.model import Model
from tests.state import TreeState, state_difference, state_digest, tree_state
from tests.volumes import ROOT_MODE, format_small, mount
from tests.workload import REGULAR, workload

SECTOR_BYTES = 512
DEVICE_BYTES = 12 * 1024 * 1024
CONTENT_BYTES_MAX = 4 * 1024 * 1024
REQUEST_COUNT = 260
LATER_NS = 10**15
FAILURES_MAX = 5


class Setup(NamedTuple):
    """A workload and the geometry it runs on."""

    seed: int
    block_bytes: int
    segment_blocks: int


SETUPS = [Setup(1, 4096, 16), Setup(2, 1024, 64)]


@dataclass(frozen=True)
class Recording:
    """What a run left: the empty medium, its events, and the tree after each request.

    ``synced`` and ``begun`` tell for a count of events how many requests were
    durable by then, and how many had come in.
    """

    start: MemoryDevice
    events: list[Event]
    requests: list[Request]
    digests: list[bytes]
    synced: list[int]
    begun: list[int]


class Crash(NamedTuple):
    """One state of the medium: the first ``event_count`` events, changed as ``variant`` says."""

    setup: Setup
    event_count: int
    variant: str

    def __str__(self) -> str:
        return f"{self.setup.seed}:{self.event_count}:{self.variant}"


@cache
def record(setup: Setup) -> Recording:
    """Run the workload and return the recording."""
    start = MemoryDevice(DEVICE_BYTES)
    format_small(start, setup.block_bytes, setup.segment_blocks)
    device = RecordingDevice(start.copy())
    model = Client(Model(0, ROOT_MODE))
    client = Client(mount(device, 0))
    requests = workload(setup.seed, REQUEST_COUNT, CONTENT_BYTES_MAX)
    digests = [state_digest(tree_state(model.tree, 0))]
    for number, request in enumerate(requests, 1):
        device.mark("begun")
        outcome = client.run(request)
        assert outcome == model.run(request), (number, request, outcome)
        if request.call in ("sync", "checkpoint"):
            device.mark(f"synced {number}")
        digests.append(state_digest(tree_state(model.tree, 0)))
    synced, begun = [0], [0]
    for event in device.events:
        word, _, number_text = (event.text if isinstance(event, Mark) else "").partition(" ")
        begun.append(begun[-1] + (word == "begun"))
        synced.append(int(number_text) if word == "synced" else synced[-1])
    return Recording(start, device.events, requests, digests, synced, begun)


def media(setup: Setup) -> Iterator[tuple[Crash, MemoryDevice]]:
    """Yield every crash of a recording with the medium it leaves."""
    recording = record(setup)
    durable, before = recording.start.copy(), recording.start.copy()
    unflushed: list[int] = []
    for at, event in enumerate(recording.events):
        if isinstance(event, Write):
            yield from _torn(setup, at, event, before)
        replay([event], before)
        if isinstance(event, Flush):
            durable, unflushed = before.copy(), []
        elif isinstance(event, Write):
            yield Crash(setup, at + 1, "cut"), before.copy()
            unflushed.append(at)
            following = recording.events[at + 1 : at + 2]
            before_flush = not following or isinstance(following[0], Flush)
            for lost in unflushed[:-1] if before_flush else _some(unflushed[:-1]):
                medium = durable.copy()
                replay((recording.events[kept] for kept in unflushed if kept != lost), medium)
                yield Crash(setup, at + 1, f"lost-{lost}"), medium


def _some(unflushed: list[int]) -> list[int]:
    """Return the newest, and others ever farther back."""
    return [unflushed[-(1 << n)] for n in range(8) if 1 << n <= len(unflushed)]


def _torn(
    setup: Setup, at: int, event: Write, before: MemoryDevice
) -> Iterator[tuple[Crash, MemoryDevice]]:
    """Yield media on which only the first, only the last, or every other sector arrived."""
    sectors = range(len(event.data) // SECTOR_BYTES)
    if len(sectors) < 2:
        return
    kept_of = {
        "first": sectors[:1],
        "half": sectors[: len(sectors) // 2],
        "not-first": sectors[1:],
        "not-last": sectors[:-1],
        "odd": sectors[1::2],
    }
    for name, kept in kept_of.items():
        medium = before.copy()
        for sector in kept:
            start = sector * SECTOR_BYTES
            medium.write(event.offset_bytes + start, [event.data[start : start + SECTOR_BYTES]])
        yield Crash(setup, at + 1, f"torn-{name}"), medium


def check_crash(crash: Crash, medium: MemoryDevice) -> None:
    """Check all that must hold of a medium after a crash."""
    recording = record(crash.setup)
    problems = check_device(medium.copy(), data=True).problems
    assert not problems, problems
    filesystem = mount(medium, LATER_NS)
    found = tree_state(filesystem, LATER_NS)
    allowed = range(recording.synced[crash.event_count], recording.begun[crash.event_count] + 1)
    if state_digest(found) not in [recording.digests[made] for made in allowed]:
        expected = _expected_state(recording, allowed.start)
        raise AssertionError(
            f"the tree is not that after {allowed.start} to {allowed.stop - 1} requests; "
            f"from the first it differs in\n{state_difference(expected, found)}"
        )
    if crash.variant == "cut" or crash.event_count % 4 == 0:
        _check_new_writes(filesystem, medium)


def _expected_state(recording: Recording, request_count: int) -> TreeState:
    model = Client(Model(0, ROOT_MODE))
    for request in recording.requests[:request_count]:
        model.run(request)
    return tree_state(model.tree, 0)


def _check_new_writes(filesystem: Filesystem, medium: MemoryDevice) -> None:
    """Write and sync, crash again, and find the same."""
    client = Client(filesystem)
    for call in (
        ("create", b"/after", REGULAR, 0),
        ("write", b"/after", 100, Data(1, 20_000)),
        ("sync",),
    ):
        outcome = client.run(Request(call[0], call[1:], LATER_NS + 1))
        assert not isinstance(outcome, Refused), (call, outcome)
    expected = tree_state(filesystem, LATER_NS)
    found = tree_state(mount(medium, LATER_NS), LATER_NS)
    assert found == expected, state_difference(expected, found)


def check_share(setup: Setup, share: int, share_count: int) -> tuple[int, list[str]]:
    """Check every ``share_count``-th crash; return how many, and a line for each failure."""
    wanted = os.environ.get("LFS_CRASH")
    checked = 0
    failures: list[str] = []
    for number, (crash, medium) in enumerate(media(setup)):
        if str(crash) == wanted or (wanted is None and number % share_count == share):
            checked += 1
            try:
                check_crash(crash, medium)
            except Exception as error:
                failures.append(f"LFS_CRASH={crash} replays: {type(error).__name__}: {error}")
                if len(failures) == FAILURES_MAX:
                    break
    return checked, failures


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: f"seed{setup.seed}")
def test_crash_at_every_write(setup: Setup) -> None:
    share_count = os.cpu_count() or 1
    # A new interpreter for each share: forking one that may have threads is not safe.
    with ProcessPoolExecutor(share_count, multiprocessing.get_context("spawn")) as pool:
        shares = [pool.submit(check_share, setup, n, share_count) for n in range(share_count)]
        results = [share.result() for share in shares]
    failures = [line for _, lines in results for line in lines]
    assert not failures, "\n".join(failures)
    if "LFS_CRASH" not in os.environ:
        assert sum(checked for checked, _ in results) > 5 * REQUEST_COUNT
