"""A fault plan: one frozen value that describes everything a faulty disk does.

A plan is a seed and a sequence of rules.  A rule says what happens, how likely
that is, and when it may.  The same seed and the same rules give the same faults
for the same requests.  ``FaultPlan.text`` is the plan in its own language
(FAULTS.md), and reading that text gives an equal plan: it is the id that
replays a run.
"""

from __future__ import annotations

import errno as errno_module
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from lfs.device.fault.plan.rule import (
    ALWAYS,
    DISCARD,
    FLUSH,
    READ,
    SECTOR_BYTES,
    WRITE,
    Chance,
    Rule,
    atomic_text,
    correlation_text,
    joined,
    quoted,
    unless_zero,
    with_chance,
)
from lfs.device.fault.plan.units import (
    show_probability,
    show_range,
    show_rate,
    show_size,
    show_time,
)

DISTRIBUTIONS = ("uniform", "normal", "pareto", "paretonormal")
SURVIVAL_MODES = ("none", "all", "order", "any", "torn")
CUT_MODES = ("linear", "log")


# ------------------------------------------------------------------------ timing


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


# ------------------------------------------------------------------- what is lost


@dataclass(frozen=True)
class RandomLoss:
    """Each write is lost by chance."""

    chance: Chance

    @property
    def text(self) -> str:
        """Return it as a plan has it."""
        return self.chance.text


@dataclass(frozen=True)
class StateLoss:
    """netem's Markov chain of four states: well, lost in a burst, well in a burst, lost once."""

    p13: float
    p31: float
    p32: float
    p23: float
    p14: float

    @property
    def text(self) -> str:
        """Return it as a plan has it."""
        values = (self.p13, self.p31, self.p32, self.p23, self.p14)
        return joined("state", *map(show_probability, values))


@dataclass(frozen=True)
class GilbertElliottLoss:
    """A good and a bad state, and a probability of loss in each."""

    p: float
    r: float
    loss_bad: float
    loss_good: float

    @property
    def text(self) -> str:
        """Return it as a plan has it."""
        values = (self.p, self.r, self.loss_bad, self.loss_good)
        return joined("gemodel", *map(show_probability, values))


@dataclass(frozen=True)
class Loss(Rule):
    """A write is acknowledged and lost; with ``ecn`` it is done, and only noted."""

    about: ClassVar[tuple[str, ...]] = (WRITE, DISCARD)
    model: RandomLoss | StateLoss | GilbertElliottLoss
    ecn: bool = False

    def _words(self) -> str:
        return joined("loss", self.model.text, "ecn" if self.ecn else "")


@dataclass(frozen=True)
class IgnoreFlush(Rule):
    """A flush is acknowledged and not done."""

    about: ClassVar[tuple[str, ...]] = (FLUSH,)
    chance: Chance = ALWAYS

    def _words(self) -> str:
        return with_chance("ignore-flush", self.chance)


# --------------------------------------------------------------- what is changed


@dataclass(frozen=True)
class Corrupt(Rule):
    """One bit of a request is flipped; with ``at_rest`` one of what was written earlier.

    With ``byte`` 0 or above it is that byte of the request that becomes
    ``value`` instead, as dm-flakey's ``corrupt_bio_byte`` does (counted from 0).
    """

    about: ClassVar[tuple[str, ...]] = (READ, WRITE)
    chance: Chance
    at_rest: bool = False
    byte: int = -1
    value: int = 0

    def _words(self) -> str:
        return joined(
            "corrupt",
            "rest" if self.at_rest else "",
            self.chance.text,
            f"byte {self.byte} value {self.value}" if self.byte >= 0 else "",
        )


@dataclass(frozen=True)
class Stuck(Rule):
    """``bits`` bits of the medium, drawn by the seed, always read as 0 or always as 1."""

    about: ClassVar[tuple[str, ...]] = (READ,)
    bits: int

    def _words(self) -> str:
        return f"stuck {self.bits}"


