"""Files that lie in many fragments: a few numbers, never all there are.

Whoever maps data notes how many blocks went to places that are scattered.  Only
the files with the most such blocks are kept, so memory does not grow with their
number.

Those of earlier mounts, and those that were forgotten, are found in the map.  Windows lie
there in the order of files, so one look through it counts the fragments of each.  It takes a few
leaves in each idle turn, once for each mount, and waits while as many files as are remembered
wait to be put in order.  Nothing of it is kept on disk.  A file is noted when its fragments are
no more than eight blocks long on average: as many of it would have been noted, had it been
written in this mount.

Held by ``tests/segments/cleaning/test_search.py``.
"""

from __future__ import annotations

from lfs.common.errors import FilesystemError
from lfs.ondisk import KEY_BYTES, KEY_KIND, KIND_WINDOW, WindowItem, pack_key, unpack_key
from lfs.volume.volume import Volume

LEAVES_AT_ONCE = 16
"""So many are read in one turn: little of what the cache keeps has to give way."""
_FRAGMENTS_MIN = 16
_FRAGMENT_BLOCKS_WORTH = 8
_FIRST_KEY = bytes(KEY_BYTES)
_PAST_ALL_KEYS = b"\xff" * (KEY_BYTES + 1)
FILES_MAX = 64


class ScatteredFiles:
    """Inode numbers, each with the blocks that were scattered since it was forgotten."""

    def __init__(self, files_max: int = FILES_MAX) -> None:
        """Keep at most ``files_max`` inode numbers."""
        self._files_max = files_max
        self._blocks: dict[int, int] = {}
        self._written_ns: dict[int, int] = {}
        self.has_left_out = False
        """Whether there were too many, so that some are to be looked for in the map."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._blocks)

    def note(self, ino: int, blocks: int, at_ns: int) -> None:
        """Count ``blocks`` more of ``ino``, written at ``at_ns``.

        If there are too many files, the least is forgotten.
        """
        self._blocks[ino] = self._blocks.get(ino, 0) + blocks
        self._written_ns[ino] = at_ns
        if len(self._blocks) > self._files_max:
            self.forget(self.worst_first()[-1])
            self.has_left_out = True

    @property
    def is_full(self) -> bool:
        """Tell whether one more would have another forgotten."""
        return len(self._blocks) >= self._files_max

    def wrote(self, ino: int, at_ns: int) -> None:
        """Note that ``ino`` was written, if anything is counted of it."""
        if ino in self._blocks:
            self._written_ns[ino] = at_ns

    def written_ns(self, ino: int) -> int:
        """Return when ``ino`` was last written, if anything is counted of it."""
        return self._written_ns.get(ino, 0)

    def forget(self, ino: int) -> int:
        """Drop ``ino``; returns the blocks that were counted."""
        self._written_ns.pop(ino, None)
        return self._blocks.pop(ino, 0)

    def blocks(self, ino: int) -> int:
        """Return the blocks counted of ``ino``."""
        return self._blocks.get(ino, 0)

    def worst_first(self) -> list[int]:
        """Return the inode numbers, those with the most blocks first."""
        return sorted(self._blocks, key=lambda ino: (-self._blocks[ino], ino))


class Search:
    """Looks through the map of one volume, in idle turns."""

    def __init__(self, volume: Volume, scattered: ScatteredFiles) -> None:
        """Note what is found in ``scattered``."""
        self._volume = volume
        self._scattered = scattered
        self._position: bytes | None = _FIRST_KEY
        """Where to go on, or None when all of the map has been looked through."""
        self._ino = 0
        self._fragments = self._blocks = 0
        """What has been seen of that file."""
        self._end = 0
        """The address behind what has been seen last."""

    def step(self) -> None:
        """Look through a few leaves of the map, if that is still to be done."""
        if self._volume.failed or self._volume.read_only:
            return
        if self._position is None and self._scattered.has_left_out:
            self._position = _FIRST_KEY
        if self._position == _FIRST_KEY:
            self._scattered.has_left_out = False
        for _ in range(LEAVES_AT_ONCE):
            if self._position is None or self._scattered.is_full:
                return
            try:
                self._look(self._position)
            except FilesystemError:
                # Whoever needs what can't be read will be told.
                self._pass_over(self._position)

    def _look(self, position: bytes) -> None:
        """Count what one leaf has from ``position`` on."""
        items, following = self._volume.imap.batch(position, _PAST_ALL_KEYS)
        for key, value in items:
            if key[KEY_KIND] != KIND_WINDOW:
                continue
            ino = unpack_key(key)[0]
            if ino != self._ino and not self._conclude(ino):
                return
            self._count(WindowItem.unpack(value, self._volume.window_blocks))
        self._position = following
        if following is None:
            self._conclude(0)

    def _count(self, window: WindowItem) -> None:
        """Count what a window has in other places than what comes before it.

        A hole in the file parts nothing, as for whoever puts it in order.
        """
        for extent in window.extents:
            self._fragments += extent.address != self._end
            self._blocks += extent.count
            self._end = extent.address + extent.count

    def _conclude(self, ino: int) -> bool:
        """Note the file that was looked at, if it is scattered, and go on to another.

        Returns False if there is no room to note it: it is looked at again later.
        """
        is_known = self._scattered.blocks(self._ino) > 0
        is_scattered = (
            self._fragments >= _FRAGMENTS_MIN
            and self._fragments * _FRAGMENT_BLOCKS_WORTH >= self._blocks
            and not is_known
        )
        last_ino, fragments = self._ino, self._fragments
        self._ino = ino
        self._fragments = self._blocks = self._end = 0
        if not is_scattered:
            return True
        if self._scattered.is_full:
            self._ino = 0
            self._position = pack_key(last_ino, KIND_WINDOW, 0)
            return False
        # It was not written in this mount, or not where that left it in pieces.
        self._scattered.note(last_ino, fragments, 0)
        return True

    def _pass_over(self, position: bytes) -> None:
        """Go on after a leaf that can't be read, or give up where that can't be told."""
        try:
            end = self._volume.imap.leaf_end(position)
        except FilesystemError:
            end = _PAST_ALL_KEYS
        self._position = None if end == _PAST_ALL_KEYS else end
