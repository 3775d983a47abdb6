"""What comes elsewhere, late, again or too early, by lies of a plan."""

from __future__ import annotations

from itertools import pairwise

from tests.device.fault.disks import BLOCK, SECTOR, SIZE_BYTES, Disk, only, place


def test_misdirect_lands_further_on() -> None:
    disk = Disk("misdirect 100% by 8K times 1")
    disk.put(0, "a")
    assert disk.stored(4) == "..a."
    assert dict(disk.fault_counts) == {"misdirect": 1, "misdirect-target": 1}
    assert [place(fault) for fault in disk.faults] == [(0, BLOCK), (2 * BLOCK, BLOCK)]
    assert disk.faults[0].detail == "landed at byte 8192"


def test_misdirect_beyond_the_end_stays() -> None:
    disk = Disk("misdirect 100% by 4K")
    disk.write(SIZE_BYTES - BLOCK, [b"a" * BLOCK])
    assert disk.medium.read(SIZE_BYTES - BLOCK, BLOCK) == b"a" * BLOCK
    assert not disk.faults


def test_misdirect_lands_anywhere_aligned_as_it_was() -> None:
    disk = Disk("misdirect 100%")
    for _ in range(300):
        disk.put(0, "a")
    disk.write(SECTOR, [b"b" * SECTOR])
    targets = [fault.offset_bytes for fault in disk.faults if fault.kind == "misdirect-target"]
    assert all(target % BLOCK == 0 for target in targets[:-1])
    assert len(set(targets)) > 150
    assert max(targets) <= SIZE_BYTES - BLOCK


def test_stale_read_returns_the_version_before() -> None:
    disk = Disk("stale 100% times 1 skip 1")
    disk.put(0, "a")
    disk.put(0, "b")
    assert [disk.get(0), disk.get(0), disk.get(0)] == ["b", "a", "b"]
    assert place(only(disk, "stale")) == (0, BLOCK)


def test_stale_read_of_what_was_never_overwritten_is_right() -> None:
    disk = Disk("stale 100%")
    disk.medium.write(0, [b"m" * BLOCK])
    assert disk.get(0) == "m"
    assert not disk.faults


def test_duplicate_write_comes_again_over_what_came_since() -> None:
    disk = Disk("duplicate 100% after 2 times 1")
    disk.put(0, "a")
    disk.put(0, "b")
    assert disk.stored(1) == "b"
    disk.put(1, "c")
    assert disk.stored(2) == "ac"
    fault = only(disk, "duplicate")
    assert place(fault) == (0, BLOCK)
    disk.put(2, "d")
    assert disk.fault_counts["duplicate"] == 1


def test_duplicate_that_waits_is_lost_with_the_power() -> None:
    disk = Disk("duplicate 100% after 2 times 1")
    disk.put(0, "a")
    disk.put(0, "b")
    disk.cut()
    disk.restart()
    disk.put(1, "c")
    assert disk.stored(2) == "bc"
    assert not disk.faults


def test_duplicate_and_loss_together_leave_one_copy() -> None:
    disk = Disk("loss 100% times 1; duplicate 100% times 1")
    disk.put(0, "a")
    disk.put(0, "b")
    disk.put(1, "c")
    # The first write arrived once and was not repeated; the loss kept its repetition away.
    assert disk.stored(2) == "bc"
    assert not disk.fault_counts["loss"]


def test_duplicate_and_loss_by_chance_leave_as_many_copies_as_netem() -> None:
    disk = Disk("seed 2; loss 30%; duplicate 40%")
    count = 4000
    for _ in range(count):
        disk.write(0, [b"a" * SECTOR])
    # Lost are those that are not duplicated, repeated those that are not lost.
    for happened, share in (
        (disk.fault_counts["loss"], 0.3 * 0.6),
        (disk.fault_counts["duplicate"], 0.4 * 0.7),
    ):
        assert abs(happened - count * share) < 5 * (count * share * (1 - share)) ** 0.5


def test_reorder_lets_a_write_arrive_before_older_ones() -> None:
    disk = Disk("cache 1M; reorder 100% on write nth 3")
    for block, letter in enumerate("abcd"):
        disk.put(block, letter)
    assert disk.stored(4) == "..c."
    assert [disk.get(block) for block in range(4)] == list("abcd")
    disk.flush()
    assert disk.stored(4) == "abcd"


def _overtaking(words: str, count: int) -> list[int]:
    """Return the places, from 1, of the reads that were not delayed."""
    disk = Disk(f"seed 3; delay 1ms; {words}")
    found = []
    for number in range(1, count + 1):
        before = disk.clock.now_ns()
        disk.read(0, SECTOR)
        if disk.clock.now_ns() == before:
            found.append(number)
    return found


def test_reorder_with_a_gap_is_each_nth_request() -> None:
    assert _overtaking("reorder 100% gap 5", 20) == [5, 10, 15, 20]
    assert _overtaking("reorder 100%", 3) == [1, 2, 3]


def test_reorder_without_a_gap_is_a_chance_for_each_request() -> None:
    count, share = 5000, 0.2
    happened = len(_overtaking("reorder 20%", count))
    assert abs(happened - count * share) < 5 * (count * share * (1 - share)) ** 0.5


def test_reorder_by_chance_waits_for_the_gap() -> None:
    places = _overtaking("reorder 25% gap 5", 8000)
    steps = [later - earlier for earlier, later in pairwise(places)]
    assert min(steps) == 5
    mean, deviation = 4 + 4, (1 - 0.25) ** 0.5 / 0.25
    assert abs(sum(steps) / len(steps) - mean) < 5 * deviation / len(steps) ** 0.5


def test_reorder_gap_counts_the_requests_that_it_is_about() -> None:
    disk = Disk("delay 1ms; reorder 100% gap 3 on write")
    waits = []
    for number in range(12):
        before = disk.clock.now_ns()
        if number % 2:
            disk.put(0, "a")
        else:
            disk.get(0)
        waits.append(disk.clock.now_ns() - before)
    assert [number for number, wait in enumerate(waits) if not wait] == [5, 11]


def test_reorder_rules_keep_their_own_gaps() -> None:
    assert _overtaking("reorder 100% gap 4; reorder 100% gap 6", 12) == [4, 6, 8, 12]
