"""A model of snapshots on a log that cleans itself: docs/design/snapshots.md, to be run.

It has what the design turns on and nothing else: blocks that move, addresses that are used
again, versions of a mapping that are never rewritten, and a clock, the sequence of log
writes.  Each change is one log write, an address is one block, and the node that holds the
mapping of a key is the key's own.

``Disk`` answers from what would be on a disk: mappings, entries of summaries, versions,
intervals and forwards.  What it answers is held against the truth by
``tests/models/test_snapshots.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LIVE = 0
"""The version that is written to; snapshots are numbered from 1."""
NOBODY = -1
_FOREVER = 1 << 60


class Mapped(NamedTuple):
    """What the mapping of a key says."""

    address: int
    birth: int
    """The sequence of the log write that first wrote the block."""
    as_of: int
    """The sequence of the node that says so: the block was at the address then."""


class Entry(NamedTuple):
    """What the summary of a log write says of the block that it put at an address."""

    key: int
    birth: int
    arrival: int
    """The sequence of that log write: the birth, unless the block was moved."""


class Forward(NamedTuple):
    """Where a block is that was at another address from ``arrival`` until it was moved."""

    address: int
    arrival: int


class Interval(NamedTuple):
    """Blocks that were born from ``start`` on are first of all in one version."""

    start: int
    owner: int


class Version:
    """The live version or a snapshot."""

    def __init__(self, mapping: dict[int, Mapped], parent: int, sequence: int) -> None:
        """Let it map so, and have been made after ``parent``."""
        self.mapping = mapping
        self.parent = parent
        self.sequence = sequence
        self.bases: set[int] = set()
        """Sequences of older versions of which it has nodes that may say what is no longer so."""
        self.is_deleted = False
        """It stays all the same, because two versions descend from it, or rely on its forwards."""


class Disk:
    """A filesystem of ``size`` blocks with snapshots."""

    def __init__(self, size: int) -> None:
        """Start empty."""
        self.size = size
        self.sequence = 0
        self.versions = {LIVE: Version({}, NOBODY, _FOREVER)}
        self.snapshot_count = 0
        self.entries: dict[int, Entry] = {}
        self.intervals = [Interval(0, LIVE)]
        self.forwards: dict[tuple[int, int], Forward] = {}
        """By address and the sequence until which a block was there."""
        self.origins: dict[int, list[tuple[int, int]]] = {}
        """The keys of the forwards that lead to an address."""

    @property
    def live(self) -> Version:
        """Return the version that is written to."""
        return self.versions[LIVE]

    # ------------------------------------------------------------------- reading

    def resolved(self, mapped: Mapped) -> int:
        """Return where the block is now that a mapping tells of."""
        moved = [
            (until, forward)
            for (address, until), forward in self.forwards.items()
            if address == mapped.address and until > mapped.as_of
        ]
        return min(moved)[1].address if moved else mapped.address

    def owner(self, birth: int) -> int:
        """Return the version that has a block born then if any has; NOBODY for none."""
        return next(one.owner for one in reversed(self.intervals) if one.start <= birth)

    def holders(self, address: int) -> tuple[bool, bool]:
        """Tell whether the live version has the block at an address, and whether a snapshot."""
        entry = self.entries[address]
        owner = self.owner(entry.birth)
        return self._has(LIVE, address), owner > 0 and self._has(owner, address)

    def _has(self, number: int, address: int) -> bool:
        entry = self.entries[address]
        mapped = self.versions[number].mapping.get(entry.key)
        return (
            mapped is not None and mapped.birth == entry.birth and self.resolved(mapped) == address
        )

    def children(self, number: int) -> list[int]:
        """Return the versions that were made after one."""
        return [child for child, one in self.versions.items() if one.parent == number]

    def only_in(self, number: int) -> set[int]:
        """Return the addresses of blocks that would be given up with a version.

        A difference of its tree and those of its children, which skips what they share: what
        was born before it, its parent has.
        """
        only = {
            self.resolved(mapped)
            for mapped in self.versions[number].mapping.values()
            if self.owner(mapped.birth) == number
        }
        for child in self.children(number):
            only -= {self.resolved(mapped) for mapped in self.versions[child].mapping.values()}
        return only

    # ------------------------------------------------------------------- changing

    def write(self, key: int) -> bool:
        """Give a key a new block; tell whether there was room."""
        address = self.free()
        if address is None:
            return False
        self.remove(key)
        self.sequence += 1
        self.live.mapping[key] = Mapped(address, self.sequence, self.sequence)
        self.entries[address] = Entry(key, self.sequence, self.sequence)
        return True

    def remove(self, key: int) -> None:
        """Take a key's block from the live version; it is given up unless a snapshot has it."""
        mapped = self.live.mapping.pop(key, None)
        if mapped is not None and self.owner(mapped.birth) == LIVE:
            self._give_up(self.resolved(mapped))

    def free(self) -> int | None:
        """Return the lowest address that holds nothing."""
        return next((one for one in range(self.size) if one not in self.entries), None)

    def _give_up(self, address: int) -> None:
        del self.entries[address]
        for key in self.origins.pop(address, []):
            del self.forwards[key]

    def snapshot(self) -> int:
        """Make a snapshot of the live version."""
        self.sequence += 1
        self.snapshot_count += 1
        live, number = self.live, self.snapshot_count
        made = self.versions[number] = Version(dict(live.mapping), live.parent, self.sequence)
        made.bases = set(live.bases)
        live.parent = number
        self._inherit(LIVE, number)
        self.intervals.append(Interval(self.sequence + 1, LIVE))
        return number

    def _inherit(self, number: int, heir: int) -> None:
        """Let ``heir`` own what ``number`` does; intervals of one owner side by side are one."""
        joined: list[Interval] = []
        for start, owner in self.intervals:
            now = heir if owner == number else owner
            if not joined or joined[-1].owner != now:
                joined.append(Interval(start, now))
        self.intervals = joined

    def roll_back(self, number: int) -> None:
        """Let the live version be what a snapshot is, and a snapshot what was live."""
        self.snapshot()
        past = self.versions[number]
        self.live.mapping = dict(past.mapping)
        self.live.parent = number
        self.live.bases = {*past.bases, past.sequence}

    def settle(self, key: int) -> None:
        """Let the live mapping of a key say where its block is now."""
        mapped = self.live.mapping.get(key)
        if mapped is not None:
            self.sequence += 1
            self.live.mapping[key] = mapped._replace(
                address=self.resolved(mapped), as_of=self.sequence
            )

    def settle_all(self) -> None:
        """Settle every key, and let go of what the live version relied on."""
        for key in self.live.mapping:
            self.settle(key)
        self.live.bases = set()
        self._collect()

    def delete(self, number: int) -> None:
        """Delete a snapshot, as soon as nothing needs it any more."""
        self.versions[number].is_deleted = True
        self._collect()

    # ------------------------------------------------------------------- cleaning

    def move(self, address: int) -> None:
        """Empty an address, as the cleaner does: asking the live version and one snapshot."""
        is_live, is_kept = self.holders(address)
        if not is_live and not is_kept:
            self._give_up(address)
            return
        new_address = self.free()
        if new_address is None:
            return
        self.sequence += 1
        entry = self.entries.pop(address)
        self.entries[new_address] = entry._replace(arrival=self.sequence)
        if is_live:
            self.live.mapping[entry.key] = Mapped(new_address, entry.birth, self.sequence)
        origins = self.origins.pop(address, [])
        for key in origins:
            self.forwards[key] = self.forwards[key]._replace(address=new_address)
        if self._is_relied_on(entry.arrival, self.sequence):
            key = address, self.sequence
            self.forwards[key] = Forward(new_address, entry.arrival)
            origins.append(key)
        if origins:
            self.origins[new_address] = origins

    def _is_relied_on(self, arrival: int, until: int) -> bool:
        """Tell whether a version may say that a block is where it was from ``arrival`` on."""
        return any(arrival <= sequence < until for sequence in self._sequences())

    def _sequences(self) -> Iterator[int]:
        for version in self.versions.values():
            yield version.sequence
            yield from version.bases

    # ------------------------------------------------------------------- giving up

    def _collect(self) -> None:
        """Let deleted versions go that have at most one child, and forwards nobody relies on."""
        while (number := self._disposable()) is not None:
            self._dispose(number)
        for key, forward in list(self.forwards.items()):
            if not self._is_relied_on(forward.arrival, key[1]):
                del self.forwards[key]
                self.origins[forward.address].remove(key)

    def _disposable(self) -> int | None:
        return next(
            (
                number
                for number, one in self.versions.items()
                if one.is_deleted and len(self.children(number)) <= 1
            ),
            None,
        )

    def _dispose(self, number: int) -> None:
        """Give up what only a version has; its only child takes its place."""
        for address in self.only_in(number):
            self._give_up(address)
        heir = next(iter(self.children(number)), NOBODY)
        if heir != NOBODY:
            self.versions[heir].parent = self.versions[number].parent
        del self.versions[number]
        self._inherit(number, heir)
