"""Names with the same hash share a row of places, and keep theirs while others come and go."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsck.check import check_device
from lfs.common.errors import FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.files.directory import Directories, NameHash
from lfs.filesystem import Filesystem
from lfs.imap.map import Imap
from lfs.imap.node_cache import NodeCache
from lfs.ondisk import (
    HASH_COLLISIONS,
    KIND_ENTRY,
    NO_BLOCK,
    REMOVED_ENTRY,
    ROOT_INO,
    Pointer,
    unpack_key,
)
from tests.support.volumes import format_small, mount

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


def change(
    directories: Directories, model: dict[bytes, int], name: bytes, other: bytes, ino: int
) -> set[bytes]:
    """Add ``name`` if it is missing, else rename or remove it; return the names touched."""
    place, found = directories.find(DIRECTORY, name)
    assert found == model.get(name)
    if found is None:
        directories.put(place, ino, 8)
        model[name] = ino
    elif name == other:
        directories.remove(place)
        del model[name]
    else:
        new_place, _ = directories.find(DIRECTORY, other)
        directories.move(place, new_place, found, 8)
        model[other] = model.pop(name)
    return {name, other}


@pytest.mark.pure_core
@given(STEPS)
def test_directory_is_a_dictionary_without_gaps(steps: list[tuple[bytes, bytes]]) -> None:
    imap, directories = empty()
    model: dict[bytes, int] = {}
    for ino, (name, other) in enumerate(steps, 1):
        # Who only looks must not be believed later.
        assert directories.find(DIRECTORY, other)[1] == model.get(other)
        change(directories, model, name, other, ino)
        entries = list(directories.listing(DIRECTORY))
        assert {entry.name: entry.ino for entry in entries} == model
        check_rows(imap, model)


def check_rows(imap: Imap, model: dict[bytes, int]) -> None:
    """Hold the places of entries against how many names have each length."""
    rows: dict[int, dict[int, bytes]] = {}
    for key, value in imap.changes.items():
        if value is not None:
            assert isinstance(value, bytes)
            ino, kind, offset = unpack_key(key)
            assert (ino, kind) == (DIRECTORY, KIND_ENTRY)
            rows.setdefault(offset // HASH_COLLISIONS, {})[offset % HASH_COLLISIONS] = value
    for row in rows.values():
        assert sorted(row) == list(range(len(row)))
        assert row[len(row) - 1] != REMOVED_ENTRY
    entries = [sum(value != REMOVED_ENTRY for value in row.values()) for row in rows.values()]
    lengths = [len(name) for name in model]
    assert sorted(entries) == sorted(map(lengths.count, set(lengths)))


@pytest.mark.pure_core
@given(st.lists(st.one_of(st.none(), st.tuples(names, names)), max_size=80))
def test_listing_in_pieces_has_what_was_there_all_the_time_once(
    steps: list[tuple[bytes, bytes] | None],
) -> None:
    """``None`` lists one more entry; whatever a change touches may or may not be seen."""
    _, directories = empty()
    model: dict[bytes, int] = {}
    cookie, seen, touched = 0, list[bytes](), set[bytes]()
    stayed = set(model)

    def check_end() -> None:
        assert sorted(name for name in seen if name in stayed - touched) == sorted(stayed - touched)

    for ino, step in enumerate(steps, 1):
        if step is not None:
            touched |= change(directories, model, *step, ino)
        elif (entry := next(directories.listing(DIRECTORY, cookie), None)) is not None:
            cookie = entry.cookie
            seen.append(entry.name)
        else:
            check_end()
            cookie, seen, touched, stayed = 0, [], set(), set(model)
    seen += [entry.name for entry in directories.listing(DIRECTORY, cookie)]
    check_end()


@pytest.mark.pure_core
def test_missing_name_is_known_after_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    imap, directories = empty()
    model: dict[bytes, int] = {}
    for name in (b"a", b"b", b"c"):
        change(directories, model, name, name, 1)
    change(directories, model, b"a", b"a", 1)
    looks: list[bytes] = []
    get = imap.get

    def counted(key: bytes) -> bytes | None:
        looks.append(key)
        return get(key)

    monkeypatch.setattr(imap, "get", counted)
    assert directories.find(DIRECTORY, b"other length")[1] is None
    assert len(looks) == 1


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Filesystem]:
    """A filesystem whose root has as many names with the same hash as there can be."""
    monkeypatch.setattr("lfs.requests.core.NameHash", LengthHash)
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 0)
    for number in range(HASH_COLLISIONS):
        filesystem.create(ROOT_INO, b"%03d" % number, REGULAR, 0, 0, 1)
    yield filesystem
    assert len(list(filesystem.readdir(ROOT_INO))) == filesystem.getattr(ROOT_INO).size


@pytest.mark.pure_core
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


@pytest.mark.pure_core
def test_places_of_removed_names_are_used_again(crowded: Filesystem) -> None:
    for number in range(3 * HASH_COLLISIONS):
        name = b"%03d" % (number % HASH_COLLISIONS)
        crowded.forget(crowded.unlink(ROOT_INO, name, 2).ino)
        crowded.create(ROOT_INO, name, REGULAR, 0, 0, 3)
    with pytest.raises(FilesystemError) as caught:
        crowded.create(ROOT_INO, b"new", REGULAR, 0, 0, 2)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.pure_core
def test_marks_are_right_on_disk_and_go_with_the_last_name(crowded: Filesystem) -> None:
    def problems() -> set[str]:
        crowded.sync(3)
        return {problem.code for problem in check_device(crowded.device).problems}

    for number in range(HASH_COLLISIONS):
        if number == HASH_COLLISIONS // 2:
            # The hash is another here; marks and indices are as they must be.
            assert problems() == {"entry-hash"}
        crowded.forget(crowded.unlink(ROOT_INO, b"%03d" % number, 2).ino)
        assert crowded.getattr(ROOT_INO).size == len(list(crowded.readdir(ROOT_INO)))
    assert problems() == set()


@pytest.fixture
def attributes(monkeypatch: pytest.MonkeyPatch) -> Filesystem:
    """A filesystem whose root may have attributes with the same hash."""
    monkeypatch.setattr("lfs.requests.core.NameHash", LengthHash)
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    return mount(device, 0)


@given(STEPS)
def test_attributes_with_the_same_hash_are_a_dictionary(
    steps: list[tuple[bytes, bytes]],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("lfs.requests.core.NameHash", LengthHash)
        device = MemoryDevice(16 << 20)
        format_small(device, 4096, 64)
        filesystem = mount(device, 0)
    model: dict[bytes, bytes] = {}
    for number, (name, other) in enumerate(steps):
        value = other * (number * 97 % 3000)
        if name in model and number % 2:
            filesystem.removexattr(ROOT_INO, name, 1)
            del model[name]
        else:
            filesystem.setxattr(ROOT_INO, name, value, 1)
            model[name] = value
        assert sorted(filesystem.listxattr(ROOT_INO)) == sorted(model)
        for known in (b"a", b"b", b"c", b"d", b"aa", b"bb", b"cc"):
            if known in model:
                assert filesystem.getxattr(ROOT_INO, known) == model[known]
            else:
                with pytest.raises(FilesystemError):
                    filesystem.getxattr(ROOT_INO, known)


@pytest.mark.pure_core
def test_one_attribute_too_many_is_refused_and_a_missing_one_is_missing(
    attributes: Filesystem,
) -> None:
    for number in range(HASH_COLLISIONS):
        attributes.setxattr(ROOT_INO, b"%03d" % number, b"x", 1)
    calls: list[tuple[int, Callable[[], object]]] = [
        (errno.ENOSPC, lambda: attributes.setxattr(ROOT_INO, b"new", b"x", 1)),
        (errno.ENODATA, lambda: attributes.getxattr(ROOT_INO, b"new")),
        (errno.ENODATA, lambda: attributes.removexattr(ROOT_INO, b"new", 1)),
    ]
    for code, call in calls:
        with pytest.raises(FilesystemError) as caught:
            call()
        assert caught.value.errno == code
    attributes.removexattr(ROOT_INO, b"007", 2)
    attributes.setxattr(ROOT_INO, b"new", b"y", 3)
    assert attributes.getxattr(ROOT_INO, b"new") == b"y"


@pytest.mark.pure_core
def test_place_that_a_name_would_have_is_looked_for_anew_once_another_was_removed() -> None:
    _, directories = empty()
    for number, name in enumerate((b"a", b"b"), 2):
        directories.put(directories.find(DIRECTORY, name)[0], number, 8)
    last = directories.find(DIRECTORY, b"b")[0]
    before = directories.find(DIRECTORY, b"c")[0]
    assert directories.find(DIRECTORY, b"c")[0] is before
    directories.remove(last)
    after = directories.find(DIRECTORY, b"c")[0]
    assert (after.key, before.key > after.key) == (last.key, True)


@pytest.mark.pure_core
def test_place_that_a_name_would_have_is_that_of_its_directory() -> None:
    _, directories = empty()
    places = [directories.find(ino, b"a")[0] for ino in (DIRECTORY, DIRECTORY + 1)]
    assert [unpack_key(place.key)[0] for place in places] == [DIRECTORY, DIRECTORY + 1]


def test_name_that_is_not_there_is_found_as_none() -> None:
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 1)
    made = filesystem.create(ROOT_INO, b"a", REGULAR, 0, 0, 1)
    found = filesystem.find(ROOT_INO, b"a")
    assert found is not None
    assert found.ino == filesystem.lookup(ROOT_INO, b"a").ino == made.ino
    assert filesystem.find(ROOT_INO, b"b") is None
    with pytest.raises(FilesystemError) as caught:
        filesystem.lookup(ROOT_INO, b"b")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(FilesystemError) as caught:
        filesystem.find(made.ino, b"b")
    assert caught.value.errno == errno.ENOTDIR
