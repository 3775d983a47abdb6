"""Where data goes: delayed allocation, and putting windows together again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from lfs.imap.map import Imap
from lfs.ondisk import BLOCK_DATA, HEAD_BULK, window_blocks
from lfs.volume.options import Options
from tests.support.disks import BLOCK_BYTES, Disk, data, problems

MIB = 1 << 20
WINDOW_BLOCKS = window_blocks(BLOCK_BYTES)


def roomy_disk(options: Options | None = None) -> Disk:
    """Return a disk with segments of two windows, and so many that space is no matter."""
    return Disk(128 * MIB, 2 * WINDOW_BLOCKS, options)


def block(disk: Disk, ino: int, number: int, seed: int) -> None:
    """Overwrite one block of a file."""
    disk.write(ino, number * BLOCK_BYTES, data(seed, BLOCK_BYTES))


def scattered_file(disk: Disk, piece_count: int, block_count: int = 120) -> int:
    """Return a file of one window that lies in ``2 * piece_count + 1`` pieces."""
    ino = disk.make_file(b"file", data(1, block_count * BLOCK_BYTES))
    disk.sync()
    for piece in range(piece_count):
        # Each of them in a commit of its own: what is dirty is too little to rewrite all.
        block(disk, ino, 2 + piece * (block_count // piece_count), 100 + piece)
        disk.sync()
    return ino


def payload_blocks(disk: Disk) -> int:
    return sum(len(entry.checksums) for one in disk.log() for entry in one.entries)


def test_write_out_waits_for_the_commit() -> None:
    disk = roomy_disk()
    disk.device.reset_counters()
    ino = disk.make_file(b"file", data(1, MIB))
    disk.write(ino, MIB // 2, data(2, MIB))
    assert disk.device.write_count == 0
    assert disk.filesystem.extents(ino) == []
    disk.sync()
    assert disk.filesystem.extents(ino) != []


def test_write_out_of_a_deleted_file_never_happens() -> None:
    disk = roomy_disk()
    ino = disk.make_file(b"gone", data(1, 4 * MIB))
    disk.remove(ino, b"gone")
    disk.sync()
    assert disk.device.written_bytes < 10_000
    assert payload_blocks(disk) == 0


def test_write_out_of_truncated_data_never_happens() -> None:
    disk = roomy_disk()
    ino = disk.make_file(b"file", data(1, 4 * MIB))
    disk.truncate(ino, 10 * BLOCK_BYTES)
    disk.sync()
    assert payload_blocks(disk) == 10


def test_write_out_comes_early_for_a_large_extent() -> None:
    disk = roomy_disk()
    disk.device.reset_counters()
    ino = disk.make_file(b"file", data(1, Options().extent_bytes_max))
    assert disk.device.written_bytes > Options().extent_bytes_max
    assert disk.device.flush_count == 0
    assert disk.filesystem.extents(ino) != []


def test_write_out_comes_early_when_dirty_data_is_too_much() -> None:
    disk = roomy_disk(Options(dirty_bytes_max=MIB))
    inos = [disk.make_file(b"file %d" % number, data(number, MIB // 4)) for number in range(3)]
    assert disk.device.write_count == 0
    disk.make_file(b"last", data(9, MIB // 4))
    # A part of it, which belongs together.
    assert [len(disk.filesystem.extents(ino)) for ino in inos] == [1, 0, 0]
    assert disk.filesystem.core.ledger.dirty_blocks == 3 * MIB // 4 // BLOCK_BYTES
    # Nothing refers to it yet.
    disk.mount()
    assert disk.state().keys() == {b"/"}


def longest_request(disk: Disk, requests: Iterator[None]) -> int:
    """Return the most bytes that one request wrote."""
    longest = before = 0
    for _ in requests:
        longest = max(longest, disk.device.written_bytes - before)
        before = disk.device.written_bytes
    return longest


def overwrites(disk: Disk, inos: list[int], count: int) -> Iterator[None]:
    """Overwrite a block here and there, so often."""
    choose = random.Random(1)
    for number in range(count):
        disk.write(choose.choice(inos), choose.randrange(4096) * BLOCK_BYTES, data(1, BLOCK_BYTES))
        disk.filesystem.begin_tick(number * 10**6, False)
        yield


def test_no_request_writes_all_that_is_dirty() -> None:
    """Neither at the limit nor when the commit is due: each does a part of it."""
    disk = roomy_disk(Options(dirty_bytes_max=16 * MIB, commit_interval_ns=5 * 10**9))
    inos = [disk.make_file(b"%d" % number, data(number, 16 * MIB)) for number in range(2)]
    disk.checkpoint()
    disk.device.reset_counters()
    longest = longest_request(disk, overwrites(disk, inos, 9000))
    assert disk.device.written_bytes > 12 * MIB
    # Those of a turn and of the request after it, and what neighbours go along.
    assert longest <= 5 * MIB
    assert disk.filesystem.core.volume.log.written_sequence > 0


def test_part_has_few_neighbours_of_what_is_dirty() -> None:
    """Windows in many pieces are written whole, which may be five times what is dirty."""
    disk = roomy_disk(Options(dirty_bytes_max=16 * MIB))
    ino = disk.make_file(b"file", data(1, 24 * MIB))
    disk.checkpoint()
    for position in range(3, WINDOW_BLOCKS, WINDOW_BLOCKS // 10):
        for index in range(24 * MIB // BLOCK_BYTES // WINDOW_BLOCKS):
            block(disk, ino, index * WINDOW_BLOCKS + position, position)
        disk.sync()
    for number in range(0, 24 * MIB // BLOCK_BYTES, 4):
        block(disk, ino, number, number)
    disk.device.reset_counters()
    assert disk.filesystem.write_ahead(disk.now_ns)
    assert MIB <= disk.device.written_bytes <= 5 * MIB // 2


def test_sync_beside_much_dirty_data_comes_in_parts() -> None:
    disk = roomy_disk(Options(dirty_bytes_max=32 * MIB, extent_bytes_max=32 * MIB))
    for number in range(12):
        disk.make_file(b"%d" % number, data(number, 2 * MIB))
    disk.device.reset_counters()
    assert disk.filesystem.write_ahead(disk.now_ns)
    assert 2 * MIB <= disk.device.written_bytes < 5 * MIB // 2
    # Who writes now does not wait until the limit is reached.
    disk.make_file(b"another", bytes(BLOCK_BYTES))
    assert disk.device.written_bytes >= 4 * MIB
    parts = 2
    while disk.filesystem.write_ahead(disk.now_ns):
        parts += 1
    assert parts == 12
    before = disk.device.written_bytes
    disk.sync()
    assert disk.device.written_bytes - before < MIB
    # From then on it does again.
    disk.make_file(b"one more", data(1, 2 * MIB))
    disk.make_file(b"and another", bytes(BLOCK_BYTES))
    assert disk.filesystem.core.ledger.dirty_blocks == 2 * MIB // BLOCK_BYTES + 1
    disk.unmount()
    assert problems(disk.medium) == []


def test_dirty_data_waits_again_after_any_commit() -> None:
    """What was hurried for one commit is not written out early for ever."""
    disk = roomy_disk(Options(dirty_bytes_max=32 * MIB, extent_bytes_max=32 * MIB))
    for number in range(3):
        disk.make_file(b"%d" % number, data(number, 2 * MIB))
    assert disk.filesystem.write_ahead(disk.now_ns)
    # Not the one that it was for.
    disk.filesystem.core.checkpointer.commit(disk.now_ns)
    disk.make_file(b"large", data(1, 4 * MIB))
    assert disk.filesystem.core.ledger.dirty_blocks == 4 * MIB // BLOCK_BYTES


def test_small_files_beyond_the_limit_go_out_together() -> None:
    """Device bytes at most 1.15 times the data, and a log write for at least 100 files."""
    count = 20_000
    disk = Disk(256 * MIB, 2 * WINDOW_BLOCKS)
    disk.device.reset_counters()
    for number in range(count):
        disk.make_file(b"%d" % number, data(number % 5, BLOCK_BYTES))
    disk.sync()
    assert disk.device.written_bytes <= 1.15 * count * BLOCK_BYTES
    owners = [len({entry.owner for entry in one.entries}) for one in disk.log() if one.entries]
    assert sum(owners) / len(owners) >= 100
    disk.unmount()
    assert problems(disk.medium) == []


def test_parts_are_in_the_order_of_files() -> None:
    """However blocks were written, those of a part lie side by side, and go on where it ends."""
    disk = roomy_disk(Options(dirty_bytes_max=4 * MIB, extent_bytes_max=32 * MIB))
    ino = disk.make_file(b"large", data(1, 24 * MIB))
    disk.checkpoint()
    numbers = [*range(0, 24 * MIB // BLOCK_BYTES, 2)]
    random.Random(2).shuffle(numbers)
    for number in numbers:
        block(disk, ino, number, 1)
    keys = [entry.key for one in disk.log() for entry in one.entries]
    assert len(keys) > 1000
    # Only where one way through the file ends and the next begins.
    assert sum(1 for one, other in pairwise(keys) if one > other) <= 6


def test_write_out_of_a_file_written_in_order_has_few_extents() -> None:
    disk = roomy_disk()
    ino = disk.make_file(b"file")
    for position in range(20):
        disk.write(ino, position * MIB, data(position, MIB))
    disk.sync()
    extents = disk.filesystem.extents(ino)
    assert sum(count for _, _, count in extents) == 20 * MIB // BLOCK_BYTES
    # No more than there are runs: in each of them its part is contiguous.
    run_blocks = [one.run_blocks for one in disk.log() if one.head == HEAD_BULK]
    assert len(extents) <= 20 * MIB // BLOCK_BYTES // min(run_blocks) + 1


def test_write_out_of_two_files_does_not_mix_them() -> None:
    disk = roomy_disk()
    inos = [disk.make_file(name) for name in (b"one", b"other")]
    for position in range(8):
        for ino in inos:
            disk.write(ino, position * 4 * BLOCK_BYTES, data(position, 4 * BLOCK_BYTES))
    disk.sync()
    assert [len(disk.filesystem.extents(ino)) for ino in inos] == [1, 1]


def test_write_out_of_blocks_written_backwards_is_in_file_order() -> None:
    disk = roomy_disk()
    ino = disk.make_file(b"file")
    for number in reversed(range(40)):
        block(disk, ino, number, number)
    disk.sync()
    assert len(disk.filesystem.extents(ino)) == 1


def test_write_out_leaves_a_window_alone_while_rewriting_is_dear() -> None:
    disk = roomy_disk()
    ino = scattered_file(disk, 3)
    pieces = len(disk.filesystem.extents(ino))
    assert pieces == 7
    disk.checkpoint()
    block(disk, ino, 60, 5)
    disk.sync()
    assert payload_blocks(disk) == 1
    assert len(disk.filesystem.extents(ino)) > pieces


def test_write_out_puts_a_scattered_window_together_when_that_is_cheap() -> None:
    disk = roomy_disk()
    ino = scattered_file(disk, 2)
    assert len(disk.filesystem.extents(ino)) == 5
    disk.checkpoint()
    expected = bytearray(disk.read(ino))
    expected[: 60 * BLOCK_BYTES] = data(5, 60 * BLOCK_BYTES)
    # Half of the window is dirty anyway.
    disk.write(ino, 0, data(5, 60 * BLOCK_BYTES))
    disk.sync()
    assert payload_blocks(disk) == 120
    assert len(disk.filesystem.extents(ino)) == 1
    assert disk.read(ino) == expected
    disk.mount()
    assert disk.read(ino) == expected
    assert problems(disk.medium) == []


def test_write_out_pays_more_for_a_window_in_many_pieces() -> None:
    disk = roomy_disk()
    ino = scattered_file(disk, 4)
    assert len(disk.filesystem.extents(ino)) == 9
    disk.checkpoint()
    # A quarter is dirty: too little for a window in few pieces, enough for this one.
    disk.write(ino, 0, data(5, 30 * BLOCK_BYTES))
    disk.sync()
    assert payload_blocks(disk) == 120
    assert len(disk.filesystem.extents(ino)) == 1


@pytest.mark.parametrize("dirty_blocks", [10, 30])
def test_write_out_of_a_quarter_leaves_a_window_in_few_pieces(dirty_blocks: int) -> None:
    disk = roomy_disk()
    ino = scattered_file(disk, 2)
    disk.checkpoint()
    disk.write(ino, 60 * BLOCK_BYTES, data(5, dirty_blocks * BLOCK_BYTES))
    disk.sync()
    assert payload_blocks(disk) == dirty_blocks


def test_write_out_rewrites_only_the_window_that_is_written() -> None:
    disk = roomy_disk()
    ino = scattered_file(disk, 2)
    disk.write(ino, WINDOW_BLOCKS * BLOCK_BYTES, data(2, 100 * BLOCK_BYTES))
    disk.checkpoint()
    disk.write(ino, 0, data(5, 60 * BLOCK_BYTES))
    disk.sync()
    assert {entry.owner for one in disk.log() for entry in one.entries} == {ino}
    assert payload_blocks(disk) == 120


def test_write_out_of_a_window_with_a_damaged_block_leaves_that_one() -> None:
    disk = roomy_disk()
    ino = scattered_file(disk, 2)
    disk.checkpoint()
    content = disk.read(ino)
    damaged = next(at for first, at, count in disk.filesystem.extents(ino) if first + count == 120)
    disk.medium.write(damaged * BLOCK_BYTES, [bytes(BLOCK_BYTES)])
    disk.write(ino, 0, data(5, 60 * BLOCK_BYTES))
    disk.sync()
    # The others of its run stay with it.
    assert disk.filesystem.extents(ino)[-1][1] == damaged
    with pytest.raises(OSError, match=str(damaged)):
        disk.read(ino)
    first = disk.filesystem.extents(ino)[-1][0]
    kept = disk.filesystem.read(ino, 0, first * BLOCK_BYTES, 1)
    assert kept == data(5, 60 * BLOCK_BYTES) + content[60 * BLOCK_BYTES : first * BLOCK_BYTES]


def test_write_out_names_the_owner_of_every_block() -> None:
    disk = roomy_disk()
    ino = disk.make_file(b"file", data(1, 3 * BLOCK_BYTES))
    disk.write(ino, 10 * BLOCK_BYTES, data(2, 2 * BLOCK_BYTES))
    disk.sync()
    found = [
        (entry.kind, entry.owner, entry.key, len(entry.checksums))
        for one in disk.log()
        for entry in one.entries
    ]
    assert found == [(BLOCK_DATA, ino, 0, 3), (BLOCK_DATA, ino, 10, 2)]


def test_appending_looks_for_each_window_once(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    ino = disk.make_file(b"f", data(1, 4 * BLOCK_BYTES))
    disk.sync()
    lookups: list[bytes] = []
    whole = Imap.get

    def get(self: Imap, key: bytes) -> bytes | None:
        lookups.append(key)
        return whole(self, key)

    monkeypatch.setattr(Imap, "get", get)
    window_count = 3
    for block in range(4, window_count * WINDOW_BLOCKS):
        disk.write(ino, block * BLOCK_BYTES, data(2, BLOCK_BYTES))
    assert len(lookups) <= 2 * window_count


@pytest.mark.parametrize("size", [1500, BLOCK_BYTES])
def test_dirty_limit_writes_small_files_together(size: int) -> None:
    """However the dirty blocks are spread over files, no more is written than was reserved for."""
    disk = roomy_disk(Options(dirty_bytes_max=MIB))
    space = disk.filesystem.core.ledger
    inos = [disk.make_file(b"file %d" % number) for number in range(MIB // BLOCK_BYTES)]
    disk.sync()
    disk.device.reset_counters()
    for ino in inos[:-1]:
        disk.write(ino, 0, bytes(size))
    assert disk.device.write_count == 0
    usage = disk.filesystem.core.volume.usage
    # Whole segments, and the block that the last write adds.
    promised_segments = -(-space.pending_blocks() // usage.segment_blocks) + 1
    clean_blocks = usage.clean_blocks
    disk.write(inos[-1], 0, bytes(size))
    assert space.dirty_blocks == len(inos) * 3 // 4
    assert disk.device.write_count == 1
    assert MIB // 4 <= disk.device.written_bytes <= MIB // 4 * 9 // 8
    assert clean_blocks - usage.clean_blocks <= promised_segments * usage.segment_blocks
