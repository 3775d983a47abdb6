"""The cleaner: turns runs with few live blocks into clean segments.

Theory.  A victim's summaries tell who owned its blocks; the inode map tells
which of them still do.  Live data is read, verified, and written to the cold
head in file order, which also puts pieces of a file together.  What lies amid data
written lately goes to the main head instead: it is hot, and cold runs stay full.  Live nodes and
usage pages are left to a checkpoint, which writes them anew.  A victim without
them is clean once the commit that follows has been flushed (``lfs.segments.usage``).

A block that can't be verified stays where it is, under the checksum that
convicts it, and its run is not cleaned again while mounted.  Neither is a run where
a write failed: it would not be written again.

Work is done in steps so that requests can come in between; each step looks up
anew what is live.
"""

from __future__ import annotations

from collections.abc import Iterator

from lfs.checkpoint import Checkpointer
from lfs.commit import Committer
from lfs.errors import DamageError, FilesystemError
from lfs.inodes import Inode, InodeTable
from lfs.moving import Failure, Mover, Piece, batches
from lfs.ondisk import (
    BLOCK_DATA,
    BLOCK_NODE,
    BLOCK_USAGE,
    Entry,
    Pointer,
    Summary,
)
from lfs.segments.policy import choose_victims
from lfs.segments.writer import HEAD_COLD, HEAD_MAIN
from lfs.space import CLEAN_SHARE_LOW, SpaceRules
from lfs.turns import Flush, Turn
from lfs.volume import Volume

_UTILISATION_AHEAD = 0.8
_UTILISATION_WORTH = 0.85
_GAIN_SEGMENTS_MIN = 4
_GAIN_SHARE = 256
_IDLE_ROUNDS_MAX = 8
_ROUND_GAINS = 8
"""A round moves at most as much as so many times what it is to gain."""
_TAIL_SEGMENTS = 3
"""So many are left beside what is moved, for the tails of the open runs."""
_RETRY_LOG_WRITES = 256
"""After so many log writes there may be something to gain although nothing has died."""