@dataclass(frozen=True)
class Torn(Rule):
    """Of a write some pieces of ``atomic_bytes`` do not arrive, and it is acknowledged."""

    about: ClassVar[tuple[str, ...]] = (WRITE,)
    chance: Chance
    atomic_bytes: int = SECTOR_BYTES

    def _words(self) -> str:
        return joined("torn", self.chance.text, atomic_text(self.atomic_bytes))


@dataclass(frozen=True)
class Misdirect(Rule):
    """A write lands elsewhere: ``distance_bytes`` further on, or anywhere when that is 0."""

    about: ClassVar[tuple[str, ...]] = (WRITE,)
    chance: Chance
    distance_bytes: int = 0

    def _words(self) -> str:
        by = f"by {show_size(self.distance_bytes)}" if self.distance_bytes else ""
        return joined("misdirect", self.chance.text, by)


@dataclass(frozen=True)
class Stale(Rule):
    """A read returns what was there before the last write."""

    about: ClassVar[tuple[str, ...]] = (READ,)
    chance: Chance

    def _words(self) -> str:
        return joined("stale", self.chance.text)


@dataclass(frozen=True)
class Duplicate(Rule):
    """A write is repeated after ``after`` more writes, over whatever came since."""

    about: ClassVar[tuple[str, ...]] = (WRITE,)
    chance: Chance
    after: int = 1

    def _words(self) -> str:
        later = f"after {self.after}" if self.after > 1 else ""
        return joined("duplicate", self.chance.text, later)


@dataclass(frozen=True)
class Reorder(Rule):
    """A request overtakes those before it: no delay, and first from the cache to the medium."""

    chance: Chance
    gap: int = 1

    def _words(self) -> str:
        return joined("reorder", self.chance.text, f"gap {self.gap}" if self.gap > 1 else "")


# ----------------------------------------------------------------------- errors


@dataclass(frozen=True)
class Error(Rule):
    """A request fails with ``errno``; with ``partial`` a part of a write is done before."""

    errno: int
    chance: Chance = ALWAYS
    partial: bool = False

    def _words(self) -> str:
        name = errno_module.errorcode[self.errno]
        return joined(with_chance(f"error {name}", self.chance), "partial" if self.partial else "")


@dataclass(frozen=True)
class Bad(Rule):
    """Bad sectors: reads fail, writes remap them while there are spare ones (0: no limit)."""

    about: ClassVar[tuple[str, ...]] = (READ, WRITE)
    ranges: tuple[tuple[int, int], ...]
    spare: int = 0

    def _words(self) -> str:
        return joined("bad", *map(show_range, self.ranges), unless_zero("spare", self.spare))


@dataclass(frozen=True)
class ReadOnly(Rule):
    """From the first request it applies to, the device refuses every change (EROFS)."""

    about: ClassVar[tuple[str, ...]] = (WRITE, DISCARD)

    def _words(self) -> str:
        return "readonly"


@dataclass(frozen=True)
class Vanish(Rule):
    """From the first request it applies to, the device is gone (ENODEV)."""

    def _words(self) -> str:
        return "vanish"


@dataclass(frozen=True)
class Full(Rule):
    """Once ``size_bytes`` of the device have been written, no new place can be (ENOSPC)."""

    about: ClassVar[tuple[str, ...]] = (WRITE,)
    size_bytes: int

    def _words(self) -> str:
        return f"full {show_size(self.size_bytes)}"


# ---------------------------------------------------------------- cache and power


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


@dataclass(frozen=True)
class FaultPlan:
    """Everything a faulty disk does; without rules it is a good one."""

    rules: tuple[Rule, ...] = ()
    seed: int = 0

    @property
    def text(self) -> str:
        """Return the plan as it can be read again: the id that replays a run."""
        return "; ".join([f"seed {self.seed}", *(rule.text for rule in self.rules)])


R = TypeVar("R", bound=Rule)


def rules_of(rules: Sequence[Rule], kind: type[R]) -> list[R]:
    """Return the rules of one kind, in order."""
    return [rule for rule in rules if isinstance(rule, kind)]
