"""Who uses an image: processes with a lock, mounts, and mounts that others keep.

Best effort, for messages: another user's processes may hide.  Everything is read from
/proc as text; no path of anybody's is touched, see ``lfs.device.exclusion.mount_table``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeVar

from lfs.device.exclusion.mount_table import Entry, read_table

PROC = Path("/proc")
COMMAND_SECONDS = 0.2
_T = TypeVar("_T")
_OWN_TYPES = ("fuse.lfs", "fuse.faultdisk")


class LockedRange(NamedTuple):
    """Bytes of an inode as lists of locks show them."""

    inode: str
    """As ``major:minor:inode``, the first two in hexadecimal."""
    start: int
    end: int

    def is_in(self, line: str) -> bool:
        """Tell whether a line of /proc/locks or fdinfo is of a lock on any of these bytes."""
        fields = line.split()
        if self.inode not in fields:
            return False
        start, end = fields[fields.index(self.inode) + 1 :][:2]
        return int(start) < self.end and (end == "EOF" or self.start <= int(end))


class Copy(NamedTuple):
    """A mount in another mount namespace, and the first process that is in there."""

    pid: int
    path: str


def inode_as_listed(descriptor: int) -> str:
    """Return how lists of locks name the inode of an open file.

    Its filesystem has there the number of the mount table, which ``stat`` need not tell.
    """
    status = os.fstat(descriptor)
    major, minor, ino = os.major(status.st_dev), os.minor(status.st_dev), status.st_ino
    with suppress(OSError, KeyError, StopIteration):
        text = (PROC / f"self/fdinfo/{descriptor}").read_text()
        shown = dict(line.split(":", 1) for line in text.splitlines())
        ino = int(shown["ino"])
        number = int(shown["mnt_id"])
        entry = next(entry for entry in read_table() if entry.mount_id == number)
        major, minor = map(int, entry.device_number.split(":"))
    return listed_inode(major, minor, ino)


def listed_inode(major: int, minor: int, ino: int) -> str:
    """Return how lists of locks name an inode."""
    return f"{major:02x}:{minor:02x}:{ino}"


def is_locked(locked: LockedRange) -> bool:
    """Tell whether anybody has a lock on any of these bytes."""
    try:
        lines = (PROC / "locks").read_text().splitlines()
    except OSError:
        return False
    return any(locked.is_in(line) for line in lines)


def describe_process(locked: LockedRange) -> str | None:
    """Return "process 12 (mount.lfs a.img /mnt)" for who has a lock on these bytes, or None."""
    own = False
    for pid in _pids():
        if _has_lock(pid, locked):
            if pid == os.getpid():
                own = True
                continue
            command = command_line(pid)
            if command:
                return f"process {pid} ({command})"
    return f"process {os.getpid()} (this one)" if own else None


def describe_mount(sources: Collection[str]) -> str:
    """Return where lfs or faultdisk has mounted one of ``sources``, as the end of a sentence.

    Empty when it is nowhere.
    """

    def is_of_image(entry: Entry) -> bool:
        return entry.filesystem_type in _OWN_TYPES and entry.source in sources

    with suppress(OSError):
        for entry in read_table():
            if is_of_image(entry):
                return f", mounted on {entry.path}"
    return "".join(f", {describe_copy(copy)}" for copy in _first(copies(is_of_image)))


def describe_device(number: int) -> str:
    """Return what the mount table says of a block device, as the end of a sentence."""
    shown = f"{os.major(number)}:{os.minor(number)}"
    with suppress(OSError):
        for entry in read_table():
            if entry.device_number == shown:
                return f", mounted on {entry.path}"
    found = copies(lambda entry: entry.device_number == shown)
    return "".join(f", {describe_copy(copy)}" for copy in _first(found))


def describe_copy(copy: Copy) -> str:
    """Return who keeps a mount in another namespace, and where."""
    command = command_line(copy.pid)
    return (
        f"kept mounted on {copy.path} in the mount namespace of process {copy.pid}"
        f"{f' ({command})' if command else ''}"
    )


def copies(wanted: Callable[[Entry], bool]) -> Iterator[Copy]:
    """Yield the mounts in other mount namespaces for which ``wanted`` is true, one for each."""
    seen = {_namespace("self")}
    for pid in _pids():
        namespace = _namespace(str(pid))
        if namespace is None or namespace in seen:
            continue
        with suppress(OSError):
            table = read_table(PROC / str(pid) / "mountinfo")
            seen.add(namespace)
            yield from (Copy(pid, entry.path) for entry in _first(filter(wanted, table)))


def command_line(pid: int) -> str:
    """Return the command line of a process on one line; empty when it is gone.

    It lies in the memory of the process, for which the kernel may have to wait: for ever,
    where the process waits for a page of a filesystem that waits for this answer.  So a
    thread asks, and after ``COMMAND_SECONDS`` the short name serves.
    """
    raw = in_time(lambda: _read(pid, "cmdline"), COMMAND_SECONDS)
    if raw is None:
        raw = _read(pid, "comm")
    text = raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return " ".join(text.split())


def in_time(ask: Callable[[], _T], seconds: float) -> _T | None:
    """Return what ``ask`` does, or None when it takes longer: it is in a thread of its own."""
    answer: SimpleQueue[_T] = SimpleQueue()
    asking = threading.Thread(target=lambda: answer.put(ask()), daemon=True)
    try:
        asking.start()
        return answer.get(timeout=seconds)
    except (RuntimeError, Empty):
        return None


def _read(pid: int, name: str) -> bytes:
    """Return what /proc tells of a process; nothing when it is gone."""
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def _has_lock(pid: int, locked: LockedRange) -> bool:
    with suppress(OSError):  # gone, or not ours to look at
        for name in os.listdir(PROC / str(pid) / "fdinfo"):
            with suppress(OSError):
                text = (PROC / str(pid) / "fdinfo" / name).read_text(errors="replace")
                if any(map(locked.is_in, text.splitlines())):
                    return True
    return False


def _namespace(pid: str) -> str | None:
    try:
        return os.readlink(PROC / pid / "ns/mnt")
    except OSError:
        return None


def _first(found: Iterator[_T]) -> list[_T]:
    return [item for item, _ in zip(found, range(1), strict=False)]
