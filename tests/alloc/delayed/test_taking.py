"""Taking dirty data from memory: nothing is read for it, and nothing gets lost on the way."""

from __future__ import annotations

import pytest

from lfs.alloc import dirty
from lfs.common.errors import FilesystemError
from lfs.volume.options import Options
from tests.alloc.delayed.test_write_out import WINDOW_BLOCKS, block, roomy_disk
from tests.support.disks import BLOCK_BYTES, data, problems


def test_rest_of_a_new_file_is_written_without_reading_once_a_part_has_been() -> None:
    """Others write it out, too: what can't be read of one file must not fail them."""
    disk = roomy_disk(Options(dirty_bytes_max=256 << 10))
    names = [disk.make_file(b"%d" % number) for number in range(40)]
    disk.checkpoint()
    for window in range(6):
        disk.write(names[7], window * WINDOW_BLOCKS * BLOCK_BYTES, data(window, 10 * BLOCK_BYTES))
    inodes = disk.filesystem.core.inodes
    inode = inodes.get(names[7])
    assert not inode.pinned
    for ino in names[20:]:
        disk.write(ino, 0, data(ino, BLOCK_BYTES))
        if inode.blocks:
            break
    assert inode.blocks
    assert inode.dirty is not None
    windows = {start // WINDOW_BLOCKS for start, _ in inode.dirty.extents()}
    assert windows
    assert windows <= inode.pinned.keys()
    disk.sync()
    assert not inode.pinned
    disk.unmount()
    assert problems(disk.medium) == []


@pytest.mark.pure_core
@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("name", ["buffers_of", "put_blocks"])
def test_memory_that_ends_amid_dirty_data_ends_writing(
    name: str, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows then what is dirty: the next commit must not say that all is well."""
    disk = roomy_disk(Options(dirty_bytes_max=256 << 10))
    inos = [disk.make_file(b"%d" % number) for number in range(8)]
    disk.sync()
    whole = getattr(dirty, name)
    calls = 0

    def ending(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise MemoryError
        return whole(*arguments)

    def overwrite() -> None:
        for number in range(20 * len(inos)):
            block(disk, inos[number % 8], 2 * (number // 8), number)

    monkeypatch.setattr(dirty, name, ending)
    with pytest.raises(MemoryError):
        overwrite()
    monkeypatch.undo()
    assert disk.filesystem.failure
    with pytest.raises(FilesystemError):
        disk.sync()
