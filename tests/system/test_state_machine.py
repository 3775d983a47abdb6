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

import copy
import os
import random
import stat

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fsck.check import check_device
from lfs.common import turns
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, Flush, RecordingDevice, Write, replay
from lfs.filesystem import Options
from lfs.ondisk import ROOT_INO
from tests.support import acls
from tests.support.client import Client, Data, Request
from tests.support.model import EXCHANGE, NO_REPLACE, WHITEOUT, XATTR_CREATE, XATTR_REPLACE, Model
from tests.support.state import state_difference, tree_state
from tests.support.volumes import ROOT_MODE, format_small, mount

DEVICE_BYTES = 12 * 1024 * 1024
# The model holds less than this, so that a refusal for want of space is a mistake.
CONTENT_BYTES_MAX = 5 * 1024 * 1024
STEP_NS = 20_000_000
SECTOR_BYTES = 512

_NAMES = [b"a", b"b", b"x", b"\xff\xfe\n", b"long" * 63]
_DEPTH_MAX = 5

# A rule draws a number and takes that one of the paths there are, or nothing there is.
picks = st.integers(0, 30)
names = st.sampled_from(_NAMES)
handles = st.integers(0, 2)
permissions = st.sampled_from([0o644, 0o600, 0o755, 0o000, 0o777])
offsets = st.one_of(
    st.integers(0, 5000),
    st.sampled_from([1024, 4096, 32 * 1024, 512 * 1024, 1024 * 1024]),
    st.integers(0, 2_000_000),
)
lengths = st.one_of(
    st.integers(0, 300),
    st.integers(1, 10_000),
    st.sampled_from([1024, 4096, 65536, 131072]),
    st.integers(1, 2_000_000),
)
data = st.builds(Data, st.integers(0, 1000), lengths)
values = st.builds(Data, st.integers(0, 1000), st.sampled_from([0, 1, 200, 3000, 65536, 65537]))
xattr_names = st.sampled_from([b"user.a", b"user.b", b"user." + b"n" * 250, b"user." + b"n" * 251])
umasks = st.sampled_from([0, 0o022, 0o077])
access_lists = st.fixed_dictionaries(
    {acls.USER_OBJ: st.just(6), acls.GROUP_OBJ: st.integers(0, 7), acls.OTHER: st.integers(0, 7)},
    optional={acls.user(5): st.integers(0, 7), acls.group(2**31): st.integers(0, 7)},
).flatmap(
    lambda entries: st.builds(
        lambda mask: entries | ({acls.MASK: mask} if len(entries) > 3 else {}), st.integers(0, 7)
    )
)
access_values = st.one_of(st.just(b""), access_lists.map(acls.value_of))


