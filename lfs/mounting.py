"""The life of a mount: its parts, its beginning, its end, and turns in between.

Order (docs/design/log-and-commit.md, "Order of writes").  A mount takes the newest
checkpoint that leads to an undamaged whole, rolls forward, and writes what it recovered
to two checkpoints before the first request; then it removes the orphans of the last
commit.  An unmount, and a remount that ends writing, removes the orphans and
writes a checkpoint that says there is no log after it.  A remount that begins
writing does what a mount does.

Invariant: nothing is written while ``read_only`` holds.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Self

from lfs.alloc.admission.admission import Admission
from lfs.alloc.admission.removal import Removal
from lfs.alloc.delayed.ledger import Ledger
from lfs.alloc.delayed.write_out import WriteOut
from lfs.commit.checkpoint import Checkpointer
from lfs.commit.commit import Committer
from lfs.commit.fixed_places import (
    read_checkpoints,
    read_superblock,
    renew_superblocks,
    require_writable,
    tell_of_lost,
)
from lfs.commit.recovery import Recovery
from lfs.common.errors import DamageError, DeviceError, FilesystemError, FormatError
from lfs.device.base import BlockDevice
from lfs.files.acl_store import AccessLists
from lfs.files.attributes import Attributes
from lfs.files.contents import FileData
from lfs.files.directory import Directories, NameHash
from lfs.files.names import Namespace
from lfs.inodes.arguments import check_time
from lfs.inodes.table import InodeTable
from lfs.inodes.volume import Options, Volume
from lfs.maintenance import Maintenance
from lfs.ondisk import CHECKPOINT_REGION_COUNT, GENERATION_MAX, Checkpoint, Superblock
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.segments.cleaning.defragment import Defragmenter
from lfs.segments.cleaning.moving import Mover
from lfs.segments.cleaning.packing import Packer


def _ignore(message: str) -> None:
    """Report to nobody."""


def _nonce(superblock: Superblock, checkpoint: Checkpoint, now_ns: int) -> int:
    """Return a number that differs from mount to mount, if the clock does."""
    text = f"{checkpoint.number} {checkpoint.next_sequence} {now_ns}".encode()
    return int.from_bytes(blake2b(text, key=superblock.filesystem_id).digest()[:4], "little")


def _check_unused(device: BlockDevice) -> None:
    if device.is_mounted:
        raise FilesystemError(errno.EBUSY, "the filesystem on this device is mounted already")


class Mounted:
    """A mounted filesystem without its requests, which ``lfs.filesystem`` adds."""

    def __init__(self, volume: Volume) -> None:
        """Put the parts together over a volume that has not been recovered yet."""
        self._volume = volume
        self.superblock = volume.superblock
        self.device = volume.device
        name_hash = NameHash(volume.superblock.hash_seed)
        self._inodes = InodeTable(volume)
        self._ledger = Ledger(volume, self._inodes)
        self._write_out = WriteOut(volume, self._inodes, self._ledger)
        committer = Committer(volume, self._inodes, self._ledger, self._write_out)
        self._checkpointer = Checkpointer(volume, self._ledger, committer)
        mover = Mover(volume, self._inodes, self._write_out)
        self._cleaner = Cleaner(volume, self._inodes, self._ledger, mover, self._checkpointer)
        self._defragmenter = Defragmenter(
            volume, self._inodes, self._ledger, mover, self._checkpointer, self._write_out.scattered
        )
        self._removal = Removal(volume, self._inodes, self._checkpointer)
        self._admission = Admission(
            volume,
            self._ledger,
            self._checkpointer,
            self._removal,
            self._cleaner,
            Packer(volume, self._ledger, self._checkpointer),
        )
        self._maintenance = Maintenance(
            volume,
            self._inodes,
            self._ledger,
            self._admission,
            self._checkpointer,
            self._cleaner,
            self._defragmenter,
            self._removal,
        )
        self._data = FileData(volume, self._inodes, self._admission, self._write_out, self._removal)
        self._directories = Directories(volume.imap, name_hash)
        self._attributes = Attributes(volume, self._inodes, self._admission, name_hash)
        self._access = AccessLists(self._inodes, self._attributes)
        self._names = Namespace(
            self._inodes, self._directories, self._data, self._access, self._admission
        )
        self._now_ns = 0
        self._needs_checkpoint = False

    # ----------------------------------------------------------- mounting, unmounting

    @classmethod
    def mount(
        cls,
        device: BlockDevice,
        now_ns: int,
        options: Options | None = None,
        report: Callable[[str], None] = _ignore,
        *,
        nonce: int | None = None,
    ) -> Self:
        """Open the filesystem on ``device`` as of its last commit.

        ``report`` gets one line for each thing worth logging.  A read-write mount
        after a crash writes two checkpoints, so that both regions know the end of
        the log; a crash meanwhile changes nothing.  If it can't write them, because
        a node that changed is damaged, or because the newer checkpoint was and a full
        disk has no room for it twice, the filesystem is read-only.  So it is when
        anything is damaged or unreadable that writing needs (docs/design/damage.md, "What
        is lost").  Raises FormatError when there is no usable filesystem, DamageError when
        no checkpoint leads to a root that can be read, FilesystemError(EBUSY) while another
        on this device may write.

        ``nonce``, 32 bits, becomes the generation of the inodes that this mount makes; no
        two mounts of an image should have the same.  None derives one from ``now_ns`` and
        the checkpoint.
        """
        check_time(now_ns)
        _check_unused(device)
        options = options or Options()
        superblock = read_superblock(device)
        require_writable(superblock, options.read_only or device.read_only)
        checkpoints = read_checkpoints(device, superblock)
        if not checkpoints:
            raise FormatError("both checkpoint regions are damaged")
        filesystem, recovery = cls._recovered(device, superblock, options, report, checkpoints)
        if len(checkpoints) < CHECKPOINT_REGION_COUNT:
            report("a checkpoint region is lost: a writable mount writes it again")
            recovery.needs_checkpoint = True
        if nonce is None:
            nonce = _nonce(superblock, checkpoints[0], now_ns)
        filesystem._volume.generation = nonce & GENERATION_MAX
        filesystem._begin_mounted(recovery, now_ns)
        device.is_mounted = not filesystem._volume.read_only
        return filesystem

    @classmethod
    def _recovered(
        cls,
        device: BlockDevice,
        superblock: Superblock,
        options: Options,
        report: Callable[[str], None],
        checkpoints: list[Checkpoint],
    ) -> tuple[Self, Recovery]:
        """Recover from the newest checkpoint that leads to an undamaged whole.

        Both lead to the same tree, by different nodes.  If neither is whole, the
        newest that has a root serves with its damage, read-only.
        """
        told: set[str] = set()
        for tolerant in (False, True):
            for index, newest in enumerate(checkpoints):
                filesystem = cls(Volume(device, superblock, options, report))
                newer = checkpoints[0] if index else None
                recovery = Recovery(filesystem._volume, tolerant, newer)
                try:
                    recovery.run(checkpoints[index:])
                except DamageError as error:
                    line = f"checkpoint {newest.number} or the log after it has damage: {error}"
                    if line not in told:
                        report(line)
                    told.add(line)
                    damage = error
                else:
                    return filesystem, recovery
        raise DamageError(f"no checkpoint can be used: {damage}")

    def _begin_mounted(self, recovery: Recovery, now_ns: int) -> None:
        """Make what was recovered the start of the next mount, and remove orphans."""
        volume = self._volume
        if recovery.commit_count:
            volume.report(f"recovered {recovery.commit_count} commits from the log")
        self._checkpointer.last_clean = recovery.was_clean
        self._needs_checkpoint = recovery.needs_checkpoint
        if volume.read_only:
            tell_of_lost(volume.device, volume.report)
        try:
            self._inodes.cuts.load()
        except FilesystemError as error:
            volume.fail(error)
        if not self.read_only:
            self._begin_writing(now_ns)

    def _begin_writing(self, now_ns: int) -> None:
        """Write what recovery left to be written; the volume is writable, or fails here."""
        volume = self._volume
        self._now_ns = now_ns
        volume.elapsed.advance(now_ns)
        self._maintenance.note_commit()
        self._checkpointer.elapsed_ns = volume.elapsed.ns
        # What the log says may still be in the device's cache only.
        volume.flush(volume.log.flushed_sequence)
        superblock = renew_superblocks(volume.device, volume.superblock, volume.report)
        self.superblock = volume.superblock = superblock
        try:
            if self._needs_checkpoint:
                self._checkpointer.insist(now_ns)
                self._checkpointer.insist(now_ns)
                self._needs_checkpoint = False
        except DeviceError as error:
            if error.errno != errno.ENOSPC:
                raise
            volume.report(
                "mounted read-only: the host has no room for what a mount writes; "
                "make some there, unmount, and mount again"
            )
            return
        except FilesystemError:
            # Read-only now, which lets people have all that is not damaged.
            return
        self._remove_orphans()
        volume.keep_host_room()

    def _remove_orphans(self) -> None:
        """Remove the inodes that had no name at the last commit, many of them later."""
        try:
            self._removal.load()
        except FilesystemError as error:
            self._volume.report(f"orphans can't be removed: {error}")
        self._removal.finish(self._now_ns)

    # -------------------------------------------------------------------- ending

    def unmount(self, now_ns: int) -> None:
        """Write a checkpoint marked clean unless nothing changed; then only ``device`` is left.

        Raises DeviceError when that fails; what was committed and flushed stays.
        """
        if self.read_only:
            return
        for inode in self._inodes.open_orphans:
            inode.open_count = 0
        self._end_writing(now_ns)

    def _end_writing(self, now_ns: int) -> None:
        """Remove the orphans, which nobody has open, and write a clean checkpoint."""
        for ino in self._inodes.orphans.difference(self._inodes.leaving):
            self.forget(ino)
        if self._admission.cover(now_ns):
            self._removal.finish(now_ns)
        unchanged = not self._checkpointer.dirty and self._volume.log.blocks_since_checkpoint == 0
        if not (unchanged and self._checkpointer.last_clean):
            self._checkpointer.insist(now_ns, clean=True)

    def remount(
        self,
        now_ns: int,
        *,
        read_only: bool | None = None,
        atime: str | None = None,
        directory_atime: bool | None = None,
        commit_interval_ns: int | None = None,
        cleaner_policy: str | None = None,
    ) -> None:
        """Change how it is mounted; None leaves a choice alone, an error leaves all of them.

        Read-only writes the checkpoint of ``unmount`` first, after which the image is
        clean and nothing is written any more; EBUSY while an orphan is open.  Writable
        does what a mount of the image would do, whose device must be writable by then;
        EROFS when it is not, when writing has failed before, or when the log was not
        read.  Raises FormatError too when the features allow no writing, DeviceError
        when it fails, and then the volume has failed.
        """
        check_time(now_ns)
        options = self._volume.options
        chosen = replace(
            options,
            atime=atime or options.atime,
            directory_atime=(
                options.directory_atime if directory_atime is None else directory_atime
            ),
            commit_interval_ns=(
                options.commit_interval_ns if commit_interval_ns is None else commit_interval_ns
            ),
            cleaner_policy=cleaner_policy or options.cleaner_policy,
        )
        if read_only is not None and read_only != self.read_only:
            if read_only:
                self._become_read_only(now_ns)
            else:
                self._become_writable(now_ns)
        self._volume.options = replace(chosen, read_only=self._volume.read_only)

    def _become_read_only(self, now_ns: int) -> None:
        if self._inodes.open_orphans:
            raise FilesystemError(errno.EBUSY, "a file without a name is open")
        self._end_writing(now_ns)
        self._volume.read_only = True
        self.device.is_mounted = False

    def _become_writable(self, now_ns: int) -> None:
        volume = self._volume
        if volume.failed:
            raise FilesystemError(errno.EROFS, "writing has failed: unmount and mount again")
        if not self.options.roll_forward:
            raise FilesystemError(errno.EROFS, "what the log holds would be lost (norecovery)")
        if self.device.read_only:
            raise FilesystemError(errno.EROFS, "the device is read-only")
        _check_unused(self.device)
        require_writable(self.superblock, read_only=False)
        volume.read_only = False
        self.device.is_mounted = True
        self._begin_writing(now_ns)
        if volume.failed:
            raise FilesystemError(errno.EROFS, "no checkpoint can be written")

    @property
    def options(self) -> Options:
        """Return what the mount chose, as the last ``remount`` left it."""
        return self._volume.options

    @property
    def read_only(self) -> bool:
        """Tell whether changes are refused, by choice or because writing failed."""
        return self._volume.read_only or self._volume.failed

    @property
    def failure(self) -> str:
        """Return why writing failed; nothing while it has not."""
        return self._volume.failure

    def forget(self, ino: int) -> None:
        """Remove ``ino`` if it has neither a name nor a user; otherwise do nothing.

        Nobody finds it any more; what is left of a large one goes in later steps.
        """
        inodes = self._inodes
        if ino not in inodes.orphans or ino in inodes.leaving or self.read_only:
            return
        inode = inodes.get(ino)
        if inode.open_count:
            return
        may_go_on = self._admission.cover(self._now_ns)
        self._data.drop_dirty(inode)
        self._removal.line_up(inode)
        if may_go_on:
            self._removal.begin(inode.ino, self._now_ns)
