"""Superblocks, checkpoints, usage table and tree: exactly the check of what is damaged fires."""

from __future__ import annotations

import pytest

from fsck.check import check_device
from lfs.common.errors import FormatError
from lfs.device.memory import MemoryDevice
from lfs.ondisk import BLOCK_NODE, BLOCK_USAGE, SEGMENT_CONTINUED, SUPERBLOCK_OFFSET_BYTES, Usage
from tests.fsck.plans import (
    BACKUP_OFFSET_BYTES,
    DEVICE_BLOCKS,
    FIRST_BLOCK,
    SEGMENT_BLOCKS,
    SEGMENT_COUNT,
)
from tests.fsck.samples import before, codes, flip, flip_block, payload_address, sample


@pytest.mark.parametrize("offset", [SUPERBLOCK_OFFSET_BYTES, BACKUP_OFFSET_BYTES])
def test_check_lost_superblock_is_what_a_mount_makes_good(offset: int) -> None:
    device = sample().build()
    flip(device, offset + 200)
    report = check_device(device)
    assert report.is_clean
    line = next(line for line in report.mendable if f"at byte {offset}" in line)
    assert "a superblock is lost" in line
    assert "the next writable mount writes it again" in line


def test_check_superblocks_that_differ_are_found() -> None:
    builder = sample()
    device = builder.build()
    other = builder.superblock().replaced(label=b"other")
    device.write(BACKUP_OFFSET_BYTES, [other.at(BACKUP_OFFSET_BYTES).pack()])
    assert codes(device) == ["superblock-differ"]


def test_check_superblock_of_another_generation_is_noted() -> None:
    builder = sample()
    device = builder.build()
    other = builder.superblock().replaced(generation=2)
    device.write(BACKUP_OFFSET_BYTES, [other.at(BACKUP_OFFSET_BYTES).pack()])
    report = check_device(device)
    assert report.is_clean
    assert any("generations 1 (primary) and 2 (copy)" in line for line in report.mendable)


def test_check_segments_over_the_copy_are_found() -> None:
    builder = sample()
    device = builder.build()
    # The last segment would need the blocks before the copy and those of the copy itself.
    assert builder.checkpoint_value is not None
    shift = 1
    assert FIRST_BLOCK + shift + SEGMENT_COUNT * SEGMENT_BLOCKS == DEVICE_BLOCKS
    superblock = builder.superblock().replaced(first_segment_block=FIRST_BLOCK + shift)
    for offset in (SUPERBLOCK_OFFSET_BYTES, BACKUP_OFFSET_BYTES):
        device.write(offset, [superblock.at(offset).pack()])
    with pytest.raises(FormatError, match="superblock geometry"):
        check_device(device)


def test_check_both_superblocks_damaged_is_refused() -> None:
    device = sample().build()
    flip(device, SUPERBLOCK_OFFSET_BYTES + 9)
    flip(device, BACKUP_OFFSET_BYTES + 9)
    with pytest.raises(FormatError, match="superblock checksum"):
        check_device(device)


def test_check_zeros_are_refused() -> None:
    with pytest.raises(FormatError, match="not an lfs filesystem"):
        check_device(MemoryDevice(1 << 20))


def test_check_tiny_device_is_refused() -> None:
    with pytest.raises(FormatError, match="not an lfs filesystem"):
        check_device(MemoryDevice(512))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "version 3"),
        ({"format_version": 1}, "version 1"),
        ({"incompatible": 8}, "incompatible features 0x8"),
        (
            {
                "device_blocks": DEVICE_BLOCKS + 64,
                "segment_count": SEGMENT_COUNT + 1,
                "copy_offset_bytes": BACKUP_OFFSET_BYTES + (1 << 20),
            },
            "truncated",
        ),
    ],
)
def test_check_unusable_superblock_is_refused(changes: dict[str, int], message: str) -> None:
    builder = sample()
    builder.superblock_changes = changes
    with pytest.raises(FormatError, match=message):
        check_device(builder.build())


def test_check_unknown_compatible_features_are_noted() -> None:
    builder = sample()
    builder.superblock_changes = {"compatible": 4, "read_only_compatible": 8}
    report = check_device(builder.build())
    assert report.is_clean
    assert len([note for note in report.notes if "features" in note]) == 2


