"""Renaming, as renameat2(2): moving, replacing, exchanging, and leaving a whiteout.

All conditions are checked before anything changes.

Held by ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

import errno

from lfs.alloc.admission.admission import Admission
from lfs.common.errors import DamageError, FilesystemError
from lfs.files.places import Place
from lfs.files.tree import (
    CREATE_BLOCKS,
    DIRECTORY_LINKS,
    DOTS,
    S_ISGID,
    Tree,
    check_name,
    new_inode,
)
from lfs.inodes.inode import S_IFCHR, Inode
from lfs.ondisk import ROOT_INO

MOVE_DEPTH_MAX = 4096
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4


def _check_rename(name: bytes, new_name: bytes, flags: int) -> None:
    check_name(new_name)
    if name in DOTS or new_name in DOTS:
        raise FilesystemError(errno.EBUSY)
    known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT
    if flags & ~known or (flags & RENAME_EXCHANGE and flags != RENAME_EXCHANGE):
        raise FilesystemError(errno.EINVAL)


class Renames:
    """Moves names within one tree."""

    def __init__(self, tree: Tree, admission: Admission) -> None:
        """Operate on the tree of one volume."""
        self._tree = tree
        self._admission = admission

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
        """Rename as renameat2(2); returns the inode that lost its name, if one did.

        ``uid`` and ``gid`` own the whiteout, if ``flags`` ask for one: a device 0:0
        without permissions that stays under the old name.
        """
        parent = self._tree.directory(parent_ino)
        new_parent = self._tree.directory(new_parent_ino)
        _check_rename(name, new_name, flags)
        place, moved = self._tree.entry(parent_ino, name)
        new_place, target_ino = self._tree.directories.find(new_parent_ino, new_name)
        target = None if target_ino is None else self._tree.inodes.get(target_ino)
        if new_parent.nlink == 0:
            raise FilesystemError(errno.ENOENT, "the directory was removed")
        is_directory = moved.is_directory
        if is_directory and new_parent is not parent:
            self._check_no_cycle(moved, new_parent)
        if target is not None and flags & RENAME_NOREPLACE:
            raise FilesystemError(errno.EEXIST)
        if target is moved:
            return None
        if flags & RENAME_EXCHANGE:
            if target is None:
                raise FilesystemError(errno.ENOENT)
            self._exchange((parent, place, moved), (new_parent, new_place, target), now_ns)
            return None
        if target is not None:
            self._check_replaceable(moved, target)
        elif not new_place.key:
            raise FilesystemError(errno.ENOSPC, "too many names with the same hash")
        if flags & RENAME_WHITEOUT:
            self._admission.admit(CREATE_BLOCKS + (target is None), uid == 0)
            self._tree.directories.put(new_place, moved.ino, moved.mode >> 12)
            self._add_whiteout(parent, place, uid, gid, now_ns)
        else:
            if target is None:
                self._admission.admit_change(1, is_longer=len(new_name) > len(name))
            self._tree.directories.move(place, new_place, moved.ino, moved.mode >> 12)
        self._moved_in(moved, new_parent, target, now_ns)
        self._tree.changed(parent, now_ns, entries=-1, subdirectories=-int(is_directory))
        self._tree.touch(moved, now_ns)
        return target

    def _add_whiteout(self, parent: Inode, place: Place, uid: int, gid: int, now_ns: int) -> None:
        """Put a whiteout where a name was that has moved away."""
        if parent.mode & S_ISGID:
            gid = parent.gid
        whiteout = new_inode(S_IFCHR, uid, gid, now_ns, 0, 0)
        self._tree.add(parent, place, whiteout, now_ns)

    def _moved_in(self, moved: Inode, new_parent: Inode, target: Inode | None, now_ns: int) -> None:
        """Account for a name in ``new_parent`` that leads to ``moved`` instead of ``target``."""
        is_directory = int(moved.is_directory)
        if target is None:
            self._tree.changed(new_parent, now_ns, entries=1, subdirectories=is_directory)
        else:
            self._tree.changed(new_parent, now_ns)
            if target.is_directory:
                self._tree.drop_directory(target, now_ns)
            else:
                self._tree.drop_link(target, now_ns)
        if is_directory:
            moved.parent_ino = new_parent.ino

    def _check_replaceable(self, moved: Inode, target: Inode) -> None:
        if target.is_directory and not moved.is_directory:
            raise FilesystemError(errno.EISDIR)
        if moved.is_directory and not target.is_directory:
            raise FilesystemError(errno.ENOTDIR)
        if target.is_directory and target.size:
            raise FilesystemError(errno.ENOTEMPTY)

    def _check_no_cycle(self, moved: Inode, new_parent: Inode) -> None:
        """Raise EINVAL when ``new_parent`` is ``moved`` or below it.

        Nothing is below a directory without subdirectories.  For others all directories
        above are looked at, so there is a limit on how many those may be (ELOOP).
        """
        ino = new_parent.ino
        passed: set[int] = set()
        while ino != moved.ino:
            if moved.nlink == DIRECTORY_LINKS or ino == ROOT_INO:
                return
            if ino in passed:
                raise DamageError(f"the directories above inode {new_parent.ino} form a cycle")
            if len(passed) >= MOVE_DEPTH_MAX:
                raise FilesystemError(errno.ELOOP, "a tree can't be moved that deep")
            passed.add(ino)
            ino = self._tree.inodes.parent_of(ino)
        raise FilesystemError(errno.EINVAL, "a directory can't be moved into itself")

    def _exchange(
        self,
        one: tuple[Inode, Place, Inode],
        other: tuple[Inode, Place, Inode],
        now_ns: int,
    ) -> None:
        """Let two existing names, each a directory, place and inode, swap their inodes."""
        parent, place, moved = one
        new_parent, new_place, target = other
        if target.is_directory and new_parent is not parent:
            self._check_no_cycle(target, parent)
        self._tree.directories.put(place, target.ino, target.mode >> 12)
        self._tree.directories.put(new_place, moved.ino, moved.mode >> 12)
        gained = int(target.is_directory) - int(moved.is_directory)
        self._tree.changed(parent, now_ns, subdirectories=gained)
        self._tree.changed(new_parent, now_ns, subdirectories=-gained)
        for inode, directory in ((target, parent), (moved, new_parent)):
            if inode.is_directory:
                inode.parent_ino = directory.ino
            self._tree.touch(inode, now_ns)
