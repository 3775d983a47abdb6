"""The ledger of space: numbers in blocks, and what follows from them (P4).

Theory.  Three numbers (docs/design/space.md).  *Used* is what
lives on disk plus what accepted requests will add; it may not pass the *limit*,
all segments but the slack.  Because the slack stays free, the cleaner can turn
dead blocks into clean segments at any time.  Nodes count for more than they take,
because they take their ancestors along when they move, and because data takes them
along: as many are kept clean as may have to move with it, its *companions*.
*Clean* is what can be written right now; it must cover all that the next commit
and the next checkpoint may have to write, and the cleaner's working room.

Both are bounds on numbers that cost something to know.  So there is a cruder bound, on
both at once, that costs next to nothing: while much of the disk is free, it says how
much may be accepted, and nothing else is computed.

What errors take out of use is never clean, and counts as used without being live.
The one batch that a failed write makes necessary anew comes out of the cleaner's
working room, which is larger than any run but the defragmenter's large ones; while
there is one of those, as much more is kept clean.
"""

from __future__ import annotations

from typing import NamedTuple

from lfs.alloc.delayed.pending import Moving, Pending
from lfs.alloc.margins import (
    CHANGE_SHARE,
    CLEAN_SHARE_LOW,
    COMPANION,
    CRUDE_BLOCKS,
    LAST_SEGMENTS,
    NODE_SURCHARGE,
    cleaner_segments,
    slack_segments,
)
from lfs.common.checksum import CHECKSUM_BYTES
from lfs.inodes.table import InodeTable
from lfs.ondisk import EXTENT_BYTES
from lfs.volume.volume import Volume

_FEW_BLOCKS = 64
"""So many fewer live blocks are not reckoned with by the crude bound."""
_SCATTERED_BYTES = 3 * (EXTENT_BYTES + CHECKSUM_BYTES) // 2
"""What it takes to map a block that is an extent of its own, in leaves two thirds full."""


class Space(NamedTuple):
    """The numbers of ``statfs``, in blocks of ``block_bytes``."""

    block_bytes: int
    total_blocks: int
    free_blocks: int
    available_blocks: int
    """``free_blocks`` less the share kept for root."""
    inode_count: int


