"""What lives in a run: its summaries tell who owned its blocks, the inode map who still does.

Held by ``tests/segments/cleaning/test_cleaner.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from lfs.common.errors import DamageError, FilesystemError
from lfs.inodes.table import InodeTable
from lfs.inodes.window import shares
from lfs.ondisk import BLOCK_DATA, BLOCK_NODE, BLOCK_USAGE, Entry, Pointer, Summary
from lfs.segments.cleaning.moving import Piece
from lfs.volume.volume import Volume


class Found:
    """What lives in some runs, and has to go elsewhere before they are clean."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.runs: dict[int, int] = {}
        """The last log write in each: a run that is used again is another one."""
        self.pieces: list[Piece] = []
        self.windows: set[tuple[int, int]] = set()
        """Inode number and index of those that change when the pieces are moved."""
        self.divisible: set[tuple[int, int]] = set()
        """Those of them that may have more extents then, because one is cut in two."""
        self.keys: set[bytes] = set()
        """Keys that lead to the nodes."""
        self.node_count = 0
        """How many nodes those are: one key may lead to some of several levels."""
        self.pages: set[int] = set()
        """Usage pages."""
        self.failures: list[Exception] = []
        """Why some owners can't be read."""

    @property
    def live_count(self) -> int:
        """Return how many blocks are known to live."""
        return self.block_count + self.node_count + len(self.pages)

    @property
    def block_count(self) -> int:
        """Return how many blocks of data there are."""
        return sum(count for *_, count in self.pieces)

    def add(self, other: Found) -> None:
        """Take in what lives in other runs."""
        self.runs |= other.runs
        self.pieces += other.pieces
        self.windows |= other.windows
        self.divisible |= other.divisible
        self.keys |= other.keys
        self.node_count += other.node_count
        self.pages |= other.pages
        self.failures += other.failures


class Surveyor:
    """Surveys runs of one volume; changes nothing."""

    def __init__(self, volume: Volume, inodes: InodeTable) -> None:
        """Survey when asked to."""
        self._volume = volume
        self._inodes = inodes

    def survey(self, run: int) -> Found:
        """Find what lives in ``run``, as far as the owners can be read.

        Raises DamageError or DeviceError when the run can't be.
        """
        found = Found()
        for part in self.parts(run):
            found.add(part)
        return found

    def parts(self, run: int) -> Iterator[Found]:
        """Yield what lives in ``run``, log write by log write; raises as ``survey``."""
        usage = self._volume.usage
        address, sequence = usage.address_of(run), usage.last_sequence(run)
        for summary in self._volume.reader.walk_run(address, sequence):
            found = Found()
            found.runs[run] = sequence
            self._survey_summary(summary, found)
            yield found

    def add_pieces(self, found: Found, pieces: list[Piece]) -> None:
        """Add ``pieces`` to what was found, and the windows that change with them."""
        size = self._volume.window_blocks
        found.pieces += pieces
        for ino, first, _, count in pieces:
            for index in range(first // size, (first + count - 1) // size + 1):
                found.windows.add((ino, index))
                if count > 1:
                    found.divisible.add((ino, index))

    def _survey_summary(self, summary: Summary, found: Found) -> None:
        address = summary.payload_address
        for entry in summary.entries:
            count = len(entry.checksums)
            if entry.kind == BLOCK_DATA:
                try:
                    self.add_pieces(found, [*self._live_data(entry, address)])
                except (DamageError, FilesystemError) as error:
                    found.failures.append(error)
            elif entry.kind == BLOCK_NODE:
                keys = [*self._live_nodes(entry, address)]
                found.keys.update(keys)
                found.node_count += len(keys)
            elif entry.kind == BLOCK_USAGE and self._is_live_page(entry.key, address):
                found.pages.add(entry.key)
            address += count

    def _live_data(self, entry: Entry, address: int) -> Iterator[Piece]:
        """Yield the parts of ``entry`` that its owner still maps to ``address``."""
        inode = self._inodes.find(entry.owner)
        if inode is None:
            return
        size = self._volume.window_blocks
        for index, start, stop in shares(entry.key, entry.key + len(entry.checksums), size):
            window = self._inodes.window(inode, index)
            if window is None:
                continue
            base = address + index * size - entry.key
            for first, count, at in window.extents:
                low, high = max(first, start), min(first + count, stop)
                if low < high and at - first == base:
                    yield entry.owner, index * size + low, at + low - first, high - low

    def _live_nodes(self, entry: Entry, address: int) -> Iterator[bytes]:
        """Yield keys that lead to the nodes at ``address`` that are in use."""
        imap = self._volume.imap
        for offset, value in enumerate(entry.checksums):
            pointer = Pointer(address + offset, value)
            try:
                node = imap.nodes.load(pointer)
            except (DamageError, FilesystemError):
                continue
            # A packed leaf decodes its keys each time.
            keys = node.keys
            if keys and imap.leads_to(keys[0], node.level, pointer):
                yield keys[0]

    def _is_live_page(self, index: int, address: int) -> bool:
        pages = self._volume.state.usage_pages
        return index < len(pages) and pages[index].address == address
