"""What a commit costs and in which log writes it goes, counted at the device."""

from __future__ import annotations

import pytest

from lfs.ondisk import BLOCK_DATA, SUMMARY_COMMIT, SUMMARY_JUMP, Summary
from lfs.volume.options import Options
from tests.support.disks import BLOCK_BYTES, SEGMENT_BLOCKS, Disk, data, mounted_state, problems


def log_writes(disk: Disk) -> list[Summary]:
    """Return the log writes since the checkpoint, jumps left out."""
    return [one for one in disk.log() if not one.flags & SUMMARY_JUMP]


def commits(disk: Disk) -> list[int]:
    """Return for each log write since the checkpoint whether it commits."""
    return [one.flags & SUMMARY_COMMIT for one in log_writes(disk)]


@pytest.mark.parametrize("block_count", [5, 300])
def test_commit_of_an_append_is_one_small_write_and_one_flush(block_count: int) -> None:
    disk = Disk()
    content = data(1, block_count * BLOCK_BYTES)
    ino = disk.make_file(b"file", content)
    disk.unmount()
    disk.mount()
    for position in range(3):
        disk.device.reset_counters()
        disk.write(ino, len(content), data(position, BLOCK_BYTES))
        assert disk.device.write_count == 0
        disk.sync()
        assert disk.device.write_count == 1
        assert disk.device.written_bytes <= 8192
        assert disk.device.flush_count == 1
        content += data(position, BLOCK_BYTES)
    assert disk.read(ino) == content


def test_commit_of_an_append_comes_back_after_a_crash() -> None:
    disk = Disk()
    content = data(1, 5 * BLOCK_BYTES)
    ino = disk.make_file(b"file", content)
    disk.unmount()
    disk.mount()
    disk.write(ino, len(content), data(2, BLOCK_BYTES))
    disk.sync()
    disk.mount()
    assert disk.read(ino) == content + data(2, BLOCK_BYTES)
    assert disk.lines == ["recovered 1 commits from the log"]


def test_commit_of_nothing_writes_and_flushes_nothing() -> None:
    disk = Disk()
    ino = disk.make_file(b"file", data(1, BLOCK_BYTES))
    disk.sync()
    disk.device.reset_counters()
    disk.read(ino)
    disk.sync()
    assert not disk.filesystem.dirty
    assert (disk.device.write_count, disk.device.flush_count) == (0, 0)


def test_commit_without_flush_is_flushed_by_the_next_sync() -> None:
    disk = Disk()
    disk.make_file(b"file", data(1, BLOCK_BYTES))
    ticket = disk.filesystem.begin_commit(disk.now_ns)
    disk.device.reset_counters()
    disk.sync()
    assert (disk.device.write_count, disk.device.flush_count) == (0, 1)
    disk.filesystem.finish_commit(ticket)
    disk.sync()
    assert (disk.device.write_count, disk.device.flush_count) == (0, 1)


def test_commit_that_is_small_is_one_log_write() -> None:
    disk = Disk()
    for number in range(4):
        disk.make_file(b"file %d" % number, data(number, 2 * BLOCK_BYTES))
    disk.sync()
    assert commits(disk) == [SUMMARY_COMMIT]
    (summary,) = log_writes(disk)
    assert [len(entry.checksums) for entry in summary.entries] == [2, 2, 2, 2]


def test_commit_takes_what_changed_in_all_files() -> None:
    disk = Disk()
    one = disk.make_file(b"one", data(1, 10))
    other = disk.make_file(b"other", data(2, 3 * BLOCK_BYTES))
    disk.sync()
    disk.write(one, 0, data(3, 10))
    disk.write(other, BLOCK_BYTES, data(4, 1))
    expected = disk.state()
    disk.sync()
    assert mounted_state(disk.medium.copy()) == expected


def test_commit_of_a_thousand_small_files() -> None:
    disk = Disk()
    for number in range(1000):
        disk.make_file(b"file %d" % number, data(number, number % 900))
    expected = disk.state()
    disk.device.reset_counters()
    disk.sync()
    # About 600 bytes each with inode and name: the log is little more than that.
    assert disk.device.written_bytes < 1000 * 800
    assert disk.device.flush_count == 1
    assert commits(disk)[-1] == SUMMARY_COMMIT
    assert mounted_state(disk.medium.copy()) == expected
    assert problems(disk.medium) == []


def test_commit_with_more_records_than_a_log_write_holds() -> None:
    disk = Disk()
    # None comes before the files are all there.
    disk.filesystem.core.inodes.dirty_count_max = 2000
    for number in range(1500):
        disk.make_file(b"file %d" % number, data(number, 800))
    expected = disk.state()
    before = disk.medium.copy()
    disk.sync()
    flags = commits(disk)
    assert len(flags) > 3
    # Only the last one makes it count.
    assert flags == [0] * (len(flags) - 1) + [SUMMARY_COMMIT]
    written = disk.written()
    for event in written[:-1]:
        before.write(event.offset_bytes, [event.data])
    assert mounted_state(before.copy()).keys() == {b"/"}
    before.write(written[-1].offset_bytes, [written[-1].data])
    assert mounted_state(before) == expected


def test_commit_of_windows_that_were_cut_and_grew_again() -> None:
    disk = Disk(options=Options(dirty_bytes_max=1 << 20))
    inos = [disk.make_file(b"file %d" % n, data(n, 100 * BLOCK_BYTES)) for n in range(21)]
    disk.sync()
    # The records of the cut windows grow when the new data is written out before the commit.
    for ino in inos:
        disk.truncate(ino, BLOCK_BYTES)
        disk.write(ino, 0, data(ino, 100 * BLOCK_BYTES))
    expected = disk.state()
    disk.sync()
    assert mounted_state(disk.medium.copy()) == expected


def test_commit_larger_than_a_segment() -> None:
    disk = Disk(segment_blocks=SEGMENT_BLOCKS)
    # In pieces below the size that goes to the bulk head.
    for number in range(5):
        disk.make_file(b"file %d" % number, data(number, 50 * BLOCK_BYTES))
    expected = disk.state()
    disk.sync()
    summaries = disk.log()
    assert sum(summary.payload_blocks for summary in summaries) == 250 > SEGMENT_BLOCKS
    assert len({summary.run_address for summary in summaries}) > 1
    assert [flag for flag in commits(disk) if flag] == [SUMMARY_COMMIT]
    assert mounted_state(disk.medium.copy()) == expected


def test_commit_of_a_large_file_is_contiguous() -> None:
    # So large that a run may have 16 segments.
    disk = Disk(device_bytes=1 << 30)
    ino = disk.make_file(b"file", data(1, 1000 * BLOCK_BYTES))
    disk.sync()
    payload = [one for one in disk.log() if one.payload_blocks]
    owners = {(entry.kind, entry.owner) for one in payload for entry in one.entries}
    assert owners == {(BLOCK_DATA, ino)}
    assert len(disk.filesystem.extents(ino)) == 1
    assert mounted_state(disk.medium.copy()) == disk.state()


def test_commit_writes_each_block_once() -> None:
    disk = Disk()
    ino = disk.make_file(b"file")
    for _ in range(5):
        disk.write(ino, 0, data(1, 20 * BLOCK_BYTES))
    disk.sync()
    assert sum(summary.payload_blocks for summary in disk.log()) == 20
