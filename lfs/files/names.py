"""Names: creating, linking, removing and renaming.

Every operation checks all its conditions first and then changes memory without
a step that may fail, so that it happens as a whole or not at all.  Permissions
are the front end's business (the kernel checks them); what POSIX asks of the
tree itself is checked here.
"""

from __future__ import annotations

import errno

from lfs.alloc.admission.admission import Admission
from lfs.common.errors import DamageError, FilesystemError
from lfs.files.acl_store import AccessLists
from lfs.files.contents import FileData
from lfs.files.directory import Directories
from lfs.inodes.inode import S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import (
    INODE_INLINE,
    NAME_BYTES_MAX,
    ROOT_INO,
    SYMLINK_BYTES_MAX,
    InodeFields,
)
from lfs.volume.arguments import check_bytes

DIRECTORY_LINKS = 2
"""Of one without subdirectories."""
MOVE_DEPTH_MAX = 4096
LINK_COUNT_MAX = (1 << 32) - 1
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4
S_ISGID = 0o2000

_CREATE_BLOCKS = 2
_DOTS = frozenset((b".", b".."))


def check_name(name: bytes) -> None:
    """Raise FilesystemError or TypeError unless ``name`` may be the name of a new entry."""
    if type(name) is not bytes:
        check_bytes("name", name)
    if len(name) > NAME_BYTES_MAX:
        raise FilesystemError(errno.ENAMETOOLONG)
    if not name or b"/" in name or b"\0" in name:
        raise FilesystemError(errno.EINVAL, "a name has a slash or a NUL, or is empty")


def _new_fields(
    mode: int, uid: int, gid: int, now_ns: int, rdev: int, parent_ino: int
) -> InodeFields:
    """Return a new inode without content; ``parent_ino`` is 0 unless it is a directory."""
    inline = mode & S_IFMT in (S_IFREG, S_IFLNK)
    nlink = 2 if parent_ino else 1
    times = now_ns, now_ns, now_ns, now_ns
    flags = INODE_INLINE if inline else 0
    return mode, uid, gid, nlink, 0, 0, *times, rdev, flags, 0, 0, parent_ino, b""


def _check_rename(name: bytes, new_name: bytes, flags: int) -> None:
    check_name(new_name)
    if name in _DOTS or new_name in _DOTS:
        raise FilesystemError(errno.EBUSY)
    known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT
    if flags & ~known or (flags & RENAME_EXCHANGE and flags != RENAME_EXCHANGE):
        raise FilesystemError(errno.EINVAL)


