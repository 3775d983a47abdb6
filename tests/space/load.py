"""One run of a load on a disk that it fills, and the promises of space held on it (P4).

A run is told by its id, ``SCALE-SEED``: geometry, options, kinds of load and every
request follow from it.  What must hold, whatever the geometry and the load:

- a request is refused with ENOSPC or not at all, before anything of it was done, and
  only while ``statfs`` says that there is no room for it;
- what takes nothing from the disk is never refused: deleting, truncating, overwriting
  what is on disk, renaming, changing attributes;
- nothing ends in a volume that has failed: not write-out, commits, checkpoints,
  cleaning, nor a mount after a crash;
- after a sync and a mount, all that was accepted is read back;
- a checkpoint writes no more nodes than were reckoned with.
"""

from __future__ import annotations

import errno
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

from fsck.check import check_device
from lfs.common.compiled import is_compiled
from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.imap.part import PART_BLOCKS
from lfs.imap.rebuild import Rebuilt
from lfs.make import format_device
from lfs.ondisk import ROOT_INO
from tests.space.scales import KIB, MIB, SCALES, chosen_layout, planned

SECOND_NS = 1_000_000_000
REGULAR = stat.S_IFREG | 0o644
NAMES = (b"user.a", b"user.b", b"user." + b"n" * 200)
_CROWDED_SHARE = 0.008
_POOL_BYTES = 9 * MIB


class BrokenError(AssertionError):
    """A promise of space that a run found broken."""


@cache
def _pool() -> bytes:
    return random.Random(0).randbytes(_POOL_BYTES)


@dataclass
class File:
    """What a file must hold."""

    names: list[tuple[int, bytes]]
    content: bytearray
    attributes: dict[bytes, bytes]
    stored_bytes: int = 0
    """Up to here the content has been committed: overwriting it takes nothing."""
    has_holes: bool = False


