"""One small filesystem with its device in view: requests, lines reported, state of the tree."""

from __future__ import annotations

import stat
from dataclasses import replace

from fsck.check import check_device
from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.device.base import BlockDevice
from lfs.device.memory import MemoryDevice
from lfs.device.recording import RecordingDevice, Write
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO, Summary, Superblock
from lfs.segments.reader import LogReader
from tests.support.client import Data
from tests.support.state import TreeState, tree_state
from tests.support.volumes import format_small

REGULAR = stat.S_IFREG | 0o644
BLOCK_BYTES = 4096
SEGMENT_BLOCKS = 64
DEVICE_BYTES = 32 << 20
LATER_NS = 10**15


def data(seed: int, length: int) -> bytes:
    """Return ``length`` bytes that look random."""
    return Data(seed, length).bytes()


class Disk:
    """A mounted filesystem in memory.  The clock never moves, so that it commits nothing."""

    def __init__(
        self,
        device_bytes: int = DEVICE_BYTES,
        segment_blocks: int = SEGMENT_BLOCKS,
        options: Options | None = None,
    ) -> None:
        """Format and mount; access times are not kept, so that reading changes nothing."""
        self.medium = MemoryDevice(device_bytes)
        format_small(self.medium, BLOCK_BYTES, segment_blocks)
        self.options = replace(options or Options(), atime="noatime")
        self.now_ns = 1
        self.mount()

    def mount(self) -> None:
        """Mount what the medium holds, as after a crash unless it was unmounted before."""
        self.lines: list[str] = []
        self.device = RecordingDevice(self.medium)
        self.filesystem = Filesystem.mount(
            self.device, self.now_ns, self.options, self.lines.append
        )

    def make_file(self, name: bytes, content: bytes = b"") -> int:
        """Make a file and return its inode number."""
        ino = self.filesystem.create(ROOT_INO, name, REGULAR, 0, 0, self.now_ns).ino
        if content:
            self.write(ino, 0, content)
        return ino

    def write(self, ino: int, offset: int, content: bytes) -> None:
        """Write to a file."""
        assert self.filesystem.write(ino, offset, content, self.now_ns) == len(content)

    def read(self, ino: int) -> bytes:
        """Return a file's content."""
        size = self.filesystem.getattr(ino).size
        return self.filesystem.read(ino, 0, size, self.now_ns)

    def truncate(self, ino: int, size: int) -> None:
        """Cut or extend a file."""
        self.filesystem.setattr(ino, self.now_ns, size=size)

    def remove(self, ino: int, name: bytes) -> None:
        """Remove a file that has one name."""
        self.filesystem.unlink(ROOT_INO, name, self.now_ns)
        self.filesystem.forget(ino)

    def make_half_dead_runs(self) -> dict[int, bytes]:
        """Write files and remove every other one; return what the others hold."""
        contents: dict[int, bytes] = {}
        for number in range(160):
            content = data(number, 5 * BLOCK_BYTES)
            ino = self.make_file(b"file %d" % number, content)
            self.sync()
            if number % 2:
                contents[ino] = content
            else:
                self.remove(ino, b"file %d" % number)
        self.checkpoint()
        return contents

    def sync(self) -> None:
        """Commit and flush."""
        self.filesystem.sync(self.now_ns)

    def checkpoint(self) -> None:
        """Write a checkpoint."""
        self.filesystem.checkpoint(self.now_ns)

    def unmount(self) -> None:
        """Leave the image clean."""
        self.filesystem.unmount(self.now_ns)

    def state(self) -> TreeState:
        """Return the whole tree."""
        return tree_state(self.filesystem, self.now_ns)

    def written(self) -> list[Write]:
        """Return what was written since the mount."""
        return [event for event in self.device.events if isinstance(event, Write)]

    def log(self) -> list[Summary]:
        """Return the log writes since the newer checkpoint, as the medium has them."""
        superblock = read_superblock(self.medium)
        newest = read_checkpoints(self.medium, superblock)[0]
        reader = LogReader(self.medium, superblock)
        return list(
            reader.follow(newest.next_address, newest.next_sequence, newest.previous_checksum)
        )

    @property
    def superblock(self) -> Superblock:
        """Return the geometry."""
        return self.filesystem.superblock


def mounted_state(device: BlockDevice) -> TreeState:
    """Return the tree that a mount of ``device`` shows."""
    return tree_state(Filesystem.mount(device, LATER_NS), LATER_NS)


def flip_byte(device: BlockDevice, offset_bytes: int) -> None:
    """Invert one byte of a device."""
    sector = offset_bytes - offset_bytes % device.align_bytes
    raw = bytearray(device.read(sector, device.align_bytes))
    raw[offset_bytes - sector] ^= 0xFF
    device.write(sector, [bytes(raw)])


def problems(device: MemoryDevice) -> list[str]:
    """Return what a full check finds, data included."""
    return [str(problem) for problem in check_device(device.copy(), data=True).problems]
