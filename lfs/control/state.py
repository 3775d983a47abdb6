"""Whether a mounted filesystem takes changes, and if not, why.

The mount table can't say it of every mount: the kernel makes none read-only while a file
is open for writing, nor for an ordinary user.  Everything on the filesystem has the
attribute, and anybody may ask.
"""

from __future__ import annotations

import os

STATE_ATTRIBUTE = b"system.lfs.state"
FAILED = b"failed: "


def has_failed(directory: str) -> bool:
    """Tell whether writing has failed on a mounted lfs; raises OSError."""
    return os.getxattr(directory, STATE_ATTRIBUTE).startswith(FAILED)


def format_state(read_only: bool, failure: str) -> bytes:
    """Return the state in a line; ``failure`` says why writing failed, if it has."""
    if failure:
        return FAILED + f"every change is refused: {failure}".encode(errors="backslashreplace")
    return b"read-only" if read_only else b"writable"
