"""Names with the same hash share a row of places without gaps."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.device.memory import MemoryDevice
from lfs.directory import Directories, NameHash
from lfs.errors import FilesystemError
from lfs.filesystem import Filesystem
from lfs.imap import Imap
from lfs.node_cache import NodeCache
from lfs.ondisk import HASH_COLLISIONS, KIND_ENTRY, NO_BLOCK, ROOT_INO, Pointer, unpack_key
from tests.volumes import format_small, mount

REGULAR = stat.S_IFREG | 0o644
DIRECTORY = 7


class LengthHash(NameHash):
    """A hash that many names share: of how many bytes they are."""

    def __call__(self, name: bytes) -> int:
        """Return the hash of ``name``."""
        return len(name) << 40


def _read_nothing(pointer: Pointer) -> bytes:
    raise AssertionError(pointer)


def empty() -> tuple[Imap, Directories]:
    imap = Imap(NodeCache(_read_nothing, bytes(8), 0), NO_BLOCK, 0, 0)
    return imap, Directories(imap, LengthHash(bytes(16)))


names = st.sampled_from([b"a", b"b", b"c", b"d", b"aa", b"bb", b"cc"])
STEPS = st.lists(st.tuples(names, names), max_size=60)


@given(STEPS)
def test_directory_is_a_dictionary_without_gaps(steps: list[tuple[bytes, bytes]]) -> None:
    imap, directories = empty()
    model: dict[bytes, int] = {}
    for ino, (name, other) in enumerate(steps, 1):
        place, found = directories.find(DIRECTORY, name)
        assert found == model.get(name)
        if found is None:
            directories.put(place, ino, 8, name)
            model[name] = ino
        elif name == other:
            directories.remove(place)
            del model[name]
        else:
            new_place, _ = directories.find(DIRECTORY, other)
            directories.move(place, new_place, found, 8, other)
            model[other] = model.pop(name)
        entries = list(directories.listing(DIRECTORY))
        assert {entry.name: entry.ino for entry in entries} == model
        check_rows(imap, model)


def check_rows(imap: Imap, model: dict[bytes, int]) -> None:
    """Hold the places of entries against how many names have each length."""
    rows: dict[int, list[int]] = {}
    for key, value in imap.changes.items():
        if value is not None:
            ino, kind, offset = unpack_key(key)
            assert (ino, kind) == (DIRECTORY, KIND_ENTRY)
            rows.setdefault(offset // HASH_COLLISIONS, []).append(offset % HASH_COLLISIONS)
    for row in rows.values():
        assert sorted(row) == list(range(len(row)))
    lengths = [len(name) for name in model]
    assert sorted(map(len, rows.values())) == sorted(map(lengths.count, set(lengths)))


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Filesystem]:
    """A filesystem whose root has as many names with the same hash as there can be."""
    monkeypatch.setattr("lfs.mounted.NameHash", LengthHash)
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 0)
    for number in range(HASH_COLLISIONS):
        filesystem.create(ROOT_INO, b"%03d" % number, REGULAR, 0, 0, 1)
    yield filesystem
    assert len(list(filesystem.readdir(ROOT_INO))) == filesystem.getattr(ROOT_INO).size


def test_one_name_too_many_is_refused_and_changes_nothing(crowded: Filesystem) -> None:
    other = crowded.create(ROOT_INO, b"long name", REGULAR, 0, 0, 1).ino
    before = crowded.statfs()
    attempts: list[Callable[[], object]] = [
        lambda: crowded.create(ROOT_INO, b"new", REGULAR, 0, 0, 2),
        lambda: crowded.link(other, ROOT_INO, b"new", 2),
        lambda: crowded.symlink(ROOT_INO, b"new", b"target", 0, 0, 2),
        lambda: crowded.rename(ROOT_INO, b"long name", ROOT_INO, b"new", 2),
    ]
    for attempt in attempts:
        with pytest.raises(FilesystemError) as caught:
            attempt()
        assert caught.value.errno == errno.ENOSPC
    assert crowded.statfs() == before
    assert crowded.lookup(ROOT_INO, b"long name").ino == other


def test_name_of_a_full_row_can_be_replaced_and_removed(crowded: Filesystem) -> None:
    lost = crowded.rename(ROOT_INO, b"000", ROOT_INO, b"255", 2)
    assert lost is not None
    crowded.forget(lost.ino)
    crowded.create(ROOT_INO, b"new", REGULAR, 0, 0, 3)
    crowded.forget(crowded.unlink(ROOT_INO, b"100", 4).ino)
    remaining = {b"%03d" % number for number in range(1, HASH_COLLISIONS) if number != 100}
    assert {entry.name for entry in crowded.readdir(ROOT_INO)} == remaining | {b"new"}
