"""Contents of files through the kernel: every call a program makes on them."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from pathlib import Path

import pytest

from tests.support.mounting import MountedImage, wait_for_tick, wait_until

pytestmark = pytest.mark.fuse

BLOCK_BYTES = 4096


def test_write_small_reads_back(directory: Path) -> None:
    (directory / "f").write_bytes(b"hello")
    assert (directory / "f").read_bytes() == b"hello"
    assert (directory / "f").stat().st_size == 5


def test_write_large_reads_back(directory: Path) -> None:
    data = os.urandom(5 << 20)
    (directory / "f").write_bytes(data)
    assert (directory / "f").read_bytes() == data


def test_write_empty_file_has_size_zero(directory: Path) -> None:
    (directory / "f").write_bytes(b"")
    assert (directory / "f").read_bytes() == b""


def test_write_past_end_reads_zeros_between(directory: Path) -> None:
    with (directory / "f").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    with (directory / "f").open("rb") as file:
        assert file.read(100) == bytes(100)
        file.seek(10 << 20)
        assert file.read() == b"end"
    os.sync()
    assert (directory / "f").stat().st_blocks * 512 <= 2 * BLOCK_BYTES


def test_write_far_past_end_keeps_the_size(directory: Path) -> None:
    size = 5 << 40
    with (directory / "f").open("wb") as file:
        file.seek(size - 1)
        file.write(b"x")
    assert (directory / "f").stat().st_size == size


def test_blocks_of_unwritten_data_count(directory: Path) -> None:
    (directory / "f").write_bytes(os.urandom(1 << 20))
    assert (directory / "f").stat().st_blocks * 512 == 1 << 20


def test_blocks_of_small_file_are_not_zero(directory: Path) -> None:
    (directory / "f").write_bytes(b"x")
    assert (directory / "f").stat().st_blocks > 0


def test_append_goes_to_the_end_from_every_handle(directory: Path) -> None:
    first = os.open(directory / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    second = os.open(directory / "f", os.O_WRONLY | os.O_APPEND)
    for number in range(10):
        os.write((first, second)[number % 2], b"%d" % number)
    os.close(first)
    os.close(second)
    assert (directory / "f").read_bytes() == b"0123456789"


@pytest.mark.parametrize("size", [10, 100_000])
def test_open_truncating_empties_the_file(directory: Path, size: int) -> None:
    (directory / "f").write_bytes(bytes(size))
    before_ns = (directory / "f").stat().st_mtime_ns
    wait_for_tick()
    os.close(os.open(directory / "f", os.O_WRONLY | os.O_TRUNC))
    after = (directory / "f").stat()
    assert (after.st_size, after.st_blocks) == (0, 0)
    assert after.st_mtime_ns > before_ns


def test_truncate_in_both_directions(directory: Path) -> None:
    (directory / "f").write_bytes(b"x" * 10_000)
    os.truncate(directory / "f", 5)
    assert (directory / "f").read_bytes() == b"xxxxx"
    os.truncate(directory / "f", 8)
    assert (directory / "f").read_bytes() == b"xxxxx\0\0\0"
    with (directory / "f").open("r+b") as file:
        file.truncate(2)
    assert (directory / "f").read_bytes() == b"xx"


def test_open_exclusive_refuses_an_existing_file(directory: Path) -> None:
    (directory / "f").touch()
    with pytest.raises(FileExistsError):
        os.open(directory / "f", os.O_CREAT | os.O_EXCL)


def test_open_no_follow_refuses_a_symlink(directory: Path) -> None:
    (directory / "link").symlink_to("f")
    with pytest.raises(OSError, match="symbolic") as caught:
        os.open(directory / "link", os.O_NOFOLLOW)
    assert caught.value.errno == errno.ELOOP


def test_mapped_memory_shared_reaches_the_file(directory: Path) -> None:
    path = directory / "f"
    path.write_bytes(bytes(3 * BLOCK_BYTES))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[BLOCK_BYTES : BLOCK_BYTES + 5] = b"hello"
        mapped.flush()
        assert os.pread(file.fileno(), 5, BLOCK_BYTES) == b"hello"
    assert path.read_bytes()[BLOCK_BYTES : BLOCK_BYTES + 6] == b"hello\0"


def test_mapped_memory_private_leaves_the_file(directory: Path) -> None:
    path = directory / "f"
    path.write_bytes(b"a" * BLOCK_BYTES)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
        mapped[:5] = b"hello"
    assert path.read_bytes() == b"a" * BLOCK_BYTES


def test_direct_io_reads_and_writes(directory: Path) -> None:
    descriptor = os.open(directory / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 8 * BLOCK_BYTES) as buffer:
        buffer[:] = bytes(range(256)) * (len(buffer) // 256)
        assert os.write(descriptor, buffer) == len(buffer)
        expected = buffer[:]
        buffer[:] = bytes(len(buffer))
        assert os.preadv(descriptor, [buffer], 0) == len(expected)
        assert buffer[:] == expected
    os.close(descriptor)


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (513, 1023), (4095, 2), (5000, 70_001)])
def test_direct_io_of_any_alignment(directory: Path, offset: int, length: int) -> None:
    before = os.urandom(80_000)
    (directory / "f").write_bytes(before)
    descriptor = os.open(directory / "f", os.O_RDWR | os.O_DIRECT)
    data = os.urandom(length)
    assert os.pwrite(descriptor, data, offset) == length
    assert os.pread(descriptor, length + 3, offset) == data + before[offset + length :][:3]
    os.close(descriptor)
    assert (directory / "f").read_bytes() == before[:offset] + data + before[offset + length :]


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_synchronous_writes_read_back(directory: Path, flag: int) -> None:
    descriptor = os.open(directory / "f", os.O_CREAT | os.O_WRONLY | flag)
    os.write(descriptor, b"hello")
    os.close(descriptor)
    assert (directory / "f").read_bytes() == b"hello"


def test_fsync_of_files_and_directories_succeeds(directory: Path) -> None:
    for path in (directory / "f", directory):
        if path != directory:
            path.write_bytes(b"x")
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.fdatasync(descriptor)
        os.close(descriptor)


def test_fsync_from_many_threads_at_once_succeeds(directory: Path) -> None:
    def work(number: int) -> None:
        descriptor = os.open(directory / str(number), os.O_CREAT | os.O_WRONLY)
        for _ in range(20):
            os.write(descriptor, b"x" * 1000)
            os.fsync(descriptor)
        os.close(descriptor)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.stat().st_size for path in directory.iterdir()} == {20_000}


def test_unlinked_open_file_stays_readable(directory: Path) -> None:
    with (directory / "f").open("w+b") as file:
        file.write(b"hello")
        file.flush()
        (directory / "f").unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.pread(file.fileno(), 10, 0) == b"hello"
        os.pwrite(file.fileno(), b"J", 0)
        assert os.pread(file.fileno(), 10, 0) == b"Jello"
    assert not (directory / "f").exists()


def test_replaced_open_file_stays_readable(directory: Path) -> None:
    (directory / "old").write_bytes(b"old")
    (directory / "new").write_bytes(b"new")
    with (directory / "old").open("rb") as file:
        os.rename(directory / "new", directory / "old")
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"old"
    assert (directory / "old").read_bytes() == b"new"


def test_unlinked_open_file_gives_its_space_back_when_closed(directory: Path) -> None:
    def free_blocks() -> int:
        return os.statvfs(directory).f_bfree

    with (directory / "f").open("wb") as file:
        file.write(os.urandom(8 << 20))
        file.flush()
        os.fsync(file.fileno())
        before = free_blocks()
        (directory / "f").unlink()
        assert free_blocks() <= before
    wait_until(lambda: free_blocks() > before + (7 << 20) // BLOCK_BYTES, "its space is free")


def test_unlinked_file_opened_often_gives_its_space_back(directory: Path) -> None:
    before = os.statvfs(directory).f_bfree
    for number in range(50):
        path = directory / str(number)
        with path.open("wb") as file:
            file.write(os.urandom(200_000))
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(path.open("rb"))
            path.unlink()
    wait_until(lambda: os.statvfs(directory).f_bfree >= before - 500, "the space is free")


def test_statfs_is_honest(shared_mount: MountedImage, directory: Path) -> None:
    before = os.statvfs(directory)
    assert before.f_bsize == before.f_frsize == BLOCK_BYTES
    assert before.f_blocks * BLOCK_BYTES <= shared_mount.image.stat().st_size
    assert 0 < before.f_bavail <= before.f_bfree <= before.f_blocks
    assert before.f_namemax == 255
    assert before.f_files > before.f_ffree > 0
    (directory / "f").write_bytes(os.urandom(16 << 20))
    after = os.statvfs(directory)
    # A checkpoint in between shows that what was pending before takes less than it might.
    assert before.f_bfree - after.f_bfree >= (16 << 20) // BLOCK_BYTES * 9 // 10
