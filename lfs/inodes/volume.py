"""What all parts of a mounted filesystem share: device, geometry, log, map, limits.

A volume knows blocks and items, not files.  A log write that fails with ``EIO`` can
be written elsewhere by whoever has its contents (``emit``); only a checkpoint can
lead there then.  Once the log could not be written at all, or a block is damaged
that it needs for that, the volume has *failed*: nothing is written any more and
every change is refused; what was committed is on disk.  After a failed flush nobody
knows what the device holds, so that is not tried again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lfs.common.checksum import checksum
from lfs.common.errors import DamageError, DeviceError, FilesystemError
from lfs.common.turns import Elapsed, Flush
from lfs.device.base import BlockDevice, Buffer
from lfs.device.reading import read_or_damage
from lfs.imap.map import Imap
from lfs.imap.node_cache import NodeCache
from lfs.inodes.arguments import OFFSET_MAX, check_number
from lfs.ondisk import (
    NO_BLOCK,
    Entry,
    Pointer,
    Record,
    Superblock,
    inline_bytes_max,
    original_data,
    window_blocks,
)
from lfs.segments.placement import Placement
from lfs.segments.policy import POLICIES
from lfs.segments.reader import LogReader
from lfs.segments.usage import UsageTable
from lfs.segments.writer import LogWriter

SECOND_NS = 1_000_000_000
CACHE_BYTES_MIN = 32 << 20
_HOST_SEGMENTS_MIN = 12
_HOST_BYTES = 4 << 20
"""So much that is written last gets room on the host of a sparse image at once."""
PLACES_MAX = 8
"""So many log writes may fail until a checkpoint leads around them."""


_CHOICES = {
    "atime": ("relatime", "strictatime", "noatime"),
    "cleaner_policy": POLICIES,
    "errors": ("remount-ro", "continue", "panic"),
}
_POSITIVE = (
    "commit_interval_ns",
    "checkpoint_interval_ns",
    "dirty_bytes_max",
    "extent_bytes_max",
    "removal_items_max",
)


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a mount may choose.  Sizes are in bytes, times in nanoseconds."""

    read_only: bool = False
    atime: str = "relatime"
    """``relatime``, ``strictatime`` or ``noatime``."""
    directory_atime: bool = True
    """False keeps the access times of directories as they are."""
    commit_interval_ns: int = 5 * SECOND_NS
    checkpoint_interval_ns: int = 60 * SECOND_NS
    dirty_bytes_max: int = 32 << 20
    """Dirty data above this is written out before more is accepted."""
    extent_bytes_max: int = 8 << 20
    """Dirty data of one file above this is written out."""
    node_cache_bytes: int = 32 << 20
    memory_bytes_max: int = 192 << 20
    """All that is kept of what was read or changed; what the two before it leave, but at
    least 32 MiB, is for windows, changed items and inodes."""
    inode_count_max: int = 16384
    """Clean inodes kept in memory, if that has room for so many."""
    removal_items_max: int = 128
    """So many windows and attributes are given up at once; more wait for later steps."""
    cleaner_policy: str = "cost-benefit"
    roll_forward: bool = True
    """False shows the last checkpoint and is only possible read-only."""
    errors: str = "remount-ro"
    """What follows when the log can't go on: ``remount-ro`` refuses changes with EROFS,
    ``continue`` with EIO; with ``panic`` the caller ends in ``on_failure``."""
    on_failure: Callable[[], None] = _nothing
    """Called once, when the log can't go on, after the reason was reported."""

    def __post_init__(self) -> None:
        """Refuse what is no choice, with FilesystemError(EINVAL) or TypeError."""
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise FilesystemError(
                    errno.EINVAL, f"{name} {value!r} is none of {', '.join(choices)}"
                )
        for name in _POSITIVE:
            check_number(name, getattr(self, name), 1, OFFSET_MAX)

    @property
    def memory_bytes_min(self) -> int:
        """Return the least ``memory_bytes_max`` that can be kept to."""
        return self.dirty_bytes_max + self.node_cache_bytes + CACHE_BYTES_MIN

    @property
    def cache_bytes(self) -> int:
        """Return what windows, changed items and inodes may take together."""
        rest_bytes = self.memory_bytes_max - self.dirty_bytes_max - self.node_cache_bytes
        return max(CACHE_BYTES_MIN, rest_bytes)