class FilesystemMachine(RuleBasedStateMachine):
    """One filesystem, one model, and the requests made since the last sync."""

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

    # ------------------------------------------------------------------ machinery

    def _mount(self) -> None:
        self.device = RecordingDevice(self.medium.copy())
        self.filesystem = mount(self.device, self.now_ns, self.options)
        self.client = Client(self.filesystem)

    def _settle(self) -> None:
        """Take the tree as it is for the shortest that may be found after a crash."""
        self.settled = copy.deepcopy(self.model)
        self.since: list[Request] = []
        self.begun: tuple[int, int, int] | None = None
        self.turn: tuple[turns.Flush, int, int] | None = None

    def _request(self, call: str, *arguments: object) -> None:
        """Make a request of both trees and compare what comes of it."""
        self.now_ns += STEP_NS
        request = Request(call, arguments, self.now_ns)
        expected = self.model.run(request)
        found = self.client.run(request)
        assert found == expected, f"{request}: expected {expected!r}, found {found!r}"
        self.since.append(request)

    @property
    def _model_tree(self) -> Model:
        tree = self.model.tree
        assert isinstance(tree, Model)
        return tree

    def _room(self) -> bool:
        nodes = self._model_tree.nodes.values()
        content_bytes = sum(len(node.data) + sum(map(len, node.xattrs.values())) for node in nodes)
        return content_bytes < CONTENT_BYTES_MAX

    def _paths(self, *types: int) -> list[bytes]:
        """Return the paths of inodes of these types, or all, in order."""
        nodes = self._model_tree.nodes
        found, pending = [], [(b"", ROOT_INO)]
        while pending:
            path, ino = pending.pop()
            if not types or stat.S_IFMT(nodes[ino].mode) in types:
                found.append(path)
            pending.extend((path + b"/" + name, at) for name, at in nodes[ino].entries.items())
        return sorted(found)

    def _any(self, pick: int) -> bytes:
        """Return a path of any type, rarely of nothing."""
        paths = [b"/missing", *self._paths()[1:]]
        return paths[pick % len(paths)]

    def _file(self, pick: int) -> bytes:
        """Return the path of a file, because the kernel writes to nothing else."""
        paths = self._paths(stat.S_IFREG)
        return paths[pick % len(paths)] if paths else b"/no/file"

    def _directory(self, pick: int) -> bytes:
        """Return the path of a directory, the root not among them if there is another."""
        paths = self._paths(stat.S_IFDIR)
        return paths[pick % len(paths)]

    def _place(self, pick: int, name: bytes) -> bytes:
        """Return a path in some directory, where there may be something or not."""
        directory = self._directory(pick)
        return (b"" if directory.count(b"/") >= _DEPTH_MAX else directory) + b"/" + name

    def _compare(self) -> None:
        expected = tree_state(self._model_tree, self.now_ns)
        found = tree_state(self.filesystem, self.now_ns)
        assert found == expected, state_difference(expected, found)

    # ---------------------------------------------------------------------- names

    @rule(pick=picks, name=names, mode=permissions, umask=umasks)
    def create(self, pick: int, name: bytes, mode: int, umask: int) -> None:
        self._request("create", self._place(pick, name), stat.S_IFREG | mode, 0, umask)

    @rule(pick=picks, name=names, kind=st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]))
    def mknod(self, pick: int, name: bytes, kind: int) -> None:
        rdev = 0x0105 if kind == stat.S_IFCHR else 0
        self._request("create", self._place(pick, name), kind | 0o600, rdev)

    @rule(pick=picks, name=names, mode=st.sampled_from([0o755, 0o700, 0o2775]), umask=umasks)
    def mkdir(self, pick: int, name: bytes, mode: int, umask: int) -> None:
        self._request("mkdir", self._place(pick, name), mode, umask)

    @rule(pick=picks, name=names, length=st.sampled_from([1, 100, 500, 1500, 4095, 4096]))
    def symlink(self, pick: int, name: bytes, length: int) -> None:
        self._request("symlink", self._place(pick, name), b"t" * length)

    @rule(pick=picks, new_pick=picks, name=names)
    def link(self, pick: int, new_pick: int, name: bytes) -> None:
        self._request("link", self._any(pick), self._place(new_pick, name))

    @rule(pick=picks)
    def unlink(self, pick: int) -> None:
        self._request("unlink", self._any(pick))

    @rule(pick=picks)
    def rmdir(self, pick: int) -> None:
        self._request("rmdir", self._any(pick))

    @rule(pick=picks, inside=st.booleans())
    def remove_directory(self, pick: int, inside: bool) -> None:
        path = self._directory(pick)
        if path:
            self._request("make_in_removed" if inside else "rmdir", path)

    @rule(
        pick=picks,
        new_pick=picks,
        name=names,
        flags=st.sampled_from([0, 0, NO_REPLACE, WHITEOUT, 3]),
    )
    def rename(self, pick: int, new_pick: int, name: bytes, flags: int) -> None:
        self._request("rename", self._any(pick), self._place(new_pick, name), flags)

    @rule(pick=picks, new_pick=picks, flags=st.sampled_from([0, 0, EXCHANGE, WHITEOUT]))
    def rename_over(self, pick: int, new_pick: int, flags: int) -> None:
        self._request("rename", self._any(pick), self._any(new_pick), flags)

    @rule(pick=picks)
    def list_names(self, pick: int) -> None:
        self._request("names", self._directory(pick))

    @rule(pick=picks)
    def too_long(self, pick: int) -> None:
        path = self._directory(pick) + b"/" + b"n" * 256
        self._request("create", path, stat.S_IFREG | 0o644, 0)
        self._request("stat", path)
        self._request("rename", self._any(pick), path, 0)

    # ------------------------------------------------------------------- contents

    @precondition(_room)
    @rule(pick=picks, offset=offsets, written=data)
    def write(self, pick: int, offset: int, written: Data) -> None:
        self._request("write", self._file(pick), offset, written)

    @precondition(_room)
    @rule(pick=picks, written=data, count=st.integers(2, 12), stride=st.integers(1, 40_000))
    def write_scattered(self, pick: int, written: Data, count: int, stride: int) -> None:
        """Overwrite many small parts at odd offsets."""
        path = self._file(pick)
        for index in range(count):
            piece = Data(written.seed + index, min(written.length, 5000))
            self._request("write", path, index * stride, piece)

    @rule(pick=picks, offset=offsets, size=lengths)
    def read(self, pick: int, offset: int, size: int) -> None:
        self._request("read", self._file(pick), offset, size)

    @precondition(_room)
    @rule(pick=picks, size=offsets)
    def truncate(self, pick: int, size: int) -> None:
        self._request("truncate", self._file(pick), size)

    @precondition(_room)
    @rule(
        pick=picks,
        count=st.integers(4, 9),
        kept=st.integers(0, 3),
        grown=st.sampled_from([0, 0, 1, 100]),
        then=st.sampled_from(["write", "truncate", "read", "cut", "unlink"]),
        at=st.integers(2, 9),
        steps=st.integers(0, 2),
    )
    def cut_in_steps(
        self, pick: int, count: int, kept: int, grown: int, then: str, at: int, steps: int
    ) -> None:
        """Cut a file whose windows are on disk, and meet what was cut off."""
        path = self._file(pick)
        window_bytes = self.filesystem.statfs().block_bytes ** 2 // 32
        count = min(count, CONTENT_BYTES_MAX // 4 // window_bytes)
        for index in range(count):
            self._request("write", path, index * window_bytes, Data(index, 700))
        self.begin_commit()
        self._request("truncate", path, kept * window_bytes // 3)
        self._request("tick", steps, True)
        if grown:
            self._request("truncate", path, kept * window_bytes // 3 + grown * 1000)
        offset = at % count * window_bytes + 300
        if then == "write":
            self._request("write", path, offset, Data(at, 900))
        elif then == "truncate":
            self._request("truncate", path, offset)
        elif then == "read":
            self._request("truncate", path, count * window_bytes)
            self._request("read", path, 0, count * window_bytes)
        elif then == "cut":
            self._request("write", path, offset, Data(at, 900))
            self.begin_commit()
            self._request("truncate", path, offset // 2)
        else:
            self._request("unlink", path)

    @rule(pick=picks)
    def truncate_what_has_no_size(self, pick: int) -> None:
        paths = self._paths(stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)
        self._request("truncate", paths[pick % len(paths)], 0)

    @rule(handle=handles, pick=picks)
    def open(self, handle: int, pick: int) -> None:
        self._request("open", handle, self._file(pick))

    @rule(handle=handles, pick=picks)
    def open_and_unlink(self, handle: int, pick: int) -> None:
        path = self._file(pick)
        self._request("open", handle, path)
        self._request("unlink", path)

    @rule(handle=handles)
    def close(self, handle: int) -> None:
        self._request("close", handle)

    @precondition(_room)
    @rule(handle=handles, offset=offsets, written=data)
    def write_handle(self, handle: int, offset: int, written: Data) -> None:
        self._request("write_handle", handle, offset, written)

    @precondition(_room)
    @rule(handle=handles, size=offsets)
    def truncate_handle(self, handle: int, size: int) -> None:
        self._request("truncate_handle", handle, size)

    @rule(handle=handles, pick=picks, name=names)
    def link_handle(self, handle: int, pick: int, name: bytes) -> None:
        self._request("link_handle", handle, self._place(pick, name))

    @rule(handle=handles)
    def stat_handle(self, handle: int) -> None:
        self._request("stat_handle", handle)

    # ----------------------------------------------------------------- attributes

    @rule(pick=picks, mode=permissions)
    def chmod(self, pick: int, mode: int) -> None:
        self._request("chmod", self._any(pick), mode)

    @rule(pick=picks, uid=st.sampled_from([0, 1000, 2**32 - 2]), gid=st.sampled_from([0, 7]))
    def chown(self, pick: int, uid: int, gid: int) -> None:
        self._request("chown", self._any(pick), uid, gid)

    @rule(pick=picks, mtime_ns=st.sampled_from([-1, 0, 1, 2**62]))
    def utime(self, pick: int, mtime_ns: int) -> None:
        self._request("utime", self._any(pick), mtime_ns)

    @precondition(_room)
    @rule(
        pick=picks,
        name=xattr_names,
        value=values,
        flags=st.sampled_from([0, 0, XATTR_CREATE, XATTR_REPLACE]),
    )
    def setxattr(self, pick: int, name: bytes, value: Data, flags: int) -> None:
        path = self._any(pick % 4)
        self._request("setxattr", path, name, value, flags)
        self._request("getxattr", path, name)

    @rule(pick=picks, name=xattr_names)
    def removexattr(self, pick: int, name: bytes) -> None:
        self._request("removexattr", self._any(pick % 4), name)

    @rule(
        pick=picks,
        name=st.sampled_from([acls.ACCESS, acls.DEFAULT]),
        value=access_values,
        flags=st.sampled_from([0, 0, 0, XATTR_CREATE, XATTR_REPLACE]),
    )
    def set_access_list(self, pick: int, name: bytes, value: bytes, flags: int) -> None:
        self._request("setxattr", self._any(pick), name, value, flags)

    @rule(pick=picks, value=access_values, mode=permissions)
    def set_access_list_and_mode(self, pick: int, value: bytes, mode: int) -> None:
        path = self._any(pick)
        self._request("setxattr", path, acls.ACCESS, value, 0)
        self._request("chmod", path, mode)
        self._request("stat", path)

    @rule(pick=picks, value=access_lists.map(acls.value_of), mode=permissions, umask=umasks)
    def inherit(self, pick: int, value: bytes, mode: int, umask: int) -> None:
        """Make files and directories where a default list rules."""
        path = self._place(pick, b"").rstrip(b"/")
        self._request("setxattr", path, acls.DEFAULT, value, 0)
        self._request("mkdir", path + b"/a", mode, umask)
        self._request("create", path + b"/x", stat.S_IFREG | mode, 0, umask)

    @rule(pick=picks, name=st.sampled_from([acls.ACCESS, acls.DEFAULT]))
    def remove_access_list(self, pick: int, name: bytes) -> None:
        self._request("getxattr", self._any(pick), name)
        self._request("removexattr", self._any(pick), name)

    @rule(pick=picks)
    def look(self, pick: int) -> None:
        self._request("stat", self._any(pick))

    # -------------------------------------------------------- the whole filesystem

    @rule()
    def sync(self) -> None:
        self._request("sync")
        self._settle()

    @precondition(lambda self: self.turn is None)
    @rule()
    def begin_commit(self) -> None:
        """Log everything, as the first part of an fsync whose flush takes a while."""
        self.now_ns += STEP_NS
        ticket = self.filesystem.begin_commit(self.now_ns)
        if self.begun is None:
            self.begun = (ticket, len(self.since), len(self.device.events))

    @precondition(lambda self: self.begun is not None)
    @rule()
    def finish_commit(self) -> None:
        """End that flush: what was written since it began need not have been part of it."""
        assert self.begun is not None
        ticket, request_count, event_count = self.begun
        self.filesystem.finish_commit(ticket)
        self._settle_first(request_count, event_count)
        self.begun = None

    def _settle_first(self, request_count: int, event_count: int) -> None:
        """Take note that a flush lasted from ``event_count`` to now."""
        self.device.events.insert(event_count, Flush())
        for request in self.since[:request_count]:
            self.settled.run(request)
        del self.since[:request_count]

    @precondition(lambda self: self.turn is None and self.begun is None)
    @rule(idle=st.booleans(), seconds=st.sampled_from([0, 6, 61]))
    def begin_turn(self, idle: bool, seconds: int) -> None:
        """Do background work up to a flush that takes a while, if it needs one soon."""
        self.now_ns += seconds * 1_000_000_000 + STEP_NS
        for _ in range(5):
            turn = self.filesystem.begin_tick(self.now_ns, idle)
            if turn.flush is not None:
                self.turn = (turn.flush, len(self.since), len(self.device.events))
            if turn.flush is not None or not turn.more:
                break

    @precondition(lambda self: self.turn is not None)
    @rule()
    def finish_turn(self) -> None:
        """End that flush, as ``finish_commit`` does."""
        assert self.turn is not None
        flush, request_count, event_count = self.turn
        self.filesystem.finish_flush(flush)
        self._settle_first(request_count, event_count)
        self.turn = None

    @rule()
    def checkpoint(self) -> None:
        self._request("checkpoint")
        self._settle()

    @rule(steps=st.integers(1, 20), idle=st.booleans(), seconds=st.sampled_from([0, 1, 60]))
    def tick(self, steps: int, idle: bool, seconds: int) -> None:
        self.now_ns += seconds * 1_000_000_000
        self._request("tick", steps, idle)

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

    def _close_handles(self) -> None:
        self.model.handles.clear()
        self._model_tree.remount()

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
    max_examples=_long_examples or 400,
    stateful_step_count=80,
    derandomize=not _long_examples,
)
