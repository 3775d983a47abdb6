"""The life of a mount: its beginning, its end, and turns in between.

Order (docs/design/log-and-commit.md, "Order of writes").  A mount takes the newest
checkpoint that leads to an undamaged whole, rolls forward, and writes what it recovered
to two checkpoints before the first request; then it removes the orphans of the last
commit.  An unmount, and a remount that ends writing, removes the orphans and
writes a checkpoint that says there is no log after it.  A remount that begins
writing does what a mount does.

Invariant: nothing is written while ``read_only`` holds.

Held by ``tests/commit/test_recovery.py`` and ``tests/library/test_remount.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Self

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
from lfs.ondisk import CHECKPOINT_REGION_COUNT, GENERATION_MAX, Checkpoint, Superblock
from lfs.requests.core import Core
from lfs.volume.arguments import check_time
from lfs.volume.options import Options
from lfs.volume.volume import Volume


def _nonce(superblock: Superblock, checkpoint: Checkpoint, now_ns: int) -> int:
    """Return a number that differs from mount to mount, if the clock does."""
    text = f"{checkpoint.number} {checkpoint.next_sequence} {now_ns}".encode()
    return int.from_bytes(blake2b(text, key=superblock.filesystem_id).digest()[:4], "little")


def _check_unused(device: BlockDevice) -> None:
    if device.is_mounted:
        raise FilesystemError(errno.EBUSY, "the filesystem on this device is mounted already")


def _recovered(
    device: BlockDevice,
    superblock: Superblock,
    options: Options,
    report: Callable[[str], None],
    checkpoints: list[Checkpoint],
) -> tuple[Core, Recovery]:
    """Recover from the newest checkpoint that leads to an undamaged whole.

    Both lead to the same tree, by different nodes.  If neither is whole, the
    newest that has a root serves with its damage, read-only.
    """
    told: set[str] = set()
    for tolerant in (False, True):
        for index, newest in enumerate(checkpoints):
            core = Core(Volume(device, superblock, options, report))
            newer = checkpoints[0] if index else None
            recovery = Recovery(core.volume, tolerant, newer)
            try:
                recovery.run(checkpoints[index:])
            except DamageError as error:
                line = f"checkpoint {newest.number} or the log after it has damage: {error}"
                if line not in told:
                    report(line)
                told.add(line)
                damage = error
            else:
                return core, recovery
    raise DamageError(f"no checkpoint can be used: {damage}")


class Mount:
    """One mount of a filesystem, whose parts are ``core``."""

    def __init__(self, core: Core) -> None:
        """Look after the parts of a volume, which is new or has been recovered."""
        self.core = core
        self._needs_checkpoint = False
        self._newest_number = 0
        """Of the newest checkpoint that was on the device when it was mounted."""

    @classmethod
    def of(
        cls,
        device: BlockDevice,
        now_ns: int,
        options: Options,
        report: Callable[[str], None],
        nonce: int | None,
    ) -> Self:
        """Mount what is on ``device``: see ``Filesystem.mount``, also for what it raises."""
        check_time(now_ns)
        _check_unused(device)
        superblock = read_superblock(device)
        require_writable(superblock, options.read_only or device.read_only)
        checkpoints = read_checkpoints(device, superblock)
        if not checkpoints:
            raise FormatError("both checkpoint regions are damaged")
        core, recovery = _recovered(device, superblock, options, report, checkpoints)
        if len(checkpoints) < CHECKPOINT_REGION_COUNT:
            report("a checkpoint region is lost: a writable mount writes it again")
            recovery.needs_checkpoint = True
        if nonce is None:
            nonce = _nonce(superblock, checkpoints[0], now_ns)
        core.inodes.generation = nonce & GENERATION_MAX
        mount = cls(core)
        mount._newest_number = checkpoints[0].number
        mount.begin(recovery, now_ns)
        device.is_mounted = not core.volume.read_only
        return mount

    def begin(self, recovery: Recovery, now_ns: int) -> None:
        """Make what was recovered the start of the next mount, and remove orphans."""
        volume = self.core.volume
        if recovery.commit_count:
            volume.report(f"recovered {recovery.commit_count} commits from the log")
        self.core.checkpointer.last_clean = recovery.was_clean
        self._needs_checkpoint = recovery.needs_checkpoint
        if volume.read_only:
            tell_of_lost(volume.device, volume.report)
        try:
            self.core.inodes.cuts.load()
        except FilesystemError as error:
            volume.fail(error)
        if not self.core.read_only:
            self._begin_writing(now_ns)

    def _begin_writing(self, now_ns: int) -> None:
        """Write what recovery left to be written; the volume is writable, or fails here."""
        volume = self.core.volume
        self.core.now_ns = now_ns
        volume.elapsed.advance(now_ns)
        self.core.maintenance.note_commit()
        self.core.checkpointer.elapsed_ns = volume.elapsed.ns
        # What the log says may still be in the device's cache only.
        volume.flush(volume.log.flushed_sequence)
        superblock = renew_superblocks(volume.device, volume.superblock, volume.report)
        volume.superblock = superblock
        try:
            if self._needs_checkpoint:
                self.core.checkpointer.insist(now_ns)
                self.core.checkpointer.insist(now_ns)
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
            self.core.removal.load()
        except FilesystemError as error:
            self.core.volume.report(f"orphans can't be removed: {error}")
        self.core.removal.finish(self.core.now_ns)

    def end(self, now_ns: int) -> None:
        """End writing, if it has not ended: see ``Filesystem.unmount``."""
        if self.core.read_only:
            return
        for inode in self.core.inodes.open_orphans:
            inode.open_count = 0
        self._end_writing(now_ns)

    def _end_writing(self, now_ns: int) -> None:
        """Remove the orphans, which nobody has open, and write a clean checkpoint."""
        core = self.core
        for ino in core.inodes.orphans.difference(core.inodes.leaving):
            if not core.read_only:
                core.give_up(core.inodes.get(ino))
        if core.admission.cover(now_ns):
            core.removal.finish(now_ns)
        checkpointer = core.checkpointer
        unchanged = not checkpointer.dirty and core.volume.log.blocks_since_checkpoint == 0
        if not (unchanged and checkpointer.last_clean):
            checkpointer.insist(now_ns, clean=True)

    def change(self, now_ns: int, read_only: bool | None, choices: Mapping[str, Any]) -> None:
        """Change how it is mounted; ``choices`` are fields of ``Options``.

        See ``Filesystem.remount``, also for what it raises.
        """
        volume = self.core.volume
        chosen = replace(volume.options, **choices)
        if read_only is not None and read_only != self.core.read_only:
            if read_only:
                self._become_read_only(now_ns)
            else:
                self._become_writable(now_ns)
        volume.options = options = replace(chosen, read_only=volume.read_only)
        self.core.inodes.pinned_bytes_max = options.cache_bytes // 4

    def _check_not_written_since(self) -> None:
        """Raise FilesystemError when somebody else has written to the device meanwhile.

        Then there is another filesystem, a newer checkpoint, or a log write where the log
        was to go on: a mount of a clean image begins there without a checkpoint.
        """
        volume = self.core.volume
        superblock = read_superblock(volume.device)
        is_same = superblock.filesystem_id == volume.filesystem_id
        checkpoints = read_checkpoints(volume.device, superblock) if is_same else []
        if is_same and not checkpoints:
            raise FormatError("both checkpoint regions are damaged")
        newest = max(self._newest_number, volume.state.checkpoint_number)
        if not is_same or checkpoints[0].number > newest or self._log_has_gone_on():
            raise FilesystemError(
                errno.ESTALE, "it has been written by somebody else: unmount and mount again"
            )

    def _log_has_gone_on(self) -> bool:
        volume = self.core.volume
        try:
            following = volume.reader.read_summary(volume.log.next_address)
        except DamageError:
            return False
        return following.sequence >= volume.log.next_sequence

    def _become_read_only(self, now_ns: int) -> None:
        if self.core.inodes.open_orphans:
            raise FilesystemError(errno.EBUSY, "a file without a name is open")
        self._end_writing(now_ns)
        self.core.volume.read_only = True
        self.core.volume.device.is_mounted = False

    def _become_writable(self, now_ns: int) -> None:
        volume = self.core.volume
        if volume.failed:
            raise FilesystemError(errno.EROFS, "writing has failed: unmount and mount again")
        if not volume.options.roll_forward:
            raise FilesystemError(errno.EROFS, "what the log holds would be lost (norecovery)")
        if volume.device.read_only:
            raise FilesystemError(errno.EROFS, "the device is read-only")
        _check_unused(volume.device)
        require_writable(volume.superblock, read_only=False)
        self._check_not_written_since()
        volume.read_only = False
        volume.device.is_mounted = True
        self._begin_writing(now_ns)
        if volume.failed:
            raise FilesystemError(errno.EROFS, "no checkpoint can be written")
