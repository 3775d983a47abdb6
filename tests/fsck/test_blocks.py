"""File data, the blocks it occupies and the summaries that describe them."""

from __future__ import annotations

import pytest

from fsck.check import check_device
from lfs.ondisk import BLOCK_NODE, ROOT_INO
from tests.fsck.builder import ImageBuilder
from tests.fsck.plans import FIRST_BLOCK, SEGMENT_BLOCKS, block
from tests.fsck.samples import after, before, codes, flip_block, map_raw, payload_address, sample


def test_check_data_damaged_is_found_with_its_place() -> None:
    builder = sample()
    device = builder.build()
    address = builder.blocks[8][7].address
    flip_block(device, address, 77)
    report = check_device(device)
    assert [problem.code for problem in report.problems] == ["data-checksum"]
    problem = report.problems[0]
    assert (problem.address, problem.ino) == (address, 8)
    assert "file block 7" in problem.message
    assert "(/bulk)" in problem.message


def test_check_data_damaged_is_not_looked_at_without_data() -> None:
    builder = sample()
    device = builder.build()
    flip_block(device, builder.blocks[8][7].address)
    assert codes(device, data=False) == []


def test_check_block_mapped_twice_is_found() -> None:
    def share(builder: ImageBuilder) -> None:
        other = builder.blocks[8][0].pointer
        map_raw(builder, 7, other.address, other.checksum)

    expected = ["extent-overlap", "summary-mismatch"]
    assert codes(before(share).build()) == expected
    assert codes(after(share).build()) == expected


def test_check_block_over_a_node_is_found() -> None:
    def share(builder: ImageBuilder) -> None:
        map_raw(builder, 7, payload_address(builder, BLOCK_NODE), 0)

    assert codes(after(share).build(), data=False) == ["extent-overlap", "summary-mismatch"]


def test_check_block_in_a_clean_segment_is_found() -> None:
    def point(builder: ImageBuilder) -> None:
        map_raw(builder, 7, FIRST_BLOCK + 30 * SEGMENT_BLOCKS, 0)

    assert codes(after(point).build(), data=False) == ["extent-clean"]
    assert codes(before(point).build(), data=False) == ["extent-clean"]


# ------------------------------------------------------------------------ summaries


def test_check_summary_of_live_blocks_damaged_is_found() -> None:
    builder = sample()
    device = builder.build()
    flip_block(device, builder.writes[2].summary.address, 100)
    report = check_device(device)
    assert [problem.code for problem in report.problems] == ["summary-missing"]
    assert "70 live blocks" in report.problems[0].message


def test_check_last_summary_without_live_blocks_damaged_is_found() -> None:
    builder = sample()
    device = builder.build()
    # The jump at the end of the first run describes nothing but ends its walk.
    flip_block(device, builder.writes[1].summary.address, 100)
    assert codes(device) == ["summary-walk"]


@pytest.mark.parametrize(
    ("field", "value"), [("owner", 5), ("key", 3), ("version", 1), ("kind", BLOCK_NODE)]
)
def test_check_summary_with_another_owner_is_found(field: str, value: int) -> None:
    builder = sample()
    builder.add_file(10, ROOT_INO, b"late")
    builder.write_blocks(10, 0, [block(b"late")])
    late = builder.pending[0]
    builder.open_run(8)
    builder.checkpoint()
    setattr(late, field, value)
    assert codes(builder.build()) == ["summary-mismatch"]


def test_check_summary_that_repeats_blocks_is_found() -> None:
    builder = sample()
    first, last = builder.writes[2], builder.writes[3]
    assert last.summary.run_address == first.summary.run_address
    last.changes = {"summary_blocks": 4}
    assert codes(builder.build()) == ["summary-overlap"]
