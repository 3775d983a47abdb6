"""Rules of a fault plan about power: the cache, when it goes, and what survives.

Held by ``tests/device/fault/plan/test_grammar.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lfs.device.fault.plan.rule import (
    SECTOR_BYTES,
    Rule,
    atomic_text,
    joined,
    quoted,
)
from lfs.device.fault.plan.units import (
    show_size,
    show_time,
)

SURVIVAL_MODES = ("none", "all", "order", "any", "torn")
CUT_MODES = ("linear", "log")


@dataclass(frozen=True)
class Cache(Rule):
    """A volatile write cache: what is not flushed is only here, and the oldest leaves first."""

    conditional: ClassVar[bool] = False
    size_bytes: int

    def _words(self) -> str:
        return f"cache {show_size(self.size_bytes)}"


@dataclass(frozen=True)
class Survival:
    """What a power cut leaves of the writes in the cache.

    ``mode`` is one of ``SURVIVAL_MODES``, or ``writes`` with the ``numbers`` of
    those that arrive, the oldest in the cache being 1.  ``atomic_bytes`` is what
    arrives as a whole when writes are torn.
    """

    mode: str = "any"
    numbers: tuple[int, ...] = ()
    atomic_bytes: int = SECTOR_BYTES

    @property
    def text(self) -> str:
        """Return it as a plan has it."""
        return joined("survive", self.mode, *map(str, self.numbers), atomic_text(self.atomic_bytes))


@dataclass(frozen=True)
class Cut(Rule):
    """When the power goes: during the write that is the n-th since it came.

    ``writes`` lists n for one power cycle after the other; after the last one
    it stays.  ``mode`` is a list without end instead, as littlefs names them:
    ``linear`` 1, 2, 3, ... and ``log`` 1, 2, 4, 8, ...
    """

    conditional: ClassVar[bool] = False
    writes: tuple[int, ...] = ()
    mode: str = ""
    mark: str = ""
    after_ns: int = 0
    survival: Survival = Survival()

    def _words(self) -> str:
        return joined(
            "cut",
            self.mode,
            f"at {' '.join(map(str, self.writes))}" if self.writes else "",
            f"after {show_time(self.after_ns)}" if self.after_ns else "",
            f"mark {quoted(self.mark)}" if self.mark else "",
            self.survival.text if self.survival != Survival() else "",
        )
