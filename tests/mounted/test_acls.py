"""Access control lists through the kernel: who may what, and what becomes of a mode."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.mounted.access_lists import ALICE, BOB, ODD, STAFF, list_of, make, set_list
from tests.mounted.test_attributes import FILE, as_root, as_user, mode
from tests.support.acls import (
    ACCESS,
    DEFAULT,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER_OBJ,
    Lists,
    after_chmod,
    group,
    user,
    value_of,
)
from tests.support.mounts import Mounter

pytestmark = [pytest.mark.fuse, as_root]


def refused(change: Callable[[], object]) -> int:
    """Return the errno of what must be refused."""
    try:
        change()
    except OSError as error:
        return error.errno or 0
    pytest.fail("it is not refused")


@pytest.fixture
def path(directory: Path) -> Path:
    """Return a file that is closed to all but its owner."""
    make(directory / FILE, 0o600)
    return directory / FILE


# -------------------------------------------------------------------------- permissions


def test_named_user_is_granted_what_nobody_else_is(directory: Path, path: Path) -> None:
    set_list(path, {USER_OBJ: 6, user(ALICE): 4, GROUP_OBJ: 0, MASK: 4, OTHER: 0})
    assert as_user(directory, FILE.read_bytes, ALICE) == 0
    assert as_user(directory, partial(FILE.write_bytes, b"x"), ALICE) == errno.EACCES
    assert as_user(directory, FILE.read_bytes, BOB) == errno.EACCES


def test_named_user_is_refused_what_everybody_else_may(directory: Path, path: Path) -> None:
    set_list(path, {USER_OBJ: 6, user(ALICE): 0, GROUP_OBJ: 4, MASK: 4, OTHER: 4})
    assert as_user(directory, FILE.read_bytes, ALICE) == errno.EACCES
    assert as_user(directory, FILE.read_bytes, BOB) == 0


@pytest.mark.parametrize(("gid", "groups"), [(STAFF, []), (BOB, [7, STAFF])])
def test_named_group_is_granted(directory: Path, path: Path, gid: int, groups: list[int]) -> None:
    set_list(path, {USER_OBJ: 6, GROUP_OBJ: 0, group(STAFF): 6, MASK: 6, OTHER: 0})
    assert as_user(directory, partial(FILE.write_bytes, b"x"), BOB, gid, groups) == 0
    assert as_user(directory, FILE.read_bytes, BOB, BOB, [7]) == errno.EACCES


def test_mask_bounds_what_is_granted(directory: Path, path: Path) -> None:
    set_list(path, {USER_OBJ: 6, user(ALICE): 6, GROUP_OBJ: 6, MASK: 4, OTHER: 0})
    assert as_user(directory, FILE.read_bytes, ALICE) == 0
    assert as_user(directory, partial(FILE.write_bytes, b"x"), ALICE) == errno.EACCES
    path.chmod(0o620)
    assert as_user(directory, FILE.read_bytes, ALICE) == errno.EACCES


def test_directory_is_opened_by_a_list_and_closed_again(directory: Path) -> None:
    inner = directory / "d"
    inner.mkdir(0o700)
    make(inner / FILE, 0o644)
    work = partial(Path("d/f").read_bytes)
    assert as_user(directory, work, ALICE) == errno.EACCES
    set_list(inner, {USER_OBJ: 7, user(ALICE): 5, GROUP_OBJ: 0, MASK: 5, OTHER: 0})
    assert as_user(directory, work, ALICE) == 0
    assert as_user(directory, partial(Path("d/g").touch), ALICE) == errno.EACCES
    os.removexattr(inner, ACCESS)
    inner.chmod(0o700)
    assert as_user(directory, work, ALICE) == errno.EACCES


def test_only_the_owner_sets_a_list(directory: Path, path: Path) -> None:
    path.chmod(0o666)
    assert as_user(directory, partial(set_list, FILE, ODD), ALICE) == errno.EPERM
    os.chown(path, ALICE, -1)
    assert as_user(directory, partial(set_list, FILE, ODD), ALICE) == 0
    assert list_of(path) == ODD


# ------------------------------------------------------------------------ list and mode


def test_list_is_shown_and_rules_the_mode(path: Path) -> None:
    path.chmod(0o4600)
    set_list(path, ODD)
    assert list_of(path) == ODD
    assert os.listxattr(path) == [ACCESS.decode()]
    assert mode(path) == 0o4771
    set_list(path, {**ODD, MASK: 2})
    assert mode(path) == 0o4721


def test_mode_rules_the_mask(path: Path) -> None:
    set_list(path, ODD)
    path.chmod(0o640)
    assert list_of(path) == after_chmod(ODD, 0o640)
    assert list_of(path)[MASK] == 4
    assert list_of(path)[GROUP_OBJ] == 5
    assert mode(path) == 0o640


def test_list_that_says_no_more_than_a_mode_is_not_kept(path: Path) -> None:
    set_list(path, {USER_OBJ: 7, GROUP_OBJ: 5, OTHER: 1})
    assert (list_of(path), os.listxattr(path), mode(path)) == ({}, [], 0o751)
    set_list(path, ODD)
    set_list(path, {USER_OBJ: 6, GROUP_OBJ: 2, OTHER: 0})
    assert (list_of(path), os.listxattr(path), mode(path)) == ({}, [], 0o620)


def test_removed_list_leaves_the_mode(path: Path) -> None:
    set_list(path, ODD)
    os.removexattr(path, ACCESS)
    assert (list_of(path), os.listxattr(path), mode(path)) == ({}, [], 0o771)


@pytest.mark.parametrize("value", [b"", b"\x02\0\0\0"])
def test_empty_list_removes(directory: Path, value: bytes) -> None:
    for name in (ACCESS, DEFAULT):
        set_list(directory, ODD, name)
        os.setxattr(directory, name, value)
        assert list_of(directory, name) == {}
        os.setxattr(directory, name, value)
        os.removexattr(directory, name)
    assert os.listxattr(directory) == []


def test_truncating_and_writing_leave_the_list(directory: Path, path: Path) -> None:
    path.chmod(0o4600)
    entries: Lists = {USER_OBJ: 6, user(ALICE): 6, GROUP_OBJ: 0, MASK: 6, OTHER: 0}
    set_list(path, entries)
    assert as_user(directory, partial(FILE.write_bytes, b"x"), ALICE) == 0
    assert (mode(path), list_of(path)) == (0o660, entries)


@pytest.mark.parametrize(
    ("uid", "gid", "groups", "stays"),
    [
        (0, 0, [], True),
        (ALICE, ALICE, [], False),
        (ALICE, STAFF, [], True),
        (ALICE, ALICE, [5, STAFF], True),
    ],
    ids=["root", "stranger", "group", "further-group"],
)
@pytest.mark.parametrize("entries", [ODD, {USER_OBJ: 7, GROUP_OBJ: 5, OTHER: 1}])
def test_setgid_stays_for_members_and_root(
    directory: Path, path: Path, uid: int, gid: int, groups: list[int], stays: bool, entries: Lists
) -> None:
    os.chown(path, ALICE, STAFF)
    path.chmod(0o2770)
    assert as_user(directory, partial(set_list, FILE, entries), uid, gid, groups) == 0
    assert bool(mode(path) & stat.S_ISGID) is stays


def _enter_own_user_namespace() -> None:
    clone_newuser = 0x10000000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newuser) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def test_capabilities_in_a_namespace_of_his_own_keep_no_setgid(directory: Path, path: Path) -> None:
    def work() -> None:
        _enter_own_user_namespace()
        set_list(FILE, {USER_OBJ: 7, GROUP_OBJ: 5, OTHER: 1})

    if as_user(directory, _enter_own_user_namespace, ALICE) != 0:
        pytest.skip("users may not make namespaces here")
    os.chown(path, ALICE, STAFF)
    path.chmod(0o2770)
    assert as_user(directory, work, ALICE) == 0
    assert mode(path) == 0o751


def test_default_list_leaves_setgid(directory: Path) -> None:
    os.chown(directory, ALICE, STAFF)
    directory.chmod(0o2770)
    here = Path(".")
    assert as_user(directory, partial(set_list, here, ODD, DEFAULT), ALICE) == 0
    assert mode(directory) == 0o2770


# ----------------------------------------------------------------------------- refusals


def test_default_list_is_for_directories(path: Path) -> None:
    assert refused(partial(set_list, path, ODD, DEFAULT)) == errno.EACCES
    assert list_of(path, DEFAULT) == {}


def test_symlink_has_no_list(directory: Path) -> None:
    link = directory / "s"
    link.symlink_to("nowhere")
    for name in (ACCESS, DEFAULT):
        change = partial(os.setxattr, link, name, value_of(ODD), follow_symlinks=False)
        assert refused(change) == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    "value",
    [
        b"\x02\0",
        value_of(ODD)[:-1],
        value_of({USER_OBJ: 7, GROUP_OBJ: 7}),
        value_of({USER_OBJ: 7, user(ALICE): 7, GROUP_OBJ: 7, OTHER: 0}),
        value_of({**ODD, MASK: 8}),
    ],
    ids=["short", "cut", "without-others", "without-mask", "odd-permissions"],
)
def test_what_is_no_list_is_refused(directory: Path, value: bytes) -> None:
    for name in (ACCESS, DEFAULT):
        assert refused(partial(os.setxattr, directory, name, value)) == errno.EINVAL
        assert list_of(directory, name) == {}


def test_list_of_a_page_is_kept_and_works(directory: Path, path: Path) -> None:
    entries: Lists = {user(number): 0 for number in range(10_000, 10_506)}
    entries |= {USER_OBJ: 6, user(ALICE): 4, GROUP_OBJ: 0, MASK: 4, OTHER: 0}
    set_list(path, entries)
    assert list_of(path) == entries
    assert as_user(directory, FILE.read_bytes, ALICE) == 0
    entries[user(99)] = 0
    assert refused(partial(set_list, path, entries)) == errno.E2BIG


# ------------------------------------------------------------------------- what is kept


def test_lists_survive_a_remount(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    mounted.path.chmod(0o755)
    make(mounted.path / FILE, 0o600)
    set_list(mounted.path / FILE, {**ODD, MASK: 4})
    set_list(mounted.path, ODD, DEFAULT)
    mounted.stop()
    mounted = mount(image)
    assert list_of(mounted.path / FILE) == {**ODD, MASK: 4}
    assert mode(mounted.path / FILE) == 0o741
    make(mounted.path / "g", 0o666)
    assert list_of(mounted.path / "g") == {**ODD, USER_OBJ: 6, MASK: 6, OTHER: 0}
    (mounted.path / FILE).chmod(0o620)
    assert list_of(mounted.path / FILE)[MASK] == 2
    mounted.stop()
    mounted = mount(image)
    assert list_of(mounted.path / FILE) == after_chmod(ODD, 0o620)
