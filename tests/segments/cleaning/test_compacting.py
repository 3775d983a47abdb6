"""Leaves that changes have left part empty are compacted before a change is refused."""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator

import pytest

from fsck.check import check_device
from lfs.alloc.delayed.ledger import Ledger
from lfs.common.errors import DamageError, FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem
from lfs.imap.map import Imap
from lfs.ondisk import ROOT_INO, Branch, PackedLeaf, Pointer
from lfs.segments.cleaning import compacting
from lfs.segments.cleaning.compacting import Compactor
from tests.support.volumes import format_small, mount

REGULAR = stat.S_IFREG | 0o644
NAME_BYTES = 250
COUNT = 1500


def name_of(number: int) -> bytes:
    return (b"%d" % number).ljust(NAME_BYTES, b"-")


def with_names(device: MemoryDevice, count: int = COUNT) -> Filesystem:
    """Return a filesystem on ``device`` with so many empty files."""
    format_small(device, 1024, 64)
    filesystem = mount(device, 0)
    for number in range(count):
        filesystem.create(ROOT_INO, name_of(number), REGULAR, 0, 0, number)
    filesystem.checkpoint(10**9)
    return filesystem


def rename_at_random(filesystem: Filesystem, names: list[bytes], count: int) -> None:
    """Rename files, a few for each checkpoint: leaves are cut in two one by one."""
    choose = random.Random(1)
    for number in range(count):
        index = choose.randrange(len(names))
        new = name_of(10**6 + number)
        filesystem.rename(ROOT_INO, names[index], ROOT_INO, new, 10**9 + number)
        names[index] = new
        if number % 40 == 39:
            filesystem.checkpoint(10**9 + number)


def compactor_of(filesystem: Filesystem) -> Compactor:
    return Compactor(filesystem.core.volume, filesystem.core.ledger, filesystem.core.checkpointer)


def compact_whole(compactor: Compactor) -> None:
    """Look until all of the map has been looked through, or there is no room."""
    while compactor.compact(10**10) is not None and not compactor.is_done:
        pass


def compact_all(filesystem: Filesystem) -> int:
    """Compact until that gains nothing; returns by how many nodes the map has shrunk."""
    imap = filesystem.core.volume.imap
    before_count = imap.node_count
    compact_whole(compactor_of(filesystem))
    return before_count - imap.node_count


def test_compacting_takes_back_what_renaming_took() -> None:
    device = MemoryDevice(8 << 20)
    filesystem = with_names(device)
    imap = filesystem.core.volume.imap
    created_count = imap.node_count
    names = [name_of(number) for number in range(COUNT)]
    rename_at_random(filesystem, names, 2 * COUNT)
    renamed_count = imap.node_count
    assert renamed_count > created_count * 1.1
    assert compact_all(filesystem) > (renamed_count - created_count) // 2
    assert {entry.name for entry in filesystem.readdir(ROOT_INO)} == {*names}
    filesystem.unmount(10**11)
    assert not check_device(device).problems


def test_compacting_of_a_compact_map_looks_at_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = with_names(MemoryDevice(8 << 20), 200)
    compactor = compactor_of(filesystem)
    while compactor.compact(10**10):
        pass
    monkeypatch.setattr(Compactor, "_keys_to_compact", lambda self: pytest.fail("looked again"))
    assert not compactor.compact(10**10)


@pytest.mark.pure_core
def test_compacting_passes_over_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = with_names(MemoryDevice(8 << 20))
    names = [name_of(number) for number in range(COUNT)]
    rename_at_random(filesystem, names, COUNT)
    load = Imap.load
    choose = random.Random(2)
    bad: dict[Pointer, bool] = {}

    def failing(self: Imap, pointer: Pointer, level: int) -> Branch | PackedLeaf:
        is_bad = bad.setdefault(pointer, level < 2 and choose.random() < 0.02)
        if is_bad and looking:
            raise DamageError(f"block {pointer.address}")
        return load(self, pointer, level)

    keys_to_compact = Compactor._keys_to_compact
    looking = False

    def look(self: Compactor) -> list[bytes] | None:
        nonlocal looking
        looking = True
        try:
            return keys_to_compact(self)
        finally:
            looking = False

    monkeypatch.setattr(Imap, "load", failing)
    monkeypatch.setattr(Compactor, "_keys_to_compact", look)
    assert compact_all(filesystem) > 0
    assert any(bad.values())
    assert {entry.name for entry in filesystem.readdir(ROOT_INO)} == {*names}


