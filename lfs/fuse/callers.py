"""What the kernel does not say about who makes a request.

It says user, group and thread.  Whether the set-group-ID bit of a file may stay
when an access control list is set depends on the caller's other groups and
capabilities.  The kernel knows, and would say so by FUSE_SETXATTR_ACL_KILL_SGID,
but only to who asks for FUSE_SETXATTR_EXT, and pyfuse3 does not.  The caller waits
for the answer meanwhile, so what /proc tells of its thread holds.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyfuse3 import RequestContext

_CAP_FSETID = 1 << 4
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
    return bool(int(status["CapEff"], 16) & _CAP_FSETID) and _is_of_this_namespace(ctx.pid)


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
