"""What must hold of a medium after a crash.

For every state: ``fsck`` finds nothing, it mounts, and the tree is that after
an allowed count of requests (P1, P2).  For a part of them, chosen by the state's
digest so that it is the same part every time: a file that is extended reads
zeros past its old end; the older checkpoint leads to the same tree; the
filesystem takes the workload's next requests, syncs, and a mount finds them,
from either checkpoint; it can be unmounted, and is clean then.
"""

from __future__ import annotations

import errno
import stat
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from fsck.check import check_device
from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.errors import FilesystemError
from lfs.device.base import BlockDevice
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, RecordingDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from tests.crash.recording import Recording, Runner
from tests.support.client import Data, Request
from tests.support.state import state_difference, state_digest, tree_state
from tests.support.volumes import without_newest_checkpoint

LATER_NS = 10**15
_STEP_NS = 1_000_000
_NEXT_REQUESTS_MAX = 4
PART_EVERY = 8
GOES_ON_EVERY = 6
REGULAR = stat.S_IFREG | 0o644
_AFTERWARDS = (
    ("create", b"/after", REGULAR, 0),
    ("write", b"/after", 100, Data(1, 20_000)),
)


class ViolationError(Exception):
    """A promise that does not hold; the text says which."""


class Found(NamedTuple):
    """What a mount of a state showed: the tree's digest, and the mount's own events."""

    digest: bytes
    events: list[Event]


@lru_cache(maxsize=1 << 14)
def _page_digest(index: int, page: bytes) -> int:
    raw = blake2b(page, digest_size=8, key=index.to_bytes(8, "little")).digest()
    return int.from_bytes(raw, "little")


def medium_digest(start: MemoryDevice, medium: MemoryDevice) -> int:
    """Return a number that is equal for equal media that began as ``start``."""
    digest = 0
    for index, page in medium.differing_pages(start):
        digest ^= _page_digest(index, page)
    return digest


def check_clean(device: BlockDevice) -> None:
    """Raise ViolationError unless ``fsck`` finds nothing."""
    problems = check_device(device, data=True).problems
    if problems:
        raise ViolationError("fsck: " + "; ".join(map(str, problems[:4])))


