"""Giving up in steps: what is cut off or removed is gone for everybody at once, and for good."""

from __future__ import annotations

import contextlib
import errno
import random
import stat

import pytest

from fsck.check import check_device
from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event, RecordingDevice, replay
from lfs.filesystem import Filesystem, Options
from lfs.inodes.window import Window
from lfs.ondisk import ROOT_INO
from tests.support.bad_reads import BadReads, empty_caches
from tests.support.client import Client, Data, Request
from tests.support.model import Model
from tests.support.state import TreeState, tree_state
from tests.support.volumes import ROOT_MODE, format_small, mount

FILE = stat.S_IFREG | 0o644
BLOCK_BYTES = 1024
WINDOW_BYTES = 32 * BLOCK_BYTES
Call = tuple[str, tuple[object, ...]]
STEP = Options(removal_items_max=2)


def _fresh(size_bytes: int = 8 << 20) -> MemoryDevice:
    device = MemoryDevice(size_bytes)
    format_small(device, BLOCK_BYTES, 64)
    return device


def _sparse(filesystem: Filesystem, windows: int, name: bytes = b"file") -> int:
    """Make a file with one block on disk in each of ``windows`` windows."""
    ino = filesystem.create(ROOT_INO, name, FILE, 0, 0, 1).ino
    for index in range(windows):
        filesystem.write(ino, index * WINDOW_BYTES, bytes([index % 255 + 1]) * BLOCK_BYTES, 2)
    filesystem.sync(3)
    return ino


def _check(device: MemoryDevice) -> None:
    problems = check_device(device.copy(), data=True).problems
    assert not problems, problems


def _drain(filesystem: Filesystem, now_ns: int = 100) -> int:
    """Let background work end; returns how many turns it took."""
    turns = 0
    while filesystem.tick(now_ns, idle=True):
        turns += 1
        assert turns < 10_000
    return turns


# ----------------------------------------------------------------------- bounded


@pytest.mark.parametrize("how", ["unlink", "truncate", "rename"])
def test_no_request_and_no_turn_takes_more_than_a_step(how: str) -> None:
    """However large the file is, each call gives up no more windows than a step may.

    It lets go of no more in memory, either.
    """
    device = _fresh()
    filesystem = mount(device, 1, STEP)
    ino = _sparse(filesystem, 200)
    imap, cache = filesystem.core.volume.imap, filesystem.core.inodes.cache
    deleted, dropped = [0], [0]
    delete, drop = imap.delete, cache.drop

    def counting(key: bytes) -> None:
        deleted[-1] += 1
        delete(key)

    def counting_kept(ino: int, windows: dict[int, Window], index: int) -> None:
        dropped[-1] += 1
        drop(ino, windows, index)

    imap.delete = counting  # type: ignore[method-assign]
    cache.drop = counting_kept  # type: ignore[method-assign]
    assert len(filesystem.getattr(ino).windows) == 200
    one_bytes = cache.bytes_kept // 200
    if how == "truncate":
        filesystem.setattr(ino, 4, size=10)
    elif how == "rename":
        filesystem.create(ROOT_INO, b"other", FILE, 0, 0, 4)
        filesystem.rename(ROOT_INO, b"other", ROOT_INO, b"file", 4)
        filesystem.forget(ino)
    else:
        filesystem.unlink(ROOT_INO, b"file", 4)
        filesystem.forget(ino)
    turns = 0
    more = True
    while more:
        deleted.append(0)
        dropped.append(0)
        more = filesystem.tick(5, idle=False)
        turns += 1
    # Besides the windows, names, inode, orphan and cut items come and go.
    assert max(deleted) <= STEP.removal_items_max + 4
    assert max(dropped) <= STEP.removal_items_max + 1
    assert cache.bytes_kept <= one_bytes
    assert turns > 200 // (STEP.removal_items_max + 1)
    filesystem.unmount(6)
    _check(device)
    assert mount(device, 7).statfs().inode_count == (1 if how == "unlink" else 2)


