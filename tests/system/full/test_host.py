"""A sparse image on a host that gets full: what the image has already goes on to serve."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence

import pytest

from fsck.check import check_device
from lfs.common.errors import DeviceError, FilesystemError
from lfs.device.base import BlockDevice, Buffer
from lfs.device.memory import PAGE_BYTES, MemoryDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO, SEGMENT_CLEAN
from tests.support.client import Data
from tests.support.volumes import format_small, mount
from tests.system.full.disks import DEVICE_BYTES, MIB, REGULAR, SEGMENT_BLOCKS

CONTENT_BYTES = 60_000


class SparseHost(BlockDevice):
    """A sparse image on a host that has room for ``pages_left`` more pages."""

    def __init__(self, medium: MemoryDevice, pages_left: int, spare_pages: int = 0) -> None:
        """Wrap ``medium``; no room is kept for later while only ``spare_pages`` are left."""
        self.spare_pages = spare_pages
        self.medium = medium
        self.size_bytes = medium.size_bytes
        self.pages_left = pages_left

    def _new_pages(self, offset_bytes: int, length_bytes: int) -> int:
        first, end = offset_bytes // PAGE_BYTES, -(-(offset_bytes + length_bytes) // PAGE_BYTES)
        return sum(page not in self.medium._pages for page in range(first, end))

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Read."""
        return self.medium.read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write; what lies in a hole needs room."""
        pages = self._new_pages(offset_bytes, sum(map(len, buffers)))
        if pages > self.pages_left:
            raise DeviceError(errno.ENOSPC, "write failed (No space left on device)", offset_bytes)
        self.pages_left -= pages
        self.medium.write(offset_bytes, buffers)

    def flush(self) -> None:
        """Flush."""

    def is_stored(self, offset_bytes: int, length_bytes: int) -> bool:
        """Tell whether a range has no hole."""
        return not self._new_pages(offset_bytes, length_bytes)

    def keep_room(self, offset_bytes: int, length_bytes: int) -> None:
        """Fill a range."""
        if self._new_pages(offset_bytes, length_bytes) <= self.pages_left - self.spare_pages:
            self.write(offset_bytes, [bytes(length_bytes)])

    def close(self) -> None:
        """Do nothing."""


def full_host(
    room_bytes: int = 12 * MIB, spare_bytes: int = 0
) -> tuple[SparseHost, Filesystem, dict[bytes, bytes], list[str]]:
    """Return a filesystem that took files until the host was full, and what was synced."""
    medium = MemoryDevice(64 * MIB)
    format_small(medium, 4096, 64)
    host = SparseHost(medium, room_bytes // PAGE_BYTES, spare_bytes // PAGE_BYTES)
    lines: list[str] = []
    filesystem = Filesystem.mount(host, 1, report=lines.append)
    synced: dict[bytes, bytes] = {}
    for number in range(1000):
        name, content = b"file %d" % number, Data(number, CONTENT_BYTES).bytes()
        try:
            ino = filesystem.create(ROOT_INO, name, REGULAR, 0, 0, number).ino
            filesystem.write(ino, 0, content, number)
            filesystem.sync(number)
        except FilesystemError as refusal:
            if refusal.errno != errno.ENOSPC:
                raise
            return host, filesystem, synced, lines
        synced[name] = content
    raise AssertionError("the host never got full")


def check(filesystem: Filesystem, synced: dict[bytes, bytes]) -> None:
    """Compare what is there with what was synced."""
    for name, content in synced.items():
        ino = filesystem.lookup(ROOT_INO, name).ino
        assert filesystem.read(ino, 0, len(content) + 1, 0) == content


def delete(filesystem: Filesystem, name: bytes, now_ns: int) -> None:
    """Remove a file."""
    ino = filesystem.unlink(ROOT_INO, name, now_ns).ino
    filesystem.forget(ino)


def test_full_host_refuses_what_grows_and_lets_delete() -> None:
    host, filesystem, synced, lines = full_host()
    assert not filesystem.read_only
    assert sum("the host has no room" in line for line in lines) == 1
    assert host.pages_left < 64
    check(filesystem, synced)
    for number, name in enumerate(list(synced)):
        if number % 2:
            delete(filesystem, name, 2000 + number)
            del synced[name]
            filesystem.sync(2000 + number)
    assert not filesystem.read_only
    filesystem.unmount(4000)
    assert not check_device(host.medium.copy(), data=True).problems
    again = Filesystem.mount(host, 5000)
    assert not again.read_only
    check(again, synced)


@pytest.mark.parametrize("seed", range(3))
def test_full_host_lets_delete_in_any_order(seed: int) -> None:
    """Nothing is synced meanwhile, and few files lie in one segment: they have to be cleaned."""
    host, filesystem, synced, lines = full_host(24 * MIB)
    choose = random.Random(seed)
    names = choose.sample([*synced], len(synced))
    for number, name in enumerate(names[: len(names) // 3]):
        delete(filesystem, name, 2000 + number)
        del synced[name]
    assert sum("written elsewhere" in line for line in lines) <= 4
    filesystem.sync(9000)
    filesystem.abandon()
    for now_ns in (10_000, 20_000):
        filesystem = Filesystem.mount(host, now_ns)
        for number, name in enumerate([*choose.sample([*synced], len(synced) // 3)]):
            delete(filesystem, name, now_ns + number)
            del synced[name]
        check(filesystem, synced)
        filesystem.unmount(now_ns + 5000)
    assert not check_device(host.medium.copy(), data=True).problems


def test_full_host_has_room_for_all_that_becomes_clean() -> None:
    host, filesystem, synced, _ = full_host(24 * MIB, spare_bytes=4 * MIB)
    usage = filesystem.core.volume.usage
    # Runs that had been filled have no holes, but for the last ones.
    assert 10 < len(usage.out_of_use.given_up) < 25
    for number, name in enumerate(synced):
        delete(filesystem, name, 2000 + number)
    filesystem.checkpoint(3000)
    filesystem.checkpoint(3001)
    clean = [
        segment
        for segment in range(usage.segment_count)
        if usage.segments.state[segment] == SEGMENT_CLEAN
        and segment not in usage.out_of_use.withheld
    ]
    assert len(clean) > 60
    for segment in clean:
        assert host.is_stored(usage.address_of(segment) * 4096, usage.segment_blocks * 4096)


def test_full_host_lets_mount_and_delete_after_a_crash() -> None:
    """The two checkpoints of the mount go to what the image has already."""
    crashed, _, synced, _ = full_host()
    host = SparseHost(crashed.medium, 0)
    lines: list[str] = []
    filesystem = Filesystem.mount(host, 3000, report=lines.append)
    assert not filesystem.read_only, lines
    check(filesystem, synced)
    for number, name in enumerate(list(synced)[:-1]):
        delete(filesystem, name, 4000 + number)
        del synced[name]
    filesystem.unmount(5000)
    again = Filesystem.mount(host, 6000)
    check(again, synced)
    # What was deleted makes room for as much.
    ino = again.create(ROOT_INO, b"new", REGULAR, 0, 0, 6001).ino
    again.write(ino, 0, bytes(MIB), 6001)
    again.sync(6002)
    assert not again.read_only
    assert not check_device(host.medium.copy(), data=True).problems


def test_full_host_without_any_room_is_mounted_read_only() -> None:
    """What needs no room is there; the next mount with room is as ever."""
    host, filesystem, synced, _ = full_host()
    filesystem.setattr(ROOT_INO, 2000, mode=0o700)
    filesystem.sync(2001)

    class NoRoom(SparseHost):
        """A host that takes nothing at all."""

        def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
            """Refuse."""
            raise DeviceError(errno.ENOSPC, "write failed", offset_bytes)

    lines: list[str] = []
    mounted = Filesystem.mount(NoRoom(host.medium, 0), 3000, report=lines.append)
    assert mounted.read_only
    assert sum("mount again" in line for line in lines) == 1
    check(mounted, synced)
    roomy = Filesystem.mount(SparseHost(host.medium, 10_000), 4000)
    assert not roomy.read_only
    check(roomy, synced)
    roomy.create(ROOT_INO, b"new", REGULAR, 0, 0, 4001)
    roomy.unmount(4002)
    assert not check_device(host.medium.copy(), data=True).problems


# ---------------------------------------------------------- a host that counts bytes


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