_CONSEQUENCES = {
    "remount-ro": "read-only from now on",
    "continue": "every change is refused from now on",
    "panic": "ending at once",
}


def _ignore(message: str) -> None:
    """Report to nobody."""


class Volume:
    """A device with a filesystem on it, opened."""

    def __init__(
        self,
        device: BlockDevice,
        superblock: Superblock,
        options: Options,
        report: Callable[[str], None] = _ignore,
    ) -> None:
        """Open with an empty map and all segments clean; recovery fills both in."""
        self.device = device
        self.superblock = superblock
        self.options = options
        self.report = report
        self.read_only = options.read_only or device.read_only
        self.failed = False
        self.failure = ""
        """Why it failed."""
        self.host_is_full = False
        """Whether only what the host has room for already is written."""
        self.error_count = 0
        """Writes that failed since a checkpoint last went without an error."""
        self.block_bytes = superblock.block_bytes
        self.filesystem_id = superblock.filesystem_id
        self.window_blocks = window_blocks(self.block_bytes)
        self.inline_bytes_max = inline_bytes_max(self.block_bytes)
        self.usage = UsageTable(
            superblock.first_segment_block,
            superblock.segment_blocks,
            superblock.segment_count,
            self.block_bytes,
        )
        self.usage.on_damage = self.fail
        self.usage_pages: list[Pointer] = [NO_BLOCK] * self.usage.page_count
        self.log = LogWriter(device, superblock, self.usage)
        self.reader = LogReader(device, superblock)
        cache = NodeCache(self.read_verified, self.filesystem_id, options.node_cache_bytes)
        self.imap = Imap(cache, NO_BLOCK, 0, 0)
        self.elapsed = Elapsed()
        self.next_ino = 1
        self.generation = 0
        """Of the inodes that this mount makes: a number that a crash took back is used again."""
        self.inode_count = 0
        self.checkpoint_number = 0
        self.checkpoint_sequences = (1, 1)
        """First log write after the older and after the newer of the two checkpoints."""

    # ------------------------------------------------------------------ reading

    def read_verified(self, pointer: Pointer) -> bytes:
        """Return the block in use at ``pointer``; raises DamageError."""
        if not self.usage.holds(pointer.address, 1):
            raise DamageError(f"block {pointer.address}: not in a segment in use")
        return self.read_block(pointer)

    def check_in_use(self, runs: Iterable[tuple[int, int, int]]) -> None:
        """Raise DamageError unless all blocks of a window lie in segments in use."""
        for _, count, address in runs:
            if not self.usage.holds(address, count):
                raise DamageError(f"data blocks {address}+{count}: not in a segment in use")

    def read_block(self, pointer: Pointer) -> bytes:
        """Return the block at ``pointer``; raises DamageError when it is not as it should be."""
        superblock = self.superblock
        if not superblock.first_segment_block <= pointer.address < superblock.end_block:
            raise DamageError(f"block {pointer.address}: outside the segments")
        raw = read_or_damage(self.device, pointer.address, 1, self.block_bytes, "block")
        found = checksum(raw)
        if found != pointer.checksum:
            raise DamageError(
                f"block {pointer.address}: expected checksum {pointer.checksum:08x}, "
                f"found {found:08x}"
            )
        return raw

    def read_data(self, address: int, checksums: Sequence[int]) -> bytes:
        """Return ``len(checksums)`` data blocks at ``address``, each verified.

        Raises DamageError naming the first block that differs.
        """
        block_bytes = self.block_bytes
        count = len(checksums)
        if not self.usage.holds(address, count):
            raise DamageError(f"data blocks {address}+{count}: not in a segment in use")
        raw = read_or_damage(self.device, address, count, block_bytes, "data blocks")
        if count == 1 and checksum(raw) == checksums[0]:
            return raw
        data, failed = original_data(raw, checksums, block_bytes)
        if failed:
            raise DamageError(f"data block {address + failed[0]}: checksum differs")
        return data

    # ------------------------------------------------------------------ writing

    def check_writable(self) -> None:
        """Raise FilesystemError on a read-only volume (EROFS) or a failed one (``errors``)."""
        if self.read_only or (self.failed and self.options.errors != "continue"):
            raise FilesystemError(errno.EROFS)
        if self.failed:
            raise FilesystemError(errno.EIO, "the log could not be written")

    def reserve(
        self,
        number: int,
        payload_blocks: int,
        record_bytes: int,
        extent_count: int,
        spare_blocks: Callable[[], int] | None = None,
        expected_blocks: int = 0,
    ) -> Placement:
        """Find a place for a log write, as ``LogWriter.reserve`` does.

        That may write a jump; where that can't be written, the place is at the
        beginning of a new chain.  A failure of the device that can't be avoided makes
        the volume fail, and so does a lack of room: what was to be written has been
        promised.
        """
        while True:
            try:
                return self.log.reserve(
                    number,
                    payload_blocks,
                    record_bytes,
                    extent_count,
                    spare_blocks,
                    expected_blocks,
                )
            except DeviceError as error:
                self._note_error(error)
            except FilesystemError as error:
                self.fail(error)
                raise

    def emit(
        self,
        placement: Placement,
        entries: Sequence[Entry],
        buffers: Sequence[Buffer],
        records: Sequence[Record],
        flags: int,
        time_ns: int,
    ) -> bool:
        """Write a log write; returns whether it was written.

        If not, its blocks are counted as live where they are not: the caller gives
        them another place.  Its records need none, because the chain is broken now
        and a checkpoint must follow, which has all of memory.  A failure of the device
        that can't be avoided in this way makes the volume fail.
        """
        try:
            self.log.emit(placement, entries, buffers, records, flags, time_ns)
        except DeviceError as error:
            self._note_error(error)
            return False
        return True

    def _note_error(self, error: DeviceError) -> None:
        """Go on after a write that failed, unless that is hopeless: then fail, and raise."""
        if error.errno == errno.ENOSPC and not self.host_is_full:
            self._note_full_host(error)
            return
        self.error_count += 1
        if error.errno not in (errno.EIO, errno.ENOSPC) or self.error_count > PLACES_MAX:
            self.fail(error)
            raise error
        self.report(f"{error}: written elsewhere, the place is not used again while mounted")

    def _note_full_host(self, error: DeviceError) -> None:
        """Go on where the host has given room to the image already, and only there."""
        self.host_is_full = True
        usage = self.usage
        segment_bytes = usage.segment_blocks * self.block_bytes
        usage.withhold(
            lambda segment: self.device.is_stored(
                usage.address_of(segment) * self.block_bytes, segment_bytes
            ),
            self.log.open_runs(),
        )
        self.report(
            f"{error}: the host has no room for the image to grow; until the next mount there is "
            "only what it has already: make room on the host, or delete files"
        )

    def keep_host_room(self) -> None:
        """Let the host give room to a few segments, for deleting once it has none left."""
        usage = self.usage
        segment_bytes = usage.segment_blocks * self.block_bytes
        count = max(_HOST_SEGMENTS_MIN, _HOST_BYTES // segment_bytes)
        for segment in usage.buddy.last_taken(count):
            self.device.keep_room(usage.address_of(segment) * self.block_bytes, segment_bytes)

    def flush(self, sequence: int) -> None:
        """Flush the device, which makes the log up to ``sequence`` durable.

        A failure makes the volume fail.
        """
        try:
            self.device.flush()
        except DeviceError as error:
            self.fail(error)
            raise
        self.flushed(sequence)

    def await_flush(self, flush: Flush) -> None:
        """Return once what ``flush`` asks for is done: by somebody else, or else here."""
        if not flush.done:
            self.flush(flush.sequence)
            flush.done = True

    def flushed(self, sequence: int) -> None:
        """Note that the log is durable up to ``sequence``; free what that frees."""
        self.log.flushed(sequence)
        self.usage.release(
            self.log.flushed_sequence, self.checkpoint_sequences[0], self.checkpoint_number
        )

    def fail(self, error: Exception) -> None:
        """Refuse all changes from now on, and say why once."""
        if not self.failed:
            self.failed = True
            self.failure = str(error)
            self.report(f"{_CONSEQUENCES[self.options.errors]}: {error}")
            self.options.on_failure()
