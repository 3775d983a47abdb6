"""Attributes through the kernel: modes, owners, times, extended attributes."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.mounting import wait_for_tick

pytestmark = pytest.mark.fuse

USER = 65534
FILE = Path("f")
as_root = pytest.mark.needs("root")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def as_user(
    directory: Path,
    work: Callable[[], object],
    uid: int = USER,
    gid: int = USER,
    groups: Sequence[int] = (),
) -> int:
    """Run ``work`` in ``directory`` as another user; return the errno it ended with, or 0."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            # The way to the directory may be closed to the user.
            os.chdir(directory)
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            work()
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_create_applies_the_umask(directory: Path) -> None:
    previous = os.umask(0o027)
    try:
        os.close(os.open(directory / "f", os.O_CREAT, 0o666))
        (directory / "d").mkdir(0o777)
        os.mkfifo(directory / "p", 0o666)
    finally:
        os.umask(previous)
    assert [mode(directory / name) for name in "fdp"] == [0o640, 0o750, 0o640]


def test_chmod_keeps_the_type(directory: Path) -> None:
    (directory / "f").touch()
    for bits in (0o4711, 0o2755, 0o1000, 0):
        (directory / "f").chmod(bits)
        assert (directory / "f").stat().st_mode == stat.S_IFREG | bits


@as_root
def test_chown_changes_one_or_both(directory: Path) -> None:
    path = directory / "f"
    path.touch()
    os.chown(path, 1234, -1)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 0)
    os.chown(path, -1, 4321)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)
    os.chown(path, 1 << 31, (1 << 32) - 2)
    assert (path.stat().st_uid, path.stat().st_gid) == (1 << 31, (1 << 32) - 2)


@as_root
def test_new_file_belongs_to_its_maker(directory: Path) -> None:
    directory.chmod(0o777)
    assert as_user(directory, FILE.touch, 1001, 1002) == 0
    assert ((directory / "f").stat().st_uid, (directory / "f").stat().st_gid) == (1001, 1002)


@as_root
def test_setgid_directory_gives_its_group(directory: Path) -> None:
    os.chown(directory, 0, 4321)
    directory.chmod(0o2777)
    (directory / "f").touch()
    (directory / "d").mkdir()
    assert (directory / "f").stat().st_gid == (directory / "d").stat().st_gid == 4321
    assert mode(directory / "d") & stat.S_ISGID
    assert not mode(directory / "f") & stat.S_ISGID


@as_root
def test_permissions_are_checked(directory: Path) -> None:
    (directory / "f").touch(0o600)
    assert as_user(directory, FILE.read_bytes) == errno.EACCES
    assert as_user(directory, Path("g").touch) == errno.EACCES
    (directory / "f").chmod(0o644)
    assert as_user(directory, FILE.read_bytes) == 0
    assert as_user(directory, lambda: FILE.chmod(0o777)) == errno.EPERM


@as_root
def test_sticky_directory_protects_names(directory: Path) -> None:
    directory.chmod(0o1777)
    (directory / "f").touch()
    assert as_user(directory, FILE.unlink) == errno.EPERM


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@as_root
@pytest.mark.parametrize(
    "change",
    [
        _append,
        lambda path: os.truncate(path, 1),
        lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    ],
    ids=["write", "truncate", "open-truncating"],
)
def test_change_by_user_clears_set_id_bits(directory: Path, change: Callable[[Path], None]) -> None:
    path = directory / "f"
    path.write_bytes(b"content")
    path.chmod(0o6777)
    assert as_user(directory, lambda: change(FILE)) == 0
    assert mode(path) == 0o777


@as_root
def test_chown_clears_set_id_bits(directory: Path) -> None:
    path = directory / "f"
    path.touch()
    path.chmod(0o6755)
    os.chown(path, 1234, 1234)
    assert mode(path) == 0o755


def test_utimens_keeps_nanoseconds(directory: Path) -> None:
    path = directory / "f"
    path.touch()
    for times in ((1, 2), (10**18 + 123456789, 10**18 + 987654321), (-(10**18) + 1, -1)):
        os.utime(path, ns=times)
        assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == times


def test_utimens_after_2038_is_kept(directory: Path) -> None:
    path = directory / "f"
    path.touch()
    ns = 2**33 * 10**9 // 2 + 5
    os.utime(path, ns=(ns, ns))
    assert path.stat().st_mtime_ns == ns


@pytest.mark.parametrize(
    ("years", "stored_ns"), [(300, (1 << 63) - 1), (-300, -(1 << 63)), (250, None)]
)
def test_utimens_out_of_range_becomes_the_nearest_time(
    directory: Path, years: int, stored_ns: int | None
) -> None:
    wanted_ns = years * 365 * 86400 * 10**9
    os.utime(directory, ns=(wanted_ns, wanted_ns))
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    found = directory.stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (stored_ns or wanted_ns,) * 2
    (directory / "g").touch()


