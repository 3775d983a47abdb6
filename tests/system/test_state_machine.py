"""The filesystem in memory against the model, over all operations, remounts and crashes.

Every request is made of both and must have the same outcome, or the same errno.
At any moment the machine may lose power: of the writes since the last flush any
may be lost, or arrive in part.  The tree found afterwards must be the tree after
some prefix of the requests, no shorter than the last ``sync`` (P1 and P2), and
the run goes on from there.  At the end ``fsck`` must find nothing.

A failure prints the steps and a blob that replays them.  ``LFS_TEST_LONG=N``
runs N random examples instead of the same few every time.
"""

from __future__ import annotations

import os
import random
import stat

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from fsck.check import check_device
from lfs.common.compiled import is_compiled
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, Flush, Write, replay
from lfs.filesystem import Options
from tests.support.client import Client, Data
from tests.support.model import Model
from tests.support.state import state_difference, tree_state
from tests.support.volumes import ROOT_MODE, format_small
from tests.system.machine.requests import Requests

DEVICE_BYTES = 12 * 1024 * 1024
SECTOR_BYTES = 512


class FilesystemMachine(Requests):
    """Requests from a new filesystem on, with remounts and crashes between them."""

    @initialize(
        geometry=st.sampled_from([(1024, 64), (1024, 128), (4096, 64)]),
        removal_items=st.sampled_from([1, 2, 7, Options().removal_items_max]),
    )
    def format(self, geometry: tuple[int, int], removal_items: int) -> None:
        # Small steps, so that most files go in several.
        self.options = Options(removal_items_max=removal_items)
        self.now_ns = 1_000_000_000
        self.medium = MemoryDevice(DEVICE_BYTES)
        format_small(self.medium, *geometry)
        self.model = Client(Model(0, ROOT_MODE))
        self._mount()
        self._settle()
        for path in (b"/a", b"/b", b"/a/b"):
            self._request("mkdir", path, 0o755)
        for number, path in enumerate((b"/x", b"/a/x", b"/a/b/x")):
            self._request("create", path, stat.S_IFREG | 0o644, 0)
            self._request("write", path, 0, Data(number, 40 ** (number + 1)))

    @rule()
    def compare(self) -> None:
        self._compare()

    @rule()
    def remount(self) -> None:
        self._unmount()
        self._mount()
        self._compare()

    def _unmount(self) -> None:
        """Unmount both; the medium then has everything, and ``fsck`` agrees."""
        self.filesystem.unmount(self.now_ns)
        medium = self.device.device
        assert isinstance(medium, MemoryDevice)
        self.medium = medium
        self._close_handles()
        self._settle()
        problems = check_device(self.medium.copy(), data=True).problems
        assert not problems, problems

    @rule(committing=st.booleans(), lost=st.integers(0, 3), seed=st.integers(0, 2**16))
    def crash(self, committing: bool, lost: int, seed: int) -> None:
        """Lose power, and with it all or a part of ``lost`` writes that were not flushed."""
        if committing:
            self.begin_commit()
        replay(_after_loss(self.device.events, lost, random.Random(seed)), self.medium)
        self._mount()
        self._find_prefix()
        problems = check_device(self.medium.copy(), data=True).problems
        assert not problems, problems

    def _find_prefix(self) -> None:
        """Make the model the prefix of the requests that the crash left, or fail."""
        found = tree_state(self.filesystem, self.now_ns)
        self.model, requests = self.settled, iter(self.since)
        while (expected := tree_state(self._model_tree, self.now_ns)) != found:
            request = next(requests, None)
            assert request is not None, (
                "no prefix has this tree; from the longest it differs in\n"
                + (state_difference(expected, found))
            )
            self.model.run(request)
        self._close_handles()
        self._settle()

    @invariant()
    def counts_hold(self) -> None:
        space = self.filesystem.statfs()
        assert space.inode_count == len(self._model_tree.nodes)
        assert 0 <= space.available_blocks <= space.free_blocks <= space.total_blocks

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self._compare()
            self._unmount()


def _after_loss(events: list[Event], lost: int, choose: random.Random) -> list[Event]:
    """Return ``events`` with up to ``lost`` of the writes after the last flush cut short."""
    flushes = [at for at, event in enumerate(events) if isinstance(event, Flush)]
    start = flushes[-1] if flushes else 0
    unflushed = [at for at in range(start, len(events)) if isinstance(events[at], Write)]
    left = list(events)
    for at in choose.sample(unflushed, min(lost, len(unflushed))):
        event = events[at]
        assert isinstance(event, Write)
        arrived = choose.choice([0, choose.randrange(len(event.data) // SECTOR_BYTES)])
        left[at] = Write(event.offset_bytes, event.data[: arrived * SECTOR_BYTES])
    return left


_long_examples = int(os.environ.get("LFS_TEST_LONG", "0"))
TestFilesystemMachine = FilesystemMachine.TestCase
TestFilesystemMachine.settings = settings(
    # Both cores do the same in the same examples: on one of them a part of these is enough.
    max_examples=_long_examples or (100 if is_compiled() else 200),
    stateful_step_count=80,
    derandomize=not _long_examples,
)
