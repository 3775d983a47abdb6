"""The filesystem and the model side by side, and the requests that are made of both."""

from __future__ import annotations

import copy
import stat

from hypothesis.stateful import RuleBasedStateMachine

from lfs.common import turns
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Flush, RecordingDevice
from lfs.filesystem import Options
from lfs.ondisk import ROOT_INO
from tests.support.client import Client, Request
from tests.support.model import Model
from tests.support.state import state_difference, tree_state
from tests.support.volumes import mount

# The model holds less than this, so that a refusal for want of space is a mistake.
CONTENT_BYTES_MAX = 5 * 1024 * 1024
STEP_NS = 20_000_000
_DEPTH_MAX = 5


class Trees(RuleBasedStateMachine):
    """One filesystem, one model, and the requests made since the last sync."""

    # What the first rule sets, before it mounts.
    options: Options
    now_ns: int
    medium: MemoryDevice
    model: Client

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

    def _settle_first(self, request_count: int, event_count: int) -> None:
        """Take note that a flush lasted from ``event_count`` to now."""
        self.device.events.insert(event_count, Flush())
        for request in self.since[:request_count]:
            self.settled.run(request)
        del self.since[:request_count]

    def _close_handles(self) -> None:
        self.model.handles.clear()
        self._model_tree.remount()


def has_room(machine: Trees) -> bool:
    """Tell whether the model may hold more."""
    nodes = machine._model_tree.nodes.values()
    content_bytes = sum(len(node.data) + sum(map(len, node.xattrs.values())) for node in nodes)
    return content_bytes < CONTENT_BYTES_MAX
