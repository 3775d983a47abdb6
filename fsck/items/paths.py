"""Paths of inodes that problems are about.

Names are not kept during a check, because nearly always nobody asks for them.
When there are problems, the imap is read once more for the names of just these
inodes and of the directories above them.

Held by ``tests/fsck/test_items.py``.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping

from fsck.reading.image import Image
from fsck.reading.overlay import Overlay, merged
from fsck.reading.report import Report
from fsck.reading.space import Extents
from fsck.reading.tree import TreeWalk
from lfs.common.errors import DamageError
from lfs.ondisk import KIND_ENTRY, ROOT_INO, Checkpoint, EntryItem, unpack_key

_DIRECTORY_TYPE = stat.S_IFDIR >> 12
_DEPTH_MAX = 4096


def find_paths(
    image: Image,
    checkpoint: Checkpoint,
    overlay: Overlay,
    inos: Iterable[int],
) -> dict[int, str]:
    """Return a printable path of each of ``inos`` that the root leads to."""
    wanted = set(inos)
    places: dict[int, tuple[int, bytes]] = {}
    silent = Report()
    walk = TreeWalk(image, checkpoint, Extents(image, silent), silent)
    for key, _, value in merged(walk.items(), overlay):
        directory, kind, _ = unpack_key(key)
        if kind != KIND_ENTRY or value is None:
            continue
        try:
            entry = EntryItem.unpack(value)
        except DamageError:
            continue
        if entry.ino in wanted or entry.file_type == _DIRECTORY_TYPE:
            places.setdefault(entry.ino, (directory, entry.name))
    paths = ((ino, _path(ino, places)) for ino in wanted)
    return {ino: path for ino, path in paths if path is not None}


def _path(ino: int, places: Mapping[int, tuple[int, bytes]]) -> str | None:
    """Return the path of ``ino``, None when it does not begin at the root."""
    parts: list[bytes] = []
    while ino != ROOT_INO:
        if ino not in places or len(parts) > _DEPTH_MAX:
            return None
        ino, name = places[ino]
        parts.append(name)
    text = (b"/" + b"/".join(reversed(parts))).decode(errors="backslashreplace")
    return "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" for character in text
    )
