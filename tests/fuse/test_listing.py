"""Listing by cookies of 31 bits while names come and go."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import pyfuse3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.errors import DamageError, FilesystemError
from lfs.device.file import FileDevice
from lfs.files.directory import DirectoryEntry
from lfs.filesystem import Filesystem
from lfs.fuse import listing
from lfs.fuse.listing import OpenDirectory
from lfs.fuse.operations import LfsOperations
from lfs.inodes.inode import inode_key
from lfs.ondisk import ENTRY_OFFSET_FLAG, ROOT_INO
from tests.fuse.test_operations import USER, filesystem, make_open, operations, run
from tests.support.mounting import make_image
from tests.support.mounts import Mounter

__all__ = ["filesystem", "operations"]

INO = 7
COOKIE_END = 1 << 31


class FakeDirectory:
    """A core with one directory of entries at offsets that the test chooses."""

    def __init__(self) -> None:
        self.offsets: set[int] = set()
        self.damaged_after = 1 << 63
        self.damaged = 0

    def getattr(self, ino: int) -> DirectoryEntry:
        """Return something with a parent."""
        assert ino == INO
        return cast(DirectoryEntry, self)

    parent_ino = 1

    def readdir(
        self, ino: int, cookie: int, on_damage: Callable[[DamageError], None]
    ) -> Iterator[DirectoryEntry]:
        """Yield the entries after ``cookie``; their inode numbers are their offsets."""
        assert ino == INO
        for offset in sorted(self.offsets):
            if offset > self.damaged_after:
                raise DamageError("a leaf is damaged")
            if offset == self.damaged and offset > cookie:
                on_damage(DamageError("an entry is damaged"))
            elif offset > cookie:
                yield DirectoryEntry(offset, b"%x" % offset, offset, 8)


def listed(directory: OpenDirectory, fake: FakeDirectory, cookie: int) -> list[tuple[int, int]]:
    """Return ``(cookie, offset)`` of all entries after ``cookie`` but the dots."""
    found = list(directory.listing(cast(Filesystem, fake), cookie))
    return [(cookie, ino) for cookie, _, ino, _ in found if cookie > listing.DOT_DOT_COOKIE]


# Few different upper bits, so that most entries share theirs with another.
_offsets = st.builds(
    lambda high, low: ENTRY_OFFSET_FLAG | high << 32 | low, st.integers(0, 4), st.integers(1, 6)
)
_steps = st.one_of(
    st.tuples(st.just("change"), _offsets),
    st.tuples(st.just("next"), st.integers(1, 9)),
    st.tuples(st.just("seek"), st.integers(0, 1000)),
)


class Reader:
    """Reads one open directory in pieces and goes back, as a program may, and is held to it."""

    def __init__(self, fake: FakeDirectory) -> None:
        self.fake = fake
        self.directory = OpenDirectory(INO)
        self.go_to(0)

    def go_to(self, index: int) -> None:
        """Go on after a cookie that was handed out since the last rewind, or rewind by 0."""
        if index == 0:
            self.handed_out = [(0, 0)]
            self.stable = set(self.fake.offsets)
        self.cookie, after = self.handed_out[index % len(self.handed_out)]
        self.wanted = {offset for offset in self.stable if offset > after}
        self.seen: list[int] = []

    def change(self, offset: int) -> None:
        """Add or remove an entry, which may or may not be seen then."""
        self.fake.offsets ^= {offset}
        self.stable.discard(offset)
        self.wanted.discard(offset)

    def read(self, count: int) -> bool:
        """Take up to ``count`` entries as one reply would; return whether there were any."""
        if self.cookie == 0:
            self.directory.rewind()
            self.handed_out = [(0, 0)]
        entries = listed(self.directory, self.fake, self.cookie)
        cookies = [cookie for cookie, _ in entries]
        assert len(set(cookies)) == len(cookies)
        assert all(listing.DOT_DOT_COOKIE < cookie < COOKIE_END for cookie in cookies)
        for cookie, offset in entries[:count]:
            self.cookie = cookie
            self.seen.append(offset)
            self.handed_out.append((cookie, offset))
        return bool(entries)

    def finish(self) -> None:
        """Read to the end: what stayed since the rewind was there, and nothing twice."""
        while self.read(3):
            assert len(self.seen) < 1000
        assert sorted(set(self.seen) & self.wanted) == sorted(self.wanted)
        assert len(self.seen) == len(set(self.seen))


@given(st.sets(_offsets), st.lists(_steps, max_size=40))
def test_listing_in_pieces_has_what_stayed_exactly_once(
    offsets: set[int], steps: list[tuple[str, int]]
) -> None:
    fake = FakeDirectory()
    fake.offsets = set(offsets)
    reader = Reader(fake)
    for kind, value in steps:
        if kind == "change":
            reader.change(value)
        elif kind == "next":
            reader.read(value)
        else:
            reader.finish()
            reader.go_to(value)
    reader.finish()


def test_numbers_are_kept_for_shared_bits_only_and_until_rewound() -> None:
    fake, directory = FakeDirectory(), OpenDirectory(INO)
    fake.offsets = {ENTRY_OFFSET_FLAG | number << 32 for number in range(1000)}
    fake.offsets.add(ENTRY_OFFSET_FLAG | 5 << 32 | 1)
    for _ in range(3):
        small = [cookie for cookie, _ in listed(directory, fake, 0) if cookie < 1 << 30]
        assert small == [3]
    assert directory.listing(cast(Filesystem, fake), 3)
    directory.rewind()
    with pytest.raises(FilesystemError) as caught:
        listed(directory, fake, 3)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("cookie", [-1, 3, 4711, (1 << 30) - 1, 1 << 31, 1 << 62, (1 << 63) - 1])
def test_what_is_no_cookie_is_refused(cookie: int) -> None:
    with pytest.raises(FilesystemError) as caught:
        listed(OpenDirectory(INO), FakeDirectory(), cookie)
    assert caught.value.errno == errno.EINVAL


def test_entries_before_a_damaged_leaf_come_before_the_error() -> None:
    fake, directory = FakeDirectory(), OpenDirectory(INO)
    fake.offsets = {ENTRY_OFFSET_FLAG | 1 << 32 | number for number in range(1, 9)}
    fake.damaged_after = ENTRY_OFFSET_FLAG | 1 << 32 | 4
    entries = directory.listing(cast(Filesystem, fake), 0)
    found = [next(entries) for _ in range(6)]
    with pytest.raises(DamageError):
        next(entries)
    with pytest.raises(DamageError):
        listed(directory, fake, found[-1][0])
    # What can be read later goes on there.
    fake.damaged_after = 1 << 63
    assert [offset & 15 for _, offset in listed(directory, fake, found[-1][0])] == [5, 6, 7, 8]


@pytest.mark.parametrize("part", [1, 2, 20])
def test_damaged_entry_ends_a_listing_after_all_others(part: int) -> None:
    fake, directory = FakeDirectory(), OpenDirectory(INO)
    fake.offsets = {ENTRY_OFFSET_FLAG | high << 32 for high in range(1, 9)}
    fake.damaged = ENTRY_OFFSET_FLAG | 4 << 32
    for _ in range(2):
        directory.rewind()
        found: list[int] = []
        cookie = listing.DOT_DOT_COOKIE
        with pytest.raises(DamageError, match="an entry is damaged"):  # noqa: PT012  in the end
            while True:
                rest = directory.listing(cast(Filesystem, fake), cookie)
                for last, _, ino, _ in islice(rest, part):
                    found.append(ino)
                    cookie = last
        assert found == sorted(fake.offsets - {fake.damaged})
        with pytest.raises(DamageError):
            listed(directory, fake, cookie)
    fake.damaged = 0
    directory.rewind()
    assert len(listed(directory, fake, 0)) == 8


def test_reply_has_what_comes_before_an_error(
    operations: LfsOperations,
    filesystem: Filesystem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_open(operations)
    names: list[bytes] = []
    cookies: list[int] = []

    def reply(token: object, name: bytes, entry: object, next_id: int) -> bool:
        names.append(name)
        cookies.append(next_id)
        return True

    def readdir(ino: int, cookie: int, on_damage: object) -> Iterator[DirectoryEntry]:
        if cookie == 0:
            yield DirectoryEntry(ENTRY_OFFSET_FLAG | 1, b"f", 2, 8)
        raise DamageError("a leaf is damaged")

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    monkeypatch.setattr(filesystem, "readdir", readdir)
    token = cast(pyfuse3.ReaddirToken, None)
    for _ in range(5):
        handle = run(operations.opendir(ROOT_INO, USER))
    run(operations.readdir(handle, 0, token))
    assert caplog.text == ""
    assert names == [b".", b"..", b"f"]
    with pytest.raises(pyfuse3.FUSEError) as caught:
        run(operations.readdir(handle, cookies[-1], token))
    assert caught.value.errno == errno.EIO
    assert f"readdir inode {ROOT_INO}: a leaf is damaged" in caplog.text


def test_closed_directory_leaves_nothing(operations: LfsOperations) -> None:
    handles = [run(operations.opendir(ROOT_INO, USER)) for _ in range(5)]
    assert len(set(handles)) == 5
    assert len(operations._directories) == 5
    for handle in handles:
        run(operations.releasedir(handle))
    assert not operations._directories


def _raw_entries(descriptor: int, buffer_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield place and name of each entry as getdents64(2) returns them."""
    libc = ctypes.CDLL(None, use_errno=True)
    getdents64 = 217 if os.uname().machine == "x86_64" else 61
    buffer = ctypes.create_string_buffer(buffer_bytes)
    while True:
        size = libc.syscall(getdents64, descriptor, buffer, buffer_bytes)
        assert size >= 0, os.strerror(ctypes.get_errno())
        if size == 0:
            return
        at = 0
        while at < size:
            _, place, length, _ = struct.unpack_from("=QqHB", buffer, at)
            yield place, buffer.raw[at + 19 : at + length].split(b"\0")[0]
            at += length


