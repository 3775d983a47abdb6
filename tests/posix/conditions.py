"""The calls of POSIX on files, with every error that POSIX gives them.

A *condition* is a call, an error, and when it occurs.  Each has a test, either
an action here that must end with that error on a mounted filesystem, or a test
elsewhere by name; or it has a reason why no filesystem on FUSE can show it.
``REQUIRED`` is what POSIX.1-2017 (and for extended attributes, ``renameat2``
and ``flock`` the Linux manual) lists, so that nothing is left out unnoticed.

Most errors of a path are those of every call that takes one, most errors of a
read-only or full filesystem those of every call that changes one; these
conditions are made from ``PATH_CALLS``, ``CHANGING_CALLS`` and ``GROWING_CALLS``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.posix.actions import Action
from tests.posix.calls import CHANGING_CALLS, GROWING_CALLS, MAKING_CALLS, PATH_CALLS
from tests.posix.special import ELSEWHERE, SPECIAL, UNREACHABLE
from tests.posix.world import World

REQUIRED: dict[str, str] = {
    "open": "EACCES EEXIST EINTR EINVAL EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE ENOENT ENOSPC "
    "ENOTDIR ENXIO EOVERFLOW EPERM EROFS ETXTBSY",
    "close": "EBADF EINTR EIO",
    "read": "EAGAIN EBADF EINTR EINVAL EIO EISDIR EOVERFLOW ESPIPE",
    "write": "EAGAIN EBADF EDQUOT EFBIG EINTR EINVAL EIO ENOSPC EPIPE ESPIPE",
    "lseek": "EBADF EINVAL ENXIO EOVERFLOW ESPIPE",
    "truncate": "EACCES EFBIG EINTR EINVAL EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOTDIR "
    "EROFS ETXTBSY",
    "ftruncate": "EBADF EFBIG EINTR EINVAL EIO",
    "link": "EACCES EEXIST ELOOP EMLINK ENAMETOOLONG ENOENT ENOSPC ENOTDIR EPERM EROFS EXDEV",
    "symlink": "EACCES EEXIST EIO ELOOP ENAMETOOLONG ENOENT ENOSPC ENOTDIR EROFS",
    "readlink": "EACCES EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOTDIR",
    "mkdir": "EACCES EEXIST ELOOP EMLINK ENAMETOOLONG ENOENT ENOSPC ENOTDIR EROFS",
    "rmdir": "EACCES EBUSY EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOTDIR ENOTEMPTY EPERM EROFS",
    "unlink": "EACCES EBUSY EISDIR ELOOP ENAMETOOLONG ENOENT ENOTDIR EPERM EROFS ETXTBSY",
    "rename": "EACCES EBUSY EEXIST EINVAL EIO EISDIR ELOOP EMLINK ENAMETOOLONG ENOENT ENOSPC "
    "ENOTDIR ENOTEMPTY EPERM EROFS EXDEV",
    "mknod": "EACCES EEXIST EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOSPC ENOTDIR EPERM EROFS",
    "mkfifo": "EACCES EEXIST ELOOP ENAMETOOLONG ENOENT ENOSPC ENOTDIR EROFS",
    "chmod": "EACCES EINTR EINVAL ELOOP ENAMETOOLONG ENOENT ENOTDIR EPERM EROFS",
    "fchmod": "EBADF EINTR EINVAL EPERM EROFS",
    "chown": "EACCES EINTR EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOTDIR EPERM EROFS",
    "fchown": "EBADF EINTR EINVAL EIO EPERM EROFS",
    "utimensat": "EACCES EBADF EINVAL ELOOP ENAMETOOLONG ENOENT ENOTDIR EPERM EROFS",
    "access": "EACCES EINVAL ELOOP ENAMETOOLONG ENOENT ENOTDIR EROFS ETXTBSY",
    "stat": "EACCES EIO ELOOP ENAMETOOLONG ENOENT ENOTDIR EOVERFLOW",
    "opendir": "EACCES ELOOP EMFILE ENAMETOOLONG ENFILE ENOENT ENOTDIR",
    "readdir": "EBADF ENOENT EOVERFLOW",
    "chdir": "EACCES EIO ELOOP ENAMETOOLONG ENOENT ENOTDIR",
    "statvfs": "EACCES EINTR EIO ELOOP ENAMETOOLONG ENOENT ENOTDIR EOVERFLOW",
    "fsync": "EBADF EINTR EINVAL EIO",
    "fdatasync": "EBADF EINTR EINVAL EIO",
    "fcntl": "EACCES EBADF EDEADLK EINTR EINVAL ENOLCK EOVERFLOW",
    "flock": "EBADF EINTR EINVAL ENOLCK EWOULDBLOCK",
    "mmap": "EACCES EAGAIN EBADF EINVAL EMFILE ENODEV ENOMEM ENOTSUP ENXIO EOVERFLOW",
    "msync": "EBUSY EINVAL ENOMEM",
    "getxattr": "EACCES ELOOP ENAMETOOLONG ENODATA ENOENT ENOTDIR ENOTSUP ERANGE",
    "setxattr": "E2BIG EACCES EDQUOT EEXIST ELOOP ENAMETOOLONG ENODATA ENOENT ENOSPC ENOTDIR "
    "ENOTSUP EPERM ERANGE EROFS",
    "removexattr": "EACCES ELOOP ENAMETOOLONG ENODATA ENOENT ENOTDIR ENOTSUP EPERM EROFS",
    "listxattr": "EACCES ELOOP ENAMETOOLONG ENOENT ENOTDIR ENOTSUP ERANGE",
    "posix_fallocate": "EBADF EFBIG EINTR EINVAL EIO ENODEV ENOSPC ENOTSUP ESPIPE",
}


@dataclass(frozen=True)
class Condition:
    """A call that must end with an error on a mounted filesystem."""

    call: str
    error: str
    when: str
    action: Action

    @property
    def name(self) -> str:
        """Return what a test of it is called."""
        return f"{self.call}-{self.error}-{self.when}".replace(" ", "_")


def conditions() -> Iterator[Condition]:
    """Yield every condition that an action here brings about."""
    for call, act in PATH_CALLS.items():
        for error, when, way in _WAYS:
            yield Condition(call, error, when, _through(act, way))
    for call, act in CHANGING_CALLS.items():
        yield Condition(call, "EROFS", "on a read-only mount", _on_read_only(act))
    for call, grow in GROWING_CALLS.items():
        yield Condition(call, "ENOSPC", "on a full filesystem", _on_full(grow))
    for call, act in MAKING_CALLS.items():
        yield Condition(call, "EEXIST", "the name exists", _on_existing(act))
        if call != "link":
            when = "in a directory without write permission"
            yield Condition(call, "EACCES", when, _unwritable(act))
    for row in SPECIAL:
        yield Condition(*row)


def table() -> Iterator[tuple[str, str, str, str]]:
    """Yield call, error, when or why, and the test, or nothing where none is possible."""
    here = "test_posix.py"
    rows = [(one.call, one.error, one.when, here) for one in conditions()]
    rows += [(call, error, when, test) for call, error, when, test in ELSEWHERE]
    rows += [
        (call, error, why, "")
        for errors, calls, why in UNREACHABLE
        for call in (calls.split() if calls else REQUIRED)
        for error in errors.split()
        if error in REQUIRED[call].split() and not _is_tested(rows, call, error)
    ]
    order = list(REQUIRED)
    yield from sorted(rows, key=lambda row: (order.index(row[0]), row[1], not row[3], row[2]))


def _is_tested(rows: list[tuple[str, str, str, str]], call: str, error: str) -> bool:
    return any(row[:2] == (call, error) for row in rows)


# ------------------------------------------------------------------ ways to an error


PathAct = Callable[[str], object]

_WAYS: list[tuple[str, str, Callable[[World], str]]] = [
    ("ENOENT", "a missing directory on the way", lambda world: f"{world.path}/missing/name"),
    ("ENOENT", "an empty path", lambda world: ""),
    ("ENOTDIR", "a file on the way", lambda world: f"{world.file}/name"),
    ("ELOOP", "a loop of symlinks on the way", lambda world: f"{world.loop}/name"),
    ("ENAMETOOLONG", "a name of 256 bytes", lambda world: f"{world.path}/{'n' * 256}"),
    ("ENAMETOOLONG", "a name of 1,024 bytes", lambda world: f"{world.path}/{'n' * 1024}"),
    ("ENAMETOOLONG", "a path of 4,096 bytes", lambda world: f"{world.path}{'/.' * 2048}/name"),
    ("EACCES", "a directory on the way without search permission", lambda world: world.closed),
]


def _through(act: PathAct, way: Callable[[World], str]) -> Action:
    def action(world: World) -> object:
        path = way(world)
        if path == world.closed:
            world.as_user(lambda: act(path))
        return act(path)

    return action


def _on_read_only(act: PathAct) -> Action:
    return lambda world: act(f"{world.read_only}/file")


def _on_full(act: Callable[[str, int], object]) -> Action:
    def action(world: World) -> None:
        for number in range(100_000):
            act(world.full, number)

    return action


def _on_existing(act: PathAct) -> Action:
    return lambda world: act(world.file)


def _unwritable(act: PathAct) -> Action:
    return lambda world: world.as_user(lambda: act(f"{world.guarded}/name"))


def as_markdown() -> str:
    """Return the table as it stands in TABLE.md."""
    lines = [
        "# What POSIX demands, and the test of it",
        "",
        "Made by `python -m tests.posix.conditions`; tests hold it to what is tested.",
        "",
        "| call | error | when | test |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {call} | {error} | {when} | {test or 'none: see the left'} |"
        for call, error, when, test in table()
    ]
    return "\n".join(lines) + os.linesep


if __name__ == "__main__":
    print(as_markdown(), end="")
