"""Entries without attributes: what the kernel is told, and for which listings."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pyfuse3
import pytest

from lfs.common.errors import DamageError
from lfs.fuse import brief
from lfs.fuse.brief import SAMPLE_INDEX, TRUSTED_LISTINGS, BriefEntry, Foresight
from lfs.fuse.listing import DOT_DOT_COOKIE
from lfs.fuse.operations import LfsOperations
from lfs.ondisk import ROOT_INO
from tests.fuse.test_operations import USER, filesystem, operations, run

__all__ = ["filesystem", "operations"]

FILES = 40
OTHER = cast(pyfuse3.RequestContext, SimpleNamespace(uid=1000, gid=1000, pid=2, umask=0))
THIRD = cast(pyfuse3.RequestContext, SimpleNamespace(uid=1000, gid=1000, pid=3, umask=0))
TOKEN = cast(pyfuse3.ReaddirToken, None)


def test_number_is_told_and_the_node_id_is_not() -> None:
    found = BriefEntry.found()
    assert found is not None
    for ino, file_type in (
        (0x5ABC_DEF1, 8),
        ((1 << 60) + 12345, 4),
        (0x1234_5678, 4),
        (0x1234_5679, 0),
    ):
        entry = found.of(ino, file_type)
        assert (entry.st_ino, entry.st_mode) == (0, file_type << 12)
        raw = ctypes.string_at(id(entry), type(entry).__basicsize__)
        assert raw.count(bytes(ctypes.c_uint64(ino))) == 1
    assert (entry.entry_timeout, entry.attr_timeout) == (0, 0)


@pytest.mark.parametrize("marks", [0, 1, 3])
def test_without_two_marks_there_are_no_brief_entries(
    monkeypatch: pytest.MonkeyPatch, marks: int
) -> None:
    raw = (bytes(8) + bytes(ctypes.c_uint64(brief._MARK))) * marks + bytes(8)
    monkeypatch.setattr(ctypes, "string_at", lambda address, size: raw)
    assert BriefEntry.found() is None


def test_place_that_changes_the_node_id_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards:
        """The second number is the node ID."""

        def __init__(self) -> None:
            self.numbers = (ctypes.c_uint64 * 2)()

        st_ino = property(
            lambda self: self.numbers[1],
            lambda self, value: self.numbers.__setitem__(slice(2), (value, value)),
        )

    entry = Backwards()
    address = ctypes.addressof(entry.numbers)
    whole = ctypes.string_at
    place = ctypes.c_uint64.from_address
    monkeypatch.setattr(brief, "EntryAttributes", lambda: entry)
    monkeypatch.setattr(brief, "id", lambda found: address, raising=False)
    monkeypatch.setattr(ctypes, "string_at", lambda at, size: whole(at, 16))
    assert BriefEntry.found() is None
    assert place(address + 8).value == brief._MARK


class Kernel:
    """What pyfuse3 does with a reply of limited room."""

    def __init__(self, operations: LfsOperations) -> None:
        self.operations = operations
        self.room = 1000
        self.full: dict[bytes, int] = {}
        """Names and inode numbers that came with attributes in the last listing."""
        self.brief: list[bytes] = []
        self.cookie = 0

    def reply(
        self, token: object, name: bytes, entry: pyfuse3.EntryAttributes, next_id: int
    ) -> bool:
        """Take an entry."""
        if not self.left:
            return False
        self.left -= 1
        self.cookie = next_id
        if next_id > DOT_DOT_COOKIE:
            if entry.st_ino:
                self.full[name] = entry.st_ino
            else:
                self.brief.append(name)
        return True

    def open(self, ino: int, ctx: pyfuse3.RequestContext) -> int:
        """Open a directory."""
        self.full, self.brief, self.cookie = {}, [], 0
        return run(self.operations.opendir(ino, ctx))

    def read(self, handle: int) -> bool:
        """Ask for one more reply; return whether there was anything."""
        self.left = self.room
        run(self.operations.readdir(handle, self.cookie, TOKEN))
        return self.left < self.room

    def list(self, ino: int = ROOT_INO, ctx: pyfuse3.RequestContext = USER) -> tuple[int, int]:
        """List a whole directory; return how many entries had attributes, and how many not."""
        handle = self.open(ino, ctx)
        while self.read(handle):
            pass
        run(self.operations.releasedir(handle))
        return len(self.full), len(self.brief)

    def look_up(self, ino: int, name: bytes, ctx: pyfuse3.RequestContext = USER) -> None:
        """Look a name up."""
        run(self.operations.lookup(ino, name, ctx))


@pytest.fixture
def kernel(operations: LfsOperations, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(operations)
    monkeypatch.setattr(pyfuse3, "readdir_reply", kernel.reply)
    fill(operations, ROOT_INO)
    return kernel


def fill(operations: LfsOperations, ino: int) -> None:
    """Make files in a directory."""
    for number in range(FILES):
        run(operations.mknod(ino, b"%d" % number, 0o100644, 0, USER))


def folders(operations: LfsOperations, count: int) -> list[int]:
    """Make directories with files below one of the root; return their numbers."""
    above = run(operations.mkdir(ROOT_INO, b"above", 0o755, USER)).st_ino
    found = []
    for number in range(count):
        found.append(run(operations.mkdir(above, b"%d" % number, 0o755, USER)).st_ino)
        fill(operations, found[-1])
    return found


ATTRIBUTES = (FILES - 1, 1)
BRIEF = (0, FILES)


@pytest.mark.parametrize("room", [1000, 7, 1])
def test_second_listing_of_a_directory_is_brief(kernel: Kernel, room: int) -> None:
    kernel.room = room
    # The sample is one of the first reply.
    assert kernel.list() == (ATTRIBUTES if room > SAMPLE_INDEX else (FILES, 0))
    assert kernel.list() == BRIEF
    assert sorted(kernel.brief) == sorted(b"%d" % number for number in range(FILES))
    assert len({*kernel.brief}) == FILES
    # Another program has the same kernel.
    assert kernel.list(ctx=OTHER) == BRIEF


def test_listing_of_what_was_looked_up_or_forgotten_has_attributes(kernel: Kernel) -> None:
    ino = folders(kernel.operations, 1)[0]
    for _ in range(2):
        assert kernel.list(ino) == ATTRIBUTES
        kernel.look_up(ino, kernel.brief[0])
        assert kernel.list(ino) == BRIEF
        # A missing name says nothing; one that the kernel had dropped does.
        kernel.look_up(ino, b"missing")
        assert kernel.list(ino) == BRIEF
        kernel.look_up(ino, b"7")
        assert kernel.list(ino) == (FILES, 0)
        assert kernel.list(ino) == BRIEF
        file_ino = kernel.operations.filesystem.lookup(ino, b"7").ino
        run(kernel.operations.forget([(file_ino, 1)]))
        kernel.operations._foresight._readers.clear()


def test_listing_after_which_attributes_were_asked_for_is_the_last_brief_one(
    kernel: Kernel,
) -> None:
    ino, other = folders(kernel.operations, 2)
    kernel.list(ino)
    assert kernel.list(ino, OTHER) == BRIEF
    # Neither the directory itself says anything, nor a program that lists nothing.
    for asked, ctx in ((ino, OTHER), (other, USER)):
        run(kernel.operations.getattr(asked, ctx))
    assert kernel.list(ino, OTHER) == BRIEF
    file_ino = kernel.operations.filesystem.lookup(ino, b"7").ino
    run(kernel.operations.getattr(file_ino, OTHER))
    assert kernel.list(ino, OTHER) == ATTRIBUTES


def test_attributes_asked_for_after_another_listing_change_nothing(kernel: Kernel) -> None:
    ino, other = folders(kernel.operations, 2)
    kernel.list(ino)
    kernel.list(ino, OTHER)
    kernel.list(other, OTHER)
    run(kernel.operations.getattr(other + 1, OTHER))
    assert kernel.list(ino, THIRD) == BRIEF


def test_forgetting_what_was_removed_changes_nothing(kernel: Kernel) -> None:
    ino = folders(kernel.operations, 1)[0]
    kernel.list(ino)
    file_ino = kernel.operations.filesystem.lookup(ino, b"7").ino
    run(kernel.operations.unlink(ino, b"7", USER))
    run(kernel.operations.forget([(file_ino, 1)]))
    assert kernel.list(ino, OTHER) == (0, FILES - 1)


def test_listing_that_was_not_whole_tells_nothing(kernel: Kernel) -> None:
    kernel.room = FILES // 2
    handle = kernel.open(ROOT_INO, USER)
    kernel.read(handle)
    skipped = kernel.cookie
    kernel.read(handle)
    assert kernel.list(ctx=OTHER) == ATTRIBUTES
    kernel.operations._foresight.forgotten()
    # Who goes back sees the end, but not what is between.
    handle = kernel.open(ROOT_INO, USER)
    kernel.operations._directories[handle].is_brief = False
    kernel.cookie = skipped
    while kernel.read(handle):
        pass
    assert kernel.list(ctx=THIRD) == ATTRIBUTES


def test_listing_that_ended_with_an_error_tells_nothing(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kernel.operations.filesystem.readdir

    def damaged(ino: int, cookie: int, on_damage: object) -> Iterator[object]:
        yield from whole(ino, cookie)
        raise DamageError("a leaf is damaged")

    monkeypatch.setattr(kernel.operations.filesystem, "readdir", damaged)
    handle = kernel.open(ROOT_INO, USER)
    kernel.read(handle)
    monkeypatch.undo()
    monkeypatch.setattr(pyfuse3, "readdir_reply", kernel.reply)
    assert kernel.list(ctx=OTHER) == ATTRIBUTES


def test_program_that_leaves_the_sample_alone_gets_names(kernel: Kernel) -> None:
    first, second, third, fourth, fifth = folders(kernel.operations, 5)
    assert kernel.list(first) == ATTRIBUTES
    assert kernel.list(second) == BRIEF
    # Another is not judged by that.
    assert kernel.list(third, OTHER) == ATTRIBUTES
    # It asks for attributes after all.
    kernel.look_up(second, b"1")
    assert kernel.list(fourth) == ATTRIBUTES
    kernel.look_up(fourth, kernel.brief[0])
    assert kernel.list(fifth) == (FILES, 0)


def test_sample_is_asked_for_again_after_some_listings(kernel: Kernel) -> None:
    many = folders(kernel.operations, TRUSTED_LISTINGS + 3)
    assert kernel.list(many[0]) == ATTRIBUTES
    kernel.look_up(many[0], kernel.brief[0])
    for ino in many[1 : TRUSTED_LISTINGS + 1]:
        assert kernel.list(ino) == (FILES, 0)
    assert kernel.list(many[-2]) == ATTRIBUTES
    assert kernel.list(many[-1]) == BRIEF


def test_short_listing_has_no_sample(kernel: Kernel) -> None:
    operations = kernel.operations
    for number in range(3):
        ino = run(operations.mkdir(ROOT_INO, b"short %d" % number, 0o755, USER)).st_ino
        for name in range(SAMPLE_INDEX - 2):
            run(operations.mknod(ino, b"%d" % name, 0o100644, 0, USER))
        assert kernel.list(ino) == (SAMPLE_INDEX - 2, 0)


def test_sample_that_did_not_fit_is_none(kernel: Kernel) -> None:
    kernel.room = SAMPLE_INDEX
    assert kernel.list() == (FILES, 0)
    ino = folders(kernel.operations, 1)[0]
    assert kernel.list(ino) == (FILES, 0)


def test_without_brief_entries_all_have_attributes(kernel: Kernel) -> None:
    kernel.operations._lister._brief = None
    for _ in range(3):
        assert kernel.list() == (FILES, 0)


def test_few_readers_and_directories_are_remembered() -> None:
    foresight = Foresight()
    for number in range(1, 3 * brief._KNOWN_MAX):
        foresight.told(number)
        if number <= 1000:
            foresight.is_brief(number, 1)
    assert len(foresight._known) <= brief._KNOWN_MAX
    assert len(foresight._readers) <= brief._READERS_MAX
    # Nobody that is unknown is taken for anybody.
    foresight.sampled(-1, 7)
    foresight.looked_up(-1, 1, 7)
    assert foresight.needs_sample(-1)
