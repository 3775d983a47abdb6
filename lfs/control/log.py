"""The last lines that the daemon of a mounted filesystem has logged.

They are kept in its memory beside what goes to the system log, and so can be seen where
there is none.  The root's attribute holds as many of the last as fit; only root and the
user who mounted may read it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lfs.control.remount import CONTROL_PREFIX

LOG_ATTRIBUTE = CONTROL_PREFIX + b"log"
_ATTRIBUTE_BYTES_MAX = 60_000


def format_lines(lines: Sequence[str]) -> bytes:
    """Return as many of the last lines as an attribute can hold, each with its line end."""
    kept: list[bytes] = []
    room_bytes = _ATTRIBUTE_BYTES_MAX
    for line in reversed(lines):
        raw = line.encode(errors="backslashreplace") + b"\n"
        room_bytes -= len(raw)
        if room_bytes < 0:
            break
        kept.append(raw)
    return b"".join(reversed(kept))
