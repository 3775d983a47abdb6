"""The parts of a filesystem, put together over one volume; how a change begins and ends.

Theory.  Each part is made of parts below it, and of numbers: none calls one above it.
Everything that a request changes lies between ``begin`` and ``end``, so that the bounds
which hold between requests (memory, log, room for the next commit) are kept in one place.

Held by ``tests/system/test_failing_requests.py``.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from lfs.alloc.admission.admission import Admission
from lfs.alloc.admission.removal import Removal
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.write_out import WriteOut
from lfs.commit.checkpoint import Checkpointer
from lfs.commit.commit import Committer
from lfs.common.errors import DamageError, FilesystemError
from lfs.files.acl_store import AccessLists
from lfs.files.attributes import Attributes
from lfs.files.contents import FileData
from lfs.files.directory import Directories, NameHash
from lfs.files.names import Namespace
from lfs.files.rename import Renames
from lfs.files.tree import Tree
from lfs.inodes.inode import Inode
from lfs.inodes.table import InodeTable
from lfs.ondisk import TIME_NS_MAX, TIME_NS_MIN
from lfs.requests.maintenance import Maintenance
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.compacting import Compactor
from lfs.segments.cleaning.defragment import Defragmenter
from lfs.segments.cleaning.moving import Mover
from lfs.segments.cleaning.rounds import Rounds
from lfs.volume.arguments import check_time
from lfs.volume.options import SECOND_NS
from lfs.volume.volume import Volume

_RELATIME_NS = 24 * 3600 * SECOND_NS


class Core:
    """What a filesystem consists of."""

    def __init__(self, volume: Volume) -> None:
        """Put the parts together over a volume that has not been recovered yet."""
        self.volume = volume
        name_hash = NameHash(volume.superblock.hash_seed)
        self.inodes = inodes = InodeTable(volume)
        self.ledger = ledger = Ledger(volume, inodes)
        self.write_out = write_out = WriteOut(volume, inodes, ledger)
        committer = Committer(volume, inodes, ledger, write_out)
        self.checkpointer = checkpointer = Checkpointer(volume, ledger, committer)
        mover = Mover(volume, inodes, write_out)
        self.rounds = Rounds(volume, inodes, ledger, mover, checkpointer)
        self.cleaner = Cleaner(volume, ledger, checkpointer, self.rounds)
        self.defragmenter = Defragmenter(
            volume, inodes, ledger, mover, checkpointer, write_out.scattered
        )
        self.removal = removal = Removal(volume, inodes, checkpointer)
        compactor = Compactor(volume, ledger, checkpointer)
        self.admission = admission = Admission(
            volume, ledger, checkpointer, removal, self.cleaner, compactor
        )
        self.maintenance = Maintenance(
            volume,
            inodes,
            ledger,
            admission,
            checkpointer,
            self.cleaner,
            self.defragmenter,
            removal,
            write_out,
        )
        self.data = FileData(volume, inodes, admission, write_out, removal)
        self.directories = Directories(volume.imap, name_hash)
        self.attributes = Attributes(volume, inodes, admission, name_hash)
        self.access = AccessLists(inodes, self.attributes)
        self.tree = tree = Tree(inodes, self.directories)
        self.names = Namespace(tree, self.data, self.access, admission)
        self.renames = Renames(tree, admission)
        self.now_ns = 0
        """When the last request came."""

    @property
    def read_only(self) -> bool:
        """Tell whether changes are refused, by choice or because writing failed."""
        return self.volume.read_only or self.volume.failed

    def begin(self, now_ns: int) -> None:
        """Start a request that changes something."""
        if type(now_ns) is not int or not TIME_NS_MIN <= now_ns <= TIME_NS_MAX:
            check_time(now_ns)
        volume = self.volume
        if volume.read_only or volume.failed or volume.is_closed:
            volume.check_writable()
        self.now_ns = now_ns
        self.inodes.trim()
        if not self.admission.cover(now_ns):
            raise FilesystemError(errno.ENOSPC)

    def end(self) -> None:
        """End a request that changed something.

        It has been made, even if a checkpoint was due and damage keeps it from being
        written: the log that tells of the request has been flushed.
        """
        try:
            self.maintenance.keep_bounds(self.now_ns)
        except DamageError:
            if self.volume.log.is_broken:
                raise

    def accessed(self, inode: Inode, now_ns: int) -> None:
        """Update the access time as the mount options say, unless the disk is too full."""
        volume = self.volume
        options = volume.options
        at_ns = inode.atime_ns
        if options.atime == "relatime":
            # The usual case comes first: the time is newer than what it tells the age of.
            is_newer = at_ns > inode.mtime_ns and at_ns > inode.ctime_ns
            if is_newer and now_ns - at_ns < _RELATIME_NS:
                return
        if options.atime == "noatime" or volume.read_only or volume.failed:
            return
        if not options.directory_atime and inode.is_directory:
            return
        if at_ns == now_ns or not self.ledger.covers(0):
            return
        check_time(now_ns)
        inode.atime_ns = now_ns
        self.inodes.mark_dirty(inode)
        if len(self.inodes.dirty) > self.inodes.dirty_count_max:
            # Whoever reads has what he asked for; a failure is told by the volume.
            with suppress(FilesystemError):
                self.maintenance.keep_bounds(now_ns)

    def give_up(self, inode: Inode) -> None:
        """Remove an inode that has neither a name nor a user."""
        may_go_on = self.admission.cover(self.now_ns)
        if inode.dirty is not None:
            self.data.drop_dirty(inode)
        self.removal.line_up(inode)
        if may_go_on:
            self.removal.begin(inode.ino, self.now_ns)
