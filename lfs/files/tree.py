"""The tree of names: entries of directories, and the counts that go with them.

What making, removing and renaming have in common.  A step here can't fail once its
conditions have been checked, so that each operation happens as a whole.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno

from lfs.common.errors import DamageError, FilesystemError
from lfs.files.directory import Directories
from lfs.files.places import Place
from lfs.inodes.inode import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import INODE_INLINE, LINK_COUNT_MAX, NAME_BYTES_MAX
from lfs.volume.arguments import check_bytes

DIRECTORY_LINKS = 2
"""Of one without subdirectories."""
CREATE_BLOCKS = 2
"""So much a new inode with its name may take at most."""
S_ISGID = 0o2000
_SLASH = ord("/")
DOTS = frozenset((b".", b".."))


def check_name(name: bytes) -> None:
    """Raise FilesystemError or TypeError unless ``name`` may be the name of a new entry."""
    if type(name) is not bytes:
        check_bytes("name", name)
    if len(name) > NAME_BYTES_MAX:
        raise FilesystemError(errno.ENAMETOOLONG)
    if not name or _SLASH in name or 0 in name:
        raise FilesystemError(errno.EINVAL, "a name has a slash or a NUL, or is empty")


def new_inode(mode: int, uid: int, gid: int, now_ns: int, rdev: int, parent_ino: int) -> Inode:
    """Return a new inode without content, and without a number as yet.

    ``parent_ino`` is 0 unless it is a directory.
    """
    flags = INODE_INLINE if mode & S_IFMT in (S_IFREG, S_IFLNK) else 0
    nlink = DIRECTORY_LINKS if parent_ino else 1
    times_ns = now_ns, now_ns, now_ns, now_ns
    return Inode(0, (mode, uid, gid, nlink, 0, 0, *times_ns, rdev, flags, 0, 0, parent_ino), b"")


class Tree:
    """Directories and the inodes that their entries lead to."""

    def __init__(self, inodes: InodeTable, directories: Directories) -> None:
        """Keep the tree of one volume."""
        self.inodes = inodes
        self.directories = directories

    def directory(self, ino: int) -> Inode:
        """Return directory ``ino``; raises ESTALE or ENOTDIR."""
        inode = self.inodes.get(ino)
        if inode.mode & S_IFMT != S_IFDIR:
            raise FilesystemError(errno.ENOTDIR)
        return inode

    def find(self, parent_ino: int, name: bytes) -> tuple[Place, Inode | None]:
        """Return the place of a name and the inode it leads to, or None; raises DamageError."""
        place, ino = self.directories.find(parent_ino, name)
        if ino is None:
            return place, None
        try:
            return place, self.inodes.get(ino)
        except FilesystemError as error:
            if error.errno == errno.ESTALE:
                text = f"{name!r} in directory {parent_ino} leads to inode {ino}, which is none"
                raise DamageError(text) from None
            raise

    def entry(self, parent_ino: int, name: bytes) -> tuple[Place, Inode]:
        """Return the place of an entry and the inode it leads to; raises ENOENT, DamageError."""
        place, inode = self.find(parent_ino, name)
        if inode is None:
            raise FilesystemError(errno.ENOENT)
        return place, inode

    def add(self, parent: Inode, place: Place, inode: Inode, now_ns: int) -> None:
        """Take in a new inode and its name, for which everything has been checked."""
        self.inodes.add(inode)
        self.directories.put(place, inode.ino, inode.mode >> 12)
        is_directory = inode.mode & S_IFMT == S_IFDIR
        self.changed(parent, now_ns, entries=1, subdirectories=int(is_directory))

    def drop_link(self, inode: Inode, now_ns: int) -> None:
        """Note that ``inode``, which is no directory, has lost a name; it may be an orphan now."""
        # What a disk says that others made may be too little.
        inode.nlink = max(0, inode.nlink - 1)
        inode.ctime_ns = now_ns
        self.inodes.mark_dirty(inode)
        if inode.nlink == 0:
            self.inodes.add_orphan(inode)

    def drop_directory(self, inode: Inode, now_ns: int) -> None:
        """Note that an empty directory has lost its name: it is an orphan now."""
        inode.nlink = 0
        self.touch(inode, now_ns)
        self.inodes.add_orphan(inode)

    def touch(self, inode: Inode, now_ns: int) -> None:
        """Note that ``inode`` changed."""
        inode.ctime_ns = now_ns
        self.inodes.mark_dirty(inode)

    def changed(
        self, directory: Inode, now_ns: int, entries: int = 0, subdirectories: int = 0
    ) -> None:
        """Count entries that ``directory`` gained and note the time."""
        # Counts that others wrote may be wrong: nobody else's commit is to fail for that.
        directory.size = max(0, directory.size + entries)
        directory.nlink = min(max(0, directory.nlink + subdirectories), LINK_COUNT_MAX)
        directory.mtime_ns = directory.ctime_ns = now_ns
        self.inodes.mark_dirty(directory)
