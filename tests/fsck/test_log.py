"""The log after the checkpoint: where it ends, and when its end is damage."""

from __future__ import annotations

import pytest

from fsck.check import check_device
from lfs.ondisk import ROOT_INO
from tests.fsck.builder import ImageBuilder
from tests.fsck.plans import FIRST_BLOCK, block
from tests.fsck.samples import codes, flip_block, sample


def log_of(commit_count: int) -> ImageBuilder:
    """Return a builder with a checkpoint and commits of one file each after it."""
    builder = ImageBuilder()
    builder.checkpoint()
    for number in range(commit_count):
        builder.add_file(10 + number, ROOT_INO, b"file %d" % number)
        builder.write_blocks(10 + number, 0, [block(b"content %d" % number)])
        builder.commit()
    return builder


def test_log_last_summary_torn_is_its_end() -> None:
    builder = log_of(3)
    device = builder.build()
    flip_block(device, builder.writes[-1].summary.address, 60)
    report = check_device(device)
    assert report.is_clean
    assert report.log_commits == 2


def test_log_last_payload_torn_is_its_end() -> None:
    builder = log_of(3)
    device = builder.build()
    flip_block(device, builder.writes[-1].payload[0].address)
    report = check_device(device)
    assert report.is_clean
    assert report.log_commits == 2
    assert any("payload was torn" in note for note in report.notes)


def test_log_flushed_payload_torn_is_damage_of_data() -> None:
    builder = log_of(3)
    device = builder.build()
    flip_block(device, builder.writes[-2].payload[0].address)
    report = check_device(device)
    assert [problem.code for problem in report.problems] == ["data-checksum"]
    assert report.log_commits == 3


def test_log_flushed_summary_damaged_is_found() -> None:
    builder = log_of(3)
    device = builder.build()
    flip_block(device, builder.writes[-2].summary.address, 60)
    report = check_device(device)
    assert [problem.code for problem in report.problems] == ["log-damaged"]
    assert report.log_commits == 1


def test_log_flushed_jump_damaged_is_found_by_the_next_run() -> None:
    builder = log_of(1)
    builder.open_run(9)
    for number in range(2):
        builder.add_file(20 + number, ROOT_INO, b"next %d" % number)
        builder.commit()
    device = builder.build()
    jump = builder.writes[-3]
    # The first log write of the new run must prove it, nothing behind it is looked at.
    builder.writes[-2].changes = {"flushed_sequence": jump.summary.sequence}
    device = builder.build()
    flip_block(device, jump.summary.address, 60)
    assert codes(device) == ["log-damaged"]


def test_log_unflushed_summary_lost_before_a_later_one_is_its_end() -> None:
    builder = log_of(1)
    for number in range(2):
        builder.add_file(20 + number, ROOT_INO, b"next %d" % number)
        builder.commit(flushed=False)
    device = builder.build()
    flip_block(device, builder.writes[-2].summary.address, 60)
    report = check_device(device)
    assert report.is_clean
    assert report.log_commits == 1


def test_log_incomplete_commit_does_not_count() -> None:
    builder = log_of(2)
    builder.add_file(30, ROOT_INO, b"half")
    builder.commit(flags=0)
    report = check_device(builder.build())
    assert report.is_clean
    assert report.log_commits == 2
    assert report.statistics["files"] == 2


def test_log_commit_of_several_writes_counts_as_one() -> None:
    builder = log_of(1)
    builder.add_file(30, ROOT_INO, b"first half")
    builder.commit(flags=0)
    builder.add_file(31, ROOT_INO, b"second half")
    builder.commit()
    report = check_device(builder.build())
    assert report.is_clean
    assert report.log_commits == 2
    assert report.statistics["files"] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"run_blocks": 0},
        {"run_blocks": 48},
        {"run_blocks": 32},
        {"run_address": FIRST_BLOCK + 16},
        {"run_address": 0},
        {"payload_address": 0},
        {"summary_blocks": 2},
        {"flushed_sequence": 900},
        {"flags": 2},
    ],
)
def test_log_write_with_impossible_places_is_found(changes: dict[str, int]) -> None:
    builder = log_of(2)
    builder.open_run(5, order=0)
    builder.add_file(20, ROOT_INO, b"impossible")
    builder.write_blocks(20, 0, [block(b"content")])
    builder.commit().changes = changes
    report = check_device(builder.build())
    assert [problem.code for problem in report.problems] == ["log-write"]
    assert report.log_commits == 2


def test_log_run_over_live_blocks_is_found() -> None:
    builder = sample()
    builder.open_run(2)
    builder.add_file(20, ROOT_INO, b"over live blocks")
    builder.write_blocks(20, 0, [block(b"over live blocks")] * 4)
    builder.commit()
    found = codes(builder.build())
    assert "extent-overlap" in found
    assert "extent-clean" in found


def test_log_run_over_blocks_that_the_log_freed_is_clean() -> None:
    builder = sample()
    builder.remove_file(8, ROOT_INO, b"bulk")
    builder.commit()
    builder.open_run(2)
    builder.add_file(20, ROOT_INO, b"over dead blocks")
    builder.write_blocks(20, 0, [block(b"over dead blocks")] * 10)
    builder.commit()
    report = check_device(builder.build())
    assert report.problems == []
    assert report.log_commits == 4


def test_log_summary_over_a_live_block_is_found() -> None:
    builder = sample()
    address = builder.blocks[8][0].address
    builder.open_run(2)
    builder.current.used = address - builder.current.address
    builder.writes[-1].changes = {"next_address": address}
    builder.add_file(20, ROOT_INO, b"over a live block")
    builder.commit()
    assert "log-overlap" in codes(builder.build())


def test_log_write_that_continues_an_unknown_run_is_found() -> None:
    builder = sample()
    builder.open_run(9)
    builder.current.sequence = 1
    builder.commit()
    assert codes(builder.build()) == ["log-run"]


def test_log_window_gains_and_replaces_blocks() -> None:
    builder = sample()
    builder.write_blocks(8, 5, [block(b"replaced %d" % number) for number in range(3)])
    builder.write_blocks(8, 126, [block(b"across windows %d" % number) for number in range(4)])
    builder.commit()
    report = check_device(builder.build())
    assert report.problems == []
    assert report.statistics["data_blocks"] == 78


def test_log_chain_in_a_circle_ends() -> None:
    builder = log_of(2)
    builder.writes[-1].changes = {"next_address": builder.writes[-1].summary.address}
    assert check_device(builder.build()).log_commits == 2


def test_log_next_address_outside_is_found() -> None:
    builder = log_of(2)
    builder.writes[-1].changes = {"next_address": 3}
    assert codes(builder.build()) == ["log-next-address"]
