"""The tree of names: entries of directories, and the counts that go with them.

What making, removing and renaming have in common.  A step here can't fail once its
conditions have been checked, so that each operation happens as a whole.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno

from lfs.common.errors import DamageError, FilesystemError
from lfs.files.directory import Directories
from lfs.inodes.inode import S_IFLNK, S_IFMT, S_IFREG, Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import INODE, LINK_COUNT_MAX, NAME_BYTES_MAX
from lfs.volume.arguments import check_bytes

DIRECTORY_LINKS = 2
"""Of one without subdirectories."""
CREATE_BLOCKS = 2
"""So much a new inode with its name may take at most."""
S_ISGID = 0o2000
DOTS = frozenset((b".", b".."))
_ZEROS = (0,) * len(INODE.attributes)


def check_name(name: bytes) -> None:
    """Raise FilesystemError or TypeError unless ``name`` may be the name of a new entry."""
    if type(name) is not bytes:
        check_bytes("name", name)
    if len(name) > NAME_BYTES_MAX:
        raise FilesystemError(errno.ENAMETOOLONG)
    if not name or b"/" in name or b"\0" in name:
        raise FilesystemError(errno.EINVAL, "a name has a slash or a NUL, or is empty")


def new_inode(mode: int, uid: int, gid: int, now_ns: int, rdev: int, parent_ino: int) -> Inode:
    """Return a new inode without content, and without a number as yet.

    ``parent_ino`` is 0 unless it is a directory.
    """
    inode = Inode(0, _ZEROS, b"")
    inode.mode = mode
    inode.uid = uid
    inode.gid = gid
    inode.nlink = DIRECTORY_LINKS if parent_ino else 1
    inode.atime_ns = inode.mtime_ns = inode.ctime_ns = inode.btime_ns = now_ns
    inode.rdev = rdev
    inode.parent_ino = parent_ino
    if mode & S_IFMT in (S_IFREG, S_IFLNK):
        inode.inline = b""
    return inode


class Tree:
    """Directories and the inodes that their entries lead to."""

    def __init__(self, inodes: InodeTable, directories: Directories) -> None:
        """Keep the tree of one volume."""
        self.inodes = inodes
        self.directories = directories

    def directory(self, ino: int) -> Inode:
        """Return directory ``ino``; raises ESTALE or ENOTDIR."""
        inode = self.inodes.get(ino)
        if not inode.is_directory:
            raise FilesystemError(errno.ENOTDIR)
        return inode

    def entry(self, parent_ino: int, name: bytes) -> tuple[bytes, Inode]:
        """Return the place of an entry and the inode it leads to; raises ENOENT, DamageError."""
        place, ino = self.directories.find(parent_ino, name)
        if ino is None:
            raise FilesystemError(errno.ENOENT)
        try:
            return place, self.inodes.get(ino)
        except FilesystemError as error:
            if error.errno == errno.ESTALE:
                text = f"{name!r} in directory {parent_ino} leads to inode {ino}, which is none"
                raise DamageError(text) from None
            raise

    def add(self, parent: Inode, place: bytes, name: bytes, inode: Inode, now_ns: int) -> None:
        """Take in a new inode and its name, for which everything has been checked."""
        self.inodes.add(inode)
        self.directories.put(place, inode.ino, inode.mode >> 12, name)
        self.changed(parent, now_ns, entries=1, subdirectories=int(inode.is_directory))

    def drop_link(self, inode: Inode, now_ns: int) -> None:
        """Note that ``inode``, which is no directory, has lost a name; it may be an orphan now."""
        # What a disk says that others made may be too little.
        inode.nlink = max(0, inode.nlink - 1)
        self.touch(inode, now_ns)
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
        directory.mtime_ns = now_ns
        self.touch(directory, now_ns)