class Namespace:
    """The tree of names."""

    def __init__(
        self,
        inodes: InodeTable,
        directories: Directories,
        data: FileData,
        access: AccessLists,
        admission: Admission,
    ) -> None:
        """Operate on the inodes and directories of one volume."""
        self._inodes = inodes
        self._directories = directories
        self._data = data
        self._access = access
        self._admission = admission

    # ----------------------------------------------------------------- looking up

    def directory(self, ino: int) -> Inode:
        """Return directory ``ino``; raises ESTALE or ENOTDIR."""
        inode = self._inodes.get(ino)
        if not inode.is_directory:
            raise FilesystemError(errno.ENOTDIR)
        return inode

    def lookup(self, parent_ino: int, name: bytes) -> Inode:
        """Return the inode called ``name``; ``.`` and ``..`` work."""
        parent = self.directory(parent_ino)
        if name == b".":
            return parent
        if name == b"..":
            return self._inodes.get(parent.parent_ino)
        if len(name) > NAME_BYTES_MAX:
            raise FilesystemError(errno.ENAMETOOLONG)
        return self._entry(parent_ino, name)[1]

    def _entry(self, parent_ino: int, name: bytes) -> tuple[bytes, Inode]:
        """Return the place of an entry and the inode it leads to; raises ENOENT, DamageError."""
        place, ino = self._directories.find(parent_ino, name)
        if ino is None:
            raise FilesystemError(errno.ENOENT)
        try:
            return place, self._inodes.get(ino)
        except FilesystemError as error:
            if error.errno == errno.ESTALE:
                text = f"{name!r} in directory {parent_ino} leads to inode {ino}, which is none"
                raise DamageError(text) from None
            raise

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
        self._admission.admit(_CREATE_BLOCKS + list_blocks, uid == 0)
        if parent.mode & S_ISGID:
            gid = parent.gid
            mode |= S_ISGID if is_directory else 0
        fields = _new_fields(mode, uid, gid, now_ns, rdev, parent_ino if is_directory else 0)
        inode = self._add_new(parent, place, name, fields, now_ns)
        if lists:
            self._access.give(inode, lists)
        return inode

    def _add_new(
        self, parent: Inode, place: bytes, name: bytes, fields: InodeFields, now_ns: int
    ) -> Inode:
        """Make a new inode and its name, for which everything has been checked."""
        inode = self._inodes.create(fields)
        self._directories.put(place, inode.ino, inode.mode >> 12, name)
        self._changed(parent, now_ns, entries=1, subdirectories=int(inode.is_directory))
        return inode

    def create_root(self, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
        """Create the root directory, its own parent, as the first inode."""
        root = self._inodes.create(_new_fields(mode, uid, gid, now_ns, 0, ROOT_INO))
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
        self._admission.admit(_CREATE_BLOCKS + 1 + len(target) // 512, uid == 0)
        if parent.mode & S_ISGID:
            gid = parent.gid
        fields = _new_fields(S_IFLNK | 0o777, uid, gid, now_ns, 0, 0)
        inode = self._add_new(parent, place, name, fields, now_ns)
        self._data.fill(inode, target)
        return inode

    def _new_name(self, parent_ino: int, name: bytes) -> tuple[Inode, bytes]:
        """Return the directory and the place in it where ``name`` may be created.

        Raises EEXIST and others.
        """
        parent = self.directory(parent_ino)
        check_name(name)
        if name in _DOTS:
            raise FilesystemError(errno.EEXIST)
        if parent.nlink == 0:
            raise FilesystemError(errno.ENOENT, "the directory was removed")
        place, ino = self._directories.find(parent_ino, name)
        if ino is not None:
            raise FilesystemError(errno.EEXIST)
        if not place:
            raise FilesystemError(errno.ENOSPC, "too many names with the same hash")
        return parent, place

    def link(self, ino: int, parent_ino: int, name: bytes, now_ns: int, privileged: bool) -> Inode:
        """Give inode ``ino`` another name."""
        inode = self._inodes.get(ino)
        if inode.is_directory:
            raise FilesystemError(errno.EPERM)
        parent, place = self._new_name(parent_ino, name)
        if inode.nlink == 0:
            raise FilesystemError(errno.ENOENT, "the file was removed")
        if inode.nlink >= LINK_COUNT_MAX:
            raise FilesystemError(errno.EMLINK)
        self._admission.admit(1, privileged)
        self._directories.put(place, ino, inode.mode >> 12, name)
        inode.nlink += 1
        self._touch(inode, now_ns)
        self._changed(parent, now_ns, entries=1)
        return inode

    # ------------------------------------------------------------------- removing

    def unlink(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove a name that is not a directory's; returns its inode."""
        parent = self.directory(parent_ino)
        place, inode = self._entry(parent_ino, name)
        if inode.is_directory:
            raise FilesystemError(errno.EISDIR)
        self._directories.remove(place)
        self._changed(parent, now_ns, entries=-1)
        self._drop_link(inode, now_ns)
        return inode

    def rmdir(self, parent_ino: int, name: bytes, now_ns: int) -> Inode:
        """Remove an empty directory; returns its inode."""
        parent = self.directory(parent_ino)
        if name == b".":
            raise FilesystemError(errno.EINVAL)
        if name == b"..":
            raise FilesystemError(errno.ENOTEMPTY)
        place, inode = self._entry(parent_ino, name)
        if not inode.is_directory:
            raise FilesystemError(errno.ENOTDIR)
        if inode.size:
            raise FilesystemError(errno.ENOTEMPTY)
        self._directories.remove(place)
        self._changed(parent, now_ns, entries=-1, subdirectories=-1)
        self._drop_directory(inode, now_ns)
        return inode

    def _drop_link(self, inode: Inode, now_ns: int) -> None:
        # What a disk says that others made may be too little.
        inode.nlink = max(0, inode.nlink - 1)
        self._touch(inode, now_ns)
        if inode.nlink == 0:
            self._inodes.add_orphan(inode)

    def _drop_directory(self, inode: Inode, now_ns: int) -> None:
        inode.nlink = 0
        self._touch(inode, now_ns)
        self._inodes.add_orphan(inode)

    # ------------------------------------------------------------------- renaming

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
        parent = self.directory(parent_ino)
        new_parent = self.directory(new_parent_ino)
        _check_rename(name, new_name, flags)
        place, moved = self._entry(parent_ino, name)
        new_place, target_ino = self._directories.find(new_parent_ino, new_name)
        target = None if target_ino is None else self._inodes.get(target_ino)
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
            one, other = (parent, place, name, moved), (new_parent, new_place, new_name, target)
            self._exchange(one, other, now_ns)
            return None
        if target is not None:
            self._check_replaceable(moved, target)
        elif not new_place:
            raise FilesystemError(errno.ENOSPC, "too many names with the same hash")
        if flags & RENAME_WHITEOUT:
            self._admission.admit(_CREATE_BLOCKS + (target is None), uid == 0)
            self._directories.put(new_place, moved.ino, moved.mode >> 12, new_name)
            self._add_whiteout(parent, place, name, uid, gid, now_ns)
        else:
            if target is None:
                self._admission.admit_change(1, is_longer=len(new_name) > len(name))
            self._directories.move(place, new_place, moved.ino, moved.mode >> 12, new_name)
        self._moved_in(moved, new_parent, target, now_ns)
        self._changed(parent, now_ns, entries=-1, subdirectories=-int(is_directory))
        self._touch(moved, now_ns)
        return target

    def _add_whiteout(
        self, parent: Inode, place: bytes, name: bytes, uid: int, gid: int, now_ns: int
    ) -> None:
        """Put a whiteout where a name was that has moved away."""
        if parent.mode & S_ISGID:
            gid = parent.gid
        fields = _new_fields(S_IFCHR, uid, gid, now_ns, 0, 0)
        self._add_new(parent, place, name, fields, now_ns)

    def _moved_in(self, moved: Inode, new_parent: Inode, target: Inode | None, now_ns: int) -> None:
        """Account for a name in ``new_parent`` that leads to ``moved`` instead of ``target``."""
        is_directory = int(moved.is_directory)
        if target is None:
            self._changed(new_parent, now_ns, entries=1, subdirectories=is_directory)
        else:
            self._changed(new_parent, now_ns)
            if target.is_directory:
                self._drop_directory(target, now_ns)
            else:
                self._drop_link(target, now_ns)
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
            ino = self._inodes.parent_of(ino)
        raise FilesystemError(errno.EINVAL, "a directory can't be moved into itself")

    def _exchange(
        self,
        one: tuple[Inode, bytes, bytes, Inode],
        other: tuple[Inode, bytes, bytes, Inode],
        now_ns: int,
    ) -> None:
        """Let two existing names, each a directory, place, name and inode, swap their inodes."""
        parent, place, name, moved = one
        new_parent, new_place, new_name, target = other
        if target.is_directory and new_parent is not parent:
            self._check_no_cycle(target, parent)
        self._directories.put(place, target.ino, target.mode >> 12, name)
        self._directories.put(new_place, moved.ino, moved.mode >> 12, new_name)
        gained = int(target.is_directory) - int(moved.is_directory)
        self._changed(parent, now_ns, subdirectories=gained)
        self._changed(new_parent, now_ns, subdirectories=-gained)
        for inode, directory in ((target, parent), (moved, new_parent)):
            if inode.is_directory:
                inode.parent_ino = directory.ino
            self._touch(inode, now_ns)

    # ------------------------------------------------------------------ bookkeeping

    def _touch(self, inode: Inode, now_ns: int) -> None:
        inode.ctime_ns = now_ns
        self._inodes.mark_dirty(inode)

    def _changed(
        self, directory: Inode, now_ns: int, entries: int = 0, subdirectories: int = 0
    ) -> None:
        """Count entries that ``directory`` gained and note the time."""
        # Counts that others wrote may be wrong: nobody else's commit is to fail for that.
        directory.size = max(0, directory.size + entries)
        directory.nlink = min(max(0, directory.nlink + subdirectories), LINK_COUNT_MAX)
        directory.mtime_ns = now_ns
        self._touch(directory, now_ns)
