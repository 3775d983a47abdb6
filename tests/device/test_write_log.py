from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfs.common.checksum import checksum
from lfs.common.errors import UsageError
from lfs.device.fault.device import FaultDevice
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Discard, Event, Flush, Mark, Write, replay
from lfs.device.write_log import WriteLog, read_events, read_size_bytes, replay_log

SIZE_BYTES = 1 << 20
SECTOR = 512
HEADER_BYTES = 16
RECORD_BYTES = 32

_sectors = st.integers(0, SIZE_BYTES // SECTOR - 8).map(lambda sector: sector * SECTOR)
_contents = st.one_of(
    st.just(b""),
    st.binary(min_size=SECTOR, max_size=SECTOR),
    st.integers(0, 255).map(lambda byte: bytes([byte]) * 4 * SECTOR),
    st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(2 * SECTOR)),
)
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Write, _sectors, _contents, st.booleans()),
    st.just(Flush()),
    st.builds(Discard, _sectors, st.sampled_from([0, SECTOR, 8 * SECTOR])),
    st.builds(Mark, st.text(st.characters(codec="utf-8"), max_size=20)),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "writes.log"


def _write(path: Path, events: list[Event], size_bytes: int = SIZE_BYTES) -> list[int]:
    """Write a log; return its length after each event."""
    ends = []
    with WriteLog(path, size_bytes) as log:
        for count, event in enumerate(events, 1):
            log.append(event)
            assert log.event_count == count
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        while header := file.read(RECORD_BYTES):
            file.seek(int.from_bytes(header[24:28], "little"), 1)
            ends.append(file.tell())
    return ends


EVENTS: list[Event] = [
    Write(0, b"a" * 4096),
    Mark("first"),
    Write(4096, random.Random(1).randbytes(4096), True),
    Flush(),
    Discard(8192, 4096),
    Mark("second"),
    Write(SIZE_BYTES - SECTOR, bytes(SECTOR)),
]


@given(st.lists(_events, max_size=12))
@settings(deadline=None)
def test_write_log_any_events_are_read_as_they_were_written(events: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        _write(path, events)
        assert list(read_events(path)) == events
        assert read_size_bytes(path) == SIZE_BYTES


def test_write_log_torn_anywhere_ends_at_its_last_whole_record(path: Path) -> None:
    ends = _write(path, EVENTS)
    whole = path.read_bytes()
    assert ends[-1] == len(whole)
    for length in range(HEADER_BYTES, len(whole) + 1, 7):
        path.write_bytes(whole[:length])
        assert list(read_events(path)) == EVENTS[: sum(end <= length for end in ends)]


def test_write_log_flipped_byte_ends_it_before_that_record(path: Path) -> None:
    ends = _write(path, EVENTS)
    whole = path.read_bytes()
    for place in range(HEADER_BYTES, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert list(read_events(path)) == EVENTS[: sum(end <= place for end in ends)]


def test_write_log_tail_of_rubbish_is_ignored(path: Path) -> None:
    _write(path, EVENTS)
    with path.open("ab") as file:
        file.write(b"\xff" * 1000)
    assert list(read_events(path)) == EVENTS


def test_write_log_marks_and_flushes_are_in_the_file_at_once(path: Path) -> None:
    log = WriteLog(path, SIZE_BYTES)
    assert read_size_bytes(path) == SIZE_BYTES
    for event in EVENTS[:4]:
        log.append(event)
    assert list(read_events(path)) == EVENTS[:4]
    log.close()


# ------------------------------------------------------------------------------ replay


def _expected(count: int) -> bytes:
    device = MemoryDevice(SIZE_BYTES)
    device.write(8192, [b"m" * 4096])
    replay(EVENTS[:count], device)
    return device.read(0, SIZE_BYTES)


@pytest.mark.parametrize("count", range(len(EVENTS) + 1))
def test_replay_to_a_count_applies_so_many_events(path: Path, count: int) -> None:
    _write(path, EVENTS)
    device = MemoryDevice(SIZE_BYTES)
    device.write(8192, [b"m" * 4096])
    assert replay_log(path, device, event_count=count) == count
    assert device.read(0, SIZE_BYTES) == _expected(count)


@pytest.mark.parametrize(("mark", "count"), [("first", 2), ("second", 6), (None, 7)])
def test_replay_to_a_mark_or_to_the_end(path: Path, mark: str | None, count: int) -> None:
    _write(path, EVENTS)
    device = MemoryDevice(2 * SIZE_BYTES)
    device.write(8192, [b"m" * 4096])
    assert replay_log(path, device, mark=mark) == count
    assert device.read(0, SIZE_BYTES) == _expected(count)


def test_replay_of_what_a_faulty_disk_logged_is_a_good_disk(path: Path) -> None:
    with WriteLog(path, SIZE_BYTES) as log:
        disk = FaultDevice(MemoryDevice(SIZE_BYTES), log=log.append)
        disk.write(0, [b"a" * SECTOR])
        disk.mark("here")
        disk.write(0, [b"b" * SECTOR], force_unit_access=True)
    device = MemoryDevice(SIZE_BYTES)
    assert replay_log(path, device, mark="here") == 2
    assert device.read(0, SECTOR) == b"a" * SECTOR
    assert list(read_events(path))[2] == Write(0, b"b" * SECTOR, True)


# ------------------------------------------------------------------------------ errors


def test_replay_errors_name_the_log_and_what_is_missing(path: Path) -> None:
    _write(path, EVENTS)
    device = MemoryDevice(SIZE_BYTES)
    small = MemoryDevice(SIZE_BYTES - SECTOR)
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: replay_log(path, device, event_count=8), f"{path} has 7 events, not 8"),
        (lambda: replay_log(path, device, mark="third"), f"{path} has no mark 'third'"),
        (lambda: replay_log(path, small), f"{path} is the log of a larger device"),
    ]
    for refused, text in refusals:
        with pytest.raises(UsageError) as caught:
            refused()
        assert str(caught.value) == text
    assert small.stored_bytes == 0


