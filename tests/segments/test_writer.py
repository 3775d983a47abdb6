from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.errors import FilesystemError
from lfs.device.recording import Write
from lfs.ondisk import (
    HEAD_BULK,
    HEAD_COLD,
    HEAD_COUNT,
    HEAD_MAIN,
    HEAD_METADATA,
    SUMMARY_JUMP,
    Record,
    pack_key,
)
from lfs.segments.writer import LogWriter
from tests.segments.logs import BLOCK_BYTES, DEVICE_BYTES, SEGMENT_BLOCKS, Log


def records(count: int, length: int) -> list[Record]:
    return [Record(pack_key(number, 0, 0), bytes(length)) for number in range(count)]


def test_writer_next_log_write_is_where_it_was_promised() -> None:
    log = Log()
    for head in (HEAD_MAIN, HEAD_MAIN, HEAD_COLD, HEAD_MAIN, HEAD_BULK, HEAD_METADATA, HEAD_BULK):
        promised = log.writer.next_address
        summary = log.write(head, 2)
        chain = log.chain()
        # Here or, by one jump, elsewhere.
        first = next(one for one in chain if promised in (0, one.address))
        assert first.address == summary.address or first.flags & SUMMARY_JUMP
        assert log.writer.next_address == chain[-1].next_address
        assert log.writer.next_sequence == chain[-1].sequence + 1


def test_writer_same_head_needs_no_jump() -> None:
    log = Log()
    for _ in range(3):
        log.write(HEAD_MAIN, 2)
    assert [summary.flags for summary in log.chain()] == [0, 0, 0]


def test_writer_jumps_when_the_head_changes() -> None:
    log = Log()
    main = log.write(HEAD_MAIN, 1)
    cold = log.write(HEAD_COLD, 1)
    again = log.write(HEAD_MAIN, 1)
    chain = log.chain()
    assert [one.flags & SUMMARY_JUMP for one in chain] == [0, SUMMARY_JUMP, 0, SUMMARY_JUMP, 0]
    there, back = chain[1], chain[3]
    assert (there.address, there.next_address) == (main.next_address, cold.address)
    assert (there.run_address, there.payload_blocks) == (main.run_address, 0)
    assert (back.address, back.next_address) == (cold.next_address, again.address)
    assert (again.run_address, again.address) == (main.run_address, there.address + 1)


def test_writer_log_writes_know_their_run() -> None:
    log = Log()
    for head in (HEAD_MAIN, HEAD_COLD, HEAD_MAIN, HEAD_COLD):
        log.write(head, 1)
    chain = log.chain()
    for run_address in {summary.run_address for summary in chain}:
        inside = [summary for summary in chain if summary.run_address == run_address]
        assert {summary.run_sequence for summary in inside} == {inside[0].sequence}
        assert inside[0].address == run_address
        assert [summary.run_next_address for summary in inside[:-1]] == [
            summary.address for summary in inside[1:]
        ]


def test_writer_keeps_one_block_of_every_run_for_the_jump() -> None:
    log = Log()
    first = log.write(HEAD_MAIN, 1)
    while True:
        summary = log.write(HEAD_MAIN, 1)
        if summary.run_address != first.run_address:
            break
    jump = log.chain()[-2]
    assert jump.flags & SUMMARY_JUMP
    assert jump.run_address == first.run_address
    assert jump.run_address + jump.run_blocks - 2 <= jump.address
    assert jump.next_address == summary.address


def test_writer_fills_a_run_to_its_last_block() -> None:
    log = Log()
    # One block of summary and one kept back: all the others are payload.
    summary = log.write(HEAD_MAIN, SEGMENT_BLOCKS - 2)
    assert summary.run_blocks == SEGMENT_BLOCKS
    log.write(HEAD_MAIN, 1)
    jump = log.chain()[1]
    assert jump.flags & SUMMARY_JUMP
    assert jump.address == summary.run_address + summary.run_blocks - 1


def test_writer_front_layout_makes_payloads_contiguous() -> None:
    log = Log()
    first = log.write(HEAD_BULK, 60, expected_blocks=100)
    second = log.write(HEAD_BULK, 40)
    log.write(HEAD_MAIN, 1)
    jump = log.chain()[2]
    assert jump.flags & SUMMARY_JUMP
    assert first.run_address == second.run_address == jump.run_address
    assert [one.address - first.address for one in (first, second, jump)] == [0, 1, 2]
    assert (first.payload_blocks, second.payload_blocks) == (60, 40)
    assert second.payload_address == first.payload_address + first.payload_blocks
    assert jump.address < first.payload_address


def test_writer_front_layout_writes_the_summary_last() -> None:
    log = Log()
    summary = log.write(HEAD_BULK, 4)
    offsets = [event.offset_bytes for event in log.device.events if isinstance(event, Write)]
    assert offsets == [summary.payload_address * BLOCK_BYTES, summary.address * BLOCK_BYTES]


def test_writer_interleaved_layout_is_one_device_write() -> None:
    log = Log()
    summary = log.write(HEAD_MAIN, 4)
    assert log.device.write_count == 1
    assert summary.payload_address == summary.address + summary.summary_blocks


def test_writer_whole_log_write_is_never_split() -> None:
    log = Log()
    # Whatever is left in the open run, each gets all that it asks for.
    for blocks in (5, 9, 100, 1, 12, 60, 13, 14, 15, 16):
        assert log.write(HEAD_MAIN, blocks, whole=True).payload_blocks == blocks


def test_writer_log_write_that_may_be_split_takes_what_is_left() -> None:
    log = Log()
    first = log.write(HEAD_MAIN, 40)
    left = first.run_address + first.run_blocks - first.next_address
    assert left >= 20
    split = log.write(HEAD_MAIN, 200)
    assert split.run_address == first.run_address
    # A summary before it, the kept block behind it.
    assert split.payload_blocks == left - split.summary_blocks - 1


def test_writer_rest_of_a_run_that_is_not_worth_it_is_left_behind() -> None:
    log = Log()
    first = log.write(HEAD_MAIN, SEGMENT_BLOCKS - 4)
    # A summary, one block of payload and the block kept back would still fit.
    assert first.run_address + first.run_blocks - first.next_address == 3
    other = log.write(HEAD_MAIN, 30)
    assert other.run_address != first.run_address
    assert other.payload_blocks == 30


def test_writer_whole_log_write_larger_than_any_run_is_refused() -> None:
    log = Log()
    largest_blocks = SEGMENT_BLOCKS << log.usage.order_max
    with pytest.raises(FilesystemError) as refused:
        log.write(HEAD_MAIN, largest_blocks, whole=True)
    assert refused.value.errno == errno.ENOSPC


def test_writer_without_a_clean_segment_is_refused() -> None:
    log = Log()
    log.write(HEAD_MAIN, 1)
    while log.usage.open_run(0, 1) is not None:
        pass
    log.write(HEAD_MAIN, 1)
    with pytest.raises(FilesystemError) as refused:
        log.write(HEAD_COLD, 1)
    assert refused.value.errno == errno.ENOSPC


def test_writer_says_what_was_flushed() -> None:
    log = Log()
    assert log.write(HEAD_MAIN, 1).flushed_sequence == 0
    log.writer.flushed(1)
    assert log.write(HEAD_MAIN, 1).flushed_sequence == 1
    log.writer.flushed(0)
    assert log.write(HEAD_MAIN, 1).flushed_sequence == 1


def test_writer_continues_a_chain_elsewhere() -> None:
    log = Log()
    before = log.write(HEAD_MAIN, 1)
    writer = LogWriter(log.device, log.superblock, log.usage)
    writer.start(before.sequence + 1, 0, before.checksum)
    log.writer = writer
    after = log.write(HEAD_MAIN, 1)
    assert after.run_address != before.run_address
    assert (after.sequence, after.previous_checksum) == (2, before.checksum)
    assert after.flushed_sequence == 1


