"""Names: looking up, creating, linking and removing.

Every operation checks all its conditions first and then changes memory without
a step that may fail, so that it happens as a whole or not at all.  Permissions
are the front end's business (the kernel checks them); what POSIX asks of the
tree itself is checked here.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno

from lfs.alloc.admission.admission import Admission
from lfs.common.errors import FilesystemError
from lfs.files.acl_store import AccessLists
from lfs.files.contents import FileData
from lfs.files.places import Place
from lfs.files.tree import (
    CREATE_BLOCKS,
    DOTS,
    S_ISGID,
    Tree,
    check_name,
    new_inode,
)
from lfs.inodes.inode import S_IFDIR, S_IFLNK, S_IFMT, Inode
from lfs.ondisk import LINK_COUNT_MAX, NAME_BYTES_MAX, ROOT_INO, SYMLINK_BYTES_MAX


class Namespace:
    """The tree of names."""

    def __init__(
        self, tree: Tree, data: FileData, access: AccessLists, admission: Admission
    ) -> None:
        """Operate on the inodes and directories of one volume."""
        self._tree = tree
        self._data = data
        self._access = access
        self._admission = admission

    # ----------------------------------------------------------------- looking up

    def find(self, parent_ino: int, name: bytes) -> Inode | None:
        """Return the inode called ``name``, None if there is none; ``.`` and ``..`` work."""
        parent = self._tree.directory(parent_ino)
        if name == b".":
            return parent
        if name == b"..":
            return self._tree.inodes.get(parent.parent_ino)
        if len(name) > NAME_BYTES_MAX:
            raise FilesystemError(errno.ENAMETOOLONG)
        return self._tree.find(parent_ino, name)[1]

    # ------------------------------------------------------------------- creating

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
        """Create an inode of the type and permissions in ``mode`` under a new name.

        It inherits the default access list of the directory, or is bounded by ``umask``.
        """
        parent, place = self._new_name(parent_ino, name)
        is_directory = mode & S_IFMT == S_IFDIR
        if is_directory and parent.nlink >= LINK_COUNT_MAX:
            raise FilesystemError(errno.EMLINK)
        mode, lists = self._access.for_new(parent, mode, umask)
        list_blocks = self._access.blocks(lists) if lists else 0
        self._admission.admit(CREATE_BLOCKS + list_blocks, uid == 0)
        if parent.mode & S_ISGID:
            gid = parent.gid
            mode |= S_ISGID if is_directory else 0
        inode = new_inode(mode, uid, gid, now_ns, rdev, parent_ino if is_directory else 0)
        self._tree.add(parent, place, inode, now_ns)
        if lists:
            self._access.give(inode, lists)
        return inode

    def create_root(self, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
        """Create the root directory, its own parent, as the first inode."""
        root = new_inode(mode, uid, gid, now_ns, 0, ROOT_INO)
        self._tree.inodes.add(root)
        assert root.ino == ROOT_INO
        # The kernel has its own idea of the root before it asks, and never another one.
        root.generation = 0
        return root

    def symlink(
        self, parent_ino: int, name: bytes, target: bytes, uid: int, gid: int, now_ns: int
    ) -> Inode:
        """Create a symbolic link to ``target``."""
        if len(target) > SYMLINK_BYTES_MAX:
            raise FilesystemError(errno.ENAMETOOLONG)
        if not target:
            raise FilesystemError(errno.ENOENT)
        parent, place = self._new_name(parent_ino, name)
        self._admission.admit(CREATE_BLOCKS + 1 + len(target) // 512, uid == 0)
        if parent.mode & S_ISGID:
            gid = parent.gid
        inode = new_inode(S_IFLNK | 0o777, uid, gid, now_ns, 0, 0)
        self._tree.add(parent, place, inode, now_ns)
        self._data.fill(inode, target)
        return inode

    def _new_name(self, parent_ino: int, name: bytes) -> tuple[Inode, Place]:
        """Return the directory and the place in it where ``name`` may be created.

        Raises EEXIST and others.
        """
        parent = self._tree.directory(parent_ino)
        check_name(name)
        if name in DOTS:
            raise FilesystemError(errno.EEXIST)
        if parent.nlink == 0:
            raise FilesystemError(errno.ENOENT, "the directory was removed")
        place, ino = self._tree.directories.find(parent_ino, name)
        if ino is not None:
            raise FilesystemError(errno.EEXIST)
        if not place.key:
            raise FilesystemError(errno.ENOSPC, "too many names with the same hash")
        return parent, place

    def link(self, ino: int, parent_ino: int, name: bytes, now_ns: int, privileged: bool) -> Inode:
        """Give inode ``ino`` another name."""
        inode = self._tree.inodes.get(ino)
        if inode.is_directory:
            raise FilesystemError(errno.EPERM)
        parent, place = self._new_name(parent_ino, name)
        if inode.nlink == 0:
            raise FilesystemError(errno.ENOENT, "the file was removed")
        if inode.nlink >= LINK_COUNT_MAX:
            raise FilesystemError(errno.EMLINK)
        self._admission.admit(1, privileged)
        self._tree.directories.put(place, ino, inode.mode >> 12)
        inode.nlink += 1
        self._tree.touch(inode, now_ns)
        self._tree.changed(parent, now_ns, entries=1)
        return inode

    # ------------------------------------------------------------------- removing

    def unlink(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove a name that is not a directory's; returns its inode."""
        parent = self._tree.directory(parent_ino)
        place, inode = self._tree.entry(parent_ino, name)
        if inode.mode & S_IFMT == S_IFDIR:
            raise FilesystemError(errno.EISDIR)
        self._tree.directories.remove(place)
        self._tree.changed(parent, now_ns, entries=-1)
        self._tree.drop_link(inode, now_ns)
        return inode

    def rmdir(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove an empty directory; returns its inode."""
        parent = self._tree.directory(parent_ino)
        if name == b".":
            raise FilesystemError(errno.EINVAL)
        if name == b"..":
            raise FilesystemError(errno.ENOTEMPTY)
        place, inode = self._tree.entry(parent_ino, name)
        if not inode.is_directory:
            raise FilesystemError(errno.ENOTDIR)
        if inode.size:
            raise FilesystemError(errno.ENOTEMPTY)
        self._tree.directories.remove(place)
        self._tree.changed(parent, now_ns, entries=-1, subdirectories=-1)
        self._tree.drop_directory(inode, now_ns)
        return inode