def test_what_is_cut_and_then_removed_in_steps_is_whole_in_between() -> None:
    """What the cut left to zero in the last block is given up with the file."""
    device = _fresh()
    filesystem = mount(device, 1, STEP)
    ino = _sparse(filesystem, 20)
    filesystem.setattr(ino, 4, size=10 * WINDOW_BYTES + 10)
    filesystem.unlink(ROOT_INO, b"file", 4)
    filesystem.forget(ino)
    filesystem.sync(5)
    _check(device)
    assert tree_state(mount(device, 6), 6).keys() == {b"/"}
    _check(device)


@pytest.mark.parametrize("how", ["write", "extend"])
def test_growing_what_was_cut_fails_where_it_can_t_be_read_and_no_commit_does(how: str) -> None:
    """A small file may still have all windows of a large one behind it."""
    device = _fresh(16 << 20)
    options = Options(removal_items_max=1)
    filesystem = mount(device, 1, options)
    ino = _sparse(filesystem, 200)
    for number in range(8):
        filesystem.setxattr(ino, b"user.%d" % number, bytes(900), 4)
    filesystem.setattr(ino, 4, size=0)
    filesystem.write(ino, 0, b"content", 4)
    filesystem.checkpoint(5)
    outcomes = set()
    for nth in range(1, 12):
        disk = BadReads(device.copy())
        filesystem = mount(disk, 6, options)
        assert filesystem.getattr(ino).is_cut
        other = filesystem.create(ROOT_INO, b"other", FILE, 0, 0, 7)
        filesystem.lookup(ROOT_INO, b"file")
        empty_caches(filesystem)
        disk.arm(nth, lasting=True)
        with contextlib.suppress(FilesystemError):
            if how == "write":
                filesystem.write(ino, 3 * WINDOW_BYTES, b"more", 8)
            else:
                filesystem.setattr(ino, 8, size=3 * WINDOW_BYTES)
        outcomes.add(disk.fired)
        if not disk.fired:
            disk.arm(1, lasting=True)
        filesystem.write(other.ino, 0, b"content", 9)
        filesystem.sync(10)
    assert outcomes == {False, True}


def test_commit_looks_for_no_window_that_was_given_up_after_a_request_failed_there() -> None:
    """A write that comes later finds out itself whether the window can be read."""
    disk = BadReads(_fresh(16 << 20))
    filesystem = mount(disk, 1)
    ino = _sparse(filesystem, 200)
    other = filesystem.create(ROOT_INO, b"other", FILE, 0, 0, 3)
    empty_caches(filesystem)
    filesystem.open(ino)
    filesystem.open(other.ino)
    # The window is read, its block is not.
    assert filesystem.read(ino, 150 * WINDOW_BYTES + BLOCK_BYTES, 1, 4) == bytes(1)
    disk.arm(1, lasting=True)
    with pytest.raises(FilesystemError):
        filesystem.write(ino, 150 * WINDOW_BYTES + 1, b"part of a block", 4)
    disk.arm(0)
    filesystem.setattr(ino, 5, size=100 * WINDOW_BYTES)
    filesystem.checkpoint(6)
    empty_caches(filesystem)
    disk.arm(1, lasting=True)
    with contextlib.suppress(FilesystemError):
        filesystem.write(ino, 150 * WINDOW_BYTES, bytes(BLOCK_BYTES), 7)
    filesystem.write(other.ino, 0, b"content", 8)
    filesystem.sync(9)


def test_attributes_go_in_steps_too() -> None:
    device = _fresh()
    filesystem = mount(device, 1, STEP)
    ino = filesystem.create(ROOT_INO, b"file", FILE, 0, 0, 1).ino
    for number in range(40):
        filesystem.setxattr(ino, b"user.%d" % number, bytes(700), 2)
    filesystem.sync(3)
    filesystem.unlink(ROOT_INO, b"file", 4)
    filesystem.forget(ino)
    while filesystem.tick(5, idle=False):
        # At any moment a crash leaves a whole filesystem.
        filesystem.sync(5)
        _check(device)
    filesystem.unmount(6)
    _check(device)


