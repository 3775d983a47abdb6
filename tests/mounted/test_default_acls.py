"""Default lists: what a new file or directory inherits, whatever the umask says."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.mounted.access_lists import ALICE, BOB, ODD, STAFF, list_of, make, set_list, umask
from tests.mounted.test_attributes import FILE, as_root, as_user, mode
from tests.support.acls import DEFAULT, GROUP_OBJ, MASK, OTHER, USER_OBJ, Lists, after_chmod, user
from tests.support.mounts import Mounter

pytestmark = [pytest.mark.fuse, as_root]


# -------------------------------------------------------------------------- inheritance


def test_default_list_is_inherited_and_the_umask_is_not_applied(directory: Path) -> None:
    set_list(directory, {**ODD, OTHER: 5}, DEFAULT)
    with umask(0o077):
        make(directory / "f", 0o666)
        make(directory / "private", 0o600)
        os.mkfifo(directory / "p", 0o664)
        (directory / "d").mkdir(0o775)
    assert [mode(directory / name) for name in ("f", "private", "p")] == [0o664, 0o600, 0o664]
    assert list_of(directory / "f") == {**ODD, USER_OBJ: 6, MASK: 6, OTHER: 4}
    assert list_of(directory / "private") == {**ODD, USER_OBJ: 6, MASK: 0, OTHER: 0}
    assert list_of(directory / "p") == {**ODD, USER_OBJ: 6, MASK: 6, OTHER: 4}
    assert list_of(directory / "f", DEFAULT) == {}


def test_directory_inherits_both_lists(directory: Path) -> None:
    set_list(directory, ODD, DEFAULT)
    with umask(0o077):
        (directory / "d/d").mkdir(0o750, parents=True)
        make(directory / "d/d/f", 0o666)
    for inner, bits in (("d", 0o771), ("d/d", 0o750)):
        assert mode(directory / inner) == bits
        assert list_of(directory / inner) == after_chmod(ODD, bits)
        assert list_of(directory / inner, DEFAULT) == ODD
    assert list_of(directory / "d/d/f") == after_chmod(ODD, 0o660)


def test_default_list_without_named_entries_takes_the_place_of_the_umask(directory: Path) -> None:
    set_list(directory, {USER_OBJ: 7, GROUP_OBJ: 6, OTHER: 0}, DEFAULT)
    with umask(0o022):
        make(directory / "f", 0o666)
        (directory / "d").mkdir()
    assert (mode(directory / "f"), list_of(directory / "f")) == (0o660, {})
    assert (mode(directory / "d"), list_of(directory / "d")) == (0o760, {})
    assert list_of(directory / "d", DEFAULT) == {USER_OBJ: 7, GROUP_OBJ: 6, OTHER: 0}


def test_inherited_list_grants(directory: Path) -> None:
    entries: Lists = {USER_OBJ: 7, user(ALICE): 7, GROUP_OBJ: 0, MASK: 7, OTHER: 0}
    set_list(directory, entries, DEFAULT)
    with umask(0o077):
        (directory / "d").mkdir()
        (directory / "d/f").write_bytes(b"x")
    inner = Path("d/f")
    assert as_user(directory, partial(inner.write_bytes, b"y"), ALICE) == 0
    assert as_user(directory, inner.read_bytes, BOB) == errno.EACCES


def test_setgid_is_inherited_beside_the_list(directory: Path) -> None:
    os.chown(directory, 0, STAFF)
    directory.chmod(0o2775)
    set_list(directory, ODD, DEFAULT)
    (directory / "d").mkdir(0o770)
    assert (mode(directory / "d"), (directory / "d").stat().st_gid) == (0o2770, STAFF)


def test_symlink_and_hard_link_inherit_nothing(directory: Path) -> None:
    path = directory / FILE
    make(path, 0o600)
    set_list(directory, ODD, DEFAULT)
    (directory / "s").symlink_to("f")
    os.link(path, directory / "h")
    assert os.listxattr(directory / "s", follow_symlinks=False) == []
    assert (list_of(directory / "h"), mode(directory / "h")) == ({}, 0o600)


def test_without_default_list_the_umask_applies_again(directory: Path) -> None:
    set_list(directory, ODD, DEFAULT)
    os.removexattr(directory, DEFAULT)
    set_list(directory, ODD)
    with umask(0o027):
        make(directory / "f", 0o666)
    assert (mode(directory / "f"), list_of(directory / "f")) == (0o640, {})


# ------------------------------------------------------------------------- what is kept


def test_inherited_list_survives_a_crash_with_its_file(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "commit=3600")
    set_list(mounted.path, ODD, DEFAULT)
    with (mounted.path / FILE).open("xb") as file:
        os.fsync(file.fileno())
    mounted.kill()
    mounted = mount(image)
    assert list_of(mounted.path / FILE) == {**ODD, USER_OBJ: 6, MASK: 6, OTHER: 0}


# -------------------------------------------------------------------- how it is mounted


def test_options_reach_a_mount_that_leaves_the_umask_alone(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "noexec,nodev,nosuid,noatime,dirsync")
    flags = os.statvfs(mounted.path).f_flag
    for flag in (os.ST_NOEXEC, os.ST_NODEV, os.ST_NOSUID, os.ST_NOATIME):
        assert flags & flag
    mounted.stop()


def test_only_root_is_let_in_when_told_so(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "allow_root")
    mounted.path.chmod(0o777)
    assert as_user(Path("/"), partial(os.listdir, mounted.path), ALICE) == errno.EACCES
    set_list(mounted.path, ODD, DEFAULT)
    with umask(0o077):
        make(mounted.path / FILE, 0o660)
    assert list_of(mounted.path / FILE) == after_chmod(ODD, 0o660)


def test_mount_by_fusermount3_leaves_the_umask_alone_too(image: Path, mount: Mounter) -> None:
    mounted = mount(image, "-o", "auto_unmount")
    set_list(mounted.path, {**ODD, OTHER: 7}, DEFAULT)
    with umask(0o027):
        make(mounted.path / FILE, 0o666)
    assert list_of(mounted.path / FILE) == {**ODD, USER_OBJ: 6, MASK: 6, OTHER: 6}
