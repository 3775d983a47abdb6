from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from lfs.common.errors import DamageError, DeviceError
from lfs.ondisk import HEAD_COLD, HEAD_MAIN, Summary
from tests.segments.logs import BLOCK_BYTES, Log

FOREIGN_ID = b"others.."


def some_log() -> Log:
    """Return a log of five log writes in one run."""
    log = Log()
    for _ in range(5):
        log.write(HEAD_MAIN, 1)
    return log


def sequences(summaries: list[Summary]) -> list[int]:
    return [summary.sequence for summary in summaries]


def walk(log: Log, run_address: int, last_sequence: int) -> list[int]:
    """Walk to the end or to the damage that ends it; returns the sequence numbers seen."""
    seen: list[int] = []
    try:
        for summary in log.reader.walk_run(run_address, last_sequence):
            seen.append(summary.sequence)
    except DamageError:
        seen.append(-1)
    return seen


def flip_summary(log: Log, summary: Summary) -> None:
    log.flip(summary.address, 90)


def make_foreign(log: Log, summary: Summary) -> None:
    log.overwrite(summary, FOREIGN_ID)


def raise_sequence(log: Log, summary: Summary) -> None:
    log.overwrite(summary.replaced(sequence=summary.sequence + 1))


def lower_sequence(log: Log, summary: Summary) -> None:
    log.overwrite(summary.replaced(sequence=summary.sequence - 1))


def erase(log: Log, summary: Summary) -> None:
    log.device.write(summary.address * BLOCK_BYTES, [bytes(BLOCK_BYTES)])


def belong_elsewhere(log: Log, summary: Summary) -> None:
    moved = summary.replaced(address=summary.address + 1).pack(log.superblock.filesystem_id)
    log.device.write(summary.address * BLOCK_BYTES, [moved.ljust(BLOCK_BYTES, b"\0")])


