# ruff: noqa: E501 -- the rows of a table
"""Conditions of one call each, those that are tested elsewhere, and those out of reach."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe

from tests.posix.calls import CREATE, libc, opened
from tests.posix.world import World

Action = Callable[[World], object]

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100
SEEK_DATA = 3


@contextmanager
def descriptor_of(path: str, flags: int = os.O_RDWR) -> Iterator[int]:
    """Keep a file open for a block."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def with_open(act: Callable[[int], object], flags: int = os.O_RDWR, what: str = "file") -> Action:
    """Return an action on an open file of the world."""

    def action(world: World) -> None:
        with descriptor_of(getattr(world, what), flags) as descriptor:
            act(descriptor)

    return action


def on_closed(act: Callable[[int], object]) -> Action:
    """Return an action on a descriptor that was closed."""

    def action(world: World) -> None:
        act(opened(world.file))

    return action


def by_user(act: Callable[[World], object]) -> Action:
    """Return an action that an ordinary user takes."""
    return lambda world: world.as_user(lambda: act(world))


def renameat2(path: str, new_path: str, flags: int) -> None:
    """Rename with flags."""
    libc("renameat2", AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(new_path), flags)


def _limited(which: int, value: int, act: Callable[[], object]) -> None:
    """Act under a limit of the process."""
    before = resource.getrlimit(which)
    resource.setrlimit(which, (value, before[1]))
    try:
        act()
    finally:
        resource.setrlimit(which, before)


