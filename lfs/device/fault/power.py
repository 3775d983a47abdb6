"""When the power of a disk goes, by the plan's ``cut``: one cycle after the other."""

from __future__ import annotations

from lfs.device.fault.plan.plan import FaultPlan, rules_of
from lfs.device.fault.plan.power import Cut, Survival


class PowerSchedule:
    """Counts writes since the power came, and says when it goes."""

    def __init__(self, plan: FaultPlan, now_ns: int) -> None:
        """Take ``now_ns`` for the moment when the power came."""
        cuts = rules_of(plan.rules, Cut)
        self._cut = cuts[0] if cuts else None
        self._cycle = -1
        self.restart(now_ns)

    @property
    def survival(self) -> Survival:
        """Return what survives a cut."""
        return self._cut.survival if self._cut else Survival()

    def restart(self, now_ns: int) -> None:
        """Begin the next power cycle."""
        self._cycle += 1
        self._write_count = 0
        self._start_ns = now_ns

    def cuts_write(self) -> bool:
        """Count a write; tell whether the power goes in the middle of it."""
        self._write_count += 1
        return self._cut is not None and self._write_count == self._limit(self._cut)

    def cuts_at(self, now_ns: int) -> bool:
        """Tell whether the time has come."""
        cut = self._cut
        return bool(cut and cut.after_ns and now_ns - self._start_ns >= cut.after_ns)

    def cuts_mark(self, text: str) -> bool:
        """Tell whether this is the mark at which the power goes."""
        return bool(self._cut and self._cut.mark and self._cut.mark == text)

    def _limit(self, cut: Cut) -> int:
        """Return the write during which the power goes in this cycle; 0 for none."""
        if cut.mode == "linear":
            return self._cycle + 1
        if cut.mode == "log":
            return 1 << self._cycle
        return cut.writes[self._cycle] if self._cycle < len(cut.writes) else 0