def test_writer_counts_payload_as_live() -> None:
    log = Log()
    summary = log.write(HEAD_COLD, 7)
    log.write(HEAD_MAIN, 2)
    run = log.usage.run_of(summary.address)
    assert log.usage.live_blocks(run) == 7
    assert log.usage.live_total == 9
    # The jump to the other head is the youngest log write there.
    assert log.usage.last_sequence(run) == summary.sequence + 1


def test_writer_records_fill_what_record_bytes_max_says() -> None:
    log = Log()
    for _ in range(40):
        room_bytes = log.writer.record_bytes_max(HEAD_MAIN)
        count, rest = divmod(room_bytes, 119)
        some = records(count, 100)
        if rest >= 19:
            some += records(1, rest - 19)
        summary = log.write(HEAD_MAIN, 0, some, whole=True)
        assert summary.records == tuple(some)
        assert summary.summary_blocks * BLOCK_BYTES - room_bytes < BLOCK_BYTES + 19


STEPS = st.tuples(
    st.integers(0, HEAD_COUNT - 1), st.integers(0, 90), st.integers(0, 12), st.booleans()
)


@given(st.lists(STEPS, min_size=1, max_size=40))
def test_writer_log_is_a_chain_and_nothing_overlaps(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    log = Log()
    written = []
    for head, blocks, record_count, whole in steps:
        some = records(record_count, 150)
        # The bulk head takes no records, and not all heads hold 90 blocks at once.
        if head == HEAD_BULK:
            some, whole = [], False
        written.append(log.write(head, blocks, some, whole))
        assert not whole or written[-1].payload_blocks == blocks
    chain = log.chain()
    assert [one for one in chain if not one.flags & SUMMARY_JUMP] == written
    assert log.writer.next_address == chain[-1].next_address
    taken: set[int] = set()
    for summary in chain:
        run = range(summary.run_address, summary.run_address + summary.run_blocks)
        used = [
            *range(summary.address, summary.address + summary.summary_blocks),
            *range(summary.payload_address, summary.payload_address + summary.payload_blocks),
        ]
        assert set(used) <= set(run)
        assert taken.isdisjoint(used)
        taken.update(used)
        # The promise of this one lies in its own run, unless it is a jump.
        assert summary.flags & SUMMARY_JUMP or summary.next_address in run
        assert log.reader.payload_holds(summary)
    touched: set[int] = set()
    for event in log.device.events:
        if isinstance(event, Write):
            first = event.offset_bytes // BLOCK_BYTES
            blocks_of_event = range(first, first + len(event.data) // BLOCK_BYTES)
            assert touched.isdisjoint(blocks_of_event)
            touched.update(blocks_of_event)
    assert touched == taken
    assert max(touched) * BLOCK_BYTES < DEVICE_BYTES


def test_writer_opens_a_large_run_only_on_purpose_and_closes_it_on_demand() -> None:
    log = Log()
    usage = log.usage
    order = usage.order_most
    assert order > usage.order_max
    log.writer.open_front(order)
    room_blocks = log.writer.front_payload_blocks(order)
    first = log.write(HEAD_BULK, room_blocks)
    assert first.payload_blocks == room_blocks
    assert first.run_blocks == SEGMENT_BLOCKS << order
    assert usage.large_runs.runs == {usage.segment_of(first.run_address)}
    assert usage.large_runs.breakup_blocks > first.run_blocks
    log.writer.open_front(order)
    second = log.write(HEAD_BULK, 1)
    log.writer.close_large()
    third = log.write(HEAD_BULK, room_blocks)
    assert third.run_address != second.run_address
    assert third.run_blocks <= SEGMENT_BLOCKS << usage.order_max


def test_writer_fills_the_tail_of_a_run_that_is_left_unless_it_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log()
    filled: list[int] = []
    monkeypatch.setattr(log.device, "keep_room", lambda offset, length: filled.append(length))
    segment_bytes = log.superblock.segment_blocks * BLOCK_BYTES
    log.writer.open_front(0)
    log.writer.open_front(2)
    assert sum(filled) > segment_bytes // 2
    filled.clear()
    log.writer.open_front(0)
    assert sum(filled) < segment_bytes
