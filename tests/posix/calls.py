"""Calls by name, as functions of a path: the material of ``tests.posix.conditions``."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

CREATE = os.O_CREAT | os.O_WRONLY
_LIBC = ctypes.CDLL(None, use_errno=True)


def libc(name: str, *arguments: object) -> int:
    """Call a function of the C library that Python lacks; raise OSError when it fails."""
    result: int = getattr(_LIBC, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def opened(path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """Open and close; return nothing of interest."""
    descriptor = os.open(path, flags, mode)
    os.close(descriptor)
    return descriptor


def beside(path: str) -> str:
    """Return the nearest file called ``file`` on the way to ``path``, or a missing one."""
    parents = [str(parent / "file") for parent in Path(path).parents]
    return next((one for one in parents if os.path.isfile(one)), f"{path}.missing")


PATH_CALLS: dict[str, Callable[[str], object]] = {
    "open": opened,
    "truncate": lambda path: os.truncate(path, 0),
    "link": lambda path: os.link(path, f"{path}.new"),
    "symlink": lambda path: os.symlink("target", path),
    "readlink": os.readlink,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "rename": lambda path: os.rename(path, f"{path}.new"),
    "mknod": lambda path: os.mknod(path, 0o600),
    "mkfifo": os.mkfifo,
    "chmod": lambda path: os.chmod(path, 0o644),
    "chown": lambda path: os.chown(path, 0, 0),
    "utimensat": lambda path: os.utime(path, ns=(1, 1)),
    "access": lambda path: libc("access", os.fsencode(path), os.F_OK),
    "stat": os.stat,
    "opendir": os.listdir,
    "chdir": os.chdir,
    "statvfs": os.statvfs,
    "getxattr": lambda path: os.getxattr(path, "user.name"),
    "setxattr": lambda path: os.setxattr(path, "user.name", b""),
    "removexattr": lambda path: os.removexattr(path, "user.name"),
    "listxattr": os.listxattr,
}
"""Calls whose path can be wrong."""

CHANGING_CALLS: dict[str, Callable[[str], object]] = {
    "open": lambda path: opened(path, os.O_WRONLY),
    "truncate": PATH_CALLS["truncate"],
    "link": PATH_CALLS["link"],
    "symlink": lambda path: os.symlink("target", f"{path}.new"),
    "mkdir": lambda path: os.mkdir(f"{path}.new"),
    "rmdir": lambda path: os.rmdir(f"{os.path.dirname(path)}/directory"),
    "unlink": os.unlink,
    "rename": PATH_CALLS["rename"],
    "mknod": lambda path: os.mknod(f"{path}.new", 0o600),
    "mkfifo": lambda path: os.mkfifo(f"{path}.new"),
    "chmod": PATH_CALLS["chmod"],
    "chown": PATH_CALLS["chown"],
    "utimensat": PATH_CALLS["utimensat"],
    "setxattr": PATH_CALLS["setxattr"],
    "removexattr": PATH_CALLS["removexattr"],
}
"""Calls that a read-only filesystem refuses; the path is that of a file."""

MAKING_CALLS: dict[str, Callable[[str], object]] = {
    "open": lambda path: opened(path, CREATE | os.O_EXCL),
    "link": lambda path: os.link(beside(path), path),
    "symlink": PATH_CALLS["symlink"],
    "mkdir": os.mkdir,
    "mknod": PATH_CALLS["mknod"],
    "mkfifo": os.mkfifo,
}
"""Calls that make the name they are given."""


def _written(directory: str, number: int) -> None:
    descriptor = os.open(f"{directory}/file", os.O_WRONLY)
    try:
        os.pwrite(descriptor, b"x", (number + 1) << 20)
    finally:
        os.close(descriptor)


GROWING_CALLS: dict[str, Callable[[str, int], object]] = {
    "open": lambda directory, number: opened(f"{directory}/open{number}", CREATE),
    "write": _written,
    "link": lambda directory, number: os.link(
        f"{directory}/file", f"{directory}/link{number}".ljust(200, "x")
    ),
    "symlink": lambda directory, number: os.symlink("t" * 4000, f"{directory}/symlink{number}"),
    "mkdir": lambda directory, number: os.mkdir(f"{directory}/mkdir{number}"),
    "mknod": lambda directory, number: os.mknod(f"{directory}/mknod{number}", 0o600),
    "mkfifo": lambda directory, number: os.mkfifo(f"{directory}/mkfifo{number}"),
    "setxattr": lambda directory, number: os.setxattr(
        f"{directory}/file", f"user.{number}", b"x" * 60_000
    ),
}
"""Calls that need space, as functions of a directory and of how often they were made."""