class Ledger(Pending):
    """The space of one volume: what is used, promised, and to be written."""

    def __init__(self, volume: Volume, inodes: InodeTable) -> None:
        """Count for ``volume``."""
        super().__init__(volume, inodes)
        superblock = volume.superblock
        segments = superblock.segment_count
        usable = max(0, segments - slack_segments(segments))
        nodes_for_block = _SCATTERED_BYTES / superblock.block_bytes
        self._scattered_cost = 1 + nodes_for_block * (1 + NODE_SURCHARGE + COMPANION)
        """What a block of data counts for when each is an extent of its own."""
        spare_segments = slack_segments(segments) - cleaner_segments(segments)
        spare_bytes = spare_segments * superblock.segment_blocks * superblock.block_bytes
        self.write_bytes_max = 1 << (spare_bytes // 2).bit_length() - 1
        """So much can be made ready to be taken at once on a full disk: a power of two."""
        # What the cleaner can put into a segment, of blocks that are all scattered.
        limit_blocks = usable * self._bound.full_blocks
        privileged_blocks = limit_blocks * superblock.reserved_basis_points // 10_000
        self.limit_blocks = limit_blocks
        self.privileged_blocks = privileged_blocks
        slack_blocks = slack_segments(segments) * superblock.segment_blocks
        self._change_limit_blocks = slack_blocks // CHANGE_SHARE
        self._open_limit_blocks = limit_blocks - privileged_blocks
        self._cleaner_blocks = cleaner_segments(segments) * superblock.segment_blocks
        self.paced_blocks = self._cleaner_blocks
        """Clean space is scarce when no more than this is spare."""
        self._fixed_blocks = 2 * volume.usage.page_count + 5 * superblock.segment_blocks
        self.last_blocks = LAST_SEGMENTS * superblock.segment_blocks
        """What one request and a last checkpoint may take."""
        self._in_use_blocks = 0
        """Of what is kept for the cleaner, by a round that is under way."""
        self._stored_live_blocks = 0
        self._stored_nodes = -1
        """Live blocks and nodes, for which the next two were reckoned."""
        self._stored_kept_blocks = 0
        """``kept_blocks`` but for large runs."""
        self._stored_used_blocks = 0
        """What counts as used, but for what is lost."""

    def available_blocks(self, privileged: bool, leaving_blocks: int = 0) -> int:
        """Return how many more blocks may be promised once ``leaving_blocks`` are gone."""
        usage = self._volume.usage
        used_blocks = usage.live_total + usage.lost_blocks - leaving_blocks
        used_blocks += self._reserve(*self._nodes_and_data())[1]
        left = self._left(used_blocks, privileged)
        return self._without_surcharge(left)

    def _left(self, used_blocks: int, privileged: bool) -> int:
        """Return how much of the limit is left, never less than 0.

        Beside what is used, what was promised to dirty data and what pending metadata may
        add; only privileged callers may use all of it.
        """
        limit_blocks = self.limit_blocks - (0 if privileged else self.privileged_blocks)
        return max(0, limit_blocks - used_blocks - self.metadata_blocks - self.dirty_blocks)

    def _without_surcharge(self, left: int) -> int:
        """Return how many blocks of data ``left`` blocks are good for.

        Each brings a companion until there is one for each node, and nodes once there
        would be more of them if all data were scattered.
        """
        nodes, data = self._nodes_and_data()
        blocks = 0
        for end, cost in (
            (nodes, 1 + COMPANION),
            (nodes * self._block_bytes // _SCATTERED_BYTES, 1.0),
            (data + left, self._scattered_cost),
        ):
            taken = max(0, min(end - data - blocks, int(left / cost)))
            blocks += taken
            left -= int(taken * cost)
        return blocks

    def _nodes_and_data(self) -> tuple[int, int]:
        """Return how many nodes and blocks of data there may be once all has been written."""
        usage = self._volume.usage
        node_count = self._volume.imap.node_count
        data = max(0, usage.live_total - node_count - usage.page_count)
        return node_count + self.metadata_blocks, data + self.dirty_blocks

    def _reserve(self, nodes: int, data: int) -> tuple[int, int]:
        """Return what is kept for companions, and by how much nodes count for more.

        Of so many nodes and blocks of data.  Nodes are as many as there may come to be,
        because long overwriting must not take what the cleaner needs.
        """
        scattered_nodes = data * _SCATTERED_BYTES // self._block_bytes
        most_nodes = scattered_nodes if scattered_nodes > nodes else nodes
        companion_blocks = int(COMPANION * (data if data < most_nodes else most_nodes))
        more_blocks = most_nodes - nodes + int(NODE_SURCHARGE * most_nodes)
        return companion_blocks, more_blocks + companion_blocks

    def statistics(self) -> Space:
        """Return what ``statfs`` reports: data given up in steps counts as free.

        An empty disk is all free: in total there is what data alone can fill.
        """
        leaving_blocks = self._inodes.leaving_blocks
        limit_blocks = self.limit_blocks - self._volume.usage.lost_blocks
        total_blocks = max(0, int(limit_blocks / self._scattered_cost))
        return Space(
            self._volume.block_bytes,
            total_blocks,
            # The nodes of what is leaving are counted still, so each may come out too large.
            min(total_blocks, self.available_blocks(True, leaving_blocks)),
            min(total_blocks, self.available_blocks(False, leaving_blocks)),
            self._volume.state.inode_count - len(self._inodes.leaving),
        )

    def change_blocks(self) -> int:
        """Return how much of the slack is left to what replaces something by what is longer."""
        used_blocks = self._volume.usage.live_total + self._volume.usage.lost_blocks
        used_blocks += self._reserve(*self._nodes_and_data())[1]
        pending_blocks = self.metadata_blocks + self.dirty_blocks
        limit_blocks = self.limit_blocks + self._change_limit_blocks
        return limit_blocks - used_blocks - pending_blocks

    def can_rewrite(self, leaf_count: int) -> bool:
        """Tell whether so many leaves can be written anew, and the cleaner keeps its room."""
        needed_blocks = self.pending_blocks(Moving(nodes=leaf_count)) + self.kept_blocks
        return needed_blocks <= self._volume.usage.clean_blocks

    def crude_spare_blocks(self) -> int:
        """Return about how much may be accepted without a closer look, less than 0 for nothing."""
        usage = self._volume.usage
        nodes = self._volume.imap.node_count
        fewer_blocks = self._stored_live_blocks - usage.live_total
        if nodes != self._stored_nodes or not 0 <= fewer_blocks <= _FEW_BLOCKS:
            self._note_stored(usage.live_total, nodes)
        clean_blocks = usage.buddy.free_units * usage.segment_blocks
        room_blocks = clean_blocks - self._stored_kept_blocks - usage.large_runs.breakup_blocks
        unpromised_blocks = self._open_limit_blocks - self._stored_used_blocks
        out_of_use = usage.out_of_use
        if out_of_use.withheld or out_of_use.given_up or out_of_use.immovable:
            unpromised_blocks -= usage.lost_blocks
        if unpromised_blocks < room_blocks:
            room_blocks = unpromised_blocks
        return room_blocks - self._crude_blocks()

    @property
    def has_last_room(self) -> bool:
        """Tell whether what is pending leaves what one request and a last checkpoint take."""
        return self.pending_blocks() + self.last_blocks <= self._volume.usage.clean_blocks

    def _crude_blocks(self) -> int:
        """Return a bound of ``pending_blocks``, and of what is promised, that costs little.

        It holds when ``CRUDE_BLOCKS`` are added for each block that comes to it.
        """
        imap = self._volume.imap
        inodes = self._inodes
        dirty_data = inodes.dirty_data
        dirty_count = len(inodes.dirty) + inodes.pinned_count + len(dirty_data.owners)
        nodes = imap.node_count
        path_count = (len(imap.changes) + dirty_count + len(imap.touched_keys)) * (
            imap.root_level + 1
        )
        if path_count > nodes:
            path_count = nodes + nodes // 7
        return (
            9 * (path_count + dirty_count) // 4
            + 2 * (dirty_data.block_count + self._in_hand_blocks)
            + (imap.changed_bytes + imap.unlogged_bytes + inodes.inline_bytes) // 192
            + self._fixed_blocks
        )

    def covers(self, blocks: int) -> bool:
        """Tell whether what is clean covers what is pending and ``blocks`` more."""
        usage = self._volume.usage
        nodes = self._volume.imap.node_count
        fewer_blocks = self._stored_live_blocks - usage.live_total
        if nodes != self._stored_nodes or not 0 <= fewer_blocks <= _FEW_BLOCKS:
            self._note_stored(usage.live_total, nodes)
        needed_blocks = self._crude_blocks() + CRUDE_BLOCKS * blocks + self._stored_kept_blocks
        if needed_blocks + usage.large_runs.breakup_blocks < usage.clean_blocks:
            return True
        return self.shortage_blocks(blocks) <= 0

    @property
    def is_covered(self) -> bool:
        """Tell whether what is pending can be written as things are."""
        return self.covers(0)

    def _note_stored(self, live_blocks: int, nodes: int) -> None:
        """Reckon what is kept, and what counts as used, by what is stored now.

        It is an upper bound while no more is stored in as many nodes.  What is pending adds
        to that is in the crude bound.
        """
        companion_blocks, surcharge_blocks = self._reserve(nodes, live_blocks - nodes)
        self._stored_live_blocks = live_blocks
        self._stored_nodes = nodes
        self._stored_kept_blocks = self._working_blocks + companion_blocks
        self._stored_used_blocks = live_blocks + surcharge_blocks

    @property
    def kept_blocks(self) -> int:
        """Return the clean blocks that the cleaner needs to empty any run."""
        breakup_blocks = self._volume.usage.large_runs.breakup_blocks
        kept_blocks = self._working_blocks + breakup_blocks
        kept_blocks += self._reserve(*self._nodes_and_data())[0]
        return max(0, kept_blocks - self._in_use_blocks)

    def note_moving(self, blocks: int) -> None:
        """Count clean blocks that a round of the cleaner has taken, until that is durable.

        They need not be kept for it a second time: what it still takes is no more than what
        is left of what is kept (``Rounds``), and then what it has emptied comes back.
        """
        self._in_use_blocks += blocks

    def note_moved(self) -> None:
        """Note that all that has been moved is durable, or given up."""
        self._in_use_blocks = 0

    @property
    def _working_blocks(self) -> int:
        """Return those of them that are neither for companions nor for large runs.

        Nodes that move may take all branches along, half full as these may be, and what
        they replace is needed until the next checkpoint but one.
        """
        branch_blocks = 2 * self._volume.imap.node_count // self._branch_slots
        return self._cleaner_blocks + 2 * branch_blocks

    @property
    def is_pressing(self) -> bool:
        """Tell whether what is pending takes half of what the cleaner keeps for itself."""
        return self.shortage_blocks(0) > self.kept_blocks // 2

    @property
    def is_scarce(self) -> bool:
        """Tell whether requests will soon have to wait for the cleaner."""
        return self.shortage_blocks(self.paced_blocks) > 0

    def log_spare_blocks(self) -> int:
        """Return how many clean blocks may go into runs beyond what is needed now."""
        return -self.shortage_blocks(0)

    def spare_blocks(self) -> int:
        """Return how many clean blocks may go to what nobody asked for, such as order in files.

        Beyond all promises there is a share of the disk that the cleaner would have to
        make clean again.
        """
        usage = self._volume.usage
        kept_blocks = usage.segment_count * usage.segment_blocks // CLEAN_SHARE_LOW
        return max(0, min(-self.shortage_blocks(0), usage.clean_blocks - kept_blocks))

    def idle_spare_blocks(self) -> int:
        """Return how many clean blocks may go to order in files while nobody waits.

        As long as clean space does not become scarce: what they leave elsewhere is cleaned again.
        """
        return max(0, -self.shortage_blocks(5 * self.paced_blocks // 4))

    def shortage_blocks(self, blocks: int) -> int:
        """Return how many clean blocks are missing to accept ``blocks`` more."""
        needed = self.pending_blocks() + blocks + blocks // 32 + self.kept_blocks
        return needed - self._volume.usage.clean_blocks