@pytest.mark.fuse
def test_places_that_programs_see_have_31_bits(directory: Path) -> None:
    names = {b"%d" % number for number in range(2000)}
    for name in names:
        os.mknod(os.fsencode(directory) + b"/" + name)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    entries = list(_raw_entries(descriptor, 700))
    assert sorted(name for _, name in entries) == sorted(names | {b".", b".."})
    places = [place for place, _ in entries]
    assert len(set(places)) == len(places)
    assert 0 < min(places) <= max(places) < COOKIE_END
    for index in range(0, len(entries), 111):
        os.lseek(descriptor, places[index], os.SEEK_SET)
        rest = [name for _, name in _raw_entries(descriptor, 32768)]
        assert rest == [name for _, name in entries[index + 1 :]]
    os.close(descriptor)
    # A place is good for who opens the directory anew, too.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.lseek(descriptor, places[1000], os.SEEK_SET)
    assert [name for _, name in _raw_entries(descriptor, 32768)] == [
        name for _, name in entries[1001:]
    ]
    os.close(descriptor)


def _image_with_bad_entries(path: Path) -> list[str]:
    """Make an image with a directory of which three entries are damaged; return all names.

    ``none`` leads to no inode, ``bad`` to an inode that is none, and one name is a path.
    """
    make_image(path)
    device = FileDevice(path)
    filesystem = Filesystem.mount(device, 1)
    names = [f"file {number}" for number in range(300)] + ["bad"]
    for name in names:
        bad = filesystem.create(ROOT_INO, name.encode(), 0o100644, 0, 0, 2).ino
    filesystem.unmount(3)
    filesystem = Filesystem.mount(device, 4)
    for raw in (b"none", b"a/path"):
        place, _ = filesystem.core.directories.find(ROOT_INO, raw)
        filesystem.core.directories.put(place, 99_999, 8)
    filesystem.core.volume.imap.put(inode_key(bad), b"rubbish")
    filesystem.unmount(5)
    device.close()
    return [*names, "none"]


@pytest.mark.fuse
def test_damaged_entries_hide_no_others(mount: Mounter, tmp_path: Path) -> None:
    image = tmp_path / "bad.img"
    names = _image_with_bad_entries(image)
    mounted = mount(image)
    for _ in range(2):
        found: list[str] = []
        with os.scandir(mounted.path) as entries:  # noqa: SIM117  the error comes at the end
            with pytest.raises(OSError, match="Input/output error"):  # noqa: PT012  after all others
                for entry in entries:
                    found.append(entry.name)
        assert sorted(found) == sorted(names)
        for name in names:
            if name in ("none", "bad"):
                with pytest.raises(OSError, match="Input/output error"):
                    os.stat(mounted.path / name)
            else:
                assert os.stat(mounted.path / name).st_size == 0
    mounted.await_log(f"directory {ROOT_INO} has an entry called b'a/path'")
    mounted.await_log(f"b'none' in directory {ROOT_INO} leads to inode 99999, which is none")
