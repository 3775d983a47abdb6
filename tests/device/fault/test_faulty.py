"""What is lost or changed by lies of a plan: on the medium, in the answer, and in the books.

And what a cache that loses nothing holds back.
"""

from __future__ import annotations

import os

import pytest

from lfs.device.memory import MemoryDevice
from lfs.device.recording import Discard, Flush, Write, replay
from tests.device.fault.disks import BLOCK, SECTOR, SIZE_BYTES, Disk, only, place

# ------------------------------------------------------------------------- what is lost


def test_loss_write_is_acknowledged_and_not_made() -> None:
    disk = Disk("loss 100% nth 2")
    for block, letter in enumerate("abc"):
        disk.put(block, letter)
    assert disk.stored(3) == "a.c"
    fault = only(disk, "loss")
    assert (fault.operation, place(fault)) == ("write", (BLOCK, BLOCK))
    assert str(fault) == "fault 1: loss, write 4096+4096: acknowledged and lost"


def test_loss_discard_is_acknowledged_and_not_made() -> None:
    disk = Disk("loss 100% on discard")
    disk.put(0, "a")
    disk.discard(0, BLOCK)
    assert disk.stored(1) == "a"
    assert only(disk, "loss").operation == "discard"


def test_loss_with_ecn_is_done_and_noted() -> None:
    disk = Disk("loss 100% ecn")
    disk.put(0, "a")
    assert disk.stored(1) == "a"
    assert only(disk, "ecn").detail == "recovered error"


def test_loss_is_in_the_log_as_it_was_asked_for() -> None:
    disk = Disk("loss 100%; ignore-flush")
    disk.put(0, "a")
    disk.discard(BLOCK, BLOCK)
    disk.flush()
    assert disk.events == [Write(0, b"a" * BLOCK), Discard(BLOCK, BLOCK), Flush()]


def test_ignore_flush_leaves_the_cache_full() -> None:
    disk = Disk("cache 1M; ignore-flush times 1")
    disk.put(0, "a")
    disk.flush()
    assert (disk.stored(1), disk.cached_count) == (".", 1)
    assert only(disk, "ignore-flush").operation == "flush"
    assert str(disk.faults[0]) == "fault 1: ignore-flush, flush: acknowledged and not done"
    disk.flush()
    assert (disk.stored(1), disk.cached_count) == ("a", 0)


# ---------------------------------------------------------------------- what is changed


def _flipped_bits(left: bytes, right: bytes) -> list[int]:
    assert len(left) == len(right)
    changed = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return [bit for bit in range(changed.bit_length()) if changed >> bit & 1]


