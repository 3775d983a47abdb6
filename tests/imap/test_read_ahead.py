"""Which leaves are told to the device before they are read."""

from __future__ import annotations

from lfs.common.checksum import checksum
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.imap import read_ahead
from lfs.imap.node_cache import NodeCache
from lfs.imap.read_ahead import GROUP_LEAVES, ReadAhead
from lfs.ondisk import KIND_INODE, ROOT_INO, Branch, Leaf, Pointer, pack_key, pack_node
from tests.support.volumes import format_small, mount

FILESYSTEM_ID = b"12345678"
LEAVES = 100


def branch(addresses: list[int], level: int = 1) -> Branch:
    """Return a branch with children at ``addresses``."""
    keys = [pack_key(number, KIND_INODE, 0) for number in range(len(addresses))]
    return Branch(level, keys, [Pointer(address, 0) for address in addresses])


class Told:
    """What a device is told."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int]] = []
        self.ahead = ReadAhead(lambda address, count: self.runs.append((address, count)))


def test_second_leaf_of_a_group_has_the_group_read() -> None:
    told, parent = Told(), branch(list(range(1000, 1000 + LEAVES)))
    for index in (40, 3, 99):
        told.ahead.note(parent, index)
    assert told.runs == []
    told.ahead.note(parent, 63)
    assert told.runs == [(1032, GROUP_LEAVES)]
    # Once is enough.
    for index in range(33, 60):
        told.ahead.note(parent, index)
    assert len(told.runs) == 1
    told.ahead.note(parent, 98)
    assert told.runs[1:] == [(1096, 4)]


def test_leaves_in_several_places_are_several_runs() -> None:
    told = Told()
    parent = branch([7, 5, 6, 20, 9, 10])
    told.ahead.note(parent, 0)
    told.ahead.note(parent, 5)
    assert told.runs == [(5, 3), (9, 2), (20, 1)]


def test_group_that_has_left_memory_is_read_ahead_again() -> None:
    told, parent = Told(), branch(list(range(1000, 1000 + GROUP_LEAVES)))
    for _ in range(2):
        for index in range(GROUP_LEAVES):
            told.ahead.note(parent, index)
    assert told.runs == [(1000, GROUP_LEAVES)] * 2


def test_few_groups_are_remembered() -> None:
    told = Told()
    for number in range(1000):
        told.ahead.note(branch([number * 10]), 0)
    assert len(told.ahead._counts) <= read_ahead._GROUPS_MAX
    # The last are.
    told.ahead.note(branch([9990]), 0)
    told.ahead.note(branch([0]), 0)
    assert told.runs == [(9990, 1)]


def test_only_leaves_that_are_not_in_memory_count() -> None:
    runs: list[tuple[int, int]] = []
    leaf = Leaf([pack_key(1, KIND_INODE, 0)], [b"value"])
    blocks = {at: pack_node(leaf, FILESYSTEM_ID, at, 1, 1024) for at in range(10, 20)}
    cache = NodeCache(
        lambda pointer: blocks[pointer.address],
        FILESYSTEM_ID,
        1 << 20,
        lambda address, count: runs.append((address, count)),
    )
    keys = [pack_key(number, KIND_INODE, 0) for number in range(10)]
    parent = Branch(1, keys, [Pointer(at, checksum(raw)) for at, raw in blocks.items()])
    for _ in range(3):
        assert cache.load_child(parent, 4).level == 0
    assert runs == []
    cache.load_child(parent, 5)
    assert runs == [(10, 10)]
    # Branches are few.
    above = Branch(2, keys, [*reversed(parent.children)])
    for index in range(4):
        cache.load_child(above, index)
    assert runs == [(10, 10)]


class Device(MemoryDevice):
    """Notes what it is told and what it is asked."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.told: set[int] = set()
        self.asked: list[int] = []

    def will_read(self, offset_bytes: int, length_bytes: int) -> None:
        """Note a hint."""
        self.told.update(range(offset_bytes, offset_bytes + length_bytes, 4096))

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Note a read."""
        self.asked.append(offset_bytes)
        return super().read(offset_bytes, length_bytes)


def test_attributes_of_a_directory_are_read_ahead() -> None:
    device = Device(64 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 1)
    for number in range(1000):
        ino = filesystem.create(ROOT_INO, b"%d" % number, 0o100644, 0, 0, 2).ino
        filesystem.write(ino, 0, bytes(1000), 2)
    filesystem.unmount(3)
    filesystem = Filesystem.mount(device, 4)
    entries = [*filesystem.readdir(ROOT_INO)]
    device.asked.clear()
    waited = 0
    for entry in entries:
        before = len(device.asked)
        told = set(device.told)
        filesystem.getattr(entry.ino)
        waited += sum(at not in told for at in device.asked[before:])
    # Two leaves of each 32, and some branches: the rest came while nobody waited.
    assert len(device.asked) > 300
    assert waited <= len(device.asked) // 10
