"""Other questions that are answered in parts of bounded size."""

from __future__ import annotations

import errno

import pytest

from lfs.common.errors import FilesystemError
from lfs.ondisk import ROOT_INO
from tests.alloc.admission.sparse import BLOCK_BYTES, FILE, fresh_device, sparse_file
from tests.support.volumes import mount


@pytest.mark.pure_core
def test_extents_are_told_from_any_block_on_and_cost_what_is_told() -> None:
    filesystem = mount(fresh_device(), 1)
    ino = sparse_file(filesystem, 50)
    everything = filesystem.extents(ino)
    assert len(everything) == 50
    parts, block = [], 0
    while part := filesystem.extents(ino, block, 3):
        assert len(part) <= 3
        parts += part
        block = part[-1][0] + part[-1][2]
    assert parts == everything
    whole = filesystem.create(ROOT_INO, b"whole", FILE, 0, 0, 1).ino
    filesystem.write(whole, 0, bytes(40 * BLOCK_BYTES), 2)
    filesystem.sync(3)
    ((first, address, count),) = filesystem.extents(whole)
    assert (first, count) == (0, 40)
    assert filesystem.extents(whole, 20) == [(20, address + 20, 20)]
    assert filesystem.extents(whole, 20, 1) == [(20, address + 20, 12)]
    looked: list[bytes] = []
    batch = filesystem.core.volume.imap.batch

    def counting(start: bytes, end: bytes) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        looked.append(start)
        return batch(start, end)

    filesystem.core.volume.imap.batch = counting  # type: ignore[method-assign]
    filesystem.extents(ino, 40 * 32, 2)
    assert len(looked) == 1


@pytest.mark.pure_core
def test_moving_a_directory_looks_at_a_bounded_number_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lfs.files.rename.MOVE_DEPTH_MAX", 20)
    filesystem = mount(fresh_device(), 1)
    deep = [ROOT_INO]
    for _ in range(40):
        deep.append(filesystem.mkdir(deep[-1], b"d", 0o755, 0, 0, 1).ino)
    filesystem.mkdir(ROOT_INO, b"leaf", 0o755, 0, 0, 1)
    tree = filesystem.mkdir(ROOT_INO, b"tree", 0o755, 0, 0, 1).ino
    filesystem.mkdir(tree, b"below", 0o755, 0, 0, 1)
    looked: list[int] = []
    parent_of = filesystem.core.inodes.parent_of

    def counting(ino: int) -> int:
        looked.append(ino)
        return parent_of(ino)

    filesystem.core.inodes.parent_of = counting  # type: ignore[method-assign]
    filesystem.rename(ROOT_INO, b"leaf", deep[40], b"leaf", 2)
    assert not looked
    with pytest.raises(FilesystemError) as refused:
        filesystem.rename(ROOT_INO, b"tree", deep[40], b"tree", 3)
    assert refused.value.errno == errno.ELOOP
    assert len(looked) == 20
    filesystem.rename(ROOT_INO, b"tree", deep[15], b"tree", 4)
    with pytest.raises(FilesystemError) as refused:
        filesystem.rename(deep[5], b"d", deep[15], b"d", 5)
    assert refused.value.errno == errno.EINVAL
    filesystem.unmount(6)
