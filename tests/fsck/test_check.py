"""The check as a whole: the undamaged image is clean, and no damage crashes it."""

from __future__ import annotations

import contextlib
import errno
import random

import pytest

from fsck.check import check_device, check_marks
from lfs.common.errors import DeviceError, FormatError
from lfs.device.memory import MemoryDevice
from lfs.ondisk import Usage
from tests.fsck.builder import ImageBuilder
from tests.fsck.plans import BLOCK_BYTES, DEVICE_BLOCKS, SEGMENT_COUNT
from tests.fsck.samples import flip_block, sample


def test_check_undamaged_image_is_clean() -> None:
    report = check_device(sample().build())
    assert report.problems == []
    assert report.is_clean
    assert report.log_commits == 2
    assert report.statistics["inodes"] == 9
    assert report.statistics["data_blocks"] == 74


def test_check_image_without_log_is_clean() -> None:
    builder = ImageBuilder()
    builder.checkpoint()
    report = check_device(builder.build())
    assert report.problems == []
    assert report.log_commits == 0


def test_check_progress_gets_the_phases() -> None:
    lines: list[str] = []
    check_device(sample().build(), lines.append)
    assert any("data: 74 of" in line for line in lines)


def test_check_marks_says_whether_unmounted_cleanly() -> None:
    builder = ImageBuilder()
    builder.checkpoint()
    assert not check_marks(builder.build()).is_clean_unmount
    builder.checkpoint_changes = {"flags": 1}
    assert check_marks(builder.build()).is_clean_unmount
    builder.commit()
    assert not check_marks(builder.build()).is_clean_unmount


# ----------------------------------------------------------------- corrupt input


def used_blocks(builder: ImageBuilder) -> list[int]:
    """Return the addresses of everything the builder wrote, the fixed places included."""
    fixed = [1, 16, 32, DEVICE_BLOCKS - 1]
    summaries = [write.summary.address for write in builder.writes]
    return fixed + summaries + [each.address for w in builder.writes for each in w.payload]


@pytest.mark.parametrize("seed", range(40))
def test_check_flipped_bits_never_crash_it(seed: int) -> None:
    choose = random.Random(seed)
    builder = sample()
    device = builder.build()
    blocks = used_blocks(builder)
    for _ in range(choose.choice((1, 3, 20))):
        flip_block(device, choose.choice(blocks), choose.randrange(BLOCK_BYTES))
    with contextlib.suppress(FormatError):
        check_device(device)


@pytest.mark.parametrize("seed", range(60))
def test_check_wrong_items_with_right_checksums_never_crash_it(seed: int) -> None:
    choose = random.Random(seed)
    builder = sample()
    items = sorted(builder.items().items())
    for key, value in choose.sample(items, choose.choice((1, 5, 20))):
        raw = bytearray(value or b"\0")
        for _ in range(choose.choice((1, 4))):
            raw[choose.randrange(len(raw))] = choose.randrange(256)
        new_key = bytearray(key)
        if choose.random() < 0.3:
            new_key[choose.randrange(len(key))] = choose.randrange(256)
        builder.overrides[bytes(new_key)] = bytes(raw[: choose.randrange(1, len(raw) + 1)])
    if choose.random() < 0.5:
        builder.open_run(8)
        builder.checkpoint()
    else:
        builder.commit()
    check_device(builder.build())


@pytest.mark.parametrize("seed", range(60))
def test_check_wrong_summaries_with_right_checksums_never_crash_it(seed: int) -> None:
    choose = random.Random(seed)
    builder = sample()
    for write in choose.sample(builder.writes, choose.choice((1, 2, 4))):
        names = [name for name, value in write.summary.fields().items() if type(value) is int]
        for name in choose.sample(names, choose.choice((1, 3))):
            write.changes[name] = wild_number(choose, name)
    check_device(builder.build())


@pytest.mark.parametrize("seed", range(60))
def test_check_wrong_checkpoint_with_right_checksum_never_crashes_it(seed: int) -> None:
    choose = random.Random(seed)
    builder = sample()
    assert builder.checkpoint_value is not None
    names = [
        name for name, value in builder.checkpoint_value.fields().items() if type(value) is int
    ]
    for name in choose.sample(names, choose.choice((1, 3))):
        builder.checkpoint_changes[name] = wild_number(choose, name)
    builder.checkpoint_changes.pop("number", None)
    segment = choose.randrange(SEGMENT_COUNT)
    builder.usage_changes[segment] = Usage(
        choose.randrange(1 << 32),
        choose.randrange(256),
        choose.randrange(4),
        0,
        choose.randrange(99),
    )
    check_device(builder.build())


def wild_number(choose: random.Random, name: str) -> int:
    """Return a number that the field ``name`` can hold, and that is often absurd."""
    bits = 16 if name in ("head", "flags") else 64
    if name.endswith(("blocks", "checksum", "level")):
        bits = 32
    if name == "time_ns":
        bits = 63
    return choose.choice((0, 1, choose.randrange(700), choose.randrange(1 << bits)))


class FailingDevice(MemoryDevice):
    """A device on which some blocks cannot be read."""

    def __init__(self, device: MemoryDevice, bad_blocks: set[int]) -> None:
        super().__init__(device.size_bytes)
        self._inner = device
        self._bad_blocks = bad_blocks

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        first = offset_bytes // BLOCK_BYTES
        end = -(-(offset_bytes + length_bytes) // BLOCK_BYTES)
        if self._bad_blocks.intersection(range(first, end)):
            raise DeviceError(errno.EIO, "medium error", offset_bytes)
        return self._inner.read(offset_bytes, length_bytes)


def test_check_unreadable_data_block_is_the_only_problem() -> None:
    builder = sample()
    address = builder.blocks[8][7].address
    report = check_device(FailingDevice(builder.build(), {address}))
    assert [problem.code for problem in report.problems] == ["data-unreadable"]
    assert report.problems[0].address == address


@pytest.mark.parametrize("seed", range(30))
def test_check_unreadable_blocks_never_crash_it(seed: int) -> None:
    choose = random.Random(seed)
    builder = sample()
    bad = set(choose.sample(used_blocks(builder), choose.choice((1, 4))))
    with contextlib.suppress(FormatError):
        check_device(FailingDevice(builder.build(), bad))
