"""Handlers called as pyfuse3 calls them, without a kernel."""

from __future__ import annotations

import errno
import logging
from collections.abc import Coroutine
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pyfuse3
import pytest

from lfs.common.errors import DamageError, FilesystemError
from lfs.device.memory import MemoryDevice
from lfs.files import acl
from lfs.filesystem import Filesystem
from lfs.fuse import handlers, xattrs
from lfs.fuse.group_commit import GroupCommit
from lfs.fuse.handlers import Handlers
from lfs.fuse.operations import LfsOperations
from lfs.make import format_device
from lfs.ondisk import ROOT_INO
from tests.support.acls import user, value_of
from tests.support.volumes import format_small, mount, superblock

T = TypeVar("T")

LISTED = value_of(
    {("user", None): 6, user(7): 4, ("group", None): 4, ("mask", None): 4, ("other", None): 0}
)

USER = cast(pyfuse3.RequestContext, SimpleNamespace(uid=1000, gid=1000, pid=1, umask=0))
ROOT = cast(pyfuse3.RequestContext, SimpleNamespace(uid=0, gid=0, pid=1, umask=0))


def run(handler: Coroutine[Any, Any, T]) -> T:
    """Run a handler that waits for nothing."""
    try:
        handler.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    pytest.fail("the handler waits")


def refused(handler: Coroutine[Any, Any, object]) -> int:
    """Return the errno of a handler that must refuse."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        run(handler)
    return caught.value.errno


@pytest.fixture
def filesystem() -> Filesystem:
    device = MemoryDevice(16 << 20)
    format_small(device, 4096, 64)
    return mount(device, 1)


@pytest.fixture
def operations(filesystem: Filesystem) -> LfsOperations:
    return LfsOperations(filesystem, GroupCommit(filesystem, filesystem.device), "/test.img")


def make_open(operations: LfsOperations, name: bytes = b"f") -> tuple[int, int]:
    """Create a file; return its inode number and handle."""
    info, entry = run(operations.create(ROOT_INO, name, 0o100644, 0, USER))
    return entry.st_ino, info.fh


def test_handlers_must_know_their_handles(filesystem: Filesystem) -> None:
    incomplete: type[Any] = Handlers
    with pytest.raises(TypeError, match="inode_of"):
        incomplete(filesystem)


def test_lookup_of_missing_name_may_be_cached(operations: LfsOperations) -> None:
    entry = run(operations.lookup(ROOT_INO, b"none", USER))
    assert entry.st_ino == 0
    assert entry.entry_timeout > 3600


def test_what_is_asked_for_each_new_file_costs_no_exception_of_the_core(
    operations: LfsOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel asks for the name before it is made, and for a capability before each write."""
    ino, _ = make_open(operations)

    def made(self: FilesystemError, *arguments: object) -> None:
        pytest.fail("an exception is made")

    monkeypatch.setattr(FilesystemError, "__init__", made)
    assert run(operations.lookup(ROOT_INO, b"none", USER)).st_ino == 0
    assert refused(operations.getxattr(ino, b"security.capability", USER)) == errno.ENODATA


