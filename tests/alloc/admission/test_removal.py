"""Giving up in steps: no request and no turn takes long, and nothing holds the rest up."""

from __future__ import annotations

import contextlib

import pytest

from lfs.common.errors import FilesystemError
from lfs.filesystem import Filesystem, Options
from lfs.inodes.window import Window
from lfs.ondisk import ROOT_INO
from tests.alloc.admission.sparse import (
    BLOCK_BYTES,
    FILE,
    STEP,
    WINDOW_BYTES,
    check,
    drain,
    fresh_device,
    sparse_file,
)
from tests.support.bad_reads import BadReads, empty_caches
from tests.support.state import tree_state
from tests.support.volumes import mount

# ------------------------------------------------------------------------------ bounded


@pytest.mark.pure_core
@pytest.mark.parametrize("how", ["unlink", "truncate", "rename"])
def test_no_request_and_no_turn_takes_more_than_a_step(how: str) -> None:
    """However large the file is, each call gives up no more windows than a step may.

    It lets go of no more in memory, either.
    """
    device = fresh_device()
    filesystem = mount(device, 1, STEP)
    ino = sparse_file(filesystem, 200)
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
    check(device)
    assert mount(device, 7).statfs().inode_count == (1 if how == "unlink" else 2)


def test_what_is_cut_and_then_removed_in_steps_is_whole_in_between() -> None:
    """What the cut left to zero in the last block is given up with the file."""
    device = fresh_device()
    filesystem = mount(device, 1, STEP)
    ino = sparse_file(filesystem, 20)
    filesystem.setattr(ino, 4, size=10 * WINDOW_BYTES + 10)
    filesystem.unlink(ROOT_INO, b"file", 4)
    filesystem.forget(ino)
    filesystem.sync(5)
    check(device)
    assert tree_state(mount(device, 6), 6).keys() == {b"/"}
    check(device)


@pytest.mark.parametrize("how", ["write", "extend"])
def test_growing_what_was_cut_fails_where_it_can_t_be_read_and_no_commit_does(how: str) -> None:
    """A small file may still have all windows of a large one behind it."""
    device = fresh_device(16 << 20)
    options = Options(removal_items_max=1)
    filesystem = mount(device, 1, options)
    ino = sparse_file(filesystem, 200)
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
    disk = BadReads(fresh_device(16 << 20))
    filesystem = mount(disk, 1)
    ino = sparse_file(filesystem, 200)
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
    device = fresh_device()
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
        check(device)
    filesystem.unmount(6)
    check(device)


def test_mount_and_unmount_leave_most_of_a_large_removal_to_later() -> None:
    device = fresh_device(16 << 20)
    options = Options(removal_items_max=1)
    filesystem = mount(device, 1, options)
    ino = sparse_file(filesystem, 400)
    filesystem.unlink(ROOT_INO, b"file", 4)
    filesystem.forget(ino)
    for now_ns in (5, 6):
        filesystem.unmount(now_ns)
        check(device)
        filesystem = mount(device, now_ns, options)
        assert ino in filesystem.core.inodes.leaving
        assert filesystem.statfs().inode_count == 1
    drain(filesystem)
    filesystem.unmount(200)
    check(device)
    assert not mount(device, 201).core.inodes.orphans


# ---------------------------------------------------------------------------- full disk


def test_a_full_disk_takes_what_is_still_given_up() -> None:
    """No ENOSPC while there is something to give up, nor after it."""
    filesystem = mount(fresh_device(), 1, STEP)
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


# ------------------------------------------------------------------------------- damage


@pytest.mark.pure_core
@pytest.mark.parametrize("how", ["orphan", "cut"])
def test_what_cannot_be_read_holds_nothing_up(how: str) -> None:
    """It is reported once and left; the rest goes on, and so does everything else."""
    device = fresh_device()
    lines: list[str] = []
    filesystem = Filesystem.mount(device, 1, STEP, lines.append)
    bad, good = sparse_file(filesystem, 60, b"bad"), sparse_file(filesystem, 60, b"good")
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
    drain(filesystem)
    assert [line for line in lines if "unreadable" in line] == [
        f"orphan {bad} can't be removed: unreadable"
        if how == "orphan"
        else f"inode {bad}: what was cut off can't be given up: unreadable"
    ]
    filesystem.unmount(5)
    check(device)
    volume.imap.batch = batch  # type: ignore[method-assign]
    filesystem = mount(device, 6, STEP)
    drain(filesystem)
    assert not filesystem.core.inodes.orphans
    assert not filesystem.core.inodes.cuts.count
    filesystem.unmount(7)
    check(device)