def test_utimens_now_is_now(directory: Path) -> None:
    path = directory / "f"
    path.touch()
    os.utime(path, ns=(0, 0))
    before = time.time_ns()
    os.utime(path)
    assert before - 10**8 <= path.stat().st_mtime_ns <= time.time_ns()


def _times(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_ctime_ns


def test_times_change_with_contents_and_attributes(directory: Path) -> None:
    path = directory / "f"
    path.write_bytes(b"x")
    written = _times(path)
    wait_for_tick()
    _append(path)
    appended = _times(path)
    assert appended[0] > written[0]
    assert appended[1] > written[1]
    wait_for_tick()
    path.chmod(0o600)
    assert _times(path)[0] == appended[0]
    assert _times(path)[1] > appended[1]


def test_times_of_directory_change_with_its_entries(directory: Path) -> None:
    last = _times(directory)
    for change in (
        lambda: (directory / "f").touch(),
        lambda: (directory / "f").rename(directory / "g"),
        lambda: os.link(directory / "g", directory / "h"),
        lambda: (directory / "h").unlink(),
        lambda: (directory / "d").mkdir(),
        lambda: (directory / "d").rmdir(),
        lambda: (directory / "s").symlink_to("x"),
    ):
        wait_for_tick()
        change()
        now = _times(directory)
        assert now[0] > last[0]
        assert now[1] > last[1]
        last = now


def test_access_time_is_relative(directory: Path) -> None:
    path = directory / "f"
    path.write_bytes(b"x")
    os.utime(path, ns=(1, time.time_ns()))
    # A read in the same tick as the change does not count as one after it.
    wait_for_tick()
    with open(os.open(path, os.O_RDONLY | os.O_DIRECT), "rb", buffering=0) as file:
        os.pread(file.fileno(), 1, 0)
        first = path.stat().st_atime_ns
        assert first > 1
        os.pread(file.fileno(), 1, 0)
        assert path.stat().st_atime_ns == first


def test_access_time_of_directory_and_symlink_changes(directory: Path) -> None:
    (directory / "d").mkdir()
    (directory / "s").symlink_to("d")
    for name in ("d", "s"):
        os.utime(directory / name, ns=(1, time.time_ns()), follow_symlinks=False)
    os.listdir(directory / "d")
    os.readlink(directory / "s")
    for name in ("d", "s"):
        assert (directory / name).lstat().st_atime_ns > 1


# ------------------------------------------------------------------ extended attributes


def test_xattrs_are_set_listed_and_removed(directory: Path) -> None:
    path = directory / "f"
    path.touch()
    os.setxattr(path, "user.a", b"1")
    os.setxattr(path, "user.b", b"")
    os.setxattr(path, "user.a", b"2")
    assert sorted(os.listxattr(path)) == ["user.a", "user.b"]
    assert os.getxattr(path, "user.a") == b"2"
    assert os.getxattr(path, "user.b") == b""
    os.removexattr(path, "user.a")
    assert os.listxattr(path) == ["user.b"]


def test_xattr_of_64_kib_is_kept(directory: Path) -> None:
    value = os.urandom(65536)
    os.setxattr(directory, "user.large", value)
    assert os.getxattr(directory, "user.large") == value


def test_xattr_flags_are_obeyed(directory: Path) -> None:
    with pytest.raises(OSError, match="No data"):
        os.setxattr(directory, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(directory, "user.a", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(directory, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(directory, "user.a", b"3", os.XATTR_REPLACE)
    assert os.getxattr(directory, "user.a") == b"3"


def test_xattr_that_is_missing_has_no_data(directory: Path) -> None:
    for call in (os.getxattr, os.removexattr):
        with pytest.raises(OSError, match="No data") as caught:
            call(directory, "user.none")
        assert caught.value.errno == errno.ENODATA


@as_root
def test_xattr_namespaces_for_root(directory: Path) -> None:
    for name in ("trusted.x", "security.capability"):
        path = directory / name
        path.touch()
        value = b"\x01\0\0\x02" + bytes(16)
        os.setxattr(path, name, value)
        assert os.getxattr(path, name) == value
        assert os.listxattr(path) == [name]


@as_root
def test_capability_is_removed_by_a_write(directory: Path) -> None:
    path = directory / "f"
    path.write_bytes(b"x")
    os.setxattr(path, "security.capability", b"\x01\0\0\x02" + bytes(16))
    _append(path)
    assert os.listxattr(path) == []


def test_system_xattrs_are_not_supported(directory: Path) -> None:
    with pytest.raises(OSError, match="not supported"):
        os.setxattr(directory, "system.other", b"x")
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(directory, "system.lfs.other")
