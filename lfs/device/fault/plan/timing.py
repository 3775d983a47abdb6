"""Rules of a fault plan about time: when requests are done, and in what order they wait.

Held by ``tests/device/fault/plan/test_grammar.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lfs.device.fault.plan.rule import (
    READ,
    WRITE,
    Rule,
    correlation_text,
    joined,
    unless_zero,
)
from lfs.device.fault.plan.units import (
    show_rate,
    show_size,
    show_time,
)

DISTRIBUTIONS = ("uniform", "normal", "pareto", "paretonormal")


@dataclass(frozen=True)
class Delay(Rule):
    """Each request takes this much longer; requests do not wait for each other."""

    time_ns: int
    jitter_ns: int = 0
    correlation: float = 0.0
    distribution: str = "uniform"

    def _words(self) -> str:
        return joined(
            "delay",
            show_time(self.time_ns),
            show_time(self.jitter_ns) if self.jitter_ns or self.correlation else "",
            correlation_text(self.correlation),
            f"distribution {self.distribution}" if self.distribution != "uniform" else "",
        )


@dataclass(frozen=True)
class Rate(Rule):
    """Bytes pass one request after the other; ``cell_bytes`` rounds each request up."""

    about: ClassVar[tuple[str, ...]] = (READ, WRITE)
    bytes_per_second: float
    overhead_bytes: int = 0
    cell_bytes: int = 0
    cell_overhead_bytes: int = 0

    def _words(self) -> str:
        extra = [self.overhead_bytes, self.cell_bytes, self.cell_overhead_bytes]
        while extra and not extra[-1]:
            extra.pop()
        return joined("rate", show_rate(self.bytes_per_second), *map(show_size, extra))


@dataclass(frozen=True)
class Slot(Rule):
    """Requests complete in slots only, with pauses between: firmware that cleans up.

    The pause is drawn between ``min_ns`` and ``max_ns``, or from
    ``distribution`` with mean ``min_ns`` and jitter ``max_ns``.
    """

    min_ns: int
    max_ns: int
    distribution: str = ""
    requests: int = 0
    size_bytes: int = 0

    def _words(self) -> str:
        if self.distribution:
            spread = [f"distribution {self.distribution}", show_time(self.min_ns)]
        else:
            spread = [show_time(self.min_ns)]
        if self.distribution or self.max_ns != self.min_ns:
            spread.append(show_time(self.max_ns))
        return joined(
            "slot",
            *spread,
            unless_zero("requests", self.requests),
            f"bytes {show_size(self.size_bytes)}" if self.size_bytes else "",
        )


@dataclass(frozen=True)
class Seek(Rule):
    """A spinning disk: an arm that takes time to move, and a turn to wait for."""

    about: ClassVar[tuple[str, ...]] = (READ, WRITE)
    min_ns: int
    max_ns: int
    rotation_ns: int = 0
    heads: int = 1

    def _words(self) -> str:
        return joined(
            "seek",
            show_time(self.min_ns),
            show_time(self.max_ns),
            f"rotation {show_time(self.rotation_ns)}" if self.rotation_ns else "",
            f"heads {self.heads}" if self.heads > 1 else "",
        )


@dataclass(frozen=True)
class Limit(Rule):
    """At most ``requests`` are being served at a time; others wait for one to complete."""

    conditional: ClassVar[bool] = False
    requests: int

    def _words(self) -> str:
        return f"limit {self.requests}"
