"""A checkpoint, or a block that it needs, is damaged: what the one before it leads to."""

from __future__ import annotations

from bisect import bisect_right

import pytest

from lfs.commit.fixed_places import read_checkpoints
from lfs.common.errors import DamageError, FilesystemError, FormatError
from lfs.ondisk import CHECKPOINT_REGION_BYTES, Branch, pack_key, unpack_node
from tests.commit.busy import busy_disk
from tests.commit.checkpoints import newest_checkpoint, regions
from tests.support.disks import BLOCK_BYTES, Disk, data, flip_byte, mounted_state, problems

# ------------------------------------------------------------------- checkpoint regions


def test_recovery_with_the_newer_checkpoint_damaged_finds_the_same() -> None:
    disk, expected = busy_disk()
    flip_byte(disk.medium, regions(disk.medium)[0] + 100)
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []
    assert len(read_checkpoints(disk.medium, disk.superblock)) == 2


def test_recovery_with_the_older_checkpoint_damaged_finds_the_same() -> None:
    disk, expected = busy_disk()
    flip_byte(disk.medium, regions(disk.medium)[1])
    disk.mount()
    assert disk.state() == expected


def test_recovery_after_a_clean_unmount_needs_either_checkpoint() -> None:
    disk, expected = busy_disk()
    disk.unmount()
    for offset in regions(disk.medium):
        medium = disk.medium.copy()
        medium.write(offset, [bytes(CHECKPOINT_REGION_BYTES)])
        assert mounted_state(medium) == expected


def test_recovery_with_both_checkpoints_damaged_is_refused() -> None:
    disk, _ = busy_disk()
    for offset in regions(disk.medium):
        flip_byte(disk.medium, offset + 50)
    with pytest.raises(FormatError, match="both checkpoint regions are damaged"):
        disk.mount()


# -------------------------------------------------------------- what a checkpoint needs


def test_recovery_with_a_usage_page_damaged_uses_the_checkpoint_before() -> None:
    disk, expected = busy_disk()
    newest = newest_checkpoint(disk)
    page = next(pointer for pointer in newest.usage_pages if pointer.address)
    flip_byte(disk.medium, page.address * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.state() == expected
    assert disk.lines[0].startswith(
        f"checkpoint {newest.number} or the log after it has damage: block {page.address}"
    )
    disk.unmount()
    assert problems(disk.medium) == []


def test_recovery_with_the_root_damaged_uses_the_checkpoint_before() -> None:
    disk, expected = busy_disk()
    flip_byte(disk.medium, newest_checkpoint(disk).imap_root.address * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []


def test_older_blocks_over_all_that_the_newer_checkpoint_needs_are_no_end_of_the_log() -> None:
    """As a part of an older image does that is copied over a newer one."""
    disk, before = busy_disk()
    disk.checkpoint()
    older = disk.medium.copy()
    checkpoint = newest_checkpoint(disk)
    disk.make_file(b"synced", data(60, 50_000))
    disk.sync()
    disk.checkpoint()
    newest = newest_checkpoint(disk)
    first_page = disk.superblock.first_segment_block
    for page, raw in older.differing_pages(disk.medium.copy()):
        if page >= first_page:
            disk.medium.write(page * BLOCK_BYTES, [raw])
    assert newest_checkpoint(disk) == newest
    disk.mount()
    assert disk.filesystem.read_only
    assert f"the log is damaged at block {checkpoint.next_address}" in disk.filesystem.failure
    assert disk.filesystem.failure.endswith(f"(checkpoint {newest.number} says so)")
    assert disk.state() == before


def test_what_follows_a_fallback_outlives_a_newer_checkpoint_that_can_be_read_again() -> None:
    disk, _ = busy_disk()
    disk.checkpoint()
    # Nothing has changed: the first log write after the older one has the root.
    disk.checkpoint()
    newest = newest_checkpoint(disk)
    root_bytes = newest.imap_root.address * BLOCK_BYTES
    whole = disk.medium.read(root_bytes, BLOCK_BYTES)
    flip_byte(disk.medium, root_bytes + 100)
    bad = disk.medium.read(root_bytes, BLOCK_BYTES)
    disk.mount()
    assert disk.lines[0].startswith(f"checkpoint {newest.number} or the log after it has damage")
    disk.make_file(b"synced", b"content")
    disk.sync()
    expected = disk.state()
    if disk.medium.read(root_bytes, BLOCK_BYTES) == bad:
        disk.medium.write(root_bytes, [whole])
    disk.mount()
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []


@pytest.mark.parametrize("damaged", ["root", "usage page"])
def test_commit_during_the_flush_of_a_checkpoint_is_found_from_the_one_before(
    damaged: str,
) -> None:
    """What it follows had not been known to be flushed, but the newer checkpoint tells."""
    disk, _ = busy_disk()
    disk.checkpoint()
    for number, flush in enumerate(disk.filesystem.checkpoint_steps(disk.now_ns)):
        if number == 0:
            disk.make_file(b"between", b"content")
            disk.sync()
        disk.device.flush()
        assert flush is not None
        disk.filesystem.finish_flush(flush)
    expected = disk.state()
    newest = newest_checkpoint(disk)
    page = next(pointer for pointer in newest.usage_pages if pointer.address)
    address = newest.imap_root.address if damaged == "root" else page.address
    flip_byte(disk.medium, address * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.lines[0].startswith(f"checkpoint {newest.number} or the log after it has damage")
    assert disk.state() == expected
    disk.unmount()
    assert problems(disk.medium) == []


def test_mount_that_falls_back_leaves_two_whole_checkpoints() -> None:
    disk, _ = busy_disk()
    disk.unmount()
    disk.mount()
    disk.checkpoint()
    newest = newest_checkpoint(disk)
    flip_byte(disk.medium, newest.imap_root.address * BLOCK_BYTES + 100)
    disk.mount()
    disk.unmount()
    assert problems(disk.medium) == []


def test_recovery_with_a_changed_leaf_damaged_is_read_only_and_shows_the_rest() -> None:
    disk = Disk()
    inos = [disk.make_file(b"file %d" % number, b"content") for number in range(400)]
    disk.checkpoint()
    disk.checkpoint()
    late = disk.make_file(b"late", b"new")
    disk.write(inos[200], 0, b"changed")
    disk.sync()
    flip_byte(disk.medium, leaf_of(disk, pack_key(inos[200], 0, 0)) * BLOCK_BYTES + 100)
    disk.mount()
    assert disk.filesystem.read_only
    assert any("read-only from now on" in line for line in disk.lines)
    assert disk.read(late) == b"new"
    assert disk.read(inos[0]) == b"content"
    assert disk.read(inos[200]) == b"changed"
    with pytest.raises(DamageError):
        disk.read(inos[201])
    with pytest.raises(FilesystemError, match=r"[Rr]ead-only"):
        disk.make_file(b"more")
    disk.unmount()


def leaf_of(disk: Disk, key: bytes) -> int:
    """Return the address of the leaf that has, or would have, ``key``."""
    pointer = newest_checkpoint(disk).imap_root
    while True:
        raw = disk.medium.read(pointer.address * BLOCK_BYTES, BLOCK_BYTES)
        node = unpack_node(raw, disk.superblock.filesystem_id, pointer.address)
        if not isinstance(node, Branch):
            return pointer.address
        pointer = node.children[max(0, bisect_right(node.keys, key) - 1)]
