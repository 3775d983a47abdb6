"""Requests by path, made alike of the model and of the filesystem.

A ``Request`` is a value: it can be printed, kept in a list and made again of
another tree, at the same time as before.  A ``Client`` makes requests of one
tree in the place of the kernel: it looks paths up, remembers what is open, and
forgets an inode once it has neither name nor handle.
"""

from __future__ import annotations

import errno
import random
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from lfs.common.errors import FilesystemError
from lfs.ondisk import ROOT_INO
from tests.support.state import Attributes, FileState, Tree, file_state


class Data(NamedTuple):
    """``length`` bytes that look random and are told by a few numbers."""

    seed: int
    length: int

    def bytes(self) -> bytes:
        """Return the bytes themselves."""
        return _random_bytes(self.seed, self.length)


@lru_cache(maxsize=64)
def _random_bytes(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


class Request(NamedTuple):
    """A method of ``Client``, its arguments, and the time it is made."""

    call: str
    arguments: tuple[Any, ...]
    now_ns: int


class Refused(NamedTuple):
    """What a refused request returns: the name of its errno."""

    error: str


class WritableTree(Tree, Protocol):
    """The calls a client makes besides those of a dump."""

    def lookup(self, parent: int, name: bytes) -> Attributes: ...
    def create(
        self,
        parent: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        rdev: int = 0,
        umask: int = 0,
    ) -> Attributes: ...
    def mkdir(
        self,
        parent: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        umask: int = 0,
    ) -> Attributes: ...
    def symlink(
        self, parent: int, name: bytes, target: bytes, uid: int, gid: int, now_ns: int
    ) -> Attributes: ...
    def link(self, ino: int, parent: int, name: bytes, now_ns: int) -> Attributes: ...
    def unlink(self, parent: int, name: bytes, now_ns: int) -> Attributes: ...
    def rmdir(self, parent: int, name: bytes, now_ns: int) -> Attributes: ...
    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        now_ns: int,
        flags: int = 0,
    ) -> object: ...
    def open(self, ino: int) -> object: ...
    def release(self, ino: int) -> object: ...
    def forget(self, ino: int) -> object: ...
    def write(
        self, ino: int, offset: int, data: bytes, now_ns: int, privileged: bool = False
    ) -> int: ...
    def setattr(
        self,
        ino: int,
        now_ns: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        privileged: bool = False,
    ) -> Attributes: ...
    def setxattr(
        self, ino: int, name: bytes, value: bytes, now_ns: int, flags: int = 0
    ) -> object: ...
    def removexattr(self, ino: int, name: bytes, now_ns: int) -> object: ...
    def sync(self, now_ns: int) -> object: ...
    def checkpoint(self, now_ns: int) -> object: ...
    def tick(self, now_ns: int, idle: bool) -> bool: ...


