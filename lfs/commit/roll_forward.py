"""Roll-forward: what whole commits changed, put where the operations had put it.

Theory.  The records of a commit go over the tree, in memory.  The windows of the data that
it wrote follow from the entries of its log writes.  Windows that changed move live blocks
from one run to another in the usage table.

Held by ``tests/commit/test_recovery.py`` and ``tests/system/test_state_machine.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from lfs.common.errors import DamageError
from lfs.inodes.window import Window, shares, window_key
from lfs.ondisk import BLOCK_DATA, INO_MAX, KIND_INODE, KIND_WINDOW, Summary, unpack_key
from lfs.segments import usage_loading
from lfs.volume.volume import Volume


class RollForward:
    """Applies commits to a volume that has the state of a checkpoint."""

    def __init__(self, volume: Volume, tolerate: Callable[[DamageError], None]) -> None:
        """Change ``volume``; ``tolerate`` is told of damage, and raises it or goes on."""
        self._volume = volume
        self._tolerate = tolerate

    def apply(self, committed: list[Summary], needed: list[Summary]) -> None:
        """Take over whole commits, and count what they change in the usage table."""
        volume = self._volume
        windows: dict[bytes, Window | None] = {}
        for summary in committed:
            for key, value in summary.records:
                windows.pop(key, None)
                volume.imap.apply(key, value)
            self._map_data(summary, windows)
        for key, window in windows.items():
            if window is not None:
                volume.imap.apply(key, window.pack())
        try:
            if not volume.usage.is_lost:
                self._count_blocks(needed)
        except DamageError as error:
            self._tolerate(error)
            usage_loading.lose(volume.usage, volume.usage.live_total)
        for key in volume.imap.changes:
            ino, kind, _ = unpack_key(key)
            if kind == KIND_INODE:
                existed = self._stored(key) is not None
                volume.state.inode_count += int(volume.imap.changes[key] is not None) - int(existed)
                if ino > INO_MAX:
                    self._tolerate(DamageError(f"the log has an inode with the number {ino}"))
                else:
                    volume.state.next_ino = max(volume.state.next_ino, ino + 1)

    def _count_blocks(self, needed: list[Summary]) -> None:
        """Count in the usage table what changed since the checkpoint.

        What the log unmapped is dropped from the runs as they were at the
        checkpoint; then come the runs of the log writes that are ``needed``; then
        what the log mapped.
        """
        volume = self._volume
        keys = [key for key in volume.imap.changes if unpack_key(key)[1] == KIND_WINDOW]
        for key in keys:
            self._move_live(self._stored(key), -1)
        for summary in needed:
            usage_loading.claim_run(
                volume.usage, summary.run_address, summary.run_blocks, summary.sequence
            )
        for key in keys:
            self._move_live(volume.imap.changed_value(key), 1)

    def _stored(self, key: bytes) -> bytes | None:
        """Return what the checkpoint has for ``key``; None too if that can't be read."""
        try:
            return self._volume.imap.get_stored(key)
        except DamageError as error:
            self._tolerate(error)
            return None

    def _window(self, key: bytes) -> Window | None:
        """Return a window as it is before data is mapped into it.

        None if that can't be read: the leaf goes on to say so, because a window
        of the new data alone would show the rest of it as a hole.
        """
        size = self._volume.window_blocks
        try:
            value = self._volume.imap.get(key)
            return Window.unpack(value, size) if value else Window(size)
        except DamageError as error:
            self._tolerate(error)
            return None

    def _map_data(self, summary: Summary, windows: dict[bytes, Window | None]) -> None:
        """Map the payload of a log write into the windows of its owners."""
        size = self._volume.window_blocks
        address = summary.payload_address
        for entry in summary.entries:
            count = len(entry.checksums)
            end = entry.key + (count if entry.kind == BLOCK_DATA else 0)
            for index, start, stop in shares(entry.key, end, size):
                key = window_key(entry.owner, index)
                if key not in windows:
                    windows[key] = self._window(key)
                window = windows[key]
                if window is not None:
                    position = index * size + start - entry.key
                    part = entry.checksums[position : position + stop - start]
                    window.map(start, part, address + position)
            address += count

    def _move_live(self, value: bytes | None, sign: int) -> None:
        """Count the blocks of a window as live (1) or dead (-1)."""
        if value is None:
            return
        volume = self._volume
        for _, count, address in Window.unpack(value, volume.window_blocks).extents:
            if not volume.usage.holds(address, count):
                raise DamageError(f"blocks {address}+{count} of a file are in no run in use")
            if sign > 0:
                volume.usage.add_live(address, count)
            else:
                volume.usage.drop_live(address, count)
