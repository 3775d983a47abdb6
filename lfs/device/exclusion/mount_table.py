"""What is mounted, as the kernel tells it in text: nothing that is mounted is touched.

Somebody else's mount may be one whose server never answers, and whoever asks it for
anything hangs with it, if only for the attributes of a path.  So who uses an image
is found out from ``/proc`` and ``/sys`` alone.

Held by ``tests/device/exclusion/test_exclusion.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MOUNT_TABLE = Path("/proc/self/mountinfo")
_REMOTE_TYPES = frozenset(
    ("9p", "afs", "autofs", "ceph", "cifs", "gfs2", "lustre", "nfs", "nfs4", "smb3", "virtiofs")
)


class Entry(NamedTuple):
    """One line of a mount table."""

    mount_id: int
    path: str
    filesystem_type: str
    source: str
    device_number: str
    """As ``major:minor`` in decimal."""
    mount_options: str
    filesystem_options: str

    @property
    def may_hang(self) -> bool:
        """Tell whether its answers depend on a process or on another machine."""
        kind = self.filesystem_type
        return kind.startswith("fuse") or kind in _REMOTE_TYPES


def read_table(path: Path | None = None) -> list[Entry]:
    """Return the lines of a mount table, by default of this process's, oldest first.

    Raises OSError.
    """
    return parse_table((path or MOUNT_TABLE).read_bytes())


def parse_table(raw: bytes) -> list[Entry]:
    """Return the lines of a table that has been read, oldest first."""
    found = []
    for line in raw.splitlines():
        fields = line.split(b" ")
        separator = fields.index(b"-", 6)
        kind, source, options = fields[separator + 1 : separator + 4]
        found.append(
            Entry(
                mount_id=int(fields[0]),
                path=unescaped(fields[4]),
                filesystem_type=unescaped(kind),
                source=unescaped(source),
                device_number=os.fsdecode(fields[2]),
                mount_options=unescaped(fields[5]),
                filesystem_options=unescaped(options),
            )
        )
    return found


def mount_of(path: str, table: Iterable[Entry]) -> Entry | None:
    """Return the mount on which an absolute ``path`` without symlinks lies, by its text."""
    found: Entry | None = None
    for entry in table:
        folder = entry.path.rstrip("/") + "/"
        inside = path == entry.path or path.startswith(folder)
        if inside and (found is None or len(entry.path) >= len(found.path)):
            found = entry
    return found


def unescaped(field: bytes) -> str:
    """Undo the octal escapes of the tables in ``/proc``."""
    raw = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
    return os.fsdecode(raw)