def test_mount_and_unmount_leave_most_of_a_large_removal_to_later() -> None:
    device = _fresh(16 << 20)
    options = Options(removal_items_max=1)
    filesystem = mount(device, 1, options)
    ino = _sparse(filesystem, 400)
    filesystem.unlink(ROOT_INO, b"file", 4)
    filesystem.forget(ino)
    for now_ns in (5, 6):
        filesystem.unmount(now_ns)
        _check(device)
        filesystem = mount(device, now_ns, options)
        assert ino in filesystem.core.inodes.leaving
        assert filesystem.statfs().inode_count == 1
    _drain(filesystem)
    filesystem.unmount(200)
    _check(device)
    assert not mount(device, 201).core.inodes.orphans


# ------------------------------------------------------------------ what one sees


def test_what_is_given_up_is_gone_at_once() -> None:
    """Blocks of the file and of the disk, the inode, and what is read: as if all were done."""
    filesystem = mount(_fresh(), 1, STEP)
    empty = filesystem.statfs()
    ino = _sparse(filesystem, 60)
    filesystem.checkpoint(3)
    used_blocks = empty.free_blocks - filesystem.statfs().free_blocks
    assert used_blocks >= 60
    filesystem.setattr(ino, 4, size=0)
    assert filesystem.getattr(ino).blocks == 0
    assert filesystem.core.inodes.cuts.count == 1
    assert empty.free_blocks - filesystem.statfs().free_blocks < used_blocks - 50
    filesystem.setattr(ino, 5, size=60 * WINDOW_BYTES)
    assert filesystem.read(ino, 0, 60 * WINDOW_BYTES, 6) == bytes(60 * WINDOW_BYTES)
    assert filesystem.extents(ino) == []
    other = _sparse(filesystem, 60, b"other")
    filesystem.unlink(ROOT_INO, b"other", 7)
    filesystem.forget(other)
    assert filesystem.core.inodes.leaving
    assert filesystem.statfs().inode_count == 2
    assert empty.free_blocks - filesystem.statfs().free_blocks < used_blocks - 50
    for call in (filesystem.getattr, filesystem.extents, filesystem.listxattr):
        with pytest.raises(FilesystemError, match=r"no inode"):
            call(other)


def test_new_data_where_something_was_cut_off() -> None:
    device = _fresh()
    filesystem = mount(device, 1, STEP)
    ino = _sparse(filesystem, 30)
    filesystem.setattr(ino, 4, size=0)
    for index in (20, 10, 29, 11):
        filesystem.write(ino, index * WINDOW_BYTES + 7, b"new", 5)
    expected = bytearray(29 * WINDOW_BYTES + 10)
    for index in (20, 10, 29, 11):
        expected[index * WINDOW_BYTES + 7 : index * WINDOW_BYTES + 10] = b"new"
    ranges = [(cut.first, cut.end) for cut in filesystem.core.inodes.cuts.of(ino)]
    assert ranges == [(2, 10), (12, 20), (21, 29)]
    for now_ns in (6, 7, 8):
        assert filesystem.read(ino, 0, len(expected) + 1, now_ns) == expected
        filesystem.sync(now_ns)
        _check(device)
        filesystem = mount(device.copy(), now_ns, STEP)
    _drain(filesystem)
    assert filesystem.read(ino, 0, len(expected) + 1, 9) == expected
    assert filesystem.getattr(ino).blocks == 4