class Cleaner:
    """Cleans one volume."""

    def __init__(
        self,
        volume: Volume,
        inodes: InodeTable,
        space: SpaceRules,
        mover: Mover,
        committer: Committer,
        checkpointer: Checkpointer,
    ) -> None:
        """Clean when asked to; nothing runs by itself."""
        self._volume = volume
        self._inodes = inodes
        self._space = space
        self._mover = mover
        self._committer = committer
        self._checkpointer = checkpointer
        self._avoided: dict[int, int] = {}
        self._work: Iterator[Flush | None] | None = None
        self._touched_pages = False
        segments = volume.superblock.segment_count
        self._tail_blocks = _TAIL_SEGMENTS * volume.superblock.segment_blocks
        self._gain_segments = max(_GAIN_SEGMENTS_MIN, segments // _GAIN_SHARE)
        self._exhausted: tuple[int, int, int] | None = None
        self.moved_blocks = 0
        self._fruitless_state: tuple[int, int] | None = None
        self.cleaned_runs = 0

    # --------------------------------------------------------------- foreground

    def make_room(self, blocks: int, now_ns: int) -> None:
        """Clean until ``blocks`` more can be accepted, or until nothing is gained.

        A round that was begun in the background is finished: it has been paid for.
        Once a round gains nothing, large runs are broken up, victims are chosen by what
        they yield, not by age, and each round aims at twice as much as the one before:
        what a round costs beside moving, its checkpoint above all, hardly grows with it.
        Raises DeviceError when the log can't be written.
        """
        volume = self._volume
        if volume.failed or volume.read_only:
            return
        if self._is_exhausted():
            # What is pending must have room all the same; but a checkpoint takes some, too.
            if self._space.is_pressing and (self._committer.dirty or volume.imap.changes):
                self._release(blocks, now_ns)
            return
        volume.log.close_large()
        if self._work is not None:
            self._finish(self._work)
        self._release(blocks, now_ns)
        idle_rounds = 0
        least_shortage = self._space.shortage_blocks(blocks)
        while idle_rounds < self._patience(blocks):
            gain_segments = self._gain_segments << idle_rounds
            victims = [] if idle_rounds else self._victims(volume.options.cleaner_policy, 0.999)
            victims = victims or self._large_victim()
            victims = victims or self._victims("greedy", 0.999, gain_segments)
            if not victims:
                break
            large_count = len(volume.usage.large_runs)
            self._finish(self._clean(victims, now_ns))
            self._release(blocks, now_ns)
            # Against the least so far: what one round takes and the next gives is no gain.
            shortage = self._space.shortage_blocks(blocks)
            gained = shortage < least_shortage
            gained |= len(volume.usage.large_runs) < large_count
            least_shortage = min(least_shortage, shortage)
            idle_rounds = 0 if gained else idle_rounds + 1
        exhausted = self._space.shortage_blocks(blocks) > 0
        self._exhausted = self._progress() if exhausted else None

    def _progress(self) -> tuple[int, int, int]:
        """Return what is live, what is clean, and a number that grows with the log."""
        usage = self._volume.usage
        retry = self._volume.log.next_sequence // _RETRY_LOG_WRITES
        return usage.live_total, usage.clean_blocks, retry

    def _is_exhausted(self) -> bool:
        """Tell whether the last search for room found none, and little has happened since."""
        if self._exhausted is None:
            return False
        live_blocks, clean_blocks, retry = self._progress()
        before_live_blocks, before_clean_blocks, before_retry = self._exhausted
        has_died, has_taken = live_blocks < before_live_blocks, clean_blocks < before_clean_blocks
        return not has_died and not has_taken and retry == before_retry

    def _large_victim(self) -> list[int]:
        """Choose the large run that is the easiest to empty, if there is room for that.

        It may be full: when there is none any more, no room is kept to empty one.
        """
        usage = self._volume.usage
        runs = usage.large_runs.difference(self._volume.log.open_runs())
        live = [(usage.live_blocks(run), run) for run in runs if usage.live_blocks(run)]
        room_blocks = self._room_blocks()
        return [run for blocks, run in sorted(live)[:1] if blocks + blocks // 8 <= room_blocks]

    def _finish(self, work: Iterator[Flush | None]) -> None:
        """Do the rest of a round at once."""
        self._work = None
        for flush in work:
            if flush is not None:
                self._volume.await_flush(flush)

    def _patience(self, blocks: int) -> int:
        """Return how many rounds without gain are worth it.

        Some room beyond what is asked for is wanted, so that not every request
        has to make its own.
        """
        spare_blocks = -self._space.shortage_blocks(blocks)
        if spare_blocks < 0:
            return _IDLE_ROUNDS_MAX
        wanted_blocks = self._gain_segments * self._volume.superblock.segment_blocks // 2
        return 1 if spare_blocks < wanted_blocks else 0

    def _release(self, blocks: int, now_ns: int) -> None:
        """Make empty runs clean: a commit does it for most, two checkpoints for all."""
        volume = self._volume
        volume.flush(self._committer.commit(now_ns))
        for _ in range(2):
            waits = volume.usage.unreleased_segments or volume.imap.changes
            if self._space.shortage_blocks(blocks) <= 0 or not waits:
                return
            self._checkpointer.checkpoint(now_ns)

    # --------------------------------------------------------------- background

    @property
    def busy(self) -> bool:
        """Tell whether a round has been begun and not finished."""
        return self._work is not None

    def _wanted_victims(self) -> list[int]:
        """Choose victims for a round ahead of need; none when it is not worth its cost."""
        volume = self._volume
        clean = volume.usage.clean_blocks
        total = volume.superblock.segment_count * volume.superblock.segment_blocks
        if clean * CLEAN_SHARE_LOW > total or self._state() == self._fruitless_state:
            return []
        return self._background_victims()

    def _background_victims(self) -> list[int]:
        """Choose victims for a round that nobody waits for.

        While there is no need, only those that cost little.
        """
        worth = _UTILISATION_WORTH if self._space.is_scarce else _UTILISATION_AHEAD
        return self._victims(self._volume.options.cleaner_policy, worth)

    def step(self, now_ns: int) -> Turn:
        """Do a bounded piece of cleaning, up to a flush."""
        if self._volume.failed or self._volume.read_only:
            return Turn(more=False)
        if self._work is None:
            victims = self._wanted_victims()
            if not victims:
                return Turn(more=False)
            self._work = self._clean(victims, now_ns)
        try:
            return Turn(True, next(self._work))
        except StopIteration:
            self._work = None
        return Turn(more=True)

    # -------------------------------------------------------------------- a round

    def _room_blocks(self) -> int:
        """Return how many blocks may be moved now.

        What is pending and the tails of three runs must still have room beside them.
        """
        volume = self._volume
        reserved_blocks = self._space.pending_blocks() + self._tail_blocks
        return (volume.usage.clean_blocks - reserved_blocks) * 7 // 8

    def _have_room(self, blocks: int, windows: set[tuple[int, int]]) -> bool:
        """Tell whether ``blocks`` blocks in ``windows`` may be moved now."""
        taken_blocks = self._space.pending_blocks(blocks, len(windows))
        return taken_blocks + self._tail_blocks <= self._volume.usage.clean_blocks

    def _victims(self, policy: str, utilisation_max: float, gain_segments: int = 0) -> list[int]:
        """Choose victims whose live blocks fit into what is clean."""
        volume = self._volume
        gain_blocks = (gain_segments or self._gain_segments) * volume.superblock.segment_blocks
        return choose_victims(
            volume.usage,
            policy,
            volume.log.next_sequence,
            {*self._avoided_runs(), *volume.log.open_runs(), *volume.usage.given_up},
            min(self._room_blocks(), _ROUND_GAINS * gain_blocks),
            utilisation_max,
            gain_blocks,
        )

    def _clean(self, victims: list[int], now_ns: int) -> Iterator[Flush | None]:
        """Move what lives in ``victims``; yields between steps, or the flush that it needs.

        It ends with all of it durable.

        Those that come last are left out when there may be no room for all: pieces are
        moved in file order, so a round that stops halfway empties hardly any victim.
        The first never is: then nothing would be done, over and over.
        """
        moved_before = self.moved_blocks
        pieces: list[Piece] = []
        surveyed: list[int] = []
        blocks = 0
        windows: set[tuple[int, int]] = set()
        for run in victims:
            found = self._survey(run)
            windows.update(self._windows_of(found))
            blocks += sum(count for *_, count in found)
            if surveyed and not self._have_room(blocks, windows):
                break
            pieces += found
            surveyed.append(run)
            yield None
        pieces.sort()
        complete = True
        for number, batch in enumerate(batches(pieces)):
            if number:
                yield None
            # Requests that came between may have taken the room there was.
            windows = set(self._windows_of(batch))
            complete = self._have_room(sum(count for *_, count in batch), windows)
            if not complete:
                break
            self._move(batch, now_ns)
        is_fruitless = self.moved_blocks == moved_before
        if self._checkpointer.touched_keys or self._touched_pages:
            is_fruitless = self._touched_pages = False
            yield from self._checkpointer.steps(now_ns)
        else:
            flush = Flush(self._committer.commit(now_ns))
            yield flush
            self._volume.await_flush(flush)
        usage = self._volume.usage
        for run in surveyed:
            if not usage.live_blocks(run):
                self.cleaned_runs += 1
            elif complete and not self._inodes.cuts.count:
                # What was cut off is not moved, and soon gone.
                self._avoid(run)
        self._fruitless_state = self._state() if is_fruitless else None

    def _state(self) -> tuple[int, int]:
        """Return what a round depends on: while it is the same, so would be the next."""
        usage = self._volume.usage
        return usage.clean_blocks, usage.live_total

    def _windows_of(self, pieces: list[Piece]) -> Iterator[tuple[int, int]]:
        """Yield the windows that change when ``pieces`` are moved."""
        size = self._volume.window_blocks
        for ino, first, _, count in pieces:
            for index in range(first // size, (first + count - 1) // size + 1):
                yield ino, index

    def _avoid(self, run: int) -> None:
        """Clean ``run`` no more in this life of it."""
        self._avoided[run] = self._volume.usage.last_sequence(run)
        self._volume.usage.pin(run)

    def _avoided_runs(self) -> list[int]:
        usage = self._volume.usage
        return [run for run, last in self._avoided.items() if usage.last_sequence(run) == last]

    def _survey(self, run: int) -> list[Piece]:
        """Find the live blocks of a run; nodes and usage pages are marked for rewriting."""
        usage = self._volume.usage
        pieces: list[Piece] = []
        try:
            for summary in self._volume.reader.walk_run(
                usage.address_of(run), usage.last_sequence(run)
            ):
                self._survey_summary(summary, pieces)
        except (DamageError, FilesystemError) as error:
            self._volume.report(f"cleaner: leaving the run at {usage.address_of(run)}: {error}")
            self._avoid(run)
        return pieces

    def _survey_summary(self, summary: Summary, pieces: list[Piece]) -> None:
        address = summary.payload_address
        for entry in summary.entries:
            count = len(entry.checksums)
            if entry.kind == BLOCK_DATA:
                pieces += self._live_data(entry, address)
            elif entry.kind == BLOCK_NODE:
                self._touch_nodes(entry, address)
            elif entry.kind == BLOCK_USAGE:
                self._touch_page(entry.key, address)
            address += count

    def _live_data(self, entry: Entry, address: int) -> Iterator[Piece]:
        """Yield the parts of ``entry`` that its owner still maps to ``address``."""
        inode = self._inodes.find(entry.owner)
        if inode is None:
            return
        size = self._volume.window_blocks
        end = entry.key + len(entry.checksums)
        position = entry.key
        while position < end:
            index, offset = divmod(position, size)
            stop = min(size, offset + end - position)
            window = self._inodes.window(inode, index)
            if window is not None:
                base = address + position - entry.key - offset
                for first, count, at in window.runs:
                    low, high = max(first, offset), min(first + count, stop)
                    if low < high and at - first == base:
                        yield entry.owner, index * size + low, at + low - first, high - low
            position += stop - offset

    def _touch_nodes(self, entry: Entry, address: int) -> None:
        """Let the next checkpoint rewrite the nodes at ``address`` that are in use."""
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
                self._checkpointer.touched_keys.add(keys[0])

    def _touch_page(self, index: int, address: int) -> None:
        pages = self._volume.usage_pages
        if index < len(pages) and pages[index].address == address:
            self._volume.usage.dirty_pages.add(index)
            self._touched_pages = True

    # --------------------------------------------------------------------- moving

    def _move(self, pieces: list[Piece], now_ns: int) -> None:
        """Write pieces elsewhere, as far as they are still live."""
        failures: list[Failure] = []
        extents = self._mover.load(pieces, failures)
        for ino, error in failures:
            self._volume.report(f"cleaner: inode {ino}: {error}")
        size = self._volume.window_blocks
        is_hot: dict[tuple[int, int], bool] = {}
        for extent in extents:
            place = extent.inode.ino, extent.first // size
            if place not in is_hot:
                is_hot[place] = self._is_hot(extent.inode, place[1])
        for hot, head in ((False, HEAD_COLD), (True, HEAD_MAIN)):
            chosen = [one for one in extents if is_hot[one.inode.ino, one.first // size] is hot]
            self.moved_blocks += self._mover.place(chosen, head, now_ns)

    def _is_hot(self, inode: Inode, index: int) -> bool:
        """Tell whether most of a window was written lately: after the older checkpoint.

        It will probably be written again soon, and would leave holes among cold data.
        """
        window = self._inodes.window(inode, index)
        if window is None:
            return False
        usage = self._volume.usage
        since = self._volume.checkpoint_sequences[0]
        young = sum(
            count
            for _, count, address in window.runs
            if usage.last_sequence(usage.run_of(address)) >= since
        )
        return 2 * young > window.mapped
