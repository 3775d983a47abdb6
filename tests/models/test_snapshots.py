"""The model of snapshots against the truth: what every version held, by contents."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.models.snapshots import LIVE, Disk

KEYS = range(4)
SIZE = 14


class Snapshots(RuleBasedStateMachine):
    """Writes, removes, moves, snapshots, deletes and rolls back; every version stays as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk(SIZE)
        self.contents: dict[int, int] = {}
        """What is at each address, in truth."""
        self.truth: dict[int, dict[int, int]] = {LIVE: {}}
        """The contents of each key in each version that its user has not deleted."""
        self.written = 0
        self.rollbacks = 0

    @rule(key=st.sampled_from(KEYS))
    def write(self, key: int) -> None:
        if self.disk.write(key):
            self.written += 1
            # What was there is overwritten.
            self.contents[self.disk.live.mapping[key].address] = self.written
            self.truth[LIVE][key] = self.written

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key: int) -> None:
        self.disk.remove(key)
        self.truth[LIVE].pop(key, None)

    @rule()
    def snapshot(self) -> None:
        self.truth[self.disk.snapshot()] = dict(self.truth[LIVE])

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        number = self._some_snapshot(data)
        if number is not None:
            self.disk.delete(number)
            del self.truth[number]

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        number = self._some_snapshot(data)
        if number is not None:
            self.rollbacks += 1
            before = dict(self.truth[LIVE])
            self.disk.roll_back(number)
            self.truth[self.disk.snapshot_count] = before
            self.truth[LIVE] = dict(self.truth[number])

    @rule()
    def settle_all(self) -> None:
        self.disk.settle_all()

    @rule(key=st.sampled_from(KEYS))
    def settle(self, key: int) -> None:
        self.disk.settle(key)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        if not self.disk.entries:
            return
        address = data.draw(st.sampled_from(sorted(self.disk.entries)))
        before = dict(self.disk.entries)
        content = self.contents[address]
        self.disk.move(address)
        for other in self.disk.entries.keys() - before.keys():
            self.contents[other] = content
        if address not in self.disk.entries:
            # Whoever looks there still is to be seen to.
            del self.contents[address]

    def _some_snapshot(self, data: st.DataObject) -> int | None:
        numbers = sorted(self.truth.keys() - {LIVE})
        return data.draw(st.sampled_from(numbers)) if numbers else None

    @invariant()
    def every_version_reads_as_it_was(self) -> None:
        for number, held in self.truth.items():
            mapping = self.disk.versions[number].mapping
            found = {
                key: self.contents.get(self.disk.resolved(mapped))
                for key, mapped in mapping.items()
            }
            assert found == held, number

    @invariant()
    def live_mapping_needs_no_forward_unless_rolled_back(self) -> None:
        if not self.disk.live.bases:
            for mapped in self.disk.live.mapping.values():
                assert self.disk.resolved(mapped) == mapped.address

    @invariant()
    def nothing_is_held_that_no_version_has(self) -> None:
        held = {
            self.disk.resolved(mapped)
            for version in self.disk.versions.values()
            for mapped in version.mapping.values()
        }
        assert held == self.disk.entries.keys()

    @invariant()
    def liveness_is_told_by_the_live_version_and_one_snapshot(self) -> None:
        for address in self.disk.entries:
            truly = [
                number
                for number, version in self.disk.versions.items()
                if any(self.disk.resolved(one) == address for one in version.mapping.values())
            ]
            assert self.disk.holders(address) == (LIVE in truly, any(map(bool, truly))), address

    @invariant()
    def what_only_one_version_has_is_told_by_it_and_its_children(self) -> None:
        for number in self.disk.versions.keys() - {LIVE}:
            others = {
                self.disk.resolved(mapped)
                for other, version in self.disk.versions.items()
                if other != number
                for mapped in version.mapping.values()
            }
            mapping = self.disk.versions[number].mapping
            mine = {self.disk.resolved(mapped) for mapped in mapping.values()}
            assert self.disk.only_in(number) == mine - others

    @invariant()
    def intervals_are_few(self) -> None:
        assert len(self.disk.intervals) <= len(self.disk.versions) + 2 * self.rollbacks

    @invariant()
    def forwards_are_those_that_versions_need(self) -> None:
        for (address, until), forward in self.disk.forwards.items():
            assert forward.address in self.disk.entries
            assert (address, until) in self.disk.origins[forward.address]
        if self.disk.versions.keys() == {LIVE} and not self.disk.live.bases:
            assert not self.disk.forwards


TestSnapshots = Snapshots.TestCase
TestSnapshots.settings = settings(max_examples=120, stateful_step_count=50)