class Run:
    """A disk, what it must hold, and the requests that are made of it."""

    def __init__(self, run_id: str) -> None:
        """Make the disk of ``run_id``."""
        scale_name, _, _ = run_id.partition("-")
        self.scale = SCALES[scale_name]
        self.choose = random.Random(run_id)
        self.is_crowded = self.choose.random() < _CROWDED_SHARE
        """Whether the disk is such that much dirty data in small files nearly fills it."""
        self.is_of_metadata = self.choose.random() < self.scale.metadata_share
        """Whether the disk is filled with data that takes much metadata along."""
        if self.is_crowded:
            device_bytes = self.scale.device_bytes_max
            self.layout = planned(self.choose, device_bytes, KIB, 64 * KIB)
            self.options = Options(dirty_bytes_max=3 * device_bytes // 8)
        elif self.is_of_metadata:
            block_bytes = self.choose.choice(self.scale.metadata_block_bytes)
            segments = self.choose.choice(self.scale.metadata_segments)
            device_bytes = 2 * MIB + segments * 64 * block_bytes
            self.layout = planned(self.choose, device_bytes, block_bytes, 64 * block_bytes)
            self.options = self.scale.options(self.choose)
        else:
            device_bytes, self.layout = chosen_layout(self.choose, self.scale)
            self.options = self.scale.options(self.choose)
        # By a choice of its own, so that runs which were found by their names stay what they are.
        items_max = random.Random(f"{run_id} merging").choice((3, 32, 512))
        self.options = replace(self.options, merged_items_max=items_max)
        self.device = MemoryDevice(device_bytes)
        format_device(self.device, self.layout, 0)
        self.lines: list[str] = []
        self.now_ns = 1
        self.files: dict[int, File] = {}
        self.directories: list[int] = [ROOT_INO]
        self.directory_names: set[bytes] = set()
        self.number = 0
        self.requests = 0
        self.refused = 0
        self.remounts = 0
        self.filesystem = self._mount(self.device)
        self.is_root = self.choose.random() < 0.5

    # ------------------------------------------------------------------- the mount

    def now(self) -> int:
        """Return the time, which goes on by a millisecond."""
        self.now_ns += SECOND_NS // 1000
        return self.now_ns

    def _mount(self, device: MemoryDevice) -> Filesystem:
        filesystem = Filesystem.mount(device, self.now(), self.options, self.lines.append)
        if filesystem.read_only:
            raise BrokenError(f"the mount is read-only: {self.lines[-3:]}")
        if not is_compiled():
            _watch_nodes(filesystem)
        return filesystem

    def remount(self) -> None:
        """Unmount and mount again, or do without unmounting."""
        self.remounts += 1
        if self.choose.random() < 0.5:
            self.filesystem.unmount(self.now())
        else:
            self.sync()
            self.filesystem.abandon()
        self.filesystem = self._mount(self.device)

    def sync(self) -> None:
        """Make everything durable."""
        self.filesystem.sync(self.now())
        self._note_stored()
        inodes = self.filesystem.core.inodes
        inodes.trim()
        if inodes.pinned_count or inodes.pinned_bytes:
            raise BrokenError(f"{inodes.pinned_count} windows are kept for no dirty block")

    def checkpoint(self) -> None:
        """Write a checkpoint."""
        self.filesystem.checkpoint(self.now())
        self._note_stored()

    def _note_stored(self) -> None:
        for file in self.files.values():
            file.stored_bytes = len(file.content)

    # ------------------------------------------------------------------- requests

    def grow(
        self, request: Callable[[], object], bytes_asked: int, privileged: bool = False
    ) -> bool:
        """Make a request that may be refused for want of space; returns whether it was not."""
        self.requests += 1
        try:
            request()
        except FilesystemError as error:
            self._check_refusal(error, bytes_asked, privileged)
            self.refused += 1
            return False
        return True

    def _check_refusal(self, error: FilesystemError, bytes_asked: int, privileged: bool) -> None:
        if error.errno != errno.ENOSPC or self.filesystem.read_only:
            raise BrokenError(f"refused with {error!r}: {self.lines[-3:]}") from error
        space = self.filesystem.statfs()
        left = space.free_blocks if privileged else space.available_blocks
        asked = bytes_asked // space.block_bytes + 6
        if left > 2 * asked:
            raise BrokenError(f"refused {asked} blocks while {left} are available") from error

    def keep(self, request: Callable[[], object]) -> None:
        """Make a request that takes nothing from the disk, and is never refused."""
        self.requests += 1
        try:
            request()
        except FilesystemError as error:
            space = self.filesystem.statfs()
            raise BrokenError(
                f"refused with {error!r} what takes nothing; {space}: {self.lines[-3:]}"
            ) from error

    def data(self, length: int) -> bytes:
        """Return ``length`` bytes that no other call returned."""
        start = self.choose.randrange(_POOL_BYTES - length)
        return _pool()[start : start + length]

    def new_name(self, name_bytes: int = 0) -> bytes:
        """Return a name that was never used, of a length if that is given."""
        self.number += 1
        dashes = self.choose.choice((0, 0, 0, 100, 240)) if not name_bytes else 0
        return (b"%d" % self.number + b"-" * dashes).rjust(name_bytes, b".")

    def create(self, name_bytes: int = 0) -> int | None:
        """Create a file; returns its inode number, or None when refused."""
        parent, name = self.choose.choice(self.directories), self.new_name(name_bytes)
        made: list[int] = []

        def request() -> None:
            made.append(self.filesystem.create(parent, name, REGULAR, 0, 0, self.now()).ino)

        if not self.grow(request, 2 * self.layout.block_bytes):
            return None
        self.files[made[0]] = File([(parent, name)], bytearray(), {})
        return made[0]

    def write(self, ino: int, offset: int, data: bytes) -> bool:
        """Write; returns whether it was accepted."""
        file = self.files[ino]

        def request() -> None:
            self.filesystem.write(ino, offset, data, self.now(), self.is_root)

        if offset + len(data) <= file.stored_bytes and not file.has_holes:
            self.keep(request)
        elif not self.grow(request, len(data), self.is_root):
            return False
        file.has_holes |= offset > len(file.content)
        file.content.extend(bytes(max(0, offset - len(file.content))))
        file.content[offset : offset + len(data)] = data
        return True

    def truncate(self, ino: int, size: int) -> None:
        """Shorten a file."""
        file = self.files[ino]
        self.keep(lambda: self.filesystem.setattr(ino, self.now(), size=size))
        del file.content[size:]
        file.stored_bytes = min(file.stored_bytes, size)

    def delete(self, ino: int) -> None:
        """Remove a file with all its names."""
        for parent, name in self.files.pop(ino).names:
            self.keep(partial(self.filesystem.unlink, parent, name, self.now()))
        self.keep(lambda: self.filesystem.forget(ino))

    # ----------------------------------------------------------------- verification

    def verify(self, filesystem: Filesystem) -> None:
        """Compare all that ``filesystem`` holds with what was accepted."""
        for ino, file in self.files.items():
            found = filesystem.read(ino, 0, len(file.content) + 1, self.now_ns)
            if found != file.content:
                raise BrokenError(
                    f"inode {ino} has {len(found)} bytes, {len(file.content)} were accepted, "
                    f"the first difference is at {_difference(found, file.content)}"
                )
            for parent, name in file.names:
                if filesystem.lookup(parent, name).ino != ino:
                    raise BrokenError(f"the name {name!r} leads elsewhere")
            attributes = {
                name: filesystem.getxattr(ino, name) for name in filesystem.listxattr(ino)
            }
            if attributes != file.attributes:
                raise BrokenError(f"attributes of inode {ino} differ")

    def finish(self) -> None:
        """Verify after a crash, check the disk, and remove everything."""
        self.sync()
        self.verify(self._mount(self.device.copy()))
        self.checkpoint()
        # Read-only, so that nothing goes on that was begun.
        options = replace(self.options, read_only=True)
        self._check_usage(Filesystem.mount(self.device.copy(), self.now(), options))
        self.remount()
        self.verify(self.filesystem)
        inos = list(self.files)
        self.choose.shuffle(inos)
        for ino in inos:
            self.delete(ino)
        self.filesystem.unmount(self.now())
        # The most expensive part: some of the runs are enough.
        is_checked = self.choose.random() < 0.25
        problems = check_device(self.device, data=True).problems if is_checked else []
        if problems:
            raise BrokenError(f"fsck finds {[str(problem) for problem in problems[:3]]}")
        self.filesystem = self._mount(self.device)
        space = self.filesystem.statfs()
        if space.free_blocks < space.total_blocks * 0.9 - len(self.directories) - 8:
            raise BrokenError(f"not all space came back: {space}")

    def _check_usage(self, mounted: Filesystem) -> None:
        """Compare the usage table that a mount found with the one in memory.

        A jump from one run of usage pages to the next is in no page: it carries nothing.
        """
        found = [*mounted.core.volume.usage.partly_live(1.0)]
        expected = [*self.filesystem.core.volume.usage.partly_live(1.0)]
        if [one[:3] for one in found] != [one[:3] for one in expected] or not all(
            0 <= other[3] - one[3] <= 1 for one, other in zip(found, expected, strict=True)
        ):
            raise BrokenError("the usage table found by a mount is not the one there was")


def _watch_nodes(filesystem: Filesystem) -> None:
    """Hold the nodes of each checkpoint against the bound there was before its commit."""
    merger = filesystem.core.checkpointer._merger
    rebuilt, merge_part = merger.rebuilt, merger.merge_part
    committer = filesystem.core.checkpointer._committer
    log = committer.log
    bound = 0

    def logged(now_ns: int, flags: int = 0) -> None:
        nonlocal bound
        bound = filesystem.core.ledger._node_blocks()
        log(now_ns, flags)

    def watched() -> Rebuilt:
        result = rebuilt()
        if len(result.new_nodes) > bound:
            raise BrokenError(f"a checkpoint writes {len(result.new_nodes)} nodes, not {bound}")
        return result

    def merged(keys: list[bytes], now_ns: int) -> None:
        volume = filesystem.core.volume
        before_blocks = volume.log.blocks_since_checkpoint
        merge_part(keys, now_ns)
        written_blocks = volume.log.blocks_since_checkpoint - before_blocks
        if written_blocks > PART_BLOCKS:
            raise BrokenError(f"a part of a checkpoint takes {written_blocks} blocks")

    # Of this mount only: others may be there at the same time.
    committer.log = logged  # type: ignore[method-assign]
    merger.rebuilt = watched  # type: ignore[method-assign]


def _difference(found: bytes, expected: bytearray) -> int:
    pairs = enumerate(zip(found, expected, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(found), len(expected)))
