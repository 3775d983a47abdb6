"""Small disks that get full, and what they must hold."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator

import pytest

from fsck.check import check_device
from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from tests.support.volumes import format_small, mount

DEVICE_BYTES = 16 * 1024 * 1024
REGULAR = stat.S_IFREG | 0o644
SEGMENT_BLOCKS = 64
KIB = 1024
MIB = 1024 * 1024


class Disk:
    """A small filesystem and what it must hold: contents by inode, names by inode."""

    def __init__(self, block_bytes: int = 4096) -> None:
        """Format and mount."""
        self.device = MemoryDevice(DEVICE_BYTES)
        format_small(self.device, block_bytes, SEGMENT_BLOCKS)
        self.now_ns = 0
        self.filesystem = mount(self.device, 0)
        self.contents: dict[int, bytearray] = {}
        self.names: dict[int, tuple[int, bytes]] = {}

    def _now_ns(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    def make_directory(self, name: bytes, parent: int = ROOT_INO) -> int:
        """Make a directory and return its inode number."""
        return self.filesystem.mkdir(parent, name, 0o755, 0, 0, self._now_ns()).ino

    def make_file(self, name: bytes, parent: int = ROOT_INO) -> int:
        """Make an empty file and return its inode number."""
        ino = self.filesystem.create(parent, name, REGULAR, 0, 0, self._now_ns()).ino
        self.contents[ino] = bytearray()
        self.names[ino] = (parent, name)
        return ino

    def write(self, ino: int, offset: int, data: bytes) -> None:
        """Write, and remember what was accepted."""
        written = self.filesystem.write(ino, offset, data, self._now_ns(), privileged=True)
        assert written == len(data)
        content = self.contents[ino]
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def truncate(self, ino: int, size: int) -> None:
        """Shorten a file."""
        self.filesystem.setattr(ino, self._now_ns(), size=size)
        del self.contents[ino][size:]

    def delete(self, ino: int) -> None:
        """Remove a file."""
        self.filesystem.unlink(*self.names.pop(ino), self._now_ns())
        self.filesystem.forget(ino)
        del self.contents[ino]

    def tick(self) -> None:
        """Let background work have one step."""
        self.filesystem.tick(self._now_ns(), idle=False)

    def sync(self) -> None:
        """Make everything durable."""
        self.filesystem.sync(self._now_ns())

    def verify(self) -> None:
        """Compare all contents with what was accepted."""
        for ino, content in self.contents.items():
            found = self.filesystem.read(ino, 0, len(content) + 1, self.now_ns)
            assert found == content, (ino, self.names[ino], len(found), len(content))

    def verify_after_crash(self) -> None:
        """Sync, lose power, and verify what the disk has; then remount in order."""
        self.sync()
        self.filesystem = mount(self.device.copy(), self._now_ns())
        self.verify()
        self.filesystem = mount(self.device, self._now_ns())
        self.verify()
        self.filesystem.unmount(self._now_ns())
        problems = check_device(self.device.copy(), data=True).problems
        assert not problems, problems
        self.filesystem = mount(self.device, self._now_ns())

    def fill(self, requests: Iterator[None]) -> None:
        """Go through ``requests`` until one is refused for want of space."""
        while True:
            try:
                next(requests)
            except FilesystemError as refusal:
                if refusal.errno != errno.ENOSPC:
                    raise
                return
            self.tick()

    def used_share(self) -> float:
        """Return the share of the space that is taken."""
        space = self.filesystem.statfs()
        return 1 - space.free_blocks / space.total_blocks


def filled_with_one_file(device: MemoryDevice) -> tuple[Filesystem, int]:
    """Return a filesystem that a file has filled, and its number."""
    filesystem = mount(device, 0)
    ino = filesystem.create(ROOT_INO, b"large", REGULAR, 0, 0, 1).ino
    block_bytes = filesystem.statfs().block_bytes

    def fill() -> None:
        for first in range(0, 10**9, 4 * block_bytes):
            filesystem.write(ino, first, bytes(4 * block_bytes), 2)

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(10**9)
    return filesystem, ino


def error_of(work: Callable[[], None]) -> int:
    with pytest.raises(FilesystemError) as refused:
        work()
    assert refused.value.errno is not None
    return refused.value.errno