def test_new_data_in_a_window_that_was_being_written() -> None:
    filesystem = mount(_fresh(), 1, STEP)
    ino = _sparse(filesystem, 10)
    offset = 8 * WINDOW_BYTES
    filesystem.write(ino, offset + 3 * BLOCK_BYTES, b"late", 4)
    filesystem.setattr(ino, 5, size=0)
    filesystem.write(ino, offset + 3 * BLOCK_BYTES, b"new", 6)
    filesystem.sync(7)
    _drain(filesystem)
    filesystem.getattr(ino).windows.clear()
    assert filesystem.read(ino, offset, 4 * BLOCK_BYTES, 8) == bytes(3 * BLOCK_BYTES) + b"new"


def test_a_cut_inside_what_was_cut_off() -> None:
    device = _fresh()
    filesystem = mount(device, 1, STEP)
    ino = _sparse(filesystem, 10)
    filesystem.setattr(ino, 4, size=BLOCK_BYTES)
    filesystem.setattr(ino, 5, size=9 * WINDOW_BYTES)
    filesystem.setattr(ino, 6, size=7 * WINDOW_BYTES + 3 * BLOCK_BYTES + 5)
    filesystem.sync(7)
    _check(device)
    _drain(filesystem)
    filesystem.unmount(8)
    _check(device)


def test_read_only_mounts_show_it_too_and_a_remount_goes_on() -> None:
    device = _fresh(16 << 20)
    filesystem = mount(device, 1, STEP)
    ino = _sparse(filesystem, 400)
    filesystem.setattr(ino, 4, size=BLOCK_BYTES)
    filesystem.setattr(ino, 4, size=400 * WINDOW_BYTES)
    filesystem.remount(5, read_only=True)
    _check(device)
    expected = b"\1" * BLOCK_BYTES + bytes(399 * WINDOW_BYTES)
    for reader in (filesystem, mount(device, 6, Options(read_only=True))):
        assert reader.core.inodes.cuts.count == 1
        assert reader.read(ino, 0, len(expected), 6) == expected
        assert not reader.tick(7, idle=True)
    filesystem = mount(device, 8, STEP)
    filesystem.remount(9, read_only=True)
    filesystem.remount(10, read_only=False)
    _drain(filesystem)
    assert not filesystem.core.inodes.cuts.count
    assert filesystem.read(ino, 0, len(expected), 11) == expected
    filesystem.unmount(12)
    _check(device)


def test_ranges_beyond_the_limit_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfs.alloc.admission.removal._CUTS_MAX", 4)
    device = _fresh()
    filesystem = mount(device, 1, STEP)
    ino = _sparse(filesystem, 100)
    filesystem.setattr(ino, 4, size=0)
    for index in range(3, 100, 3):
        filesystem.write(ino, index * WINDOW_BYTES, b"new", 5)
        assert filesystem.core.inodes.cuts.count <= 4
    filesystem.sync(6)
    _check(device)


# ---------------------------------------------------------------------- full disk


