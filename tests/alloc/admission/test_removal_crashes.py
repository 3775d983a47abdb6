"""Power cuts while something is given up: what was cut off or removed stays so."""

from __future__ import annotations

import random

import pytest

from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, RecordingDevice, replay
from lfs.filesystem import Options
from tests.alloc.admission.sparse import FILE, WINDOW_BYTES, check, drain, fresh_device
from tests.support.client import Client, Data, Request
from tests.support.model import Model
from tests.support.state import TreeState, tree_state
from tests.support.volumes import ROOT_MODE, mount

Call = tuple[str, tuple[object, ...]]


def _requests(choose: random.Random) -> list[Call]:
    """Return requests that write windows, cut, write where was cut, and remove."""
    path = choose.choice([b"/one", b"/two"])
    at = choose.randrange(14)
    spread: list[Call] = [
        ("write", (path, i * WINDOW_BYTES, Data(i, 600))) for i in range(at % 12 + 2)
    ]
    size = choose.choice([0, 1, at * WINDOW_BYTES, at * WINDOW_BYTES + 5000])
    return choose.choice(
        [
            spread,
            spread,
            [("truncate", (path, size))],
            [("truncate", (path, size)), ("truncate", (path, 14 * WINDOW_BYTES))],
            [("write", (path, at * WINDOW_BYTES + 99, Data(at, 2000)))],
            [("unlink", (path,)), ("create", (path, FILE, 0))],
            [
                ("rename", (path, b"/one" if path == b"/two" else b"/two", 0)),
                ("create", (path, FILE, 0)),
            ],
            [("tick", (choose.randrange(4), True))],
            [("sync", ())],
            [("checkpoint", ())],
        ]
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_at_any_moment_leaves_a_prefix_and_a_clean_disk(seed: int) -> None:
    choose = random.Random(seed)
    base = fresh_device()
    device = RecordingDevice(base.copy())
    options = Options(removal_items_max=choose.choice([1, 2, 3]))
    filesystem = mount(device, 1, options)
    tree, model = Client(filesystem), Client(Model(0, ROOT_MODE))
    now_ns = 2
    states = [tree_state(filesystem, 0)]
    for call, arguments in [
        ("create", (b"/one", FILE, 0)),
        ("create", (b"/two", FILE, 0)),
        *(each for _ in range(40) for each in _requests(choose)),
    ]:
        now_ns += 1
        request = Request(call, arguments, now_ns)
        assert tree.run(request) == model.run(request), (seed, request)
        if choose.random() < 0.4:
            filesystem.begin_commit(now_ns)
        states.append(tree_state(filesystem, 0))
    _look_at_crashes(base, device.events, states, options, seed)


def _look_at_crashes(
    base: MemoryDevice, events: list[Event], states: list[TreeState], options: Options, seed: int
) -> None:
    """Cut the power after some of the events and see what is left."""
    reached = 0
    for count in range(1, len(events), max(1, len(events) // 25)):
        medium = base.copy()
        replay(events[:count], medium)
        found = mount(medium, 1000, options)
        state = tree_state(found, 0)
        while states[reached] != state:
            reached += 1
            assert reached < len(states), f"seed {seed}, after event {count}: no prefix"
        check(medium)
        drain(found)
        assert tree_state(found, 0) == state, f"seed {seed}, after event {count}"
        found.unmount(1001)
        check(medium)