class Oracle:
    """Judges the states of one recording."""

    def __init__(self, recording: Recording) -> None:
        """Judge by what ``recording`` promised."""
        self._recording = recording
        self._options = recording.workload.options

    def look(
        self,
        medium: MemoryDevice,
        digest: int,
        everything: bool = False,
        recovering: bool = False,
    ) -> Found:
        """Check all that must hold whatever was promised; ``medium`` is left as it was.

        ``everything`` also checks what only a part of the states is checked for.
        Between the two checkpoints of a mount that is ``recovering``, or of a log
        that is being mended, only the newer one leads to the end of the log.  Raises
        ViolationError, or whatever a broken filesystem raises.
        """
        check_clean(medium)
        device = RecordingDevice(medium.copy())
        filesystem = self._mount(device)
        found = state_digest(tree_state(filesystem, LATER_NS))
        if everything or digest % PART_EVERY == 0:
            self._check_tails(device.device.copy())  # type: ignore[attr-defined]
        if not recovering and (everything or digest // PART_EVERY % PART_EVERY == 0):
            self._check_older(medium, found)
        return Found(found, device.events)

    def judge(self, found: Found, medium: MemoryDevice, allowed: range) -> int:
        """Return the count of requests after which the tree is; raises ViolationError for none."""
        digests = self._recording.digests
        for count in reversed(allowed):
            if digests[count] == found.digest:
                return count
        tree = tree_state(self._mount(medium.copy()), LATER_NS)
        expected = tree_state(self._recording.model_after(allowed.start).tree, 0)
        raise ViolationError(
            f"the tree is not that after {allowed.start} to {allowed.stop - 1} requests; "
            f"from the first it differs in\n{state_difference(expected, tree)}"
        )

    def _check_older(self, medium: MemoryDevice, expected: bytes) -> None:
        """Find the same tree from the older checkpoint, if both are whole."""
        older = without_newest_checkpoint(medium)
        if read_checkpoints(older, read_superblock(older)):
            # A full disk may have no room for the lost checkpoint again: then it is read-only.
            tree = tree_state(Filesystem.mount(older, LATER_NS, self._options), LATER_NS)
            if state_digest(tree) != expected:
                raise ViolationError("the older checkpoint leads to another tree")

    def _mount(self, device: BlockDevice) -> Filesystem:
        filesystem = Filesystem.mount(device, LATER_NS, self._options)
        if filesystem.read_only:
            raise ViolationError("the filesystem is read-only after the mount")
        return filesystem

    # ---------------------------------------------------------------- further life

    def check_goes_on(
        self, medium: MemoryDevice, request_count: int, mending: bool = False
    ) -> None:
        """Mount, make the next requests, sync, and find the same after a crash and in order.

        When the crash came while the log was being mended (``mending``), the older checkpoint
        leads to the end of the log again after the next one.
        """
        requests = self._recording.workload.requests[request_count:][:_NEXT_REQUESTS_MAX]
        calls = [Request(*one) for one in requests]
        calls += [Request(call[0], call[1:], 0) for call in _AFTERWARDS]
        filesystem = self._mount(medium)
        runner = Runner(filesystem, self._recording.model_after(request_count))
        for number, call in enumerate(calls, 1):
            if call.call in ("begin_commit", "sync"):
                filesystem.sync(LATER_NS + number * _STEP_NS)
                self._compare(runner, self._mount(medium.copy()), "after the next sync")
            elif call.call != "finish_commit":
                runner.run(number, call._replace(now_ns=LATER_NS + number * _STEP_NS))
        filesystem.sync(LATER_NS)
        crashed = medium.copy()
        check_clean(crashed)
        remounted = self._mount(crashed)
        self._compare(runner, remounted, "after a sync and a crash")
        if mending:
            filesystem.checkpoint(LATER_NS)
        older = Filesystem.mount(without_newest_checkpoint(medium), LATER_NS, self._options)
        self._compare(runner, older, "from the older checkpoint")
        remounted.unmount(LATER_NS)
        check_clean(crashed)
        self._compare(runner, self._mount(crashed), "after an unmount")

    def _compare(self, runner: Runner, filesystem: Filesystem, when: str) -> None:
        model = deepcopy(runner.model.tree)
        model.remount()  # type: ignore[attr-defined]
        expected = tree_state(model, LATER_NS)
        found = tree_state(filesystem, LATER_NS)
        if found != expected:
            raise ViolationError(f"{when} the tree differs in\n{state_difference(expected, found)}")

    def _check_tails(self, medium: MemoryDevice) -> None:
        """Extend every file and read zeros there: nothing lies in wait past its end."""
        options = replace(self._options, atime="noatime")
        filesystem = Filesystem.mount(medium, LATER_NS, options)
        block_bytes = filesystem.superblock.block_bytes
        pending = [ROOT_INO]
        while pending:
            for _, name, ino, file_type in list(filesystem.readdir(pending.pop())):
                if file_type == stat.S_IFDIR >> 12:
                    pending.append(ino)
                elif file_type == stat.S_IFREG >> 12:
                    self._check_tail(filesystem, name, ino, 2 * block_bytes)

    def _check_tail(self, filesystem: Filesystem, name: bytes, ino: int, more: int) -> None:
        size = filesystem.getattr(ino).size
        try:
            filesystem.setattr(ino, LATER_NS, size=size + more)
        except FilesystemError as error:
            if error.errno != errno.ENOSPC:
                raise
            return
        tail = filesystem.read(ino, size, more + 1, LATER_NS)
        if tail != bytes(more):
            raise ViolationError(f"{name!r}: past its end of {size} are bytes other than zeros")