@pytest.mark.parametrize("content", [b"", b"LFSWLOG1", b"LFSWLOG2" + bytes(8), b"x" * 100])
def test_write_log_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read in (read_size_bytes, lambda name: list(read_events(name))):
        with pytest.raises(UsageError) as caught:
            read(path)
        assert str(caught.value) == f"{path} is not a write log"


def test_write_log_record_of_an_unknown_kind_is_refused(path: Path) -> None:
    _write(path, [Flush()])
    record = bytearray(path.read_bytes()[HEADER_BYTES:])
    record[0] = 9
    record[4:8] = bytes(4)
    record[4:8] = checksum(bytes(record)).to_bytes(4, "little")
    with path.open("ab") as file:
        file.write(record)
    events = read_events(path)
    assert next(events) == Flush()
    with pytest.raises(UsageError, match="has a record of the unknown kind 9"):
        next(events)


def test_write_log_missing_places_are_refused_in_one_line(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_size_bytes(path)
    assert str(caught.value) == f"cannot read the log {path}: No such file or directory"
    with pytest.raises(UsageError) as caught:
        WriteLog(tmp_path, SIZE_BYTES)
    assert str(caught.value) == f"cannot write the log {tmp_path}: Is a directory"


# -------------------------------------------------------------------------------- size


def test_write_log_of_zeros_stores_headers_alone(path: Path) -> None:
    _write(path, [Write(0, bytes(1 << 20))] * 100)
    assert path.stat().st_size == HEADER_BYTES + 100 * RECORD_BYTES


def test_write_log_of_compressible_data_is_small(path: Path) -> None:
    text = b"".join(b"line %d of a file\n" % number for number in range(4000))[:65536]
    _write(path, [Write(0, text)] * 50)
    assert path.stat().st_size < 50 * len(text) / 4


def test_write_log_of_random_data_is_no_larger_than_it_is(path: Path) -> None:
    generator = random.Random(2)
    _write(path, [Write(0, generator.randbytes(65536)) for _ in range(20)])
    assert path.stat().st_size == HEADER_BYTES + 20 * (RECORD_BYTES + 65536)


def test_write_log_of_several_threads_has_every_event(path: Path) -> None:
    with WriteLog(path, SIZE_BYTES) as log:

        def work(number: int) -> None:
            for count in range(200):
                log.append(Write(number * SECTOR, bytes([count % 255 + 1]) * SECTOR))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.event_count == 800
    events = [event for event in read_events(path) if isinstance(event, Write)]
    for number in range(4):
        mine = [event.data[0] for event in events if event.offset_bytes == number * SECTOR]
        assert mine == [count % 255 + 1 for count in range(200)]
