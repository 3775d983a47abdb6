"""Names through the kernel: making, listing, renaming and removing entries."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lfs.files.rename import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from tests.support.mounting import renameat2
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse

LONGEST = "n" * 255
TOO_LONG = "n" * 256


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_lookup_of_missing_name_then_create_finds_it(directory: Path) -> None:
    for _ in range(3):
        assert not (directory / "f").exists()
    (directory / "f").touch()
    assert (directory / "f").exists()
    (directory / "f").unlink()
    assert not (directory / "f").exists()


@pytest.mark.parametrize("make", ["link", "rename", "mkdir", "symlink", "mknod"])
def test_lookup_of_missing_name_then_made_otherwise_finds_it(directory: Path, make: str) -> None:
    other, path = directory / "other", directory / "f"
    other.touch()
    assert not os.path.lexists(path)
    makers: dict[str, Callable[[], object]] = {
        "link": lambda: os.link(other, path),
        "rename": lambda: other.rename(path),
        "mkdir": path.mkdir,
        "symlink": lambda: path.symlink_to("target"),
        "mknod": lambda: os.mkfifo(path),
    }
    makers[make]()
    assert os.path.lexists(path)


def test_names_may_have_any_bytes(directory: Path) -> None:
    wanted = {b"\xff\xfe", b"new\nline", b"\xc3\xa4", b" ", b"-", b"*", LONGEST.encode()}
    for name in wanted:
        os.close(os.open(os.path.join(os.fsencode(directory), name), os.O_CREAT))
    assert set(os.listdir(os.fsencode(directory))) == wanted


@pytest.mark.parametrize(
    "call", ["open", "stat", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename"]
)
def test_too_long_name_is_refused(directory: Path, call: str) -> None:
    path, other = directory / TOO_LONG, directory / "other"
    other.touch()
    calls: dict[str, Callable[[], object]] = {
        "open": lambda: os.open(path, os.O_CREAT),
        "stat": lambda: os.stat(path),
        "mkdir": lambda: os.mkdir(path),
        "mknod": lambda: os.mkfifo(path),
        "symlink": lambda: os.symlink("x", path),
        "link": lambda: os.link(other, path),
        "unlink": lambda: os.unlink(path),
        "rmdir": lambda: os.rmdir(path),
        "rename": lambda: os.rename(other, path),
    }
    with pytest.raises(OSError, match="too long") as caught:
        calls[call]()
    assert caught.value.errno == errno.ENAMETOOLONG
    assert names(directory) == {"other"}


def test_hard_links_share_one_inode(directory: Path) -> None:
    (directory / "a").write_bytes(b"hello")
    os.link(directory / "a", directory / "b")
    a, b = (directory / "a").stat(), (directory / "b").stat()
    assert a.st_ino == b.st_ino
    assert a.st_nlink == b.st_nlink == 2
    (directory / "b").write_bytes(b"changed")
    assert (directory / "a").read_bytes() == b"changed"
    (directory / "a").unlink()
    assert (directory / "b").stat().st_nlink == 1
    assert (directory / "b").read_bytes() == b"changed"


def test_symlinks_keep_their_target(directory: Path) -> None:
    (directory / "f").write_bytes(b"hello")
    (directory / "link").symlink_to("f")
    long = "x/" * 2047
    (directory / "long").symlink_to(long)
    assert os.readlink(directory / "link") == "f"
    assert os.readlink(directory / "long") == long
    assert (directory / "link").read_bytes() == b"hello"
    assert (directory / "link").lstat().st_size == 1
    assert stat.S_IMODE((directory / "link").lstat().st_mode) == 0o777


@pytest.mark.needs("nodes")
def test_special_files_keep_type_and_number(directory: Path) -> None:
    device = os.makedev(10, 123456)
    kinds = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
    devices = {"character": stat.S_IFCHR, "block": stat.S_IFBLK}
    for name, kind in (kinds | devices).items():
        os.mknod(directory / name, kind | 0o640, device if name in devices else 0)
        found = (directory / name).stat()
        assert stat.S_IFMT(found.st_mode) == kind
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert found.st_rdev == (device if name in devices else 0)


@pytest.mark.needs("root", "nodes")
def test_device_node_works(directory: Path) -> None:
    os.mknod(directory / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (directory / "null").read_bytes() == b""


def test_directories_count_their_links(directory: Path) -> None:
    assert directory.stat().st_nlink == 2
    (directory / "a").mkdir()
    (directory / "b").mkdir()
    assert directory.stat().st_nlink == 4
    (directory / "a").rename(directory / "b" / "a")
    assert directory.stat().st_nlink == 3
    assert (directory / "b").stat().st_nlink == 3
    (directory / "b" / "a").rmdir()
    assert (directory / "b").stat().st_nlink == 2


def test_rmdir_of_full_directory_is_refused(directory: Path) -> None:
    (directory / "a").mkdir()
    (directory / "a" / "f").touch()
    with pytest.raises(OSError, match="not empty"):
        (directory / "a").rmdir()


def test_removed_directory_that_is_open_is_empty(directory: Path) -> None:
    (directory / "a").mkdir()
    descriptor = os.open(directory / "a", os.O_RDONLY)
    (directory / "a").rmdir()
    assert os.listdir(descriptor) == []
    assert os.fstat(descriptor).st_nlink == 0
    with pytest.raises(FileNotFoundError):
        os.open("f", os.O_CREAT, dir_fd=descriptor)
    os.close(descriptor)


def test_rename_replaces(directory: Path) -> None:
    (directory / "a").write_bytes(b"a")
    (directory / "b").write_bytes(b"b")
    (directory / "a").rename(directory / "b")
    assert names(directory) == {"b"}
    assert (directory / "b").read_bytes() == b"a"


def test_rename_into_itself_is_refused(directory: Path) -> None:
    (directory / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="Invalid"):
        (directory / "a").rename(directory / "a" / "b" / "c")


def test_rename_directory_changes_its_parent(directory: Path) -> None:
    (directory / "a" / "sub").mkdir(parents=True)
    (directory / "b").mkdir()
    (directory / "a" / "sub").rename(directory / "b" / "sub")
    with os.scandir(directory / "b"):
        assert (directory / "b" / "sub" / "..").stat().st_ino == (directory / "b").stat().st_ino


def test_rename_no_replace_refuses_an_existing_name(directory: Path) -> None:
    (directory / "a").write_bytes(b"a")
    (directory / "b").write_bytes(b"b")
    with pytest.raises(FileExistsError):
        renameat2(directory / "a", directory / "b", RENAME_NOREPLACE)
    renameat2(directory / "a", directory / "c", RENAME_NOREPLACE)
    assert (directory / "c").read_bytes() == b"a"
    assert (directory / "b").read_bytes() == b"b"


def test_rename_exchange_swaps_file_and_directory(directory: Path) -> None:
    (directory / "x").mkdir()
    (directory / "x" / "file").write_bytes(b"file")
    (directory / "dir").mkdir()
    (directory / "dir" / "inside").touch()
    renameat2(directory / "x" / "file", directory / "dir", RENAME_EXCHANGE)
    assert (directory / "dir").read_bytes() == b"file"
    assert names(directory / "x" / "file") == {"inside"}
    assert directory.stat().st_nlink == 3
    assert (directory / "x").stat().st_nlink == 3


def test_rename_exchange_with_missing_name_is_refused(directory: Path) -> None:
    (directory / "a").touch()
    with pytest.raises(FileNotFoundError):
        renameat2(directory / "a", directory / "b", RENAME_EXCHANGE)


def test_rename_with_whiteout_leaves_a_device_without_permissions(directory: Path) -> None:
    (directory / "a").write_text("content")
    (directory / "b").touch()
    renameat2(directory / "a", directory / "b", RENAME_WHITEOUT)
    assert (directory / "b").read_text() == "content"
    status = (directory / "a").lstat()
    assert (status.st_mode, status.st_rdev, status.st_nlink) == (stat.S_IFCHR, 0, 1)
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    with pytest.raises(OSError, match="Invalid argument"):
        renameat2(directory / "a", directory / "b", RENAME_WHITEOUT | RENAME_EXCHANGE)
    (directory / "a").unlink()


def test_listing_has_dots_and_numbers(directory: Path) -> None:
    (directory / "sub").mkdir()
    assert (directory / "sub" / ".").stat().st_ino == (directory / "sub").stat().st_ino
    entries = {entry.name: entry.inode() for entry in os.scandir(directory)}
    assert entries == {"sub": (directory / "sub").stat().st_ino}


def test_listing_of_5000_entries_is_complete(directory: Path) -> None:
    for number in range(5000):
        os.mknod(directory / str(number))
    assert sorted(os.listdir(directory), key=int) == [str(number) for number in range(5000)]


def test_listing_while_removing_sees_every_other_entry_once(directory: Path) -> None:
    for number in range(5000):
        os.mknod(directory / str(number))
    seen = []
    with os.scandir(directory) as entries:
        for entry in entries:
            seen.append(entry.name)
            # Each entry takes one with it that may or may not have been listed yet.
            Path(entry.path).unlink(missing_ok=True)
            partner = str(int(entry.name) ^ 1)
            if (directory / partner).exists():
                os.unlink(directory / partner)
    assert len(seen) == len(set(seen))
    assert {int(name) // 2 for name in seen} == set(range(2500))
    assert os.listdir(directory) == []


def test_listing_while_adding_sees_every_old_entry_once(directory: Path) -> None:
    for number in range(1000):
        os.mknod(directory / f"old{number}")
    seen = []
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count < 1000:
                os.mknod(directory / f"new{count}")
    assert len(seen) == len(set(seen))
    assert {name for name in seen if name.startswith("old")} == {f"old{n}" for n in range(1000)}


def test_listing_from_a_position_goes_on_there(directory: Path) -> None:
    for number in range(300):
        os.mknod(directory / str(number))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.c_void_p
    libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
    libc.telldir.restype = ctypes.c_long
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    stream = libc.opendir(os.fsencode(directory))

    def next_name() -> bytes | None:
        entry = libc.readdir(stream)
        return ctypes.string_at(entry + 19) if entry else None

    positions = []
    while True:
        position = libc.telldir(stream)
        name = next_name()
        if name is None:
            break
        positions.append((position, name))
    assert {name for _, name in positions} >= {b".", b"..", b"0", b"299"}
    for position, name in positions[::37]:
        libc.seekdir(stream, position)
        assert next_name() == name
    libc.closedir(stream)


class _FileHandle(ctypes.Structure):
    """A ``struct file_handle`` with room for what FUSE puts there."""

    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("handle", ctypes.c_ubyte * 128),
    )


def _name_to_handle(path: Path) -> _FileHandle:
    libc = ctypes.CDLL(None, use_errno=True)
    handle, mount_id = _FileHandle(handle_bytes=128), ctypes.c_int()
    arguments = (-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0)
    assert libc.name_to_handle_at(*arguments) == 0, os.strerror(ctypes.get_errno())
    return handle


def _open_handle(directory: Path, handle: _FileHandle) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    mount_descriptor = os.open(directory, os.O_RDONLY)
    opened: int = libc.open_by_handle_at(mount_descriptor, ctypes.byref(handle), os.O_RDONLY)
    os.close(mount_descriptor)
    if opened < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return opened


@pytest.mark.needs("root")
def test_handle_of_a_file_that_a_crash_took_back_is_not_another_s(
    image: Path, mount: Mounter
) -> None:
    mounted = mount(image, "-o", "commit=600")
    (mounted.path / "secret").write_text("somebody's")
    ino = (mounted.path / "secret").stat().st_ino
    handle = _name_to_handle(mounted.path / "secret")
    mounted.kill()
    mounted = mount(image)
    path = mounted.path / "another"
    path.write_text("another's")
    assert path.stat().st_ino == ino
    with pytest.raises(OSError, match="Stale"):
        _open_handle(mounted.path, handle)
    descriptor = _open_handle(mounted.path, _name_to_handle(path))
    assert os.read(descriptor, 100) == b"another's"
    os.close(descriptor)
    mounted.stop()


@pytest.mark.needs("root")
def test_handle_of_a_file_outlives_a_remount(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    (mounted.path / "sub").mkdir()
    path = mounted.path / "sub" / "f"
    path.write_text("content")
    gone = mounted.path / "gone"
    gone.touch()
    handle, gone_handle = _name_to_handle(path), _name_to_handle(gone)
    directory_handle = _name_to_handle(mounted.path / "sub")
    gone.unlink()
    mounted.stop()
    mounted = mount(image)
    descriptor = _open_handle(mounted.path, handle)
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)
    descriptor = _open_handle(mounted.path, directory_handle)
    assert os.listdir(descriptor) == ["f"]
    assert os.stat("..", dir_fd=descriptor).st_ino == mounted.path.stat().st_ino
    os.close(descriptor)
    with pytest.raises(OSError, match="Stale"):
        _open_handle(mounted.path, gone_handle)
    mounted.stop()
