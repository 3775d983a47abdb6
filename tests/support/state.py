"""The state of a whole tree as a value, of the model and of the filesystem alike.

Inode numbers are left out (hard links are told by the first of their paths), so
that two states are equal exactly when a program could not tell the trees apart.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from lfs.ondisk import ROOT_INO


class Attributes(Protocol):
    """What a dump takes from an inode."""

    @property
    def ino(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def rdev(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...


class Tree(Protocol):
    """The calls a dump makes: the model has them, and the filesystem."""

    def getattr(self, ino: int) -> Attributes: ...
    def readdir(self, ino: int, cookie: int = 0) -> Iterable[tuple[int, bytes, int, int]]: ...
    def readlink(self, ino: int) -> bytes: ...
    def read(self, ino: int, offset: int, size: int, now_ns: int) -> bytes: ...
    def listxattr(self, ino: int) -> Iterable[bytes]: ...
    def getxattr(self, ino: int, name: bytes) -> bytes: ...


class FileState(NamedTuple):
    """Everything a program can find out about one path.

    ``same_as`` is the first path of the same inode, ``content`` the digest of a
    file's bytes or the target of a symlink.  A directory's size is left out:
    what it means differs between filesystems.
    """

    same_as: bytes
    mode: int
    uid: int
    gid: int
    rdev: int
    nlink: int
    size: int
    mtime_ns: int
    content: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]


TreeState = dict[bytes, FileState]


def tree_state(tree: Tree, now_ns: int) -> TreeState:
    """Return the whole tree by path."""
    state: TreeState = {}
    first_path_of: dict[int, bytes] = {}
    pending = [(b"/", ROOT_INO, stat.S_IFDIR >> 12)]
    while pending:
        path, ino, file_type = pending.pop()
        if ino not in first_path_of:
            first_path_of[ino] = path
            state[path] = file_state(tree, ino, path, now_ns)
        else:
            state[path] = state[first_path_of[ino]]
        assert state[path].mode >> 12 == file_type, (path, state[path], file_type)
        if stat.S_ISDIR(state[path].mode):
            # Descending order, because the list is used as a stack.
            for _, name, child, child_type in sorted(
                tree.readdir(ino), key=lambda entry: entry[1], reverse=True
            ):
                pending.append((path.rstrip(b"/") + b"/" + name, child, child_type))
    return state


def file_state(tree: Tree, ino: int, path: bytes, now_ns: int) -> FileState:
    """Return the state of one inode, under the path it goes by."""
    inode = tree.getattr(ino)
    is_directory = stat.S_ISDIR(inode.mode)
    content = b""
    if stat.S_ISREG(inode.mode):
        data = tree.read(ino, 0, inode.size + 1, now_ns)
        assert len(data) == inode.size, (path, len(data), inode.size)
        # Where processors have it built in, it is the fastest of hashlib.
        content = hashlib.sha256(data).digest()
    elif stat.S_ISLNK(inode.mode):
        content = tree.readlink(ino)
    return FileState(
        same_as=path,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        rdev=inode.rdev,
        nlink=inode.nlink,
        size=0 if is_directory else inode.size,
        mtime_ns=inode.mtime_ns,
        content=content,
        xattrs=tuple((name, tree.getxattr(ino, name)) for name in sorted(tree.listxattr(ino))),
    )


def state_digest(state: TreeState) -> bytes:
    """Return 16 bytes that are equal when the states are."""
    return hashlib.blake2b(repr(sorted(state.items())).encode(), digest_size=16).digest()


def state_difference(expected: TreeState, found: TreeState) -> str:
    """Say in a few lines how two states differ."""
    lines = []
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            lines.append(f"{path!r} is missing, expected {expected[path]}")
        elif path not in expected:
            lines.append(f"{path!r} should not be there: {found[path]}")
        else:
            lines.extend(
                f"{path!r}: {name} should be {wanted!r}, is {actual!r}"
                for name, wanted, actual in zip(
                    FileState._fields, expected[path], found[path], strict=True
                )
                if wanted != actual
            )
    return "\n".join(lines[:12])