class Client:
    """One tree's kernel.  Methods that change something return nothing, so that
    outcomes compare; ``run`` turns an error into a value."""

    def __init__(self, tree: WritableTree, user: tuple[int, int] = (1000, 1000)) -> None:
        """Serve ``tree`` as ``user``, a pair of user and group."""
        self.tree = tree
        self.user = user
        self.handles: dict[int, int] = {}

    def run(self, request: Request) -> object:
        """Make a request; return what it returns, or ``Refused``."""
        try:
            return getattr(self, request.call)(*request.arguments, now_ns=request.now_ns)
        except FilesystemError as error:
            return Refused(errno.errorcode[error.errno or 0])

    # -------------------------------------------------------------------- names

    def create(self, path: bytes, mode: int, rdev: int, umask: int = 0, *, now_ns: int) -> None:
        """Make a file, a fifo, a socket or a device."""
        self.tree.create(*self._parent(path), mode, *self.user, now_ns, rdev, umask)

    def mkdir(self, path: bytes, mode: int, umask: int = 0, *, now_ns: int) -> None:
        """Make a directory."""
        self.tree.mkdir(*self._parent(path), mode, *self.user, now_ns, umask)

    def symlink(self, path: bytes, target: bytes, *, now_ns: int) -> None:
        """Make a symlink."""
        self.tree.symlink(*self._parent(path), target, *self.user, now_ns)

    def link(self, path: bytes, new_path: bytes, *, now_ns: int) -> None:
        """Make a hard link."""
        self.tree.link(self.ino(path), *self._parent(new_path), now_ns)

    def unlink(self, path: bytes, *, now_ns: int) -> None:
        """Remove a name."""
        inode = self.tree.unlink(*self._parent(path), now_ns)
        self._let_go(inode.ino)

    def rmdir(self, path: bytes, *, now_ns: int) -> None:
        """Remove a directory."""
        inode = self.tree.rmdir(*self._parent(path), now_ns)
        self._let_go(inode.ino)

    def rename(self, path: bytes, new_path: bytes, flags: int, *, now_ns: int) -> None:
        """Rename, and forget what was replaced."""
        place, new_place = self._parent(path), self._parent(new_path)
        try:
            replaced = self.tree.lookup(*new_place).ino
        except FilesystemError:
            replaced = None
        self.tree.rename(*place, *new_place, now_ns, flags)
        if replaced is not None:
            self._let_go(replaced)

    def make_in_removed(self, path: bytes, *, now_ns: int) -> None:
        """Remove a directory and try to create in it, as a process may that is inside."""
        inode = self.tree.rmdir(*self._parent(path), now_ns)
        try:
            self.tree.create(inode.ino, b"late", 0o100644, *self.user, now_ns)
        finally:
            self._let_go(inode.ino)

    def names(self, path: bytes, *, now_ns: int) -> list[tuple[bytes, int]]:
        """Return names and types, read three entries at a time."""
        ino = self.ino(path)
        found: list[tuple[bytes, int]] = []
        cookie = 0
        while batch := list(self.tree.readdir(ino, cookie))[:3]:
            found.extend((name, file_type) for _, name, _, file_type in batch)
            cookie = batch[-1][0]
        return sorted(found)

    # ----------------------------------------------------------------- contents

    def write(self, path: bytes, offset: int, data: Data, *, now_ns: int) -> int:
        """Write into a file."""
        return self.tree.write(self.ino(path), offset, data.bytes(), now_ns)

    def read(self, path: bytes, offset: int, size: int, *, now_ns: int) -> bytes:
        """Read from a file."""
        return self.tree.read(self.ino(path), offset, size, now_ns)

    def truncate(self, path: bytes, size: int, *, now_ns: int) -> None:
        """Shorten or lengthen a file."""
        self.tree.setattr(self.ino(path), now_ns, size=size)

    def open(self, handle: int, path: bytes, *, now_ns: int) -> None:
        """Open a file under a handle of the caller's choice; an open handle is closed first."""
        ino = self.ino(path)
        self.close(handle, now_ns=now_ns)
        self.tree.open(ino)
        self.handles[handle] = ino

    def close(self, handle: int, *, now_ns: int) -> None:
        """Close a handle; nothing happens if it is not open."""
        ino = self.handles.pop(handle, None)
        if ino is not None:
            self.tree.release(ino)
            self._let_go(ino)

    def write_handle(self, handle: int, offset: int, data: Data, *, now_ns: int) -> int:
        """Write through a handle, whether the file still has a name or not."""
        return self.tree.write(self._handle(handle), offset, data.bytes(), now_ns)

    def truncate_handle(self, handle: int, size: int, *, now_ns: int) -> None:
        """Change the size of an open file."""
        self.tree.setattr(self._handle(handle), now_ns, size=size)

    def link_handle(self, handle: int, new_path: bytes, *, now_ns: int) -> None:
        """Give an open file a name; an orphan gets none."""
        self.tree.link(self._handle(handle), *self._parent(new_path), now_ns)

    def stat_handle(self, handle: int, *, now_ns: int) -> FileState:
        """Return the whole state of an open file."""
        return file_state(self.tree, self._handle(handle), b"", now_ns)

    # --------------------------------------------------------------- attributes

    def stat(self, path: bytes, *, now_ns: int) -> FileState:
        """Return the whole state of a file."""
        return file_state(self.tree, self.ino(path), path, now_ns)

    def chmod(self, path: bytes, mode: int, *, now_ns: int) -> None:
        """Change permissions."""
        self.tree.setattr(self.ino(path), now_ns, mode=mode, privileged=True)

    def chown(self, path: bytes, uid: int, gid: int, *, now_ns: int) -> None:
        """Change owner and group."""
        self.tree.setattr(self.ino(path), now_ns, uid=uid, gid=gid, privileged=True)

    def utime(self, path: bytes, mtime_ns: int, *, now_ns: int) -> None:
        """Set the time of the last change."""
        self.tree.setattr(self.ino(path), now_ns, atime_ns=now_ns, mtime_ns=mtime_ns)

    def setxattr(
        self, path: bytes, name: bytes, value: Data | bytes, flags: int, *, now_ns: int
    ) -> None:
        """Set an extended attribute."""
        value = value if isinstance(value, bytes) else value.bytes()
        self.tree.setxattr(self.ino(path), name, value, now_ns, flags)

    def getxattr(self, path: bytes, name: bytes, *, now_ns: int) -> bytes:
        """Return an extended attribute."""
        return self.tree.getxattr(self.ino(path), name)

    def removexattr(self, path: bytes, name: bytes, *, now_ns: int) -> None:
        """Remove an extended attribute."""
        self.tree.removexattr(self.ino(path), name, now_ns)

    # --------------------------------------------------------- the whole filesystem

    def sync(self, *, now_ns: int) -> None:
        """Make everything durable."""
        self.tree.sync(now_ns)

    def checkpoint(self, *, now_ns: int) -> None:
        """Write a checkpoint."""
        self.tree.checkpoint(now_ns)

    def tick(self, steps: int, idle: bool, *, now_ns: int) -> None:
        """Let the filesystem do up to ``steps`` steps of background work."""
        for _ in range(steps):
            if not self.tree.tick(now_ns, idle):
                break

    # ------------------------------------------------------------------ helpers

    def ino(self, path: bytes) -> int:
        ino = ROOT_INO
        for name in path.split(b"/"):
            if name:
                ino = self.tree.lookup(ino, name).ino
        return ino

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        directory, _, name = path.rpartition(b"/")
        return self.ino(directory), name

    def _handle(self, handle: int) -> int:
        if handle not in self.handles:
            raise FilesystemError(errno.EBADF)
        return self.handles[handle]

    def _let_go(self, ino: int) -> None:
        """Forget an inode as the kernel does once nothing refers to it."""
        if ino not in self.handles.values():
            self.tree.forget(ino)
