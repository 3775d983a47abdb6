"""What makes requests durable: syncs, commits, background work, and flushes that take a while."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.system.machine.trees import STEP_NS, Trees


class DurableTrees(Trees):
    """Rules that let a crash lose less."""

    @rule()
    def sync(self) -> None:
        self._request("sync")
        self._settle()

    @precondition(lambda self: self.turn is None)
    @rule()
    def begin_commit(self) -> None:
        """Log everything, as the first part of an fsync whose flush takes a while."""
        self.now_ns += STEP_NS
        ticket = self.filesystem.begin_commit(self.now_ns)
        if self.begun is None:
            self.begun = (ticket, len(self.since), len(self.device.events))

    @precondition(lambda self: self.begun is not None)
    @rule()
    def finish_commit(self) -> None:
        """End that flush: what was written since it began need not have been part of it."""
        assert self.begun is not None
        ticket, request_count, event_count = self.begun
        self.filesystem.finish_commit(ticket)
        self._settle_first(request_count, event_count)
        self.begun = None

    @precondition(lambda self: self.turn is None and self.begun is None)
    @rule(idle=st.booleans(), seconds=st.sampled_from([0, 6, 61]))
    def begin_turn(self, idle: bool, seconds: int) -> None:
        """Do background work up to a flush that takes a while, if it needs one soon."""
        self.now_ns += seconds * 1_000_000_000 + STEP_NS
        for _ in range(5):
            turn = self.filesystem.begin_tick(self.now_ns, idle)
            if turn.flush is not None:
                self.turn = (turn.flush, len(self.since), len(self.device.events))
            if turn.flush is not None or not turn.more:
                break

    @precondition(lambda self: self.turn is not None)
    @rule()
    def finish_turn(self) -> None:
        """End that flush, as ``finish_commit`` does."""
        assert self.turn is not None
        flush, request_count, event_count = self.turn
        self.filesystem.finish_flush(flush)
        self._settle_first(request_count, event_count)
        self.turn = None

    @rule()
    def checkpoint(self) -> None:
        self._request("checkpoint")
        self._settle()

    @rule(steps=st.integers(1, 20), idle=st.booleans(), seconds=st.sampled_from([0, 1, 60]))
    def tick(self, steps: int, idle: bool, seconds: int) -> None:
        self.now_ns += seconds * 1_000_000_000
        self._request("tick", steps, idle)
