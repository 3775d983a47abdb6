"""A full filesystem keeps what it accepted, lets go of what is deleted, and goes on.

What a write promised is there after ``sync`` and a remount, whatever was
refused later (P4).  Deleting and truncating work on a full filesystem, and the
space comes back.  A filesystem held at 85 % can be overwritten for ever.
"""

from __future__ import annotations

import errno
import random
import stat
from collections.abc import Callable, Iterator, Sequence

import pytest

from fsck.check import check_device
from lfs.commit.checkpoint import Checkpointer
from lfs.common.errors import DeviceError, FilesystemError
from lfs.device.base import BlockDevice, Buffer
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO
from lfs.segments.cleaning.cleaner import Cleaner
from lfs.volume.volume import Volume
from tests.support.client import Data
from tests.support.volumes import format_small, mount, without_newest_checkpoint

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


# ---------------------------------------------------------------- ways to fill a disk


def one_big_file(disk: Disk, choose: random.Random) -> Iterator[None]:
    ino = disk.make_file(b"big%d" % choose.randrange(10**6))
    for index in range(DEVICE_BYTES // (128 * KIB)):
        disk.write(ino, index * 128 * KIB, Data(index, 128 * KIB).bytes())
        yield


def small_files(disk: Disk, choose: random.Random) -> Iterator[None]:
    for index in range(10**6):
        ino = disk.make_file(b"small-%d-%d" % (index, choose.randrange(10**6)))
        disk.write(ino, 0, Data(index, choose.randrange(9000)).bytes())
        yield


def directories(disk: Disk, choose: random.Random) -> Iterator[None]:
    for index in range(10**6):
        parent = disk.make_directory(b"directory-%d-%d" % (index, choose.randrange(10**6)))
        for name in (b"first", b"second"):
            disk.write(disk.make_file(name, parent), 0, bytes(3000))
        yield


def many_appends(disk: Disk, choose: random.Random) -> Iterator[None]:
    inos = [disk.make_file(b"append-%d-%d" % (i, choose.randrange(10**6))) for i in range(20)]
    for index in range(10**6):
        ino = choose.choice(inos)
        disk.write(ino, len(disk.contents[ino]), Data(index, choose.randrange(1, 5000)).bytes())
        yield


def scattered_blocks(disk: Disk, choose: random.Random) -> Iterator[None]:
    """Single blocks far apart: as much metadata for each byte as can be."""
    ino = disk.make_file(b"scattered%d" % choose.randrange(10**6))
    for index in range(10**6):
        disk.write(ino, index * 20 * KIB % (64 * MIB), Data(index, 1000).bytes())
        yield


def synced_writes(disk: Disk, choose: random.Random) -> Iterator[None]:
    """A sync after every write: as many summaries for each byte as can be."""
    for index in range(10**6):
        ino = disk.make_file(b"synced-%d-%d" % (index, choose.randrange(10**6)))
        disk.write(ino, 0, Data(index, 20_000).bytes())
        disk.sync()
        yield


Filler = Callable[[Disk, random.Random], Iterator[None]]
FILLERS: list[Filler] = [
    one_big_file,
    small_files,
    directories,
    many_appends,
    scattered_blocks,
    synced_writes,
]


@pytest.mark.parametrize("filler", FILLERS, ids=lambda filler: filler.__name__)
@pytest.mark.parametrize("block_bytes", [1024, 4096])
def test_fill_until_refused_keeps_what_was_accepted(filler: Filler, block_bytes: int) -> None:
    disk = Disk(block_bytes)
    disk.fill(filler(disk, random.Random(1)))
    assert disk.used_share() > 0.85
    disk.verify()
    disk.verify_after_crash()


@pytest.mark.parametrize(
    "filler", [one_big_file, small_files, many_appends], ids=lambda f: f.__name__
)
def test_delete_when_full_gives_the_space_back_twenty_times(filler: Filler) -> None:
    disk = Disk()
    choose = random.Random(2)
    accepted_bytes = []
    for _ in range(20):
        disk.fill(filler(disk, choose))
        accepted_bytes.append(sum(map(len, disk.contents.values())))
        for number, ino in enumerate(list(disk.contents)):
            if number % 3 == 0:
                disk.truncate(ino, 0)
            disk.delete(ino)
    assert min(accepted_bytes) > 0.9 * max(accepted_bytes), accepted_bytes
    disk.fill(filler(disk, choose))
    disk.verify_after_crash()


def test_files_of_one_block_with_much_metadata_are_deleted_from_a_full_disk() -> None:
    device = MemoryDevice(8 * MIB)
    format_small(device, 1024, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    names: list[bytes] = []

    def fill() -> None:
        for number in range(100_000):
            names.append(b"%d_" % number + b"x" * 190)
            ino = filesystem.create(ROOT_INO, names[-1], REGULAR, 0, 0, number).ino
            filesystem.setxattr(ino, b"user.a", bytes(600), number)
            filesystem.write(ino, 0, bytes([number % 256]) * 1024, number)

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(10**9)
    names = [entry.name for entry in filesystem.readdir(ROOT_INO)]
    random.Random(1).shuffle(names)
    # Each block that is moved changes a leaf of its own.
    for number, name in enumerate(names[: len(names) // 2]):
        filesystem.forget(filesystem.unlink(ROOT_INO, name, 10**9 + number).ino)
    filesystem.unmount(2 * 10**9)
    assert not check_device(device, data=True).problems


@pytest.mark.parametrize(
    ("block_bytes", "mib", "name_bytes", "count"), [(4096, 32, 12, 1000), (1024, 8, 100, 1500)]
)
def test_files_of_one_block_are_overwritten_on_a_full_disk(
    block_bytes: int, mib: int, name_bytes: int, count: int
) -> None:
    device = MemoryDevice(mib * MIB)
    format_small(device, block_bytes, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    inos: list[int] = []

    def fill() -> None:
        for number in range(100_000):
            name = (b"%d" % number).ljust(name_bytes, b"-")
            ino = filesystem.create(ROOT_INO, name, REGULAR, 0, 0, number).ino
            filesystem.write(ino, 0, bytes(block_bytes), number)
            inos.append(ino)

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(10**9)
    choose = random.Random(1)
    # What a segment of data gives, the leaves that map it take.
    for number in range(count):
        value = bytes([number % 251]) * block_bytes
        filesystem.write(choose.choice(inos), 0, value, 10**9 + number)
    filesystem.unmount(2 * 10**9)
    assert not check_device(device, data=True).problems


@pytest.mark.parametrize(("block_bytes", "mib", "count"), [(4096, 32, 2500), (1024, 12, 4000)])
def test_large_file_is_overwritten_at_random_on_a_full_disk(
    block_bytes: int, mib: int, count: int
) -> None:
    device = MemoryDevice(mib * MIB)
    format_small(device, block_bytes, SEGMENT_BLOCKS)
    filesystem = mount(device, 0)
    large = filesystem.create(ROOT_INO, b"large", REGULAR, 0, 0, 1).ino
    blocks = filesystem.statfs().available_blocks * 9 // 10
    for first in range(0, blocks, 16):
        filesystem.write(large, first * block_bytes, bytes(16 * block_bytes), 2)
    names: list[bytes] = []

    def fill() -> None:
        for number in range(100_000):
            names.append(b"%d" % number)
            ino = filesystem.create(ROOT_INO, names[-1], REGULAR, 0, 0, number).ino
            filesystem.write(ino, 0, bytes(block_bytes), number)

    assert error_of(fill) == errno.ENOSPC
    filesystem.sync(10**9)
    choose = random.Random(1)
    # Each block comes to be an extent of its own, and mapping it takes ever more nodes.
    for number in range(count):
        value = bytes([number % 251]) * block_bytes
        offset = choose.randrange(blocks) * block_bytes
        filesystem.write(large, offset, value, 10**9 + number)
        if number % 10 == 0:
            old = choose.randrange(len(names) - 1)
            new = names[old][:-1] + bytes([97 + number % 26])
            if new not in names:
                filesystem.rename(ROOT_INO, names[old], ROOT_INO, new, 10**9)
                names[old] = new
    # Nothing was damaged, so the cleaner has no reason to leave any run alone.
    assert not filesystem.core.volume.usage.out_of_use.immovable
    filesystem.unmount(2 * 10**9)
    assert not check_device(device, data=True).problems


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


@pytest.mark.parametrize("segments", [32, 60, 128, 200, 400])
def test_as_much_is_overwritten_at_once_as_is_promised(segments: int) -> None:
    device = MemoryDevice((segments * SEGMENT_BLOCKS + 400) * 1024)
    format_small(device, 1024, SEGMENT_BLOCKS)
    filesystem, ino = filled_with_one_file(device)
    write_bytes = filesystem.write_bytes_max
    assert write_bytes >= 128 << 10
    choose = random.Random(1)
    for number in range(40):
        offset = choose.randrange(filesystem.getattr(ino).size - write_bytes) // 1024 * 1024
        filesystem.write(ino, offset, bytes([number]) * write_bytes, 10**9 + number)


def test_what_is_partly_stored_and_partly_dirty_is_overwritten() -> None:
    device = MemoryDevice(8 * MIB)
    format_small(device, 4096, SEGMENT_BLOCKS)
    filesystem, ino = filled_with_one_file(device)
    size = filesystem.getattr(ino).size - 8 * 4096
    filesystem.setattr(ino, 10**9, size=size)
    filesystem.checkpoint(10**9)
    position = size
    while filesystem.statfs().available_blocks:
        filesystem.write(ino, position, b"d" * 4096, 10**9)
        position += 4096
    assert position > size
    filesystem.write(ino, size - 4 * 4096, b"f" * (position - size + 4 * 4096), 10**9)


def error_of(work: Callable[[], None]) -> int:
    with pytest.raises(FilesystemError) as refused:
        work()
    assert refused.value.errno is not None
    return refused.value.errno


def test_disk_where_cleaning_gains_nothing_refuses_and_does_not_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Cleaner, "make_room", lambda self, *arguments: None)
    disk = Disk(1024)

    def create() -> None:
        for number in range(100_000):
            disk.make_file(b"%d" % number + b"-" * 200)

    def remove() -> None:
        for parent, name in names:
            disk.filesystem.forget(disk.filesystem.unlink(parent, name, disk._now_ns()).ino)
            disk.filesystem.sync(disk._now_ns())

    assert error_of(create) == errno.ENOSPC
    names = [*disk.names.values()]
    random.Random(1).shuffle(names)
    assert error_of(remove) == errno.ENOSPC
    assert not disk.filesystem.read_only
    disk.filesystem.unmount(disk._now_ns())
    monkeypatch.undo()
    again = mount(disk.device, disk._now_ns())
    kept = {entry.name for entry in again.readdir(ROOT_INO)}
    removed = [name for _, name in names if name not in kept]
    for parent, name in names[len(removed) :]:
        again.forget(again.unlink(parent, name, disk._now_ns()).ino)
    again.unmount(disk._now_ns())
    assert not check_device(disk.device, data=True).problems


def test_truncate_when_full_gives_the_space_back() -> None:
    disk = Disk()
    disk.fill(one_big_file(disk, random.Random(3)))
    (ino,) = disk.contents
    size = len(disk.contents[ino])
    disk.truncate(ino, size // 2)
    disk.sync()
    for offset in range(size // 2, size - MIB, 64 * KIB):
        disk.write(ino, offset, Data(offset, 64 * KIB).bytes())
    disk.verify_after_crash()


def test_delete_every_other_file_when_full_leaves_usable_holes() -> None:
    disk = Disk()
    choose = random.Random(4)
    disk.fill(small_files(disk, choose))
    for ino in list(disk.contents)[::2]:
        disk.delete(ino)
    assert disk.used_share() < 0.75
    disk.fill(small_files(disk, choose))
    assert disk.used_share() > 0.85
    disk.verify_after_crash()


@pytest.mark.parametrize("synced", [False, True])
def test_overwrite_at_85_percent_goes_on_for_ever(synced: bool) -> None:
    disk = Disk()
    choose = random.Random(5)
    ino = disk.make_file(b"hot")
    while disk.used_share() < 0.85:
        disk.write(ino, len(disk.contents[ino]), Data(1, 64 * KIB).bytes())
        disk.tick()
    size = len(disk.contents[ino])
    written = 0
    while written < 4 * DEVICE_BYTES:
        length = choose.choice([500, 4096, 4096, 20_000])
        disk.write(ino, choose.randrange(size - length), Data(choose.randrange(99), length).bytes())
        written += length
        disk.tick()
        if synced and choose.random() < 0.1:
            disk.sync()
    # What pending metadata will add is only an upper bound.
    disk.filesystem.checkpoint(disk.now_ns)
    assert 0.8 < disk.used_share() < 0.9
    disk.verify_after_crash()


# -------------------------------------------------------------------------- full host


class SmallHost(BlockDevice):
    """A sparse image on a host that has room for ``budget_bytes`` more bytes."""

    def __init__(self, device: MemoryDevice, budget_bytes: int) -> None:
        """Wrap ``device``."""
        self.device = device
        self.size_bytes = device.size_bytes
        self.budget_bytes = budget_bytes

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Read."""
        return self.device.read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write while the budget lasts."""
        length = sum(map(len, buffers))
        if length > self.budget_bytes:
            raise DeviceError(errno.ENOSPC, "the host is full", offset_bytes)
        self.budget_bytes -= length
        self.device.write(offset_bytes, buffers)

    def flush(self) -> None:
        """Flush."""
        self.device.flush()

    def close(self) -> None:
        """Close."""
        self.device.close()


def _synced_files(filesystem: Filesystem) -> dict[bytes, bytes]:
    """Create and sync files until the host refuses; return those that were synced."""
    synced: dict[bytes, bytes] = {}
    try:
        for index in range(1000):
            name, content = b"file%d" % index, Data(index, 30_000).bytes()
            ino = filesystem.create(ROOT_INO, name, REGULAR, 0, 0, index).ino
            filesystem.write(ino, 0, content, index)
            filesystem.sync(index)
            synced[name] = content
    except FilesystemError as refusal:
        if refusal.errno != errno.ENOSPC:
            raise
    else:
        pytest.fail("the host never got full")
    return synced


def test_mount_after_a_crash_before_any_region_has_room_for_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the crash cut short took almost all that was clean, and counts for nothing."""
    medium = small_blocks()
    crashed: list[MemoryDevice] = []
    whole = Checkpointer._write_in_place

    def write_region(self: Checkpointer, offset_bytes: int, raw: bytes) -> None:
        crashed.append(medium.copy())
        whole(self, offset_bytes, raw)

    monkeypatch.setattr(Checkpointer, "_write_in_place", write_region)
    _fill_with_metadata(medium)
    monkeypatch.undo()
    assert len(crashed) > 10
    for one in crashed:
        assert not mount(one, 10**9).read_only
        assert not check_device(one).problems


def test_mount_without_room_for_a_lost_checkpoint_is_read_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the older checkpoint all must be written again, beside what is there already."""
    medium = small_blocks()
    lost: list[MemoryDevice] = []
    whole = Volume.flush

    def flush(self: Volume, sequence: int) -> None:
        whole(self, sequence)
        lost.append(without_newest_checkpoint(medium))

    monkeypatch.setattr(Volume, "flush", flush)
    _fill_with_metadata(medium)
    monkeypatch.undo()
    mounted = [mount(one, 10**9) for one in lost]
    assert {one.read_only for one in mounted} == {False, True}
    for one in mounted:
        names = [name for _, name, _, _ in one.readdir(ROOT_INO)]
        assert sorted(map(int, names)) == list(range(len(names)))


def small_blocks() -> MemoryDevice:
    medium = MemoryDevice(8 * MIB)
    format_small(medium, 1024, SEGMENT_BLOCKS)
    return medium


def _fill_with_metadata(medium: MemoryDevice) -> None:
    """Fill an empty filesystem with attributes until one is refused."""
    filesystem = mount(medium, 0)
    for number in range(10**6):
        try:
            ino = filesystem.create(ROOT_INO, b"%d" % number, REGULAR, 0, 0, number).ino
            filesystem.setxattr(ino, b"user.name", Data(number, 9000).bytes(), number)
        except FilesystemError as refusal:
            if refusal.errno != errno.ENOSPC:
                raise
            return


@pytest.mark.parametrize("budget_bytes", [300_000, 1_000_000, 1_234_567, 3_000_000])
def test_full_host_reports_and_loses_nothing_synced(budget_bytes: int) -> None:
    medium = MemoryDevice(DEVICE_BYTES)
    format_small(medium, 4096, SEGMENT_BLOCKS)
    host = SmallHost(medium, budget_bytes)
    filesystem = mount(host, 0)
    synced = _synced_files(filesystem)
    # It stays usable for reading, and reports again rather than pretend.
    for name, content in synced.items():
        ino = filesystem.lookup(ROOT_INO, name).ino
        assert filesystem.read(ino, 0, len(content), 0) == content
    with pytest.raises(FilesystemError):
        filesystem.sync(2000)
    assert not check_device(medium.copy(), data=True).problems
    later = mount(medium, 3000)
    for name, content in synced.items():
        ino = later.lookup(ROOT_INO, name).ino
        assert later.read(ino, 0, len(content) + 1, 3000) == content
    later.create(ROOT_INO, b"after", REGULAR, 0, 0, 3001)
    later.unmount(3002)
    assert not check_device(medium, data=True).problems
