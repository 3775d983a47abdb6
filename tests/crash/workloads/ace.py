"""Enumerated workloads: every short sequence of operations on a few files.

After ACE, the generator of bounded black-box crash testing: what breaks a
filesystem at a crash breaks it within a few operations on few files.  Workload
``number`` of length n is made in ACE's four phases:

1. the *skeleton*: which n operations, and
2. their *parameters*: together one of ``OPERATIONS`` for each place;
3. *persistence points*: after each operation nothing, a sync, a checkpoint, a
   commit whose flush comes only after the next operation, or a turn of
   background work after the commit interval; after the last one not nothing;
4. *dependencies*: files that must exist first are made in a prologue, which
   ends with a sync or a checkpoint; what an earlier operation took away is made
   again, and what is in the way is removed, right before the operation.

The digits of ``number`` in mixed radix choose, so any workload is found without
listing those before it.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lfs.common.errors import FilesystemError
from lfs.ondisk import ROOT_INO
from tests.support.client import Client, Data, Request
from tests.support.model import Model
from tests.support.names import EXCHANGE, NO_REPLACE, WHITEOUT
from tests.support.volumes import ROOT_MODE

REGULAR = stat.S_IFREG | 0o644
STEP_NS = 50_000_000
COMMIT_INTERVAL_NS = 6_000_000_000
_SIZE_BYTES = 5000
_DIRECTORIES = frozenset({b"/A", b"/B", b"/A/C"})

Call = tuple[object, ...]


class Operation(NamedTuple):
    """Calls, the paths that must exist before them and those that must not."""

    calls: tuple[Call, ...]
    needs: tuple[bytes, ...] = ()
    absent: tuple[bytes, ...] = ()


def _one(*call: object, needs: Sequence[bytes] = (), absent: Sequence[bytes] = ()) -> Operation:
    return Operation((call,), tuple(needs), tuple(absent))


def _making() -> Iterator[Operation]:
    for path in (b"/foo", b"/bar", b"/A/foo", b"/A/bar", b"/B/foo"):
        yield _one("create", path, REGULAR, 0, absent=[path])
    for path in (b"/A", b"/B", b"/A/C"):
        yield _one("mkdir", path, 0o755, absent=[path])
    yield _one("create", b"/A/fifo", stat.S_IFIFO | 0o600, 0, absent=[b"/A/fifo"])
    yield _one("create", b"/device", stat.S_IFCHR | 0o600, 0x0103, absent=[b"/device"])
    yield _one("symlink", b"/bar", b"A/foo", absent=[b"/bar"])
    yield _one("symlink", b"/A/bar", b"long/" * 500, absent=[b"/A/bar"])
    for path, new_path in ((b"/foo", b"/bar"), (b"/foo", b"/A/bar"), (b"/A/foo", b"/B/foo")):
        yield _one("link", path, new_path, needs=[path], absent=[new_path])


def _writing() -> Iterator[Operation]:
    places = {
        "append": (_SIZE_BYTES, 4000),
        "append a little": (_SIZE_BYTES, 100),
        "in the middle": (1000, 2500),
        "whole blocks": (1024, 2048),
        "across the end": (4000, 4000),
        "hole": (70_000, 1500),
        "written out early": (0, 60_000),
    }
    for path in (b"/foo", b"/A/foo"):
        for seed, (offset, length) in enumerate(places.values(), 10):
            yield _one("write", path, offset, Data(seed, length), needs=[path])
    yield _one("write", b"/bar", 0, Data(20, 300_000), needs=[b"/bar"])
    yield _one("write", b"/A/small", 0, Data(21, 200), needs=[b"/A/small"])
    yield _one("write", b"/A/small", 100, Data(22, 1500), needs=[b"/A/small"])
    for size in (0, 150, 2048, 3000, 9000, 400_000):
        yield _one("truncate", b"/foo", size, needs=[b"/foo"])
    yield Operation(
        (("truncate", b"/A/foo", 1000), ("write", b"/A/foo", 3000, Data(23, 1000))), (b"/A/foo",)
    )


def _moving() -> Iterator[Operation]:
    for path, new_path in (
        (b"/foo", b"/bar"),
        (b"/A/foo", b"/B/foo"),
        (b"/A/foo", b"/foo"),
        (b"/foo", b"/A/bar"),
    ):
        yield _one("rename", path, new_path, 0, needs=[path], absent=[new_path])
        yield _one("rename", path, new_path, 0, needs=[path, new_path])
        yield _one("rename", path, new_path, EXCHANGE, needs=[path, new_path])
        yield _one("rename", path, new_path, WHITEOUT, needs=[path, new_path])
    yield _one("rename", b"/foo", b"/bar", WHITEOUT, needs=[b"/foo"], absent=[b"/bar"])
    yield _one("rename", b"/A", b"/B", WHITEOUT, needs=[b"/A", b"/A/foo"], absent=[b"/B"])
    yield _one("rename", b"/foo", b"/bar", NO_REPLACE, needs=[b"/foo"], absent=[b"/bar"])
    yield _one("rename", b"/A", b"/B", 0, needs=[b"/A", b"/A/foo"], absent=[b"/B"])
    yield _one("rename", b"/A", b"/B", 0, needs=[b"/A/foo", b"/B"], absent=[b"/B/foo"])
    yield _one("rename", b"/A", b"/B", EXCHANGE, needs=[b"/A/foo", b"/B/foo"])
    yield _one("rename", b"/A/C", b"/B/C", 0, needs=[b"/A/C", b"/B"], absent=[b"/B/C"])
    yield _one("rename", b"/A/C", b"/foo", EXCHANGE, needs=[b"/A/C", b"/foo"])
    yield Operation(
        (
            ("create", b"/new", REGULAR, 0),
            ("write", b"/new", 0, Data(24, 3000)),
            ("rename", b"/new", b"/foo", 0),
        ),
        (b"/foo",),
        (b"/new",),
    )


def _removing() -> Iterator[Operation]:
    for path in (b"/foo", b"/A/foo", b"/bar"):
        yield _one("unlink", path, needs=[path])
    yield Operation((("link", b"/foo", b"/bar"), ("unlink", b"/foo")), (b"/foo",), (b"/bar",))
    for path in (b"/foo", b"/A/foo"):
        yield Operation(
            (
                ("open", 0, path),
                ("unlink", path),
                ("write_handle", 0, 2000, Data(25, 6000)),
            ),
            (path,),
        )
    yield Operation((("open", 1, b"/bar"), ("unlink", b"/bar"), ("close", 1)), (b"/bar",))
    yield _one("rmdir", b"/A/C", needs=[b"/A/C"])
    yield _one("rmdir", b"/B", needs=[b"/B"], absent=[b"/B/foo", b"/B/C"])


def _marking() -> Iterator[Operation]:
    for path in (b"/foo", b"/A"):
        yield _one("setxattr", path, b"user.small", Data(26, 20), 0, needs=[path])
        yield _one("setxattr", path, b"user.large", Data(27, 3000), 0, needs=[path])
        yield Operation(
            (
                ("setxattr", path, b"user.gone", Data(28, 700), 0),
                ("removexattr", path, b"user.gone"),
            ),
            (path,),
        )
        yield _one("chmod", path, 0o711, needs=[path])
    yield _one("chown", b"/foo", 7, 8, needs=[b"/foo"])
    yield _one("utime", b"/A/foo", 12345, needs=[b"/A/foo"])


OPERATIONS = (*_making(), *_writing(), *_moving(), *_removing(), *_marking())
PERSISTENCE = ("nothing", "sync", "checkpoint", "overlap", "tick")
FOUNDATIONS = ("sync", "checkpoint")


def workload_count(length: int) -> int:
    """Return how many workloads of ``length`` operations there are."""
    choice_count = len(OPERATIONS) * len(PERSISTENCE)
    last_choice_count = len(OPERATIONS) * (len(PERSISTENCE) - 1)
    return math.prod([len(FOUNDATIONS), *[choice_count] * (length - 1), last_choice_count])


def workload(length: int, number: int) -> tuple[list[Request], int]:
    """Return workload ``number`` of ``length`` operations, and the length of its prologue."""
    if not 0 <= number < workload_count(length):
        raise ValueError(f"there are {workload_count(length)} workloads of {length} operations")
    number, foundation = divmod(number, len(FOUNDATIONS))
    operations, persistence = [], []
    for left in reversed(range(length)):
        choices = PERSISTENCE if left else PERSISTENCE[1:]
        number, operation = divmod(number, len(OPERATIONS))
        number, point = divmod(number, len(choices))
        operations.append(OPERATIONS[operation])
        persistence.append(choices[point])
    return _Script().complete(operations, persistence, FOUNDATIONS[foundation])


@dataclass
class _Script:
    """Requests so far, tried on a model that knows which paths exist."""

    def __post_init__(self) -> None:
        self.requests: list[Request] = []
        self.model = Client(Model(0, ROOT_MODE))
        self.now_ns = 0
        self.pending_flush = False

    def complete(
        self, operations: Iterable[Operation], persistence: Iterable[str], foundation: str
    ) -> tuple[list[Request], int]:
        """Add what the operations depend on, and their persistence points."""
        operations = list(operations)
        touched: set[bytes] = set()
        for operation in operations:
            for path in operation.needs:
                if path not in touched:
                    self._make(path)
            touched.update(operation.needs, operation.absent, *map(_paths, operation.calls))
        self._add(foundation)
        prologue_count = len(self.requests)
        for operation, point in zip(operations, persistence, strict=True):
            for path in operation.absent:
                self._remove(path)
                self._make(path.rpartition(b"/")[0])
            for path in operation.needs:
                self._make(path)
            for call in operation.calls:
                self._add(*call)
            self._persist(point)
        if self.pending_flush:
            self._add("finish_commit")
        return self.requests, prologue_count

    def _persist(self, point: str) -> None:
        was_pending, self.pending_flush = self.pending_flush, point == "overlap"
        match point:
            case "sync" | "checkpoint":
                self._add(point)
            case "overlap":
                self._add("begin_commit")
            case "tick":
                self.now_ns += COMMIT_INTERVAL_NS
                self._add("tick", 3, True)
        if was_pending:
            # Two commits may wait for one flush.
            self._add("finish_commit")

    def _add(self, *call: object) -> None:
        self.now_ns += STEP_NS
        request = Request(str(call[0]), call[1:], self.now_ns)
        self.requests.append(request)
        if request.call not in ("begin_commit", "finish_commit"):
            self.model.run(request)

    def _mode(self, path: bytes) -> int | None:
        """Return the mode of what is at ``path``, or None."""
        ino = ROOT_INO
        try:
            for name in path.split(b"/")[1:]:
                ino = self.model.tree.lookup(ino, name).ino
        except FilesystemError:
            return None
        return int(self.model.tree.getattr(ino).mode)

    def _make(self, path: bytes) -> None:
        if not path:
            return
        mode = self._mode(path)
        wants_directory = path in _DIRECTORIES
        if mode is not None:
            fits = stat.S_ISDIR(mode) if wants_directory else stat.S_ISREG(mode)
            if fits:
                return
            self._remove(path)
        self._make(path.rpartition(b"/")[0])
        if wants_directory:
            self._add("mkdir", path, 0o755)
            return
        self._add("create", path, REGULAR, 0)
        length = 60 if path.endswith(b"small") else _SIZE_BYTES
        self._add("write", path, 0, Data(len(path), length))

    def _remove(self, path: bytes) -> None:
        mode = self._mode(path)
        if mode is None:
            return
        if not stat.S_ISDIR(mode):
            self._add("unlink", path)
            return
        ino = ROOT_INO
        for name in path.split(b"/")[1:]:
            ino = self.model.tree.lookup(ino, name).ino
        for _, name, _, _ in list(self.model.tree.readdir(ino)):
            self._remove(path + b"/" + name)
        self._add("rmdir", path)


def _paths(call: Call) -> list[bytes]:
    """Return the arguments of a call that are paths."""
    return [argument for argument in call if isinstance(argument, bytes) and argument[:1] == b"/"]