def test_what_a_request_was_about_is_not_put_together_for_a_refusal(
    operations: LfsOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_open(operations)
    monkeypatch.setattr(handlers, "described", lambda *_: pytest.fail("put together"))
    assert refused(operations.mkdir(ROOT_INO, b"f", 0o755, USER)) == errno.EEXIST
    assert refused(operations.getattr(999, USER)) == errno.ESTALE


def test_lookup_of_dot_gives_any_inode(operations: LfsOperations) -> None:
    ino, _ = make_open(operations)
    assert run(operations.lookup(ino, b".", USER)).st_ino == ino
    assert run(operations.lookup(ROOT_INO, b"..", USER)).st_ino == ROOT_INO
    assert refused(operations.lookup(12345, b".", USER)) == errno.ESTALE


def test_error_of_the_core_is_its_errno_and_no_line(
    operations: LfsOperations, caplog: pytest.LogCaptureFixture
) -> None:
    assert refused(operations.unlink(ROOT_INO, b"none", USER)) == errno.ENOENT
    assert refused(operations.getattr(12345, USER)) == errno.ESTALE
    assert caplog.records == []


def test_damage_is_an_input_output_error_and_one_line(
    operations: LfsOperations,
    filesystem: Filesystem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def damaged(*arguments: object) -> bytes:
        raise DamageError("block 7: checksum differs")

    monkeypatch.setattr(filesystem, "read", damaged)
    _, handle = make_open(operations)
    with caplog.at_level(logging.ERROR):
        assert refused(operations.read(handle, 0, 10)) == errno.EIO
    (record,) = caplog.records
    about = f"read inode {handle >> 1} bytes 0+10"
    assert record.getMessage() == f"{about}: block 7: checksum differs"
    assert not filesystem.read_only


@pytest.mark.parametrize("change", [False, True])
def test_unexpected_error_is_logged_and_ends_writing_after_a_change(
    operations: LfsOperations,
    filesystem: Filesystem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: bool,
) -> None:
    def broken(*arguments: object, **keywords: object) -> None:
        raise KeyError("a bug")

    _, handle = make_open(operations)
    monkeypatch.setattr(filesystem, "write" if change else "read", broken)
    with caplog.at_level(logging.ERROR):
        handler: Coroutine[Any, Any, object] = (
            operations.write(handle, 0, b"x") if change else operations.read(handle, 0, 1)
        )
        assert refused(handler) == errno.EIO
    assert "KeyError" in caplog.text
    assert filesystem.read_only is change


def test_capability_that_is_missing_is_looked_up_once(
    operations: LfsOperations, filesystem: Filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    original = filesystem.getxattr

    def getxattr(ino: int, name: bytes) -> bytes:
        asked.append(name)
        return original(ino, name)

    name = b"security.capability"
    run(operations.mkdir(ROOT_INO, b"d", 0o755, USER))
    ino = filesystem.lookup(ROOT_INO, b"d").ino
    monkeypatch.setattr(filesystem, "getxattr", getxattr)
    for _ in range(3):
        assert refused(operations.getxattr(ino, name, USER)) == errno.ENODATA
    assert asked == [name]
    run(operations.setxattr(ino, name, b"value", USER))
    assert run(operations.getxattr(ino, name, USER)) == b"value"
    run(operations.removexattr(ino, name, USER))
    assert refused(operations.getxattr(ino, name, USER)) == errno.ENODATA


def test_capability_memory_is_bounded(
    operations: LfsOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xattrs, "WITHOUT_CAPABILITY_MAX", 10)
    inos = [make_open(operations, b"%d" % number)[0] for number in range(35)]
    assert len(operations._xattrs._without_capability) <= 10
    for ino in inos:
        assert refused(operations.getxattr(ino, b"security.capability", USER)) == errno.ENODATA


def exists(filesystem: Filesystem, ino: int) -> bool:
    try:
        filesystem.getattr(ino)
    except FilesystemError:
        return False
    return True


def test_orphan_goes_when_released_and_forgotten(
    operations: LfsOperations, filesystem: Filesystem
) -> None:
    ino, handle = make_open(operations)
    run(operations.unlink(ROOT_INO, b"f", USER))
    run(operations.release(handle))
    assert exists(filesystem, ino)
    run(operations.forget([(ino, 1)]))
    assert not exists(filesystem, ino)


def test_orphan_goes_when_forgotten_before_its_last_release(
    operations: LfsOperations, filesystem: Filesystem
) -> None:
    ino, first = make_open(operations)
    second = run(operations.open(ino, 0, USER)).fh
    run(operations.unlink(ROOT_INO, b"f", USER))
    run(operations.forget([(ino, 2)]))
    run(operations.release(first))
    assert exists(filesystem, ino)
    run(operations.release(second))
    assert not exists(filesystem, ino)


def test_orphan_of_a_rename_goes_when_forgotten(
    operations: LfsOperations, filesystem: Filesystem
) -> None:
    replaced, handle = make_open(operations, b"old")
    run(operations.release(handle))
    make_open(operations, b"new")
    run(operations.rename(ROOT_INO, b"new", ROOT_INO, b"old", 0, USER))
    assert exists(filesystem, replaced)
    run(operations.forget([(replaced, 1)]))
    assert not exists(filesystem, replaced)


def test_forget_of_living_inodes_changes_nothing(
    operations: LfsOperations, filesystem: Filesystem
) -> None:
    ino, handle = make_open(operations)
    run(operations.forget([(ino, 1), (ROOT_INO, 1), (12345, 1)]))
    run(operations.release(handle))
    assert exists(filesystem, ino)


def test_handle_tells_whether_root_opened_it(
    operations: LfsOperations, filesystem: Filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    privileged = []

    def write(ino: int, offset: int, data: bytes, now_ns: int, as_root: bool, stamp: bool) -> int:
        assert stamp
        privileged.append(as_root)
        return len(data)

    ino, _ = make_open(operations)
    monkeypatch.setattr(filesystem, "write", write)
    for context in (USER, ROOT):
        handle = run(operations.open(ino, 0, context)).fh
        run(operations.write(handle, 0, b"x"))
    assert privileged == [False, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"user.long", bytes(60_000)),
        (acl.ACCESS, LISTED),
        (acl.DEFAULT, LISTED),
    ],
    ids=["attribute", "access list", "default list"],
)
def test_attributes_and_lists_that_root_sets_have_a_share_of_roots_space(
    name: bytes, value: bytes
) -> None:
    device = MemoryDevice(16 << 20)
    layout = superblock(device.size_bytes, 4096, 64, reserved_basis_points=500)
    format_device(device, layout, 0, 0o755, 0, 0)
    filesystem = mount(device, 1)
    operations = LfsOperations(filesystem, GroupCommit(filesystem, device), "/test.img")
    ino = run(operations.mkdir(ROOT_INO, b"d", 0o755, USER)).st_ino
    _, handle = make_open(operations)
    offset = 0
    while filesystem.statfs().available_blocks:
        # A refusal may leave more room: a checkpoint shows what was pending.
        with suppress(pyfuse3.FUSEError):
            offset += run(operations.write(handle, offset, bytes(4096)))
    assert refused(operations.setxattr(ino, name, value, USER)) == errno.ENOSPC
    run(operations.setxattr(ino, name, value, ROOT))
    assert run(operations.getxattr(ino, name, USER)) == value


def test_listing_in_small_replies_is_complete(
    operations: LfsOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {b".", b".."}
    for number in range(100):
        make_open(operations, b"%d" % number)
        wanted.add(b"%d" % number)
    listed: list[tuple[bytes, int]] = []
    room = 0

    def reply(token: object, name: bytes, entry: pyfuse3.EntryAttributes, next_id: int) -> bool:
        nonlocal room
        room -= 1
        if room >= 0:
            listed.append((name, next_id))
        return room >= 0

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    position = 0
    handle = run(operations.opendir(ROOT_INO, USER))
    while True:
        before, room = len(listed), 1 + len(listed) % 3
        run(operations.readdir(handle, position, cast(pyfuse3.ReaddirToken, None)))
        if len(listed) == before:
            break
        position = listed[-1][1]
    names = [name for name, _ in listed]
    assert len(names) == len(wanted)
    assert set(names) == wanted