def test_a_full_disk_takes_what_is_still_given_up() -> None:
    """No ENOSPC while there is something to give up, nor after it."""
    filesystem = mount(_fresh(), 1, STEP)
    ino = filesystem.create(ROOT_INO, b"big", FILE, 0, 0, 1).ino
    size = 0
    with contextlib.suppress(FilesystemError):
        while True:
            size += filesystem.write(ino, size, b"x" * 8192, 2)
    filesystem.sync(3)
    for number in range(6):
        filesystem.setattr(ino, 4, size=0)
        free_blocks = filesystem.statfs().available_blocks
        assert free_blocks >= size // BLOCK_BYTES * 9 // 10, number
        for offset in range(0, size * 9 // 10, 8192):
            filesystem.write(ino, offset, b"y" * 8192, 5)
        filesystem.sync(6)


# ------------------------------------------------------------------------- damage


@pytest.mark.parametrize("how", ["orphan", "cut"])
def test_what_cannot_be_read_holds_nothing_up(how: str) -> None:
    """It is reported once and left; the rest goes on, and so does everything else."""
    device = _fresh()
    lines: list[str] = []
    filesystem = Filesystem.mount(device, 1, STEP, lines.append)
    bad, good = _sparse(filesystem, 60, b"bad"), _sparse(filesystem, 60, b"good")
    filesystem.checkpoint(3)
    volume = filesystem.core.volume
    batch = volume.imap.batch

    def failing(start: bytes, end: bytes) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        if start[:8] == bad.to_bytes(8, "big") and start[9:] >= (4).to_bytes(8, "big"):
            raise FilesystemError(5, "unreadable")
        return batch(start, end)

    for ino, name in ((bad, b"bad"), (good, b"good")):
        if how == "orphan":
            filesystem.unlink(ROOT_INO, name, 4)
            filesystem.forget(ino)
        else:
            filesystem.setattr(ino, 4, size=0)
    volume.imap.batch = failing  # type: ignore[method-assign]
    _drain(filesystem)
    assert [line for line in lines if "unreadable" in line] == [
        f"orphan {bad} can't be removed: unreadable"
        if how == "orphan"
        else f"inode {bad}: what was cut off can't be given up: unreadable"
    ]
    filesystem.unmount(5)
    _check(device)
    volume.imap.batch = batch  # type: ignore[method-assign]
    filesystem = mount(device, 6, STEP)
    _drain(filesystem)
    assert not filesystem.core.inodes.orphans
    assert not filesystem.core.inodes.cuts.count
    filesystem.unmount(7)
    _check(device)


# ------------------------------------------------------------------------ crashes


def _requests(choose: random.Random) -> list[Call]:
    """Return requests that write windows, cut, write where was cut, and remove."""
    path = choose.choice([b"/one", b"/two"])
    at = choose.randrange(14)
    spread: list[Call] = [
        ("write", (path, i * WINDOW_BYTES, Data(i, 600))) for i in range(at % 12 + 2)
    ]
    size = choose.choice([0, 1, at * WINDOW_BYTES, at * WINDOW_BYTES + 5000])
    return choose.choice(
        [
            spread,
            spread,
            [("truncate", (path, size))],
            [("truncate", (path, size)), ("truncate", (path, 14 * WINDOW_BYTES))],
            [("write", (path, at * WINDOW_BYTES + 99, Data(at, 2000)))],
            [("unlink", (path,)), ("create", (path, FILE, 0))],
            [
                ("rename", (path, b"/one" if path == b"/two" else b"/two", 0)),
                ("create", (path, FILE, 0)),
            ],
            [("tick", (choose.randrange(4), True))],
            [("sync", ())],
            [("checkpoint", ())],
        ]
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_at_any_moment_leaves_a_prefix_and_a_clean_disk(seed: int) -> None:
    choose = random.Random(seed)
    base = _fresh()
    device = RecordingDevice(base.copy())
    options = Options(removal_items_max=choose.choice([1, 2, 3]))
    filesystem = mount(device, 1, options)
    tree, model = Client(filesystem), Client(Model(0, ROOT_MODE))
    now_ns = 2
    states = [tree_state(filesystem, 0)]
    for call, arguments in [
        ("create", (b"/one", FILE, 0)),
        ("create", (b"/two", FILE, 0)),
        *(each for _ in range(40) for each in _requests(choose)),
    ]:
        now_ns += 1
        request = Request(call, arguments, now_ns)
        assert tree.run(request) == model.run(request), (seed, request)
        if choose.random() < 0.4:
            filesystem.begin_commit(now_ns)
        states.append(tree_state(filesystem, 0))
    _look_at_crashes(base, device.events, states, options, seed)


def _look_at_crashes(
    base: MemoryDevice, events: list[Event], states: list[TreeState], options: Options, seed: int
) -> None:
    """Cut the power after some of the events and see what is left."""
    reached = 0
    for count in range(1, len(events), max(1, len(events) // 25)):
        medium = base.copy()
        replay(events[:count], medium)
        found = mount(medium, 1000, options)
        state = tree_state(found, 0)
        while states[reached] != state:
            reached += 1
            assert reached < len(states), f"seed {seed}, after event {count}: no prefix"
        _check(medium)
        _drain(found)
        assert tree_state(found, 0) == state, f"seed {seed}, after event {count}"
        found.unmount(1001)
        _check(medium)


# ------------------------------------------------------- other questions, in parts


def test_extents_are_told_from_any_block_on_and_cost_what_is_told() -> None:
    filesystem = mount(_fresh(), 1)
    ino = _sparse(filesystem, 50)
    everything = filesystem.extents(ino)
    assert len(everything) == 50
    parts, block = [], 0
    while part := filesystem.extents(ino, block, 3):
        assert len(part) <= 3
        parts += part
        block = part[-1][0] + part[-1][2]
    assert parts == everything
    whole = filesystem.create(ROOT_INO, b"whole", FILE, 0, 0, 1).ino
    filesystem.write(whole, 0, bytes(40 * BLOCK_BYTES), 2)
    filesystem.sync(3)
    ((first, address, count),) = filesystem.extents(whole)
    assert (first, count) == (0, 40)
    assert filesystem.extents(whole, 20) == [(20, address + 20, 20)]
    assert filesystem.extents(whole, 20, 1) == [(20, address + 20, 12)]
    looked: list[bytes] = []
    batch = filesystem.core.volume.imap.batch

    def counting(start: bytes, end: bytes) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        looked.append(start)
        return batch(start, end)

    filesystem.core.volume.imap.batch = counting  # type: ignore[method-assign]
    filesystem.extents(ino, 40 * 32, 2)
    assert len(looked) == 1


def test_moving_a_directory_looks_at_a_bounded_number_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lfs.files.rename.MOVE_DEPTH_MAX", 20)
    filesystem = mount(_fresh(), 1)
    deep = [ROOT_INO]
    for _ in range(40):
        deep.append(filesystem.mkdir(deep[-1], b"d", 0o755, 0, 0, 1).ino)
    filesystem.mkdir(ROOT_INO, b"leaf", 0o755, 0, 0, 1)
    tree = filesystem.mkdir(ROOT_INO, b"tree", 0o755, 0, 0, 1).ino
    filesystem.mkdir(tree, b"below", 0o755, 0, 0, 1)
    looked: list[int] = []
    parent_of = filesystem.core.inodes.parent_of

    def counting(ino: int) -> int:
        looked.append(ino)
        return parent_of(ino)

    filesystem.core.inodes.parent_of = counting  # type: ignore[method-assign]
    filesystem.rename(ROOT_INO, b"leaf", deep[40], b"leaf", 2)
    assert not looked
    with pytest.raises(FilesystemError) as refused:
        filesystem.rename(ROOT_INO, b"tree", deep[40], b"tree", 3)
    assert refused.value.errno == errno.ELOOP
    assert len(looked) == 20
    filesystem.rename(ROOT_INO, b"tree", deep[15], b"tree", 4)
    with pytest.raises(FilesystemError) as refused:
        filesystem.rename(deep[5], b"d", deep[15], b"d", 5)
    assert refused.value.errno == errno.EINVAL
    filesystem.unmount(6)


def test_write_where_all_that_a_file_has_was_cut_off_gives_that_up_first() -> None:
    """A file that was cut to nothing counts no block, but its windows are still mapped."""
    device = _fresh()
    filesystem = mount(device, 1, STEP)
    ino = _sparse(filesystem, 40)
    filesystem.checkpoint(4)
    filesystem.setattr(ino, 5, size=0)
    filesystem.write(ino, 30 * WINDOW_BYTES + 5 * BLOCK_BYTES, b"new" * BLOCK_BYTES, 6)
    filesystem.sync(7)
    _check(device)
    expected = tree_state(filesystem, 8)
    filesystem.abandon()
    again = mount(device, 9, STEP)
    assert tree_state(again, 10) == expected
    assert again.read(ino, 30 * WINDOW_BYTES, BLOCK_BYTES, 10) == bytes(BLOCK_BYTES)
    _drain(again)
    _check(device)
