"""What the kernel does not say about who makes a request.

It says user, group and thread.  Whether the set-id bits of a file may stay when it is
truncated, given to somebody else or gets an access control list depends on the
caller's other groups and capabilities.  The kernel knows, and says so in flags that
pyfuse3 does not pass on.  The caller waits for the answer meanwhile, so what /proc
tells of its thread holds.

*Set-id bits.*  Who writes to a file, cuts it or gives it away takes its set-id bits.
The kernel leaves that to the filesystem (HANDLE_KILLPRIV_V2, ``lfs.kernel.negotiation``):
before a write it sends a ``setattr`` that names no field, where the bits must go.

Held by ``tests/mounted/test_set_ids.py``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from pathlib import Path

from pyfuse3 import RequestContext

from lfs.filesystem import Inode

_SET_IDS = stat.S_ISUID | stat.S_ISGID
_CAP_FSETID = 1 << 4
_CAP_SYS_ADMIN = 1 << 21
_PROC = Path("/proc")


def may_keep_setgid(ctx: RequestContext, gid: int) -> bool:
    """Tell whether the caller is in group ``gid`` or may set any bit.

    Of a caller in another namespace for processes only user and group are known.
    """
    if ctx.gid == gid:
        return True
    status = _status(ctx.pid)
    if not status:
        return ctx.uid == 0
    if gid in map(int, status["Groups"].split()):
        return True
    return _has_fsetid(status, ctx.pid)


def mode_left(inode: Inode, changes: Container[str], ctx: RequestContext) -> int | None:
    """Return the mode that changes of other fields leave an inode; None for the same.

    ``changes`` are the fields that the kernel names: none before a write.
    """
    if not inode.mode & _SET_IDS or inode.is_directory or "mode" in changes:
        return None
    unconditional = not changes or "uid" in changes or "gid" in changes
    if unconditional or ("size" in changes and not may_set_any_bit(ctx)):
        return mode_without_set_ids(inode.mode, inode.gid, ctx)
    return None


def mode_without_set_ids(mode: int, gid: int, ctx: RequestContext) -> int:
    """Return the mode that is left when the caller's request takes set-id bits from a file.

    ``mode`` and ``gid`` are the file's.  The set-group-ID bit of what the group can't
    execute stays when the caller may set it.
    """
    left = mode & ~stat.S_ISUID
    if left & stat.S_ISGID and (left & stat.S_IXGRP or not may_keep_setgid(ctx, gid)):
        left &= ~stat.S_ISGID
    return left


def may_set_any_bit(ctx: RequestContext) -> bool:
    """Tell whether set-id bits stay when the caller changes a file's contents.

    Of a caller in another namespace for processes only the user is known.
    """
    status = _status(ctx.pid)
    return _has_fsetid(status, ctx.pid) if status else ctx.uid == 0


def may_administer(ctx: RequestContext) -> bool:
    """Tell whether the caller might mount and remount here: what mount(2) asks of him.

    The user is nothing to go by: root of a container may have no capability, or have it
    in a namespace of his own.  A caller who can't be seen has none.
    """
    status = _status(ctx.pid)
    if not status or not int(status["CapEff"], 16) & _CAP_SYS_ADMIN:
        return False
    if os.geteuid() != 0 and ctx.uid == 0:
        # An ordinary user's daemon may not look at root's namespaces, but the kernel names
        # root of another one by another user.
        return True
    return _is_of_this_namespace(ctx.pid)


def _has_fsetid(status: dict[str, str], thread: int) -> bool:
    return _has_capability(status, thread, _CAP_FSETID)


def _has_capability(status: dict[str, str], thread: int, capability: int) -> bool:
    return bool(int(status["CapEff"], 16) & capability) and _is_of_this_namespace(thread)


def _is_of_this_namespace(thread: int) -> bool:
    """Tell whether a thread's capabilities count here: anyone has all in a namespace of his own."""
    try:
        own, other = (os.stat(_PROC / name / "ns/user") for name in ("self", str(thread)))
    except OSError:
        return False
    return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)


def _status(thread: int) -> dict[str, str]:
    """Return the fields of a thread's status; nothing when it cannot be seen."""
    try:
        lines = (_PROC / str(thread) / "status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in lines)
