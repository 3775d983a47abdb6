"""A whole life of a filesystem in which one read fails: the first, the second, ... each of them.

The life: a mount after a crash, every kind of request, commits, checkpoints, cleaning,
rewriting scattered files, files without a name, an unmount, a mount of the clean image.
One read in it is answered ``EIO`` or with a flipped bit, once (the next answer is
right) or for good.  What must hold then is ``TABLE``, which is that of docs/design/damage.md,
"What is lost": how the structure that is hit may leave the filesystem.  Beside it,
whatever is hit:

- no mount is refused, and nothing but a ``FilesystemError`` comes out of a request;
- a request does what it does in the model or fails with ``EIO``, and then did nothing;
- a wrong answer that was right the next time ends nothing, and loses nothing;
- what is lost or ended is said in a line of the log;
- no call reads for ever;
- on a disk that is well again everything that was accepted is there, and fsck is
  content.

``LFS_TEST_LONG=1`` goes through all reads; without it one in so many is hit.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache

import pytest

from fsck.check import check_device
from lfs.common.errors import DamageError, FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import HEAD_AREA_BYTES, backup_superblock_offset_bytes
from tests.support.bad_reads import KINDS, BadReads, empty_caches
from tests.support.client import Client, Data, Refused, Request, WritableTree
from tests.support.model import Model
from tests.support.names import EXCHANGE
from tests.support.state import state_difference, tree_state
from tests.support.volumes import FIRST_SEGMENT_BYTES, ROOT_MODE, format_small, mount

BLOCK_BYTES = 1024
REGULAR = stat.S_IFREG | 0o644
SECOND_NS = 10**9
OPTIONS = Options(node_cache_bytes=1, atime="noatime")
READS_MAX_OF_ONE_CALL = 20_000
EVERY = 1 if os.environ.get("LFS_TEST_LONG") else 13
"""One in so many reads is hit, and more of the first, which a mount makes."""
FIRST_READS = 60

WRITABLE, READ_ONLY = "writable", "read-only"
TABLE = {
    "superblock": {WRITABLE},
    "checkpoint region": {WRITABLE},
    "usage page": {WRITABLE, READ_ONLY},
    "node": {WRITABLE, READ_ONLY},
    "summary": {WRITABLE, READ_ONLY},
    "data": {WRITABLE},
}
"""How a structure that stays bad may leave the filesystem; never is a mount refused."""
LOSING_COMMITS = ("summary", "data")
"""What may take along the last commits when it is bad at the mount after a crash."""

_MAGICS = {b"LUSE": "usage page", b"LNOD": "node", b"LSUM": "summary"}

Call = tuple[object, ...]
FILES = [b"/f%d" % number for number in range(8)]

BEFORE: list[Call] = [
    ("mkdir", b"/d", 0o755),
    ("mkdir", b"/e", 0o755),
    *(("create", path, REGULAR, 0) for path in FILES),
    *(("write", path, 0, Data(number, 3000 * number)) for number, path in enumerate(FILES)),
    *(("create", b"/d/%d" % number, REGULAR, 0) for number in range(60)),
    *(("setxattr", b"/f1", b"user.%d" % number, Data(number, 700), 0) for number in range(5)),
    ("write", b"/f2", 300_000, Data(5, 5000)),
    ("checkpoint",),
    ("write", b"/f3", 2000, Data(6, 9000)),
    ("unlink", b"/d/7"),
    ("sync",),
    ("checkpoint",),
    ("write", b"/f4", 100, Data(7, 2000)),
    ("sync",),
    ("create", b"/new", REGULAR, 0),
    ("write", b"/new", 0, Data(8, 8000)),
    ("open", 0, b"/f5"),
    ("unlink", b"/f5"),
    ("sync",),
    ("truncate", b"/f6", 5555),
    ("chmod", b"/d/9", 0o600),
    ("sync",),
]
"""What happened before the crash."""

LIFE: list[Call] = [
    ("names", b"/d"),
    ("stat", b"/f2"),
    ("create", b"/d/more", REGULAR, 0),
    ("write", b"/d/more", 10, Data(9, 7000)),
    *(("write", b"/f7", block * 2048 + 5, Data(block, 900)) for block in range(0, 10, 2)),
    ("sync",),
    *(("write", b"/f7", block * 2048 + 99, Data(block, 900)) for block in range(1, 10, 2)),
    ("sync",),
    ("truncate", b"/f2", 150_001),
    ("truncate", b"/f3", 100_000),
    ("write", b"/f3", 90_000, Data(10, 20_000)),
    ("open", 1, b"/f4"),
    ("unlink", b"/f4"),
    ("write_handle", 1, 3000, Data(11, 3000)),
    ("rename", b"/d/11", b"/e/11", 0),
    ("rename", b"/d/12", b"/d/13", 0),
    ("rename", b"/d/14", b"/e/11", EXCHANGE),
    ("rename", b"/e", b"/d/e", 0),
    ("link", b"/f6", b"/d/link"),
    ("symlink", b"/d/symlink", b"t" * 1500),
    ("setxattr", b"/f1", b"user.2", Data(12, 2500), 0),
    ("removexattr", b"/f1", b"user.0"),
    ("setxattr", b"/d/20", b"user.x", Data(13, 20), 0),
    ("chmod", b"/f1", 0o640),
    ("chown", b"/d/21", 5, 6),
    ("checkpoint",),
    ("mkdir", b"/empty", 0o700),
    ("rmdir", b"/empty"),
    *(("unlink", b"/d/%d" % number) for number in range(30, 50, 3)),
    ("close", 1),
    ("clean",),
    ("write", b"/f6", 0, Data(14, 12_000)),
    ("tick", 30, True),
    ("write", b"/d/50", 0, Data(15, 30)),
    ("sync",),
    ("names", b"/"),
    ("stat", b"/f6"),
]
"""What happens after it; ``clean`` is a round of the cleaner over everything."""

AFTERWARDS: list[Call] = [
    ("names", b"/d"),
    ("write", b"/f1", 100, Data(16, 4000)),
    ("create", b"/last", REGULAR, 0),
    ("unlink", b"/d/51"),
]
"""What happens after the second mount."""


def requests(calls: list[Call], start_ns: int) -> list[Request]:
    """Return calls as requests, ten seconds apart: each finds files that are quiet."""
    return [
        Request(str(call), tuple(arguments), start_ns + 10 * SECOND_NS * number)
        for number, (call, *arguments) in enumerate(calls)
    ]


@cache
def crashed() -> tuple[MemoryDevice, list[Model]]:
    """Return what a crash left, and the model after each commit since the last checkpoint."""
    medium = MemoryDevice(4 << 20)
    format_small(medium, BLOCK_BYTES, 64)
    filesystem, model = mount(medium, 0), Model(0, ROOT_MODE)
    client, mirror = Client(filesystem), Client(model)
    committed: list[Model] = []
    for request in requests(BEFORE, 1):
        assert not isinstance(client.run(request), Refused), request
        mirror.run(request)
        if request.call == "checkpoint":
            committed.clear()
        if request.call in ("sync", "checkpoint"):
            committed.append(deepcopy(model))
    for each in committed:
        each.remount()
    return medium, committed


@dataclass
class Life:
    """One life, in which the ``nth`` read goes wrong."""

    kind: str
    lasting: bool
    nth: int
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    """How the filesystem was left by each step."""
    is_behind: bool = False
    """Whether the first mount lost commits."""

    def __post_init__(self) -> None:
        """Begin with what the crash left."""
        medium, self.commits = crashed()
        self.medium = medium.copy()
        self.device = BadReads(self.medium, self.kind)
        self.shown = deepcopy(self.commits[-1])

    def run(self) -> int:
        """Live; returns how many reads there were."""
        self.device.arm(self.nth, self.lasting)
        filesystem = self.mount(10**12)
        self.choose_commit(filesystem)
        self.make(filesystem, requests(LIFE, 10**12))
        self.unmount(filesystem, 2 * 10**12)
        filesystem = self.mount(3 * 10**12)
        self.make(filesystem, requests(AFTERWARDS, 3 * 10**12))
        self.unmount(filesystem, 4 * 10**12)
        count = self.device.count
        self.device.arm(0)
        self.check_when_well()
        return count

    def mount(self, now_ns: int) -> Filesystem:
        """Mount, which no single fault keeps from being done."""
        self.device.begin_call(READS_MAX_OF_ONE_CALL)
        filesystem = Filesystem.mount(self.device, now_ns, OPTIONS, self.lines.append)
        self.shown.remount()
        self.note(filesystem, "mount")
        return filesystem

    def unmount(self, filesystem: Filesystem, now_ns: int) -> None:
        """Unmount; that fails only where nothing can be written any more."""
        self.device.begin_call(READS_MAX_OF_ONE_CALL)
        try:
            filesystem.unmount(now_ns)
        except FilesystemError as error:
            if not filesystem.read_only:
                self.problems.append(f"unmount: {error!r}")
        self.note(filesystem, "unmount")

    def note(self, filesystem: Filesystem, step: str) -> None:
        """Note how a step left the filesystem."""
        state = READ_ONLY if filesystem.read_only else WRITABLE
        if state == READ_ONLY and not any("read-only from now on" in line for line in self.lines):
            self.problems.append(f"{step}: read-only, and no line says so")
        self.states.append(state)

    def choose_commit(self, filesystem: Filesystem) -> None:
        """Find out which commit the mount shows, as far as it can be read."""
        paths = {path for model in self.commits for path in tree_state(model, 0)}
        found = {path: look(filesystem, path) for path in paths}
        readable = {path: state for path, state in found.items() if state != Refused("EIO")}
        for model in reversed(self.commits):
            if all(look(model, path) == state for path, state in readable.items()):
                self.shown = deepcopy(model)
                self.is_behind = model is not self.commits[-1]
                break
        else:
            self.problems.append("the tree after the mount is that of no commit")
        if self.is_behind and not self.lines:
            self.problems.append("commits are lost, and no line says so")

    def make(self, filesystem: Filesystem, calls: list[Request]) -> None:
        """Make requests of the filesystem and, if they succeed, of the model."""
        client, mirror = Client(filesystem), Client(self.shown)
        for request in calls:
            empty_caches(filesystem)
            self.device.begin_call(READS_MAX_OF_ONE_CALL)
            if request.call == "clean":
                clean(filesystem, request.now_ns)
                continue
            outcome = client.run(request)
            if outcome == Refused("EIO") and self.device.fired:
                continue
            if outcome == Refused("EROFS") and filesystem.read_only:
                continue
            expected = mirror.run(request)
            if outcome != expected:
                self.problems.append(f"{request}: {outcome}, not {expected}")

    def check_when_well(self) -> None:
        """Find everything that was accepted on a disk that is well, and nothing wrong."""
        filesystem = mount(self.medium, 5 * 10**12)
        if self.is_behind and self.states[0] == READ_ONLY:
            # Nothing has been written: what was lost is there again.
            self.shown = deepcopy(self.commits[-1])
        self.shown.remount()
        expected, found = tree_state(self.shown, 0), tree_state(filesystem, 0)
        if found != expected:
            self.problems.append(state_difference(expected, found))
        if filesystem.read_only:
            self.problems.append("read-only on a disk that is well")
        filesystem.unmount(6 * 10**12)
        self.problems.extend(map(str, check_device(self.medium, data=True).problems))

    def hold_against_table(self) -> None:
        """Note what is not as the table says."""
        structure = structure_of(self.device, self.medium)
        allowed = TABLE[structure] if self.lasting else {WRITABLE}
        if not allowed.issuperset(self.states):
            self.problems.append(f"{structure}: {self.states}")
        if self.is_behind and not (self.lasting and structure in LOSING_COMMITS):
            self.problems.append(f"{structure}: commits are lost")


def look(tree: WritableTree, path: bytes) -> object:
    """Return the state of a path, or how it is refused."""
    return Client(tree).run(Request("stat", (path,), 0))


def clean(filesystem: Filesystem, now_ns: int) -> None:
    """Clean all runs that can be."""
    cleaner = filesystem.core.cleaner
    if filesystem.read_only:
        return
    with suppress(DamageError):
        for _ in cleaner._clean(cleaner._victims("greedy", 0.999), now_ns):
            pass


def structure_of(device: BadReads, medium: MemoryDevice) -> str:
    """Return what was hit, by the words of the table."""
    offset = device.struck_bytes
    if offset < FIRST_SEGMENT_BYTES or offset >= backup_superblock_offset_bytes(medium.size_bytes):
        is_region = HEAD_AREA_BYTES <= offset < FIRST_SEGMENT_BYTES
        return "checkpoint region" if is_region else "superblock"
    return _MAGICS.get(device.struck_magic, "data")


def live(kind: str, lasting: bool, nth: int) -> int:
    """Live once; returns how many reads there were."""
    life = Life(kind, lasting, nth)
    count = life.run()
    if life.device.struck_bytes >= 0:
        life.hold_against_table()
    told = [f"replay: live({kind!r}, {lasting}, {nth})", *life.lines, *life.problems]
    assert not life.problems, "\n".join(told)
    return count


@cache
def read_count() -> int:
    """Return how many reads a life has when none of them goes wrong."""
    return live(KINDS[0], False, 0)


def test_life_on_a_disk_that_is_well_says_nothing() -> None:
    life = Life(KINDS[0], False, 0)
    life.run()
    assert not life.problems
    assert not [line for line in life.lines if not line.startswith("recovered")]
    assert set(life.states) == {WRITABLE}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_read_of_a_life_may_go_wrong(kind: str, lasting: bool) -> None:
    start = 1 + EVERY // 4 * (2 * KINDS.index(kind) + lasting)
    first = range(start % 4 + 1, FIRST_READS, min(4, EVERY))
    for nth in sorted({*first, *range(start, read_count() + 1, EVERY)}):
        live(kind, lasting, nth)