def test_look_at_a_map_that_cannot_be_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = with_names(MemoryDevice(8 << 20))
    compactor = compactor_of(filesystem)
    counts = [0]

    def failing(self: Imap, pointer: Pointer, level: int) -> Branch | PackedLeaf:
        counts[0] += 1
        raise DamageError(f"block {pointer.address}")

    monkeypatch.setattr(Imap, "load", failing)
    assert not compactor.compact(10**10)
    assert compactor.is_done
    assert counts[0] < 3


@pytest.mark.pure_core
def test_compacting_takes_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = with_names(MemoryDevice(8 << 20))
    rename_at_random(filesystem, [name_of(number) for number in range(COUNT)], COUNT)
    compactor = compactor_of(filesystem)
    monkeypatch.setattr(Ledger, "can_rewrite", lambda self, leaf_count: False)
    number = filesystem.core.volume.state.checkpoint_number
    assert not compactor.compact(10**10)
    assert filesystem.core.volume.state.checkpoint_number == number
    assert not filesystem.core.volume.imap.touched_keys
    # It was for want of room that nothing was found: with room, there is as much to gain.
    rooms: list[int] = []

    def make_room(blocks: int) -> None:
        rooms.append(blocks)
        monkeypatch.undo()

    admission = filesystem.core.admission
    monkeypatch.setattr(admission, "make_room", make_room)
    assert admission._compact()
    assert rooms == [0]


