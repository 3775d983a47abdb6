"""The names of a POSIX tree in dictionaries: the part of ``Model`` that makes and moves them."""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass, field

from lfs.common.errors import FilesystemError
from lfs.ondisk import NAME_BYTES_MAX, ROOT_INO, SYMLINK_BYTES_MAX
from tests.support import acls

NO_REPLACE = 1
EXCHANGE = 2
WHITEOUT = 4
PERMISSION_BITS = 0o7777


@dataclass
class Node:
    """One inode: what kind it is decides which of the last four fields it uses."""

    ino: int
    mode: int
    uid: int
    gid: int
    rdev: int
    nlink: int
    mtime_ns: int
    parent_ino: int = 0
    open_count: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[bytes, int] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""

    @property
    def size(self) -> int:
        """Return the size in bytes; of a directory the number of entries."""
        if stat.S_ISDIR(self.mode):
            return len(self.entries)
        return len(self.target) if stat.S_ISLNK(self.mode) else len(self.data)


class Names:
    """Inodes and the names that lead to them."""

    def __init__(self, now_ns: int = 0, root_mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Make a tree with an empty root directory."""
        root = Node(ROOT_INO, stat.S_IFDIR | root_mode, uid, gid, 0, 2, now_ns, ROOT_INO)
        self.nodes = {ROOT_INO: root}
        self.next_ino = ROOT_INO + 1

    # -------------------------------------------------------------------------- looking

    def lookup(self, parent: int, name: bytes) -> Node:
        """Return the inode called ``name`` in ``parent``."""
        _check_name(name)
        ino = self._directory(parent).entries.get(name)
        if ino is None:
            raise FilesystemError(errno.ENOENT)
        return self.nodes[ino]

    def getattr(self, ino: int) -> Node:
        """Return the inode itself."""
        node = self.nodes.get(ino)
        if node is None:
            raise FilesystemError(errno.ENOENT)
        return node

    def readdir(self, ino: int, cookie: int = 0) -> list[tuple[int, bytes, int, int]]:
        """Return the entries after ``cookie``, which counts from the first."""
        entries = sorted(self._directory(ino).entries.items())
        listed = [
            (position, name, child, self.nodes[child].mode >> 12)
            for position, (name, child) in enumerate(entries, 1)
        ]
        return listed[cookie:]

    def readlink(self, ino: int) -> bytes:
        """Return the target of a symlink."""
        node = self.getattr(ino)
        if not stat.S_ISLNK(node.mode):
            raise FilesystemError(errno.EINVAL)
        return node.target

    # --------------------------------------------------------------------------- making

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
    ) -> Node:
        """Make anything but a directory or a symlink."""
        node = self._add(parent, name, mode, uid, gid, now_ns, rdev)
        self._inherit(node, self.nodes[parent], mode, umask)
        return node

    def mkdir(
        self,
        parent: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        umask: int = 0,
    ) -> Node:
        """Make a directory."""
        node = self._add(parent, name, stat.S_IFDIR | mode & PERMISSION_BITS, uid, gid, now_ns)
        self._inherit(node, self.nodes[parent], mode, umask)
        node.nlink = 2
        node.parent_ino = parent
        self.nodes[parent].nlink += 1
        return node

    def symlink(
        self, parent: int, name: bytes, target: bytes, uid: int, gid: int, now_ns: int
    ) -> Node:
        """Make a symlink."""
        if len(target) > SYMLINK_BYTES_MAX:
            raise FilesystemError(errno.ENAMETOOLONG)
        node = self._add(parent, name, stat.S_IFLNK | 0o777, uid, gid, now_ns)
        node.target = target
        return node

    def link(self, ino: int, parent: int, name: bytes, now_ns: int) -> Node:
        """Give an inode one more name."""
        node = self.getattr(ino)
        if stat.S_ISDIR(node.mode):
            raise FilesystemError(errno.EPERM)
        directory = self._room_for(parent, name)
        if node.nlink == 0:
            raise FilesystemError(errno.ENOENT)
        directory.entries[name] = ino
        directory.mtime_ns = now_ns
        node.nlink += 1
        return node

    # ------------------------------------------------------------------------- removing

    def unlink(self, parent: int, name: bytes, now_ns: int) -> Node:
        """Take a name from anything but a directory."""
        node = self.lookup(parent, name)
        if stat.S_ISDIR(node.mode):
            raise FilesystemError(errno.EISDIR)
        self._take_name(parent, name, now_ns)
        return node

    def rmdir(self, parent: int, name: bytes, now_ns: int) -> Node:
        """Remove an empty directory."""
        node = self.lookup(parent, name)
        if not stat.S_ISDIR(node.mode):
            raise FilesystemError(errno.ENOTDIR)
        if node.entries:
            raise FilesystemError(errno.ENOTEMPTY)
        self._take_name(parent, name, now_ns)
        return node

    def open(self, ino: int) -> None:
        """Keep an inode even when its last name goes."""
        self.getattr(ino).open_count += 1

    def release(self, ino: int) -> None:
        """Undo one ``open``."""
        self.getattr(ino).open_count -= 1

    def forget(self, ino: int) -> None:
        """Remove an inode that has no name and is not open."""
        node = self.nodes.get(ino)
        if node is not None and node.nlink == 0 and node.open_count == 0:
            del self.nodes[ino]

    # ------------------------------------------------------------------------- renaming

    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        now_ns: int,
        flags: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        """Move ``name`` to ``new_name``, over what is there, not over it, or exchange both.

        ``WHITEOUT`` leaves a device 0:0 under the old name.
        """
        if flags not in (0, NO_REPLACE, EXCHANGE, WHITEOUT, NO_REPLACE | WHITEOUT):
            raise FilesystemError(errno.EINVAL)
        _check_name(new_name)
        node = self.lookup(parent, name)
        target_ino = self._living_directory(new_parent).entries.get(new_name)
        target = self.nodes[target_ino] if target_ino is not None else None
        self._check_rename(node, target, parent, new_parent, flags)
        if node is target:
            return
        if target is not None and flags != EXCHANGE:
            self._take_name(new_parent, new_name, now_ns)
        self._detach(parent, name, now_ns)
        if target is not None and flags == EXCHANGE:
            self._detach(new_parent, new_name, now_ns)
            self._attach(target, parent, name, now_ns)
        self._attach(node, new_parent, new_name, now_ns)
        if flags & WHITEOUT:
            self._add(parent, name, stat.S_IFCHR, uid, gid, now_ns)

    def _check_rename(
        self, node: Node, target: Node | None, parent: int, new_parent: int, flags: int
    ) -> None:
        if self._is_inside(new_parent, node):
            raise FilesystemError(errno.EINVAL)
        if flags == EXCHANGE and target is None:
            raise FilesystemError(errno.ENOENT)
        if flags & NO_REPLACE and target is not None:
            raise FilesystemError(errno.EEXIST)
        if target is None or target is node:
            return
        if flags == EXCHANGE:
            if self._is_inside(parent, target):
                raise FilesystemError(errno.EINVAL)
            return
        if stat.S_ISDIR(node.mode) and not stat.S_ISDIR(target.mode):
            raise FilesystemError(errno.ENOTDIR)
        if not stat.S_ISDIR(node.mode) and stat.S_ISDIR(target.mode):
            raise FilesystemError(errno.EISDIR)
        if target.entries:
            raise FilesystemError(errno.ENOTEMPTY)

    def _is_inside(self, ino: int, node: Node) -> bool:
        """Tell whether directory ``ino`` is ``node`` or somewhere below it."""
        while ino != node.ino and ino != ROOT_INO:
            ino = self.nodes[ino].parent_ino
        return ino == node.ino

    def _detach(self, parent: int, name: bytes, now_ns: int) -> None:
        directory = self.nodes[parent]
        node = self.nodes[directory.entries.pop(name)]
        directory.mtime_ns = now_ns
        directory.nlink -= stat.S_ISDIR(node.mode)

    def _attach(self, node: Node, parent: int, name: bytes, now_ns: int) -> None:
        directory = self.nodes[parent]
        directory.entries[name] = node.ino
        directory.mtime_ns = now_ns
        if stat.S_ISDIR(node.mode):
            directory.nlink += 1
            node.parent_ino = parent

    # -------------------------------------------------------------------------- helpers

    def _inherit(self, node: Node, directory: Node, mode: int, umask: int) -> None:
        """Give a new node the permissions and the lists that its directory wants."""
        value = directory.xattrs.get(acls.DEFAULT)
        if value is None:
            node.mode &= ~umask
            return
        default = acls.entries_of(value)
        node.mode = acls.inherited_mode(default, node.mode)
        if acls.says_more_than_a_mode(default):
            node.xattrs[acls.ACCESS] = acls.value_of(acls.inherited_list(default, mode))
        if stat.S_ISDIR(node.mode):
            node.xattrs[acls.DEFAULT] = value

    def _directory(self, ino: int) -> Node:
        node = self.getattr(ino)
        if not stat.S_ISDIR(node.mode):
            raise FilesystemError(errno.ENOTDIR)
        return node

    def _living_directory(self, ino: int) -> Node:
        directory = self._directory(ino)
        if directory.nlink == 0:
            raise FilesystemError(errno.ENOENT)
        return directory

    def _room_for(self, parent: int, name: bytes) -> Node:
        """Return the directory after checking that it can take ``name``."""
        _check_name(name)
        directory = self._living_directory(parent)
        if name in directory.entries:
            raise FilesystemError(errno.EEXIST)
        return directory

    def _add(
        self, parent: int, name: bytes, mode: int, uid: int, gid: int, now_ns: int, rdev: int = 0
    ) -> Node:
        directory = self._room_for(parent, name)
        if directory.mode & stat.S_ISGID:
            gid = directory.gid
            mode |= stat.S_ISGID if stat.S_ISDIR(mode) else 0
        node = Node(self.next_ino, mode, uid, gid, rdev, 1, now_ns)
        self.next_ino += 1
        self.nodes[node.ino] = node
        directory.entries[name] = node.ino
        directory.mtime_ns = now_ns
        return node

    def _take_name(self, parent: int, name: bytes, now_ns: int) -> None:
        """Remove a name and its link; the inode stays as an orphan until ``forget``."""
        node = self.lookup(parent, name)
        self._detach(parent, name, now_ns)
        node.nlink = 0 if stat.S_ISDIR(node.mode) else node.nlink - 1


def _check_name(name: bytes) -> None:
    if len(name) > NAME_BYTES_MAX:
        raise FilesystemError(errno.ENAMETOOLONG)