DAMAGES = [
    flip_summary,
    make_foreign,
    raise_sequence,
    lower_sequence,
    erase,
    belong_elsewhere,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_follow_ends_at_the_first_that_does_not_hold(
    damage: Callable[[Log, Summary], None],
) -> None:
    log = some_log()
    assert sequences(log.chain()) == [1, 2, 3, 4, 5]
    damage(log, log.chain()[2])
    assert sequences(log.chain()) == [1, 2]


def test_follow_ends_where_the_checksum_before_differs() -> None:
    log = some_log()
    third = log.chain()[2]
    # A whole log write with the right number, but of another chain.
    log.overwrite(third.replaced(previous_checksum=third.previous_checksum ^ 1))
    assert sequences(log.chain()) == [1, 2]


def test_follow_does_not_look_at_payloads() -> None:
    log = some_log()
    third = log.chain()[2]
    log.flip(third.payload_address)
    assert sequences(log.chain()) == [1, 2, 3, 4, 5]


def test_follow_goes_through_jumps() -> None:
    log = Log()
    for head in (HEAD_MAIN, HEAD_COLD, HEAD_MAIN):
        log.write(head, 1)
    assert sequences(log.chain()) == [1, 2, 3, 4, 5]


def test_walk_run_yields_the_log_writes_of_one_run() -> None:
    log = Log()
    main = log.write(HEAD_MAIN, 1)
    cold = log.write(HEAD_COLD, 1)
    again = log.write(HEAD_MAIN, 1)
    # With the jumps that lead from one to the other.
    assert walk(log, main.run_address, again.sequence) == [1, 2, 5]
    assert walk(log, cold.run_address, cold.sequence + 1) == [3, 4]


def test_walk_run_stops_at_the_last_log_write_asked_for() -> None:
    log = some_log()
    assert walk(log, log.first_address, 3) == [1, 2, 3]


@pytest.mark.parametrize(
    "damage", [flip_summary, make_foreign, lower_sequence, erase, belong_elsewhere]
)
def test_walk_run_says_when_a_log_write_is_missing(damage: Callable[[Log, Summary], None]) -> None:
    log = some_log()
    damage(log, log.chain()[2])
    assert walk(log, log.first_address, 5) == [1, 2, -1]


def test_walk_run_does_not_take_what_an_earlier_life_left() -> None:
    log = some_log()
    first, second = log.chain()[:2]
    # The run is used again, for one log write so far; the second is of its first life.
    reused = first.replaced(sequence=9, run_sequence=9)
    log.overwrite(reused)
    assert second.address == reused.run_next_address
    assert walk(log, log.first_address, 9) == [9]
    assert walk(log, log.first_address, 10) == [9, -1]


def test_walk_run_does_not_take_a_log_write_of_another_life() -> None:
    log = some_log()
    third = log.chain()[2]
    log.overwrite(third.replaced(run_sequence=2))
    assert walk(log, log.first_address, 5) == [1, 2, -1]


def test_walk_run_does_not_take_a_log_write_that_is_too_young() -> None:
    log = some_log()
    third = log.chain()[2]
    log.overwrite(third.replaced(sequence=8))
    assert walk(log, log.first_address, 5) == [1, 2, -1]


def test_walk_run_does_not_take_a_log_write_of_another_run() -> None:
    log = some_log()
    third = log.chain()[2]
    log.overwrite(third.replaced(run_address=third.run_address + 1))
    assert walk(log, log.first_address, 5) == [1, 2, -1]


@pytest.mark.parametrize(
    "change",
    [
        {"run_blocks": 1},
        {"run_blocks": 1 << 30},
        {"payload_address": 1},
        {"payload_address": 1 << 40},
        {"run_next_address": 1},
        {"run_next_address": 1 << 40},
        {"run_address": 0},
        {"summary_blocks": 1000},
    ],
    ids=str,
)
def test_read_summary_outside_its_run_is_damage(change: dict[str, int]) -> None:
    log = some_log()
    second = log.chain()[1]
    changed = second.replaced(**change)
    raw = changed.pack(log.superblock.filesystem_id).ljust(BLOCK_BYTES, b"\0")
    log.device.write(second.address * BLOCK_BYTES, [raw])
    with pytest.raises(DamageError):
        log.reader.read_summary(second.address)


@pytest.mark.parametrize("address", [0, 255, 1 << 40])
def test_read_summary_outside_the_segments_is_damage(address: int) -> None:
    with pytest.raises(DamageError, match="outside the segments"):
        some_log().reader.read_summary(address)


def test_payload_holds_only_if_every_block_does() -> None:
    log = Log()
    summary = log.write(HEAD_MAIN, 9)
    assert log.reader.payload_holds(summary)
    for position in (0, 4, 8):
        log.flip(summary.payload_address + position, 1000)
        assert not log.reader.payload_holds(summary)
        log.flip(summary.payload_address + position, 1000)
    assert log.reader.payload_holds(summary)


def test_possible_summaries_are_the_blocks_that_begin_like_one() -> None:
    log = some_log()
    written = [log.write(HEAD_MAIN, 3) for _ in range(2)]
    begin, end = log.first_address, written[-1].run_next_address + 1000
    expected = [one.address for one in log.chain()]
    log.device.reset_counters()
    assert list(log.reader.possible_summaries(begin, end)) == expected
    # One by one it would be a thousand.
    assert log.device.read_count <= 5
    assert list(log.reader.possible_summaries(expected[1], expected[-1])) == expected[1:-1]


def test_possible_summaries_are_all_blocks_of_what_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = some_log()

    def fail(offset_bytes: int, length_bytes: int) -> bytes:
        raise DeviceError(errno.EIO, "read failed", offset_bytes)

    monkeypatch.setattr(log.device, "read", fail)
    begin = log.first_address
    assert list(log.reader.possible_summaries(begin, begin + 300)) == list(
        range(begin, begin + 300)
    )
