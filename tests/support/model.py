"""A POSIX tree in dictionaries, with the calls of ``lfs.filesystem.Filesystem``.

The filesystem is held against this model, so the model is written to be
obviously right and for nothing else: no blocks, no cache, no disk.  It raises
the same ``FilesystemError`` for the same mistakes.
"""

from __future__ import annotations

import errno
import stat

from lfs.common.errors import FilesystemError
from lfs.ondisk import NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX
from tests.support import acls
from tests.support.names import PERMISSION_BITS, Names, Node

XATTR_CREATE = 1
XATTR_REPLACE = 2


class Model(Names):
    """The tree.  Calls, arguments and errors are those of the filesystem."""

    # ------------------------------------------------------------------------- contents

    def read(self, ino: int, offset: int, size: int, now_ns: int) -> bytes:
        """Return the bytes there are in ``size`` bytes from ``offset``."""
        return bytes(self.getattr(ino).data[offset : offset + size])

    def write(
        self, ino: int, offset: int, data: bytes, now_ns: int, privileged: bool = False
    ) -> int:
        """Put ``data`` at ``offset``; a gap before it reads as zeros."""
        node = self.getattr(ino)
        if not stat.S_ISREG(node.mode):
            raise FilesystemError(errno.EISDIR if stat.S_ISDIR(node.mode) else errno.EINVAL)
        if not data:
            return 0
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + len(data)] = data
        node.mtime_ns = now_ns
        return len(data)

    # ----------------------------------------------------------------------- attributes

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
    ) -> Node:
        """Change the fields that are not None."""
        node = self.getattr(ino)
        if size is not None:
            self._truncate(node, size, now_ns)
        if mode is not None:
            node.mode = stat.S_IFMT(node.mode) | mode & PERMISSION_BITS
            if acls.ACCESS in node.xattrs:
                entries = acls.entries_of(node.xattrs[acls.ACCESS])
                node.xattrs[acls.ACCESS] = acls.value_of(acls.after_chmod(entries, mode))
        node.uid = node.uid if uid is None else uid
        node.gid = node.gid if gid is None else gid
        node.mtime_ns = node.mtime_ns if mtime_ns is None else mtime_ns
        return node

    def _truncate(self, node: Node, size: int, now_ns: int) -> None:
        if stat.S_ISDIR(node.mode):
            raise FilesystemError(errno.EISDIR)
        if not stat.S_ISREG(node.mode):
            raise FilesystemError(errno.EINVAL)
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))
        node.mtime_ns = now_ns

    def listxattr(self, ino: int) -> list[bytes]:
        """Return the names of the attributes."""
        return sorted(self.getattr(ino).xattrs)

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """Return the value of an attribute."""
        xattrs = self.getattr(ino).xattrs
        if name not in xattrs:
            raise FilesystemError(errno.ENODATA)
        return xattrs[name]

    def setxattr(self, ino: int, name: bytes, value: bytes, now_ns: int, flags: int = 0) -> None:
        """Set an attribute; ``flags`` may ask that it be new, or that it exist."""
        node = self.getattr(ino)
        if len(name) > NAME_BYTES_MAX:
            raise FilesystemError(errno.ERANGE)
        if len(value) > XATTR_VALUE_BYTES_MAX:
            raise FilesystemError(errno.E2BIG)
        if name in (acls.ACCESS, acls.DEFAULT):
            self._check_list(node, name, value)
        if flags == XATTR_CREATE and name in node.xattrs:
            raise FilesystemError(errno.EEXIST)
        if flags == XATTR_REPLACE and name not in node.xattrs:
            raise FilesystemError(errno.ENODATA)
        node.xattrs[name] = value
        if name in (acls.ACCESS, acls.DEFAULT):
            self._apply_list(node, name)

    def _check_list(self, node: Node, name: bytes, value: bytes) -> None:
        """Refuse a list where there can be none; a list itself is taken for valid."""
        if stat.S_ISLNK(node.mode):
            raise FilesystemError(errno.EOPNOTSUPP)
        if name == acls.DEFAULT and value and not stat.S_ISDIR(node.mode):
            raise FilesystemError(errno.EACCES)

    def _apply_list(self, node: Node, name: bytes) -> None:
        """Let a list that was set rule the mode, and drop it when it says no more than that."""
        entries = acls.entries_of(node.xattrs[name])
        if name == acls.ACCESS and entries:
            node.mode = node.mode & ~0o777 | acls.mode_of(entries)
        if not entries or (name == acls.ACCESS and not acls.says_more_than_a_mode(entries)):
            del node.xattrs[name]

    def removexattr(self, ino: int, name: bytes, now_ns: int) -> None:
        """Remove an attribute."""
        self.getxattr(ino, name)
        del self.nodes[ino].xattrs[name]

    # ------------------------------------------------- what a model has no need of

    def sync(self, now_ns: int) -> None:
        """Do nothing: a model has no disk."""

    def checkpoint(self, now_ns: int) -> None:
        """Do nothing: a model has no disk."""

    def tick(self, now_ns: int, idle: bool) -> bool:
        """Do nothing, and nothing is left to do."""
        return False

    def remount(self) -> None:
        """Be what a mount finds: nothing is open, and orphans are gone."""
        for node in list(self.nodes.values()):
            node.open_count = 0
            self.forget(node.ino)
