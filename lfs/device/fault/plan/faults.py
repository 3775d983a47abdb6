"""Rules of a fault plan about what goes wrong: what is lost, changed, or refused.

Held by ``tests/device/fault/plan/test_grammar.py``.
"""

from __future__ import annotations

import errno as errno_module
from dataclasses import dataclass
from typing import ClassVar

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
    joined,
    unless_zero,
    with_chance,
)
from lfs.device.fault.plan.units import (
    show_probability,
    show_range,
    show_size,
)


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
