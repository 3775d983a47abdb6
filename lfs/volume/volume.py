"""What all parts of a mounted filesystem share: device, geometry, log, map, limits.

A volume knows blocks and items, not files.  A log write that fails with ``EIO`` can
be written elsewhere by whoever has its contents (``emit``); only a checkpoint can
lead there then.  Once the log could not be written at all, or a block is damaged
that it needs for that, the volume has *failed*: nothing is written any more and
every change is refused; what was committed is on disk.  After a failed flush nobody
knows what the device holds, so that is not tried again.  Any other exception amid
writing, such as KeyboardInterrupt or MemoryError, makes it fail as well: what had been
taken from memory may be nowhere.

Held by ``tests/system/test_write_errors.py`` and ``tests/system/test_read_errors.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from lfs.common.checksum import checksum
from lfs.common.errors import DamageError, DeviceError, FilesystemError
from lfs.common.turns import Elapsed, Flush
from lfs.device.base import BlockDevice, Buffer
from lfs.device.closed import ClosedDevice
from lfs.device.reading import read_or_damage
from lfs.imap.map import Imap
from lfs.imap.node_cache import NodeCache
from lfs.ondisk import (
    NO_BLOCK,
    Change,
    EntryFields,
    Pointer,
    Superblock,
    inline_bytes_max,
    original_data,
    window_blocks,
)
from lfs.segments.placement import Placement
from lfs.segments.reader import LogReader
from lfs.segments.usage import UsageTable
from lfs.segments.writer import LogWriter
from lfs.volume.checkpoint_state import CheckpointState
from lfs.volume.options import Options

_HOST_SEGMENTS_MIN = 12
_HOST_BYTES = 4 << 20
"""So much that is written last gets room on the host of a sparse image at once."""
PLACES_MAX = 8
"""So many log writes may fail until a checkpoint leads around them."""


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
        self.is_closed = False
        """Whether nobody may use it any more."""
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
        self.log = LogWriter(device, superblock, self.usage)
        self.reader = LogReader(device, superblock)
        cache = NodeCache(
            self.read_verified, self.filesystem_id, options.node_cache_bytes, self.will_read
        )
        self.imap = Imap(cache, NO_BLOCK, 0, 0)
        self.elapsed = Elapsed()
        self.state = CheckpointState(self.usage.page_count)

    # ------------------------------------------------------------------ reading

    def read_verified(self, pointer: Pointer) -> bytes:
        """Return the block in use at ``pointer``; raises DamageError."""
        if not self.usage.holds(pointer.address, 1):
            raise DamageError(f"block {pointer.address}: not in a segment in use")
        return self.read_block(pointer)

    def will_read(self, address: int, count: int) -> None:
        """Tell the device that blocks will be read soon."""
        self.device.will_read(address * self.block_bytes, count * self.block_bytes)

    def check_in_use(self, extents: Iterable[tuple[int, int, int]]) -> None:
        """Raise DamageError unless all blocks of a window lie in segments in use."""
        for _, count, address in extents:
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
        if self.is_closed:
            raise FilesystemError(errno.EBADF, "the filesystem is not mounted any more")
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
        entries: Sequence[EntryFields],
        buffers: Sequence[Buffer],
        records: Sequence[Change],
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
        except BaseException as error:
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
        state = self.state
        self.usage.release(self.log.flushed_sequence, state.sequences[0], state.checkpoint_number)

    def close(self) -> None:
        """Let nobody use the device any more, whatever he has begun or kept: EBADF."""
        self.is_closed = True
        self.log.close()
        self.device = ClosedDevice(self.device.size_bytes)

    def fail(self, error: BaseException) -> None:
        """Refuse all changes from now on, and say why once; nothing once it is closed."""
        if not (self.failed or self.is_closed):
            self.failed = True
            # Not all of them have a text: an interrupt has only its name.
            self.failure = str(error) or type(error).__name__
            self.report(f"{_CONSEQUENCES[self.options.errors]}: {self.failure}")
            self.options.on_failure()