def test_check_checkpoint_torn_is_noted_when_the_other_holds() -> None:
    builder = sample()
    device = builder.build()
    device.write(65536, [b"torn".ljust(512, b"\0")])
    report = check_device(device)
    assert report.is_clean
    assert any("region 0 does not hold" in line for line in report.mendable)


def test_check_older_checkpoint_is_used_when_the_newer_is_torn() -> None:
    builder = sample()
    device = builder.build()
    device.write(65536, [device.read(131072, 512)])
    assert check_device(device).is_clean


def test_check_no_checkpoint_is_found() -> None:
    device = sample().build()
    flip(device, 131072 + 50)
    assert codes(device) == ["checkpoint-none"]


def test_check_checkpoint_in_the_wrong_region_is_found() -> None:
    builder = sample()
    device = builder.build()
    assert builder.checkpoint_value is not None
    value = builder.checkpoint_value.replaced(number=2)
    device.write(131072, [value.pack(bytes(range(8)), 131072).ljust(1024, b"\0")])
    assert "checkpoint-region" in codes(device)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"inode_count": 5}, ["inode-count"]),
        ({"node_count": 9}, ["node-count"]),
        ({"live_block_count": 1}, ["live-block-count"]),
        ({"next_ino": 8}, ["next-ino"]),
        ({"next_address": 1}, ["log-next-address", "log-damaged"]),
        ({"imap_root_level": 40}, ["node-level"]),
        ({"imap_root_level": 2}, ["node-level"]),
    ],
)
def test_check_checkpoint_field_wrong_is_found(
    changes: dict[str, int], expected: list[str]
) -> None:
    builder = sample()
    builder.checkpoint_changes = changes
    assert codes(builder.build()) == expected


# -------------------------------------------------------------------- usage table


@pytest.mark.parametrize(
    ("segment", "usage", "expected"),
    [
        (2, Usage(19, 1, 1, 0, 4), ["usage-live-count"]),
        (20, Usage(3, 0, 1, 0, 1), ["usage-live-count"]),
        (20, Usage(0, 0, 1, 0, 1), []),
        (20, Usage(0, 0, SEGMENT_CONTINUED, 0, 0), ["usage-state"]),
        (20, Usage(0, 0, 7, 0, 0), ["usage-state"]),
        (20, Usage(5, 0, 0, 0, 0), ["usage-state", "live-block-count"]),
        (21, Usage(0, 1, 1, 0, 1), ["usage-state"]),
        (31, Usage(0, 200, 1, 0, 1), ["usage-state"]),
        (3, Usage(0, 0, 0, 0, 0), ["usage-state"]),
        (20, Usage(0, 0, 1, 0, 900), ["usage-state"]),
    ],
)
def test_check_usage_entry_wrong_is_found(segment: int, usage: Usage, expected: list[str]) -> None:
    builder = before(lambda b: b.usage_changes.update({segment: usage}))
    assert codes(builder.build()) == expected


def test_check_run_in_a_clean_segment_is_found() -> None:
    builder = before(lambda b: b.usage_changes.update({1: Usage(0, 0, 0, 0, 0)}))
    # The block of the first commit after the old checkpoint is in segment 1.
    assert codes(builder.build()) == ["extent-clean"]


def test_check_usage_page_damaged_is_found() -> None:
    builder = sample()
    device = builder.build()
    flip_block(device, payload_address(builder, BLOCK_USAGE), 100)
    report = check_device(device)
    assert [problem.code for problem in report.problems] == ["usage-page"]
    assert any("usage table is lost" in note for note in report.notes)


def test_check_too_many_usage_pages_are_found() -> None:
    builder = sample()
    assert builder.checkpoint_value is not None
    pages = builder.checkpoint_value.usage_pages * 2
    builder.checkpoint_changes = {"usage_pages": pages}
    assert codes(builder.build()) == ["usage-page"]


# ---------------------------------------------------------------------------- tree


def test_check_leaf_damaged_is_the_only_problem() -> None:
    builder = sample()
    device = builder.build()
    flip_block(device, payload_address(builder, BLOCK_NODE), 2000)
    report = check_device(device)
    assert [problem.code for problem in report.problems] == ["node-damaged"]
    assert any("part of the imap is lost" in note for note in report.notes)


def test_check_root_node_damaged_is_the_only_problem() -> None:
    builder = sample()
    device = builder.build()
    flip_block(device, payload_address(builder, BLOCK_NODE, -1))
    assert codes(device)[0] == "node-damaged"