def test_compacting_looks_again_once_items_have_gone() -> None:
    filesystem = with_names(MemoryDevice(8 << 20))
    compactor = compactor_of(filesystem)
    while compactor.compact(10**10):
        pass
    imap = filesystem.core.volume.imap
    compact_count = imap.node_count
    gone = random.Random(1).sample(range(COUNT), COUNT // 3)
    for done, number in enumerate(gone):
        ino = filesystem.unlink(ROOT_INO, name_of(number), 10**10).ino
        filesystem.forget(ino)
        if done % 10 == 0:
            filesystem.checkpoint(10**10)
    # Leaves are part empty.
    before_count = imap.node_count
    assert before_count < compact_count
    while compactor.compact(10**10):
        pass
    assert imap.node_count < before_count * 0.95


def test_files_are_created_where_compacting_makes_room_for_them() -> None:
    device = MemoryDevice(4 << 20)
    format_small(device, 1024, 64)
    filesystem = mount(device, 0)
    names: list[bytes] = []

    def fill() -> None:
        while True:
            name = name_of(10**6 + len(names))
            filesystem.create(ROOT_INO, name, REGULAR, 0, 0, len(names))
            names.append(name)

    with pytest.raises(FilesystemError, match="No space"):
        fill()
    count = len(names)
    for number in random.Random(1).sample(range(count), count // 4):
        entry = filesystem.unlink(ROOT_INO, names[number], 10**10)
        filesystem.forget(entry.ino)
    with pytest.raises(FilesystemError, match="No space"):
        fill()
    assert len(names) - count > count // 8


@pytest.mark.parametrize("seed", [2, 3])
def test_compacting_leaves_the_cleaner_its_room(seed: int) -> None:
    """New files are refused again and again, and each time something is found to compact."""
    device = MemoryDevice(8 << 20)
    format_small(device, 1024, 64)
    filesystem = mount(device, 1)
    choose = random.Random(seed)
    names: list[bytes] = []
    now_ns = 1

    def create() -> None:
        length = choose.choice((NAME_BYTES, NAME_BYTES, choose.randrange(8, NAME_BYTES)))
        name = (b"%d-" % choose.getrandbits(40)).ljust(length, b"x")
        filesystem.create(ROOT_INO, name, REGULAR, 0, 0, now_ns)
        names.append(name)

    def fill() -> None:
        while True:
            create()

    with pytest.raises(FilesystemError, match="No space"):
        fill()
    refused = 0
    for _ in range(450):
        now_ns += 10**8
        index = choose.randrange(len(names))
        step = choose.random()
        if step < 0.6:
            new = (b"%d-" % choose.getrandbits(40)).ljust(len(names[index]), b"y")
            new = new[: len(names[index])]
            filesystem.rename(ROOT_INO, names[index], ROOT_INO, new, now_ns)
            names[index] = new
        elif step < 0.8:
            try:
                create()
            except FilesystemError:
                refused += 1
        elif step < 0.9:
            name = names.pop(index)
            filesystem.forget(filesystem.unlink(ROOT_INO, name, now_ns).ino)
        else:
            for _ in range(5):
                now_ns += 10**9
                filesystem.tick(now_ns, True)
    assert refused > 20


@pytest.mark.pure_core
def test_full_disk_of_names_is_renamed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    device = MemoryDevice(4 << 20)
    format_small(device, 1024, 64)
    filesystem = mount(device, 0)
    names: list[bytes] = []

    def fill() -> None:
        while True:
            filesystem.create(ROOT_INO, name_of(len(names)), REGULAR, 0, 0, len(names))
            names.append(name_of(len(names)))

    # Full of leaves that are full: any change in them takes more of them.
    for _ in range(3):
        with pytest.raises(FilesystemError, match="No space"):
            fill()
        compact_all(filesystem)
    compacted: list[bool] = []
    compact = Compactor.compact

    def counted(self: Compactor, now_ns: int) -> bool | None:
        compacted.append(bool(compact(self, now_ns)))
        return compacted[-1]

    monkeypatch.setattr(Compactor, "compact", counted)
    filesystem.core.ledger._change_limit_blocks = 20
    rename_at_random(filesystem, names, 1000)
    assert any(compacted)
    filesystem.unmount(10**11)
    assert not check_device(device).problems


def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a look be short; return how many leaves each branch that is looked at has."""
    monkeypatch.setattr(compacting, "_LOOK_LEAVES", 40)
    seen: list[int] = []
    groups = Compactor._groups

    def counted(self: Compactor, branch: Branch) -> Iterator[list[bytes]]:
        seen.append(len(branch.children))
        return groups(self, branch)

    monkeypatch.setattr(Compactor, "_groups", counted)
    return seen


@pytest.mark.pure_core
def test_one_look_goes_through_a_part_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filesystem = with_names(MemoryDevice(8 << 20))
    compactor = compactor_of(filesystem)
    compact_whole(compactor)
    seen = looks(monkeypatch)
    compactor = compactor_of(filesystem)
    leaf_count = filesystem.core.volume.imap.node_count
    parts = 0
    while not compactor.is_done:
        seen.clear()
        assert not compactor.compact(10**10)
        assert sum(seen) < 40 + max(seen)
        parts += 1
    assert leaf_count // 100 < parts <= leaf_count // 20


@pytest.mark.pure_core
def test_request_for_new_room_reads_a_part_of_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    device = MemoryDevice(4 << 20)
    format_small(device, 1024, 64)
    filesystem = mount(device, 0)

    def is_refused() -> bool:
        name = name_of(filesystem.statfs().inode_count)
        try:
            filesystem.create(ROOT_INO, name, REGULAR, 0, 0, 1)
        except FilesystemError:
            return True
        return False

    while not is_refused():
        pass
    filesystem.unmount(1)
    filesystem = mount(device, 1)
    seen = looks(monkeypatch)
    looked_at: list[int] = []
    for _ in range(60):
        seen.clear()
        is_refused()
        looked_at.append(sum(seen))
    # One look that gains too little, and the next.
    assert max(looked_at) < 2 * (40 + 34)
    assert sum(looked_at) > 200


@pytest.mark.pure_core
def test_request_for_new_room_compacts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is missing may be much, as for all but root once root has filled his share.
    filesystem = with_names(MemoryDevice(8 << 20), 200)
    gains: list[int] = []

    def gaining(self: Compactor, now_ns: int) -> bool:
        gains.append(now_ns)
        return True

    monkeypatch.setattr(Compactor, "compact", gaining)
    monkeypatch.setattr(Ledger, "available_blocks", lambda self, privileged: len(gains) // 5)
    monkeypatch.setattr(Ledger, "crude_spare_blocks", lambda self: 0)
    for number in range(4):
        with pytest.raises(FilesystemError):
            filesystem.create(ROOT_INO, b"new %d" % number, REGULAR, 1000, 1000, 10**11 + number)
    assert gains == [10**11 + number for number in range(4)]


def test_replacing_looks_through_all_of_the_map_before_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filesystem = with_names(MemoryDevice(8 << 20))
    names = [name_of(number) for number in range(COUNT)]
    # A part that is last in the order of keys has leaves that can go.
    rename_at_random(filesystem, names, COUNT)
    looks(monkeypatch)
    admission = filesystem.core.admission
    before_count = filesystem.core.volume.imap.node_count
    while admission._compact(thoroughly=True):
        pass
    assert filesystem.core.volume.imap.node_count < before_count
    assert compact_all(filesystem) == 0
