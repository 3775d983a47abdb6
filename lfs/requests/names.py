"""Names: making, finding, listing, moving and removing them.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFREG, S_IFSOCK

from lfs.common.errors import DamageError, FilesystemError
from lfs.files.directory import DirectoryEntry
from lfs.inodes.inode import S_IFDIR, S_IFMT, Inode
from lfs.ondisk import ROOT_INO, SYMLINK_BYTES_MAX
from lfs.requests.core import Core
from lfs.volume.arguments import OFFSET_MAX, check_bytes, check_number, check_owner, check_time

_CREATED = frozenset((S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK))


class NameRequests:
    """Names."""

    core: Core

    def create_root(self, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
        """Create the root directory of a filesystem that has no inode yet; raises EEXIST."""
        check_owner(mode, uid, gid)
        check_time(now_ns)
        if self.core.volume.state.next_ino > ROOT_INO:
            raise FilesystemError(errno.EEXIST, "there is a root directory")
        return self.core.names.create_root(mode, uid, gid, now_ns)

    def lookup(self, parent_ino: int, name: bytes) -> Inode:
        """Return the inode called ``name``; raises ENOENT, ENOTDIR, ENAMETOOLONG, ESTALE."""
        inode = self.find(parent_ino, name)
        if inode is None:
            raise FilesystemError(errno.ENOENT)
        return inode

    def find(self, parent_ino: int, name: bytes) -> Inode | None:
        """Return the inode called ``name``, or None; raises ENOTDIR, ENAMETOOLONG, ESTALE.

        Each name is looked for before it is made: that must not cost an exception.
        """
        if type(name) is not bytes:
            check_bytes("name", name)
        self.core.inodes.trim()
        return self.core.names.find(parent_ino, name)

    def create(
        self,
        parent_ino: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        rdev: int = 0,
        umask: int = 0,
    ) -> Inode:
        """Create a file, fifo, socket or device node: ``mode`` has the type bits.

        A default access list of the directory is inherited, and ``umask`` ignored.
        """
        check_owner(mode, uid, gid)
        if mode & S_IFMT not in _CREATED:
            raise FilesystemError(errno.EINVAL, f"mode {mode:#o} has no type to be created so")
        if rdev or umask:
            check_number("device number", rdev)
            check_number("umask", umask)
        self.core.begin(now_ns)
        inode = self.core.names.create(parent_ino, name, mode, uid, gid, now_ns, rdev, umask)
        self.core.end()
        return inode

    def mkdir(
        self,
        parent_ino: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        umask: int = 0,
    ) -> Inode:
        """Create a directory; ``umask`` as for ``create``."""
        check_owner(mode, uid, gid)
        check_number("umask", umask)
        self.core.begin(now_ns)
        mode = S_IFDIR | mode & ~S_IFMT
        inode = self.core.names.create(parent_ino, name, mode, uid, gid, now_ns, umask=umask)
        self.core.end()
        return inode

    def symlink(
        self, parent_ino: int, name: bytes, target: bytes, uid: int, gid: int, now_ns: int
    ) -> Inode:
        """Create a symbolic link."""
        check_owner(0, uid, gid)
        check_bytes("target", target)
        self.core.begin(now_ns)
        inode = self.core.names.symlink(parent_ino, name, target, uid, gid, now_ns)
        self.core.end()
        return inode

    def link(
        self, ino: int, parent_ino: int, name: bytes, now_ns: int, privileged: bool = False
    ) -> Inode:
        """Give ``ino`` another name."""
        self.core.begin(now_ns)
        inode = self.core.names.link(ino, parent_ino, name, now_ns, privileged)
        self.core.end()
        return inode

    def unlink(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove a name; the inode returned may have become an orphan (see ``forget``)."""
        self.core.begin(now_ns)
        inode = self.core.names.unlink(parent_ino, name, now_ns)
        self.core.end()
        return inode

    def rmdir(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove an empty directory; the inode returned is an orphan."""
        self.core.begin(now_ns)
        inode = self.core.names.rmdir(parent_ino, name, now_ns)
        self.core.end()
        return inode

    def rename(
        self,
        parent_ino: int,
        name: bytes,
        new_parent_ino: int,
        new_name: bytes,
        now_ns: int,
        flags: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> Inode | None:
        """Rename as renameat2(2); returns the inode that lost this name, if one did.

        With flag 4 a whiteout that belongs to ``uid`` and ``gid`` stays under the old name.
        """
        check_owner(0, uid, gid)
        if flags:
            check_number("flags", flags)
        self.core.begin(now_ns)
        lost = self.core.renames.rename(
            parent_ino, name, new_parent_ino, new_name, now_ns, flags, uid, gid
        )
        self.core.end()
        return lost

    def readlink(self, ino: int) -> bytes:
        """Return the target of a symbolic link."""
        inode = self.core.inodes.begin(ino)
        if not inode.is_symlink:
            raise FilesystemError(errno.EINVAL)
        if inode.size > SYMLINK_BYTES_MAX:
            raise DamageError(f"inode {ino}: a symbolic link of {inode.size} bytes")
        return self.core.data.read(inode, 0, inode.size)

    def readdir(
        self,
        ino: int,
        cookie: int = 0,
        on_damage: Callable[[DamageError], None] | None = None,
    ) -> Iterator[DirectoryEntry]:
        """Yield the entries after ``cookie``, without ``.`` and ``..``.

        Entries that come or go meanwhile may or may not be seen; all others are
        seen exactly once.  An entry that is damaged hides no others: ``on_damage`` is told,
        or the DamageError is raised after all of them.
        """
        check_number("cookie", cookie, 0, OFFSET_MAX)
        return self.core.directories.listing(self.core.tree.directory(ino).ino, cookie, on_damage)