def _too_large(world: World) -> None:
    """Write past the limit of the process."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        _limited(
            resource.RLIMIT_FSIZE,
            4096,
            lambda: with_open(lambda fd: os.pwrite(fd, b"x", 4096))(world),
        )
    finally:
        signal.signal(signal.SIGXFSZ, ignored)


def _opened_too_often(world: World) -> None:
    highest = os.dup(0)
    os.close(highest)
    _limited(resource.RLIMIT_NOFILE, highest, lambda: os.open(world.file, os.O_RDONLY))


def _program(world: World) -> str:
    """Make a program, for a test to run."""
    path = f"{world.path}/program"
    with open("/bin/sleep", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    os.chmod(path, 0o755)
    return path


def _while_running(act: Callable[[str], object]) -> Action:
    def action(world: World) -> None:
        path = _program(world)
        running = subprocess.Popen([path, "100"])
        try:
            act(path)
        finally:
            running.kill()
            running.wait()

    return action


def _locked_by_another(take: Callable[[int], object], try_again: Callable[[int], object]) -> Action:
    """Let another process hold a lock while this one tries."""

    def action(world: World) -> None:
        ready, told = Pipe()
        child = os.fork()
        if not child:
            with descriptor_of(world.file) as descriptor:
                take(descriptor)
                told.send(True)
                signal.pause()
        try:
            ready.recv()
            with_open(try_again)(world)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    return action


def _deadlock(world: World) -> None:
    """Let two processes wait for each other's lock: whoever comes last is told."""
    ready, told = Pipe()
    with descriptor_of(world.file) as descriptor:
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, 0)
        child = os.fork()
        if not child:
            code = 0
            with descriptor_of(world.file) as other:
                fcntl.lockf(other, fcntl.LOCK_EX, 1, 1)
                told.send(True)
                try:
                    fcntl.lockf(other, fcntl.LOCK_EX, 1, 0)
                except OSError as error:
                    code = error.errno or 255
            os._exit(code)
        ready.recv()
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, 1)
        finally:
            # What this process had is free now, and the child ends.
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def _listed_after_removal(world: World) -> None:
    """List a directory that was removed while open: it is empty, and so is POSIX's ENOENT."""
    path = f"{world.path}/gone"
    os.mkdir(path)
    with descriptor_of(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.rmdir(path)
        assert os.listdir(descriptor) == []
        os.close(os.open("name", CREATE, dir_fd=descriptor))


def _bound_socket(world: World) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{world.path}/socket")
    os.open(f"{world.path}/socket", os.O_RDONLY)


def _mapped(
    protection: int, flags: int = mmap.MAP_SHARED, length: int = 1
) -> Callable[[int], object]:
    return lambda descriptor: mmap.mmap(descriptor, length, flags, protection)


def _no_mapping(name: str, *arguments: object) -> Action:
    """Call a function of mapped memory on addresses where nothing is mapped."""

    def action(world: World) -> None:
        libc(name, *arguments)

    return action


def _mmap_length_zero(world: World) -> None:
    with descriptor_of(world.file) as descriptor:
        result = ctypes.c_ssize_t(
            libc_long("mmap", None, 0, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        )
        if result.value == -1:
            raise OSError(ctypes.get_errno(), "mmap")


def libc_long(name: str, *arguments: object) -> int:
    """Call a function that returns an address."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype = ctypes.c_ssize_t
    result: int = function(*arguments)
    return result


def _crossed(act: Callable[[str, str], object]) -> Action:
    return lambda world: act(world.file, f"{world.other}/name")


def _names_of_xattrs(world: World, size: int) -> None:
    os.setxattr(world.file, "user.name", b"some value")
    path = os.fsencode(world.file)
    if size:
        libc("listxattr", path, ctypes.create_string_buffer(size), size)
    else:
        libc("getxattr", path, b"user.name", ctypes.create_string_buffer(1), 1)


def _xattr_made_twice(world: World) -> None:
    for _ in range(2):
        os.setxattr(world.file, "user.name", b"", os.XATTR_CREATE)


SPECIAL: list[tuple[str, str, str, Action]] = [
    # open and what it returns
    ("open", "EACCES", "a file without read permission", by_user(lambda w: opened(w.private))),
    ("open", "EACCES", "a file without write permission", by_user(lambda w: opened(w.file, os.O_WRONLY))),
    ("open", "EISDIR", "a directory for writing", lambda w: opened(w.directory, os.O_WRONLY)),
    ("open", "ELOOP", "O_NOFOLLOW on a symlink", lambda w: opened(w.link, os.O_NOFOLLOW)),
    ("open", "ENOENT", "a missing name", lambda w: opened(f"{w.path}/missing")),
    ("open", "ENOTDIR", "O_DIRECTORY on a file", lambda w: opened(w.file, os.O_DIRECTORY)),
    ("open", "ENXIO", "a fifo without a reader", lambda w: opened(w.fifo, os.O_WRONLY | os.O_NONBLOCK)),
    ("open", "ENXIO", "a socket", _bound_socket),
    ("open", "EPERM", "O_NOATIME by another than the owner", by_user(lambda w: opened(w.file, os.O_NOATIME))),
    ("open", "ETXTBSY", "a running program for writing", _while_running(lambda path: opened(path, os.O_WRONLY))),
    ("open", "EMFILE", "at the limit of the process", _opened_too_often),
    ("open", "EINVAL", "O_TMPFILE without write access", lambda w: opened(w.path, os.O_TMPFILE)),
    ("close", "EBADF", "twice", on_closed(os.close)),
    ("read", "EBADF", "opened for writing only", with_open(lambda fd: os.read(fd, 1), os.O_WRONLY)),
    ("read", "EISDIR", "a directory", with_open(lambda fd: os.read(fd, 1), os.O_RDONLY, "directory")),
    ("read", "EINVAL", "at a negative offset", with_open(lambda fd: os.pread(fd, 1, -1))),
    ("read", "ESPIPE", "pread of a fifo", with_open(lambda fd: os.pread(fd, 1, 0), os.O_RDWR, "fifo")),
    ("read", "EAGAIN", "an empty fifo, nonblocking", with_open(lambda fd: os.read(fd, 1), os.O_RDWR | os.O_NONBLOCK, "fifo")),
    ("write", "EBADF", "opened for reading only", with_open(lambda fd: os.write(fd, b"x"), os.O_RDONLY)),
    ("write", "EFBIG", "past the limit of the process", _too_large),
    ("write", "EINVAL", "at a negative offset", with_open(lambda fd: os.pwrite(fd, b"x", -1))),
    ("write", "ESPIPE", "pwrite to a fifo", with_open(lambda fd: os.pwrite(fd, b"x", 0), os.O_RDWR, "fifo")),
    ("write", "EAGAIN", "a full fifo, nonblocking", with_open(lambda fd: [os.write(fd, bytes(65536)) for _ in range(99)], os.O_RDWR | os.O_NONBLOCK, "fifo")),
    ("write", "EPIPE", "a fifo that lost its reader", lambda w: _write_without_reader(w)),
    ("lseek", "EBADF", "a closed file", on_closed(lambda fd: os.lseek(fd, 0, os.SEEK_SET))),
    ("lseek", "EINVAL", "before the start", with_open(lambda fd: os.lseek(fd, -1, os.SEEK_SET))),
    ("lseek", "ENXIO", "data past the end", with_open(lambda fd: os.lseek(fd, 100, SEEK_DATA))),
    ("lseek", "ESPIPE", "a fifo", with_open(lambda fd: os.lseek(fd, 0, os.SEEK_SET), os.O_RDWR, "fifo")),
    ("truncate", "EACCES", "a file without write permission", by_user(lambda w: os.truncate(w.file, 0))),
    ("truncate", "EINVAL", "to a negative size", lambda w: os.truncate(w.file, -1)),
    ("truncate", "EINVAL", "a fifo", lambda w: os.truncate(w.fifo, 0)),
    ("truncate", "EISDIR", "a directory", lambda w: os.truncate(w.directory, 0)),
    ("truncate", "ETXTBSY", "a running program", _while_running(lambda path: os.truncate(path, 0))),
    ("truncate", "EFBIG", "past the limit of the process", lambda w: _truncated_too_large(w)),
    ("ftruncate", "EBADF", "a closed file", on_closed(lambda fd: libc("ftruncate", fd, 0))),
    ("ftruncate", "EINVAL", "opened for reading only", with_open(lambda fd: os.ftruncate(fd, 0), os.O_RDONLY)),
    ("ftruncate", "EFBIG", "past the limit of the process", lambda w: _truncated_too_large(w)),
    # names
    ("link", "EPERM", "a directory", lambda w: os.link(w.directory, f"{w.path}/new")),
    ("link", "ENOENT", "a missing name", lambda w: os.link(f"{w.path}/missing", f"{w.path}/new")),
    ("link", "EACCES", "in a directory without write permission", by_user(lambda w: _linked(w, f"{w.guarded}/name"))),
    ("link", "EXDEV", "to another filesystem", _crossed(os.link)),
    ("symlink", "ENAMETOOLONG", "a target of 4,096 bytes", lambda w: os.symlink("t" * 4096, f"{w.path}/new")),
    ("symlink", "ENOENT", "an empty target", lambda w: os.symlink("", f"{w.path}/new")),
    ("readlink", "EINVAL", "a file", lambda w: os.readlink(w.file)),
    ("readlink", "ENOENT", "a missing name", lambda w: os.readlink(f"{w.path}/missing")),
    ("rmdir", "ENOTEMPTY", "a directory with entries", lambda w: os.rmdir(w.directory)),
    ("rmdir", "ENOTDIR", "a file", lambda w: os.rmdir(w.file)),
    ("rmdir", "EINVAL", "the name is a dot", lambda w: os.rmdir(f"{w.directory}/.")),
    ("rmdir", "ENOTEMPTY", "the name is two dots", lambda w: os.rmdir(f"{w.directory}/..")),
    ("rmdir", "EBUSY", "a mount point", lambda w: os.rmdir(w.read_only)),
    ("rmdir", "EPERM", "of another in a sticky directory", by_user(lambda w: os.rmdir(f"{w.sticky}/directory"))),
    ("rmdir", "EACCES", "in a directory without write permission", by_user(lambda w: os.rmdir(w.guarded))),
    ("rmdir", "ENOENT", "a missing name", lambda w: os.rmdir(f"{w.path}/missing")),
    ("unlink", "EISDIR", "a directory", lambda w: os.unlink(w.directory)),
    ("unlink", "EPERM", "of another in a sticky directory", by_user(lambda w: os.unlink(f"{w.sticky}/name"))),
    ("unlink", "EACCES", "in a directory without write permission", by_user(lambda w: os.unlink(w.file))),
    ("unlink", "ENOENT", "a missing name", lambda w: os.unlink(f"{w.path}/missing")),
    ("rename", "EINVAL", "a directory into itself", lambda w: os.rename(w.directory, f"{w.directory}/new")),
    ("rename", "EINVAL", "with contradicting flags", lambda w: renameat2(w.file, w.link, RENAME_NOREPLACE | RENAME_EXCHANGE)),
    ("rename", "EBUSY", "the name is a dot", lambda w: os.rename(f"{w.directory}/.", f"{w.path}/new")),
    ("rename", "EBUSY", "a mount point", lambda w: os.rename(w.read_only, f"{w.read_only}.new")),
    ("rename", "EISDIR", "a file over a directory", lambda w: os.rename(w.file, w.directory)),
    ("rename", "ENOTDIR", "a directory over a file", lambda w: os.rename(w.directory, w.file)),
    ("rename", "ENOTEMPTY", "over a directory with entries", lambda w: os.rename(w.guarded, w.directory)),
    ("rename", "EXDEV", "to another filesystem", _crossed(os.rename)),
    ("rename", "EEXIST", "RENAME_NOREPLACE and the name exists", lambda w: renameat2(w.link, w.file, RENAME_NOREPLACE)),
    ("rename", "ENOENT", "RENAME_EXCHANGE with a missing name", lambda w: renameat2(w.file, f"{w.path}/missing", RENAME_EXCHANGE)),
    ("rename", "ENOENT", "a missing name", lambda w: os.rename(f"{w.path}/missing", f"{w.path}/new")),
    ("rename", "EPERM", "of another in a sticky directory", by_user(lambda w: os.rename(f"{w.sticky}/name", f"{w.sticky}/new"))),
    ("rename", "EPERM", "over that of another in a sticky directory", by_user(lambda w: _replaced_in_sticky(w))),
    ("rename", "EACCES", "in a directory without write permission", by_user(lambda w: os.rename(w.file, f"{w.path}/new"))),
    ("rename", "ENAMETOOLONG", "a new name of 256 bytes", lambda w: os.rename(w.file, f"{w.path}/{'n' * 256}")),
    ("mknod", "EPERM", "a device by an ordinary user", by_user(lambda w: os.mknod(f"{w.sticky}/new", stat.S_IFCHR | 0o600, os.makedev(1, 3)))),
    ("mknod", "EINVAL", "of an unknown type", lambda w: libc("mknod", os.fsencode(f"{w.path}/new"), 0o170000, 0)),
    # attributes
    ("chmod", "EPERM", "by another than the owner", by_user(lambda w: os.chmod(w.file, 0o777))),
    ("fchmod", "EPERM", "by another than the owner", by_user(with_open(lambda fd: os.fchmod(fd, 0o777), os.O_RDONLY))),
    ("fchmod", "EBADF", "a closed file", on_closed(lambda fd: os.fchmod(fd, 0))),
    ("fchmod", "EROFS", "on a read-only mount", lambda w: _on_read_only_file(w, lambda fd: os.fchmod(fd, 0))),
    ("chown", "EPERM", "by another than the owner", by_user(lambda w: os.chown(w.file, 65534, 65534))),
    ("fchown", "EPERM", "by another than the owner", by_user(with_open(lambda fd: os.fchown(fd, 65534, -1), os.O_RDONLY))),
    ("fchown", "EBADF", "a closed file", on_closed(lambda fd: os.fchown(fd, 0, 0))),
    ("fchown", "EROFS", "on a read-only mount", lambda w: _on_read_only_file(w, lambda fd: os.fchown(fd, 0, 0))),
    ("utimensat", "EPERM", "a time by another than the owner", by_user(lambda w: os.utime(w.file, ns=(1, 1)))),
    ("utimensat", "EACCES", "now, without write permission", by_user(lambda w: os.utime(w.file))),
    ("utimensat", "EINVAL", "impossible nanoseconds", lambda w: _impossible_time(w)),
    ("utimensat", "EBADF", "a closed file", on_closed(lambda fd: os.utime(fd))),
    ("access", "EACCES", "a file without write permission", by_user(lambda w: libc("access", os.fsencode(w.file), os.W_OK))),
    ("access", "EINVAL", "an impossible mode", lambda w: libc("access", os.fsencode(w.file), 64)),
    ("access", "EROFS", "for writing on a read-only mount", lambda w: libc("access", os.fsencode(f"{w.read_only}/file"), os.W_OK)),
    ("stat", "ENOENT", "a missing name", lambda w: os.stat(f"{w.path}/missing")),
    ("opendir", "ENOTDIR", "a file", lambda w: os.listdir(w.file)),
    ("opendir", "EACCES", "a directory without read permission", by_user(lambda w: os.listdir(w.shut))),
    ("readdir", "EBADF", "a closed directory", on_closed(os.listdir)),
    ("readdir", "ENOENT", "a removed directory takes no names", _listed_after_removal),
    ("chdir", "ENOTDIR", "a file", lambda w: os.chdir(w.file)),
    # durability, locks, mapped memory
    ("fsync", "EBADF", "a closed file", on_closed(lambda fd: os.fsync(fd))),
    ("fsync", "EINVAL", "a fifo", with_open(os.fsync, os.O_RDWR, "fifo")),
    ("fdatasync", "EBADF", "a closed file", on_closed(lambda fd: os.fdatasync(fd))),
    ("fdatasync", "EINVAL", "a fifo", with_open(os.fdatasync, os.O_RDWR, "fifo")),
    ("fcntl", "EBADF", "a closed file", on_closed(lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH))),
    ("fcntl", "EBADF", "a lock for writing, opened for reading", with_open(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), os.O_RDONLY)),
    ("fcntl", "EACCES", "a lock that another has", _locked_by_another(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), lambda fd: _lock_refused(fd))),
    ("fcntl", "EDEADLK", "two processes wait for each other", _deadlock),
    ("fcntl", "EINVAL", "a lock before the start", with_open(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX, 1, -9))),
    ("flock", "EWOULDBLOCK", "a lock that another has", _locked_by_another(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX), lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))),
    ("flock", "EBADF", "a closed file", on_closed(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX))),
    ("flock", "EINVAL", "an unknown operation", with_open(lambda fd: libc("flock", fd, 0))),
    ("mmap", "EACCES", "shared for writing, opened for reading", with_open(_mapped(mmap.PROT_WRITE), os.O_RDONLY)),
    ("mmap", "EACCES", "opened for writing only", with_open(_mapped(mmap.PROT_READ, mmap.MAP_PRIVATE), os.O_WRONLY)),
    ("mmap", "ENODEV", "a directory", lambda w: _mapped_directory(w)),
    ("mmap", "EINVAL", "a length of zero", _mmap_length_zero),
    ("mmap", "EBADF", "a closed file", on_closed(lambda fd: _mapped(mmap.PROT_READ)(fd))),
    ("msync", "ENOMEM", "where nothing is mapped", _no_mapping("msync", ctypes.c_void_p(4096), 4096, 4)),
    ("msync", "EINVAL", "contradicting flags", _no_mapping("msync", ctypes.c_void_p(4096), 4096, 5)),
    # extended attributes
    ("getxattr", "ENODATA", "an attribute that is not there", lambda w: os.getxattr(w.file, "user.missing")),
    ("getxattr", "ERANGE", "a buffer too small", lambda w: _names_of_xattrs(w, 0)),
    ("getxattr", "ENOTSUP", "an unknown namespace", lambda w: os.getxattr(w.file, "unknown.name")),
    ("getxattr", "ERANGE", "a name of 256 bytes", lambda w: os.getxattr(w.file, "user." + "n" * 251)),
    ("setxattr", "EEXIST", "made twice", _xattr_made_twice),
    ("setxattr", "ENODATA", "replacing one that is not there", lambda w: os.setxattr(w.file, "user.x", b"", os.XATTR_REPLACE)),
    ("setxattr", "E2BIG", "a value of 65,537 bytes", lambda w: os.setxattr(w.file, "user.x", bytes(65537))),
    ("setxattr", "ERANGE", "a name of 256 bytes", lambda w: os.setxattr(w.file, "user." + "n" * 251, b"")),
    ("setxattr", "ENOTSUP", "an unknown namespace", lambda w: os.setxattr(w.file, "unknown.name", b"")),
    ("setxattr", "EPERM", "of users on a symlink", lambda w: os.setxattr(w.link, "user.x", b"", follow_symlinks=False)),
    ("setxattr", "EPERM", "trusted, by an ordinary user", by_user(lambda w: os.setxattr(w.file, "trusted.x", b""))),
    ("setxattr", "EACCES", "without write permission", by_user(lambda w: os.setxattr(w.file, "user.x", b""))),
    ("removexattr", "ENODATA", "one that is not there", lambda w: os.removexattr(w.file, "user.missing")),
    ("removexattr", "ENOTSUP", "an unknown namespace", lambda w: os.removexattr(w.file, "unknown.name")),
    ("removexattr", "EPERM", "trusted, by an ordinary user", by_user(lambda w: os.removexattr(w.file, "trusted.x"))),
    ("removexattr", "EACCES", "without write permission", by_user(lambda w: os.removexattr(w.file, "user.x"))),
    ("listxattr", "ERANGE", "a buffer too small", lambda w: _names_of_xattrs(w, 3)),
    ("posix_fallocate", "EBADF", "opened for reading only", with_open(lambda fd: os.posix_fallocate(fd, 0, 1), os.O_RDONLY)),
    ("posix_fallocate", "EINVAL", "a length of zero", with_open(lambda fd: os.posix_fallocate(fd, 0, 0))),
    ("posix_fallocate", "ESPIPE", "a fifo", with_open(lambda fd: os.posix_fallocate(fd, 0, 1), os.O_RDWR, "fifo")),
    ("posix_fallocate", "EFBIG", "past the largest size", with_open(lambda fd: os.posix_fallocate(fd, (1 << 63) - 1, 1))),
]  # fmt: skip
"""Call, error, when, and the action that brings it about."""

MOUNTED = "../mounted"
ELSEWHERE: list[tuple[str, str, str, str]] = [
    ("read", "EIO", "a damaged block", f"{MOUNTED}/test_errors.py::test_damaged_block_is_an_error_for_its_file_alone"),
    ("read", "EIO", "an error of the disk", "../mount/test_faults.py::test_read_error_is_for_that_file_alone"),
    ("write", "ENOSPC", "what was accepted is kept", f"{MOUNTED}/test_errors.py::test_full_filesystem_refuses_writes_and_takes_removals"),
    ("write", "ENOSPC", "the share of root", f"{MOUNTED}/test_errors.py::test_reserved_space_is_left_to_root"),
    ("fsync", "EIO", "the disk below is full", f"{MOUNTED}/test_errors.py::test_full_host_disk_is_an_error_and_keeps_what_was_synced"),
]  # fmt: skip
"""Conditions with a test of their own: call, error, when, file and test."""

_KERNEL = "decided by the kernel before it asks a filesystem"
UNREACHABLE: list[tuple[str, str, str]] = [
    ("EINTR", "", "requests are answered without waiting, so no signal ends one"),
    ("EOVERFLOW", "", "all numbers have 64 bits"),
    ("EDQUOT", "", "there are no quotas of users"),
    ("ENFILE ENOLCK EAGAIN EMFILE", "", f"limits of the machine, {_KERNEL}"),
    ("EMLINK", "", "an inode may have 2^32 - 1 links, more than a disk can hold names"),
    ("ETXTBSY", "unlink access", "Linux lets a running program be removed, and access() does not tell"),
    ("EEXIST", "rename", "Linux says ENOTEMPTY instead"),
    ("ENOSPC", "rename", "a rename may use the space that is kept for the cleaner"),
    ("EBUSY", "unlink", "only a directory, or a file with another bound over it, is a mount point"),
    ("EBUSY", "msync", "no memory is locked by a filesystem"),
    ("EINVAL", "chmod fchmod chown fchown", "every mode and owner is possible"),
    ("ENXIO ENOTSUP ENOMEM", "mmap", _KERNEL),
    ("EIO", "", "as read and fsync: any request that needs a damaged block ends so"),
    ("ENOTSUP", "listxattr", "every inode may have attributes"),
    ("ENODEV ENOTSUP ENOSPC", "posix_fallocate", "pyfuse3 has no fallocate; the C library writes instead"),
    ("ENOENT", "readdir", "Linux lists a removed directory as empty"),
]  # fmt: skip
"""Errors (of some calls, or of all) that no test can bring about, and why."""


# ------------------------------------------------------------- longer actions


def _write_without_reader(world: World) -> None:
    reader = os.open(world.fifo, os.O_RDONLY | os.O_NONBLOCK)
    with descriptor_of(world.fifo, os.O_WRONLY) as writer:
        os.close(reader)
        os.write(writer, b"x")


def _truncated_too_large(world: World) -> None:
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        _limited(resource.RLIMIT_FSIZE, 4096, lambda: os.truncate(world.file, 4097))
    finally:
        signal.signal(signal.SIGXFSZ, ignored)


def _linked(world: World, path: str) -> None:
    """Link a file of the user's own: those of others may not be linked at all."""
    opened(f"{world.sticky}/mine", CREATE)
    os.link(f"{world.sticky}/mine", path)


def _replaced_in_sticky(world: World) -> None:
    opened(f"{world.sticky}/mine", CREATE)
    os.rename(f"{world.sticky}/mine", f"{world.sticky}/name")


def _on_read_only_file(world: World, act: Callable[[int], object]) -> None:
    with descriptor_of(f"{world.read_only}/file", os.O_RDONLY) as descriptor:
        act(descriptor)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _impossible_time(world: World) -> None:
    times = (_Timespec * 2)(_Timespec(0, 10**9), _Timespec(0, 0))
    libc("utimensat", AT_FDCWD, os.fsencode(world.file), times, 0)


def _lock_refused(descriptor: int) -> None:
    """Try to lock; both errors that POSIX allows are the one it names first."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(errno.EACCES, "locked") from error


def _mapped_directory(world: World) -> None:
    with descriptor_of(world.directory, os.O_RDONLY) as descriptor:
        _mapped(mmap.PROT_READ, mmap.MAP_PRIVATE)(descriptor)
