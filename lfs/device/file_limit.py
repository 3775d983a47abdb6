"""The limit on the size of files: ``ulimit -f``, ``RLIMIT_FSIZE``.

A caller sets it for what it writes itself, and whatever it starts inherits it.  To a
daemon an image is one file, of which nothing beyond the limit can be written: it
would fail at whichever block comes to lie there first.  So a command lifts the limit
as far as it may, and an image that still passes it is refused before anything is
written.  What programs may write on the filesystem is held by the kernel, by the
limit of each.

Held by ``tests/mount/test_file_limit.py``.
"""

from __future__ import annotations

import contextlib
import resource


def lift_file_limit() -> None:
    """Allow this process files as large as it may have: any as root, else up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft == resource.RLIM_INFINITY:
        return
    for limit in (resource.RLIM_INFINITY, hard):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return


def file_limit_bytes() -> int | None:
    """Return how large a file this process may write, or None without a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft
