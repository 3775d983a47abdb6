"""What the kernel is told: attributes, entries, handles, free space; and what it says of them.

Nobody else changes the disk, so names, missing names and attributes are valid
for ``VALID_SECONDS``.

Held by ``tests/fuse/test_operations.py``.
"""

from __future__ import annotations

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields, StatvfsData

from lfs.filesystem import Inode, Space
from lfs.ondisk import NAME_BYTES_MAX

VALID_SECONDS = 86400.0
PERMISSIONS = 0o7777
_SECTOR_BYTES = 512
_STATFS_BYTES_PER_INODE = 512


class EntryReply:
    """The attributes of an inode as the kernel is told them, in one object for all replies.

    pyfuse3 has copied what a handler returned before it calls the next one.
    """

    def __init__(self, block_bytes: int) -> None:
        """Serve a filesystem with blocks of ``block_bytes``."""
        self._block_bytes = block_bytes
        self._entry = EntryAttributes()
        self._entry.entry_timeout = VALID_SECONDS
        self._entry.attr_timeout = VALID_SECONDS
        self._entry.st_blksize = block_bytes

    def of(self, inode: Inode) -> EntryAttributes:
        """Return the attributes of ``inode``; they are true until the next call."""
        entry = self._entry
        entry.st_ino = inode.ino
        entry.generation = inode.generation
        entry.st_mode = inode.mode
        entry.st_nlink = inode.nlink
        entry.st_uid = inode.uid
        entry.st_gid = inode.gid
        entry.st_rdev = inode.rdev
        entry.st_size = inode.size
        entry.st_blocks = _sectors(inode, self._block_bytes)
        entry.st_atime_ns = inode.atime_ns
        entry.st_mtime_ns = inode.mtime_ns
        entry.st_ctime_ns = inode.ctime_ns
        return entry


def _sectors(inode: Inode, block_bytes: int) -> int:
    """Return the space a file takes, or will take when its dirty blocks are placed.

    Nothing may have content and no blocks, or tar takes it for one hole.
    """
    blocks: int = inode.blocks
    if inode.dirty:
        dense = -(-inode.size // block_bytes)
        blocks = min(blocks + inode.dirty.count, dense)
    return blocks * block_bytes // _SECTOR_BYTES or int(bool(inode.inline))


def missing_entry() -> EntryAttributes:
    """Return the entry that lets the kernel remember that a name does not exist."""
    entry = EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = VALID_SECONDS
    return entry


def bare_entry(ino: int, mode: int) -> EntryAttributes:
    """Return an entry of which only number and type are right and nothing may be cached."""
    entry = EntryAttributes()
    entry.st_ino = ino
    entry.st_mode = mode
    entry.entry_timeout = 0
    entry.attr_timeout = 0
    return entry


def handle_of(ino: int, ctx: RequestContext, keep_cache: bool = True) -> FileInfo:
    """Return a handle, of which the number tells the inode and whether root opened it.

    Without ``keep_cache`` the kernel drops what it has of the file's contents.
    """
    return FileInfo(fh=2 * ino + (ctx.uid == 0), keep_cache=keep_cache)


def statistics_of(space: Space) -> StatvfsData:
    """Return how much space there is; inodes are limited by nothing else."""
    more_inodes = space.free_blocks * space.block_bytes // _STATFS_BYTES_PER_INODE
    data = StatvfsData()
    data.f_bsize = data.f_frsize = space.block_bytes
    data.f_blocks = space.total_blocks
    data.f_bfree = space.free_blocks
    data.f_bavail = space.available_blocks
    data.f_files = space.inode_count + more_inodes
    data.f_ffree = data.f_favail = more_inodes
    data.f_namemax = NAME_BYTES_MAX
    return data


def changes_of(attr: EntryAttributes, fields: SetattrFields) -> dict[str, int]:
    """Return what a ``setattr`` sets, by the names that the core has for it."""
    changes: dict[str, int] = {}
    if fields.update_mode:
        changes["mode"] = attr.st_mode & PERMISSIONS
    if fields.update_uid:
        changes["uid"] = attr.st_uid
    if fields.update_gid:
        changes["gid"] = attr.st_gid
    if fields.update_size:
        changes["size"] = attr.st_size
    if fields.update_atime:
        changes["atime_ns"] = attr.st_atime_ns
    if fields.update_mtime:
        changes["mtime_ns"] = attr.st_mtime_ns
    return changes
