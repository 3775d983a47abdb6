"""Looking for scattered files in the map: those of earlier mounts, and those that were forgotten.

Theory.  Windows lie in the map in the order of files, so one look through it counts the
extents of each file.  It takes a few leaves in each idle turn, once for each mount, and
waits while as many files as are remembered wait to be put in order.  Nothing of it is kept
on disk.

A file is noted when its extents are no more than eight blocks long on average: as many of
it would have been noted, had it been written in this mount.

Held by ``tests/segments/cleaning/test_search.py``.
"""

from __future__ import annotations

from lfs.alloc.scattered import ScatteredFiles
from lfs.common.errors import DamageError, FilesystemError
from lfs.ondisk import KEY_BYTES, KEY_KIND, KIND_WINDOW, WindowItem, unpack_key
from lfs.volume.volume import Volume

LEAVES_AT_ONCE = 64
"""So many are read in one turn: little of what the cache keeps has to give way."""
_EXTENTS_MIN = 16
_EXTENT_BLOCKS_WORTH = 8
_FIRST_KEY = bytes(KEY_BYTES)
_PAST_ALL_KEYS = b"\xff" * (KEY_BYTES + 1)


class Search:
    """Looks through the map of one volume, in idle turns."""

    def __init__(self, volume: Volume, scattered: ScatteredFiles) -> None:
        """Note what is found in ``scattered``."""
        self._volume = volume
        self._scattered = scattered
        self._position: bytes | None = _FIRST_KEY
        """Where to go on, or None when all of the map has been looked through."""
        self._ino = 0
        self._extents = self._blocks = 0
        """What has been seen of that file."""

    def step(self) -> None:
        """Look through a few leaves of the map, if that is still to be done."""
        if self._position is None and self._scattered.has_left_out:
            self._position = _FIRST_KEY
        if self._position == _FIRST_KEY:
            self._scattered.has_left_out = False
        for _ in range(LEAVES_AT_ONCE):
            if self._position is None or self._scattered.is_full:
                return
            try:
                self._look(self._position)
            except (DamageError, FilesystemError):
                # Whoever needs what can't be read will be told.
                self._pass_over(self._position)

    def _look(self, position: bytes) -> None:
        """Count what one leaf has from ``position`` on."""
        items, following = self._volume.imap.batch(position, _PAST_ALL_KEYS)
        for key, value in items:
            if key[KEY_KIND] == KIND_WINDOW:
                self._count(unpack_key(key)[0], value)
        self._position = following
        if following is None:
            self._conclude(0)

    def _count(self, ino: int, value: bytes) -> None:
        if ino != self._ino:
            self._conclude(ino)
        extents, blocks = WindowItem.counts(value)
        self._extents += extents
        self._blocks += blocks

    def _conclude(self, ino: int) -> None:
        """Note the file that was looked at, if it is scattered, and go on to another."""
        is_scattered = self._extents * _EXTENT_BLOCKS_WORTH >= self._blocks
        is_known = self._scattered.blocks(self._ino) > 0
        if self._extents >= _EXTENTS_MIN and is_scattered and not is_known:
            # It was not written in this mount, or not where that left it in pieces.
            self._scattered.note(self._ino, self._extents, 0)
        self._ino = ino
        self._extents = self._blocks = 0

    def _pass_over(self, position: bytes) -> None:
        """Go on after a leaf that can't be read, or give up where that can't be told."""
        try:
            end = self._volume.imap.leaf_end(position)
        except (DamageError, FilesystemError):
            end = _PAST_ALL_KEYS
        self._position = None if end == _PAST_ALL_KEYS else end
