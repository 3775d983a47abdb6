"""What each refusal of a plan does: errors, bad sectors, a device that is gone or full."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.device.fault.disks import BLOCK, SECTOR, Disk, fails, only, place


def test_error_fails_with_its_errno_and_changes_nothing() -> None:
    disk = Disk("error ENOSPC on write nth 2")
    disk.put(0, "a")
    fails(errno.ENOSPC, lambda: disk.put(1, "b"), "write failed by plan at byte 4096")
    disk.put(2, "c")
    assert disk.stored(3) == "a.c"
    fault = only(disk, "error")
    assert (place(fault), fault.detail) == ((BLOCK, BLOCK), "ENOSPC")
    assert len(disk.events) == 2


@pytest.mark.parametrize("operation", ["read", "write", "flush", "discard"])
def test_error_strikes_the_operation_it_names(operation: str) -> None:
    disk = Disk(f"error ETIMEDOUT on {operation}")
    requests: dict[str, Callable[[], object]] = {
        "read": lambda: disk.get(0),
        "write": lambda: disk.put(0, "a"),
        "flush": disk.flush,
        "discard": lambda: disk.discard(0, BLOCK),
    }
    for name, request in requests.items():
        if name == operation:
            fails(errno.ETIMEDOUT, request, f"{operation} failed by plan")
        else:
            request()
    assert only(disk, "error").operation == operation


def test_error_partial_does_a_part_of_the_write() -> None:
    disk = Disk("error EIO partial on write")
    seen = set()
    for _ in range(100):
        disk.medium.write(0, [bytes(4 * SECTOR)])
        fails(errno.EIO, lambda: disk.write(0, [b"a" * 4 * SECTOR]))
        stored = disk.medium.read(0, 4 * SECTOR)
        count = stored.count(b"a") // SECTOR
        assert stored == b"a" * count * SECTOR + bytes((4 - count) * SECTOR)
        assert disk.faults[-1].detail == f"EIO after {count} sectors"
        seen.add(count)
    assert seen == {1, 2, 3}
    assert not disk.events


def test_error_partial_of_one_sector_does_nothing() -> None:
    disk = Disk("error EIO partial on write")
    fails(errno.EIO, lambda: disk.write(0, [b"a" * SECTOR]))
    fails(errno.EIO, lambda: disk.write(0, []))
    assert disk.medium.read(0, SECTOR) == bytes(SECTOR)


def test_error_follows_a_trigger_file(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    disk = Disk(f'error EIO while "{trigger}"')
    disk.get(0)
    trigger.touch()
    fails(errno.EIO, lambda: disk.get(0))
    trigger.unlink()
    disk.get(0)


def test_error_window_opens_and_closes_with_the_clock() -> None:
    disk = Disk("error EIO from 10ms until 20ms")
    disk.get(0)
    disk.clock.advance_ns(10_000_000)
    fails(errno.EIO, lambda: disk.get(0))
    disk.clock.advance_ns(10_000_000)
    disk.get(0)


def test_error_rules_all_count_each_request() -> None:
    disk = Disk("error EIO nth 1 on read; error ENODEV nth 2 on read")
    fails(errno.EIO, lambda: disk.get(0))
    fails(errno.ENODEV, lambda: disk.get(0))
    disk.get(0)


def test_bad_sectors_fail_to_read_until_they_are_written() -> None:
    disk = Disk("bad 4K+512 9K-10K")
    disk.get(0)
    fails(errno.EIO, lambda: disk.get(1), "bad sector at byte 4096")
    assert place(only(disk, "bad")) == (BLOCK, BLOCK)
    fails(errno.EIO, lambda: disk.read(9 * 1024, SECTOR))
    assert disk.read(BLOCK + SECTOR, SECTOR) == bytes(SECTOR)
    disk.put(1, "a")
    assert disk.get(1) == "a"
    # One sector of the two is written, the other stays bad.
    disk.write(9 * 1024, [b"b" * SECTOR])
    assert disk.read(9 * 1024, SECTOR) == b"b" * SECTOR
    fails(errno.EIO, lambda: disk.read(9 * 1024 + SECTOR, SECTOR))


def test_bad_sectors_run_out_of_spares() -> None:
    disk = Disk("bad 0-1M spare 9")
    disk.put(0, "a")
    fails(errno.EIO, lambda: disk.put(1, "b"), "bad sector")
    assert disk.stored(2) == "a."
    disk.write(BLOCK, [b"b" * SECTOR])
    assert disk.read(0, BLOCK + SECTOR) == b"a" * BLOCK + b"b" * SECTOR
    assert dict(disk.fault_counts) == {"bad": 1}


def test_bad_sectors_follow_their_conditions() -> None:
    disk = Disk("bad 0-4K from 1s times 1")
    disk.get(0)
    disk.clock.advance_ns(10**9)
    fails(errno.EIO, lambda: disk.get(0))
    disk.get(0)


def test_readonly_refuses_changes_from_then_on() -> None:
    disk = Disk("readonly skip 1")
    disk.put(0, "a")
    fails(errno.EROFS, lambda: disk.put(0, "b"), "device is read-only at byte 0")
    fails(errno.EROFS, lambda: disk.discard(0, BLOCK))
    disk.flush()
    assert disk.get(0) == "a"
    assert only(disk, "readonly").detail == "changes are refused from now on"


def test_vanish_fails_everything_from_then_on() -> None:
    disk = Disk("vanish nth 3")
    disk.put(0, "a")
    disk.get(0)
    for request in (lambda: disk.get(0), lambda: disk.put(0, "b"), disk.flush):
        fails(errno.ENODEV, request, "the device is gone")
    assert only(disk, "vanish").operation == "read"
    assert disk.stored(1) == "a"


def test_full_takes_so_many_places_and_overwrites() -> None:
    disk = Disk("full 8K")
    disk.put(0, "a")
    disk.put(7, "b")
    fails(errno.ENOSPC, lambda: disk.put(3, "c"), "the device is full at byte 12288")
    disk.put(0, "d")
    assert disk.stored(8) == "d......b"
    assert place(only(disk, "full")) == (3 * BLOCK, BLOCK)


def test_full_write_that_does_not_fit_takes_no_room() -> None:
    disk = Disk("full 8K")
    fails(errno.ENOSPC, lambda: disk.put(0, "a", count=3))
    disk.put(5, "b", count=2)
    assert disk.stored(8) == ".....bb."


def test_full_follows_its_conditions() -> None:
    disk = Disk("full 0 from 1s")
    disk.put(0, "a")
    disk.clock.advance_ns(10**9)
    fails(errno.ENOSPC, lambda: disk.put(0, "b"))
