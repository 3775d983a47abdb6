"""Actions that bring an error about, where one call is not enough to tell."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
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


def too_large(world: World) -> None:
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


def opened_too_often(world: World) -> None:
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


def while_running(act: Callable[[str], object]) -> Action:
    def action(world: World) -> None:
        path = _program(world)
        running = subprocess.Popen([path, "100"])
        try:
            act(path)
        finally:
            running.kill()
            running.wait()

    return action


def locked_by_another(take: Callable[[int], object], try_again: Callable[[int], object]) -> Action:
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


def deadlock(world: World) -> None:
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


def listed_after_removal(world: World) -> None:
    """List a directory that was removed while open: it is empty, and so is POSIX's ENOENT."""
    path = f"{world.path}/gone"
    os.mkdir(path)
    with descriptor_of(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.rmdir(path)
        assert os.listdir(descriptor) == []
        os.close(os.open("name", CREATE, dir_fd=descriptor))


def bound_socket(world: World) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{world.path}/socket")
    os.open(f"{world.path}/socket", os.O_RDONLY)


def mapped(
    protection: int, flags: int = mmap.MAP_SHARED, length: int = 1
) -> Callable[[int], object]:
    return lambda descriptor: mmap.mmap(descriptor, length, flags, protection)


def no_mapping(name: str, *arguments: object) -> Action:
    """Call a function of mapped memory on addresses where nothing is mapped."""

    def action(world: World) -> None:
        libc(name, *arguments)

    return action


def mmap_length_zero(world: World) -> None:
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


def crossed(act: Callable[[str, str], object]) -> Action:
    return lambda world: act(world.file, f"{world.other}/name")


def names_of_xattrs(world: World, size: int) -> None:
    os.setxattr(world.file, "user.name", b"some value")
    path = os.fsencode(world.file)
    if size:
        libc("listxattr", path, ctypes.create_string_buffer(size), size)
    else:
        libc("getxattr", path, b"user.name", ctypes.create_string_buffer(1), 1)


def xattr_made_twice(world: World) -> None:
    for _ in range(2):
        os.setxattr(world.file, "user.name", b"", os.XATTR_CREATE)


def write_without_reader(world: World) -> None:
    reader = os.open(world.fifo, os.O_RDONLY | os.O_NONBLOCK)
    with descriptor_of(world.fifo, os.O_WRONLY) as writer:
        os.close(reader)
        os.write(writer, b"x")


def truncated_too_large(world: World) -> None:
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        _limited(resource.RLIMIT_FSIZE, 4096, lambda: os.truncate(world.file, 4097))
    finally:
        signal.signal(signal.SIGXFSZ, ignored)


def linked(world: World, path: str) -> None:
    """Link a file of the user's own: those of others may not be linked at all."""
    opened(f"{world.sticky}/mine", CREATE)
    os.link(f"{world.sticky}/mine", path)


def replaced_in_sticky(world: World) -> None:
    opened(f"{world.sticky}/mine", CREATE)
    os.rename(f"{world.sticky}/mine", f"{world.sticky}/name")


def on_read_only_file(world: World, act: Callable[[int], object]) -> None:
    with descriptor_of(f"{world.read_only}/file", os.O_RDONLY) as descriptor:
        act(descriptor)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def impossible_time(world: World) -> None:
    times = (_Timespec * 2)(_Timespec(0, 10**9), _Timespec(0, 0))
    libc("utimensat", AT_FDCWD, os.fsencode(world.file), times, 0)


def lock_refused(descriptor: int) -> None:
    """Try to lock; both errors that POSIX allows are the one it names first."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(errno.EACCES, "locked") from error


def mapped_directory(world: World) -> None:
    with descriptor_of(world.directory, os.O_RDONLY) as descriptor:
        mapped(mmap.PROT_READ, mmap.MAP_PRIVATE)(descriptor)