def test_corrupt_read_flips_one_bit_of_the_answer_alone() -> None:
    disk = Disk("corrupt 100% on read times 1")
    data = os.urandom(8 * BLOCK)
    disk.write(0, [data])
    (bit,) = _flipped_bits(data, disk.read(0, len(data)))
    fault = only(disk, "corrupt")
    assert fault.detail == f"bit {bit % 8} of byte {bit // 8} was flipped"
    assert place(fault) == (bit // 8 // SECTOR * SECTOR, SECTOR)
    assert disk.read(0, len(data)) == data
    assert disk.medium.read(0, len(data)) == data


def test_corrupt_write_flips_one_bit_on_the_medium() -> None:
    disk = Disk("corrupt 100% on write times 1")
    data = os.urandom(8 * BLOCK)
    disk.write(BLOCK, [data])
    stored = disk.medium.read(BLOCK, len(data))
    (bit,) = _flipped_bits(data, stored)
    assert place(only(disk, "corrupt")) == (BLOCK + bit // 8 // SECTOR * SECTOR, SECTOR)
    assert disk.read(BLOCK, len(data)) == stored
    assert disk.events == [Write(BLOCK, data)]


def test_corrupt_flips_any_bit() -> None:
    disk = Disk("corrupt 100% on read")
    bits = {_flipped_bits(bytes(SECTOR), disk.read(0, SECTOR))[0] for _ in range(1000)}
    assert {bit % 8 for bit in bits} == set(range(8))
    assert min(bits) < 100
    assert max(bits) > 8 * SECTOR - 100


def test_corrupt_byte_becomes_its_value() -> None:
    disk = Disk("corrupt 100% byte 600 value 7 on read")
    data = b"a" * 1024
    disk.write(0, [data])
    assert disk.read(0, 1024) == data[:600] + b"\x07" + data[601:]
    fault = only(disk, "corrupt")
    assert (fault.detail, place(fault)) == ("byte 600 became 7", (SECTOR, SECTOR))


def test_corrupt_byte_that_has_the_value_or_is_not_there_is_no_fault() -> None:
    disk = Disk("corrupt 100% byte 600 value 0")
    assert disk.read(0, 1024) == bytes(1024)
    assert disk.read(0, SECTOR) == bytes(SECTOR)
    assert not disk.faults


def test_corrupt_empty_requests_are_let_be() -> None:
    disk = Disk("corrupt 100%; torn 100%; stale 100%; stuck 10; duplicate 100%; corrupt rest 100%")
    disk.write(BLOCK, [])
    assert disk.read(BLOCK, 0) == b""
    assert disk.stored(4) == "...."


def test_corrupt_at_rest_flips_a_bit_of_what_was_written() -> None:
    disk = Disk("corrupt rest 100% times 1")
    data = b"a" * BLOCK
    disk.write(5 * BLOCK, [data])
    disk.read(0, SECTOR)
    (bit,) = _flipped_bits(data, disk.medium.read(5 * BLOCK, BLOCK))
    assert place(only(disk, "corrupt-rest")) == (
        5 * BLOCK + bit // 8 // SECTOR * SECTOR,
        SECTOR,
    )
    assert disk.read(5 * BLOCK, BLOCK) != data


def test_corrupt_at_rest_stays_in_its_range() -> None:
    disk = Disk("corrupt rest 100% in 8K-12K")
    for block in range(8):
        disk.put(block, "a")
    for _ in range(50):
        disk.read(2 * BLOCK, SECTOR)
    assert disk.stored(8) == "aa?aaaaa"


def test_corrupt_at_rest_of_what_is_only_in_the_cache_waits() -> None:
    disk = Disk("cache 1M; corrupt rest 100% times 1")
    disk.put(0, "a")
    disk.read(0, SECTOR)
    assert not disk.faults
    disk.flush()
    disk.read(BLOCK, SECTOR)
    assert disk.stored(1) == "?"
    only(disk, "corrupt-rest")


def test_stuck_bits_read_the_same_whatever_is_written() -> None:
    disk = Disk("stuck 1000 in 0-4K")
    zeros = disk.read(0, BLOCK)
    disk.write(0, [b"\xff" * BLOCK])
    ones = disk.read(0, BLOCK)
    stuck_high = set(_flipped_bits(zeros, bytes(BLOCK)))
    stuck_low = set(_flipped_bits(ones, b"\xff" * BLOCK))
    # A bit drawn twice may be stuck both ways; then the later draw holds.
    assert not stuck_high & stuck_low
    assert 900 < len(stuck_high | stuck_low) <= 1000
    assert 400 < len(stuck_high) < 600
    assert disk.medium.read(0, BLOCK) == b"\xff" * BLOCK
    assert disk.fault_counts["stuck"] == 2
    assert place(disk.faults[0]) == (0, BLOCK)


def test_stuck_bits_outside_the_range_do_not_exist() -> None:
    disk = Disk("stuck 1000 in 8K-12K")
    disk.write(0, [b"a" * 16 * BLOCK])
    assert [block for block in range(16) if disk.get(block) != "a"] == [2]
    assert disk.read(0, 2 * BLOCK) == b"a" * 2 * BLOCK


def test_stuck_bits_follow_their_other_conditions() -> None:
    disk = Disk("stuck 100000 times 1")
    assert disk.read(0, SIZE_BYTES) != bytes(SIZE_BYTES)
    assert disk.read(0, SIZE_BYTES) == bytes(SIZE_BYTES)


def test_stuck_bits_of_a_range_beyond_the_device_are_none() -> None:
    disk = Disk("stuck 100 in 1T-")
    assert disk.read(0, SIZE_BYTES) == bytes(SIZE_BYTES)


@pytest.mark.parametrize(
    ("words", "piece"), [("torn 100%", SECTOR), ("torn 100% atomic 4K", BLOCK)]
)
def test_torn_write_lacks_some_pieces(words: str, piece: int) -> None:
    disk = Disk(f"{words} times 20")
    for _ in range(40):
        disk.medium.write(0, [bytes(8 * BLOCK)])
        before = len(disk.faults)
        disk.write(0, [b"a" * 8 * BLOCK])
        stored = disk.medium.read(0, 8 * BLOCK)
        pieces = [stored[at : at + piece] for at in range(0, len(stored), piece)]
        assert set(pieces) <= {b"a" * piece, bytes(piece)}
        missing = pieces.count(bytes(piece)) * piece // SECTOR
        if len(disk.faults) > before:
            assert missing
            assert disk.faults[-1].detail == f"{missing} sectors did not arrive"
            assert place(disk.faults[-1]) == (0, 8 * BLOCK)
        else:
            assert not missing
    assert dict(disk.fault_counts) == {"torn": 20}


def test_torn_write_within_one_piece_is_whole() -> None:
    disk = Disk("torn 100% atomic 4K")
    for block in range(8):
        disk.put(block, "a")
        disk.write(block * BLOCK + SECTOR, [b"a" * SECTOR * 7])
    assert disk.stored(8) == "aaaaaaaa"
    assert not disk.faults


def test_torn_write_across_a_border_is_torn_there() -> None:
    disk = Disk("torn 100% atomic 4K")
    seen = set()
    for _ in range(50):
        disk.medium.write(0, [bytes(2 * BLOCK)])
        disk.write(BLOCK - SECTOR, [b"a" * 2 * SECTOR])
        seen.add(disk.medium.read(BLOCK - SECTOR, 2 * SECTOR))
    sector, gone = b"a" * SECTOR, bytes(SECTOR)
    assert seen == {sector + gone, gone + sector}
    assert disk.fault_counts["torn"] == 50


# -------------------------------------------------------------------------------- cache


def test_cache_holds_writes_up_to_its_size() -> None:
    disk = Disk("cache 8K")
    for block, letter in enumerate("abc"):
        disk.put(block, letter)
    assert disk.stored(3) == "a.."
    assert (disk.cached_count, disk.report()["cached_bytes"]) == (2, 2 * BLOCK)
    assert [disk.get(block) for block in range(3)] == list("abc")
    disk.flush()
    assert disk.stored(3) == "abc"


def test_cache_is_passed_by_a_write_that_forces_access() -> None:
    disk = Disk("cache 1M")
    disk.put(0, "a", count=2)
    disk.write(BLOCK, [b"f" * BLOCK], force_unit_access=True)
    disk.put(2, "c")
    assert disk.stored(3) == ".f."
    assert disk.events[1] == Write(BLOCK, b"f" * BLOCK, True)
    disk.cut()
    assert disk.stored(3)[1] == "f"


def test_cache_empty_write_does_not_stay_in_it() -> None:
    disk = Disk("cache 1M")
    disk.write(0, [])
    disk.flush()
    assert disk.cached_count == 0


def test_log_replayed_is_what_a_good_disk_would_hold() -> None:
    disk = Disk("seed 1; loss 20%; torn 30%; misdirect 20%; corrupt 20% on write; cache 16K")
    good = MemoryDevice(SIZE_BYTES)
    model = bytearray(SIZE_BYTES)
    for number in range(100):
        data = bytes([number + 1]) * 2 * BLOCK
        offset = number * 37 % 100 * BLOCK
        disk.write(offset, [data[:100], data[100:]])
        model[offset : offset + len(data)] = data
    replay(disk.events, good)
    assert good.read(0, SIZE_BYTES) == model
    assert disk.read(0, SIZE_BYTES) != model
