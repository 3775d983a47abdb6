"""Reading a fault plan from text: netem's words, and the disk's own.

FAULTS.md is the language's reference.  A plan is a row of statements (``words``
says how it falls into words).  Each statement begins with a word that nothing
else begins with, so nothing else needs to end it.
"""

from __future__ import annotations

import difflib
import errno as errno_module
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NoReturn

from lfs.device.fault.plan import faults, power, timing
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.fault.plan.power import Survival
from lfs.device.fault.plan.rule import ALWAYS, OPERATIONS, SECTOR_BYTES, Chance, Rule, When
from lfs.device.fault.plan.units import (
    read_count,
    read_probability,
    read_range,
    read_rate,
    read_size_bytes,
    read_time_ns,
    read_whole,
)
from lfs.device.fault.plan.words import PlanError as PlanError  # where callers look for it
from lfs.device.fault.plan.words import Reader, Word, above_zero, one_of


def parse_plan(text: str, seed: int = 0) -> FaultPlan:
    """Return the plan that ``text`` describes; ``seed`` is for one that names none.

    Raises PlanError with one line that points at the word.
    """
    return _Parser(text, seed).plan()


class _Parser(Reader):
    """Reads one plan, a word after the other."""

    def __init__(self, text: str, seed: int) -> None:
        super().__init__(text)
        self._seed = seed
        self._statements: dict[str, Callable[[], Rule]] = {
            "delay": self._delay,
            "rate": self._rate,
            "slot": self._slot,
            "seek": self._seek,
            "limit": lambda: timing.Limit(self._take(read_count)),
            "loss": self._loss,
            "ignore-flush": lambda: faults.IgnoreFlush(self._chance(optional=True)),
            "corrupt": self._corrupt,
            "stuck": lambda: faults.Stuck(self._take(read_count)),
            "torn": lambda: faults.Torn(self._chance(), self._atomic()),
            "misdirect": self._misdirect,
            "stale": lambda: faults.Stale(self._chance()),
            "duplicate": lambda: faults.Duplicate(
                self._chance(), self._option("after", read_count, 1)
            ),
            "reorder": lambda: faults.Reorder(self._chance(), self._option("gap", read_count, 1)),
            "error": self._error,
            "bad": self._bad,
            "readonly": faults.ReadOnly,
            "vanish": faults.Vanish,
            "full": lambda: faults.Full(self._take(read_size_bytes)),
            "cache": lambda: power.Cache(self._take(read_size_bytes)),
            "cut": self._cut,
        }

    def plan(self) -> FaultPlan:
        """Read all statements."""
        rules: list[Rule] = []
        once: set[type[Rule]] = set()
        while self._at < len(self._words):
            word = self._words[self._at]
            if self._accept("seed"):
                self._seed = self._take(read_whole)
                continue
            if word.text not in self._statements or word.quoted:
                self._unknown(word)
            self._at += 1
            rule = self._statements[word.text]()
            if type(rule) in once:
                self._fail(word, f"only one {word.text} can be")
            if isinstance(rule, timing.Rate | timing.Seek | timing.Limit | power.Cache | power.Cut):
                once.add(type(rule))
            condition = self._next()
            if not rule.conditional and condition and condition.text in _CONDITION_WORDS:
                self._fail(condition, f"{word.text} takes no conditions")
            rules.append(replace(rule, when=self._when(rule)))
        return FaultPlan(tuple(rules), self._seed)

    # ------------------------------------------------------------------ statements

    def _delay(self) -> Rule:
        time_ns = self._take(read_time_ns)
        jitter_ns, correlation = 0, 0.0
        if self._more_numbers():
            jitter_ns = self._take(read_time_ns)
            correlation = self._optional(read_probability, 0.0)
        distribution = self._option("distribution", one_of(timing.DISTRIBUTIONS), "uniform")
        if distribution != "uniform" and not jitter_ns:
            self._fail_last("a distribution needs a jitter to spread")
        return timing.Delay(time_ns, jitter_ns, correlation, distribution)

    def _rate(self) -> Rule:
        rate = self._take(read_rate)
        return timing.Rate(rate, *(self._optional(read_size_bytes, 0) for _ in range(3)))

    def _slot(self) -> Rule:
        distribution = self._option("distribution", one_of(timing.DISTRIBUTIONS), "")
        first_ns = self._take(read_time_ns)
        if distribution:
            second_ns = self._take(read_time_ns)
        else:
            second_ns = self._optional(read_time_ns, first_ns)
            if second_ns < first_ns:
                self._fail_last("the longest pause is below the shortest")
        requests = self._option("requests", read_count, 0)
        size_bytes = self._option("bytes", read_size_bytes, 0)
        return timing.Slot(first_ns, second_ns, distribution, requests, size_bytes)

    def _seek(self) -> Rule:
        min_ns, max_ns = self._take(read_time_ns), self._take(read_time_ns)
        if max_ns < min_ns:
            self._fail_last("the longest seek is below the shortest")
        rotation_ns = self._option("rotation", read_time_ns, 0)
        return timing.Seek(min_ns, max_ns, rotation_ns, self._option("heads", read_count, 1))

    def _loss(self) -> Rule:
        model: faults.RandomLoss | faults.StateLoss | faults.GilbertElliottLoss
        if self._accept("state"):
            p13 = self._take(read_probability)
            p31 = self._optional(read_probability, 1 - p13)
            p32 = self._optional(read_probability, 0.0)
            p23 = self._optional(read_probability, 1.0)
            p14 = self._optional(read_probability, 0.0)
            if max(p13 + p14, p31 + p32) > 1 + _ROUNDING:
                self._fail_last("the ways out of a state add up to over 100%")
            model = faults.StateLoss(p13, p31, p32, p23, p14)
        elif self._accept("gemodel"):
            p = self._take(read_probability)
            r = self._optional(read_probability, 1 - p)
            loss_bad = self._optional(read_probability, 1.0)
            loss_good = self._optional(read_probability, 0.0)
            model = faults.GilbertElliottLoss(p, r, loss_bad, loss_good)
        else:
            self._accept("random")
            model = faults.RandomLoss(self._chance())
        return faults.Loss(model, ecn=self._accept("ecn"))

    def _corrupt(self) -> Rule:
        at_rest = self._accept("rest")
        chance = self._chance()
        byte = self._option("byte", read_whole, -1)
        value = 0
        if byte >= 0:
            if at_rest:
                self._fail_last("a byte is of a request, not of what rests")
            self._expect("value")
            value = self._take(read_whole)
            if value > 255:
                self._fail_last("a byte has a value from 0 to 255")
        return faults.Corrupt(chance, at_rest, byte, value)

    def _misdirect(self) -> Rule:
        chance = self._chance()
        distance_bytes = self._option("by", read_size_bytes, 0)
        if distance_bytes % SECTOR_BYTES:
            self._fail_last("a write is misdirected by whole sectors of 512")
        return faults.Misdirect(chance, distance_bytes)

    def _error(self) -> Rule:
        word = self._next()
        if word is None:
            self._missing("the name of an error, such as EIO")
        code = getattr(errno_module, word.text, None)
        if not word.text.startswith("E") or code is None:
            self._fail(word, "not the name of an error, such as EIO, ENOSPC or ETIMEDOUT")
        self._at += 1
        return faults.Error(code, self._chance(optional=True), partial=self._accept("partial"))

    def _bad(self) -> Rule:
        ranges = [self._take(read_range)]
        while self._more_numbers():
            ranges.append(self._take(read_range))
        return faults.Bad(tuple(ranges), self._option("spare", read_count, 0))

    def _cut(self) -> Rule:
        mode = next((word for word in power.CUT_MODES if self._accept(word)), "")
        writes: tuple[int, ...] = ()
        if not mode and self._accept("at"):
            writes = self._counts()
        after_ns = self._option("after", read_time_ns, 0)
        mark = self._take_text("a mark") if self._accept("mark") else ""
        if not (mode or writes or after_ns or mark):
            self._missing("one of at, after, mark, linear, log")
        survival = self._survival() if self._accept("survive") else Survival()
        return power.Cut(writes, mode, mark, after_ns, survival)

    def _survival(self) -> Survival:
        if self._accept("writes"):
            return Survival("writes", self._counts(), self._atomic())
        mode = self._take(one_of((*power.SURVIVAL_MODES, "writes")))
        return Survival(mode, atomic_bytes=self._atomic())

    # ------------------------------------------------------------------ conditions

    def _when(self, rule: Rule) -> When:
        found: dict[str, int] = {}
        file = ""
        operations: list[str] = []
        ranges: list[tuple[int, int]] = []
        numbers = {"skip": read_count, "nth": read_count, "every": read_count, "times": read_count}
        while (word := self._next()) is not None and not word.quoted:
            if word.text in found:
                self._fail(word, f"only one {word.text} can be in a statement")
            if self._accept("on"):
                operations.extend(self._operations(rule))
            elif self._accept("in"):
                ranges.append(self._take(read_range))
            elif word.text in numbers:
                self._at += 1
                found[word.text] = self._take(numbers[word.text])
            elif word.text in ("from", "until"):
                self._at += 1
                found[word.text] = self._take(above_zero(read_time_ns))
                if 0 < found.get("until", 0) <= found.get("from", 0):
                    self._fail_last("the time until which is not after that from which")
            elif self._accept("up"):
                found["up"] = self._take(read_time_ns)
                self._expect("down")
                found["down"] = self._take(above_zero(read_time_ns))
            elif self._accept("while"):
                file = self._take_text("the name of a file")
            else:
                break
        timed = {f"{name}_ns" if name in _TIMES else name: found[name] for name in found}
        return When(tuple(operations), tuple(ranges), **timed, file=file)

    def _operations(self, rule: Rule) -> Iterator[str]:
        yield self._take(one_of(rule.about))
        while (word := self._next()) is not None and word.text in OPERATIONS:
            yield self._take(one_of(rule.about))

    def _chance(self, optional: bool = False) -> Chance:
        if optional and not self._more_numbers():
            return ALWAYS
        return Chance(self._take(read_probability), self._optional(read_probability, 0.0))

    def _atomic(self) -> int:
        size_bytes = self._option("atomic", read_size_bytes, SECTOR_BYTES)
        if size_bytes < 1 or size_bytes % SECTOR_BYTES:
            self._fail_last("what arrives as a whole has whole sectors of 512 bytes")
        return size_bytes

    def _unknown(self, word: Word) -> NoReturn:
        known = ["seed", *self._statements, *_CONDITION_WORDS]
        if word.text in _CONDITION_WORDS:
            self._fail(word, "this belongs to a statement, and none that takes it is before it")
        close = difflib.get_close_matches(word.text, known, 1)
        hint = f"; is {close[0]} meant?" if close else ""
        self._fail(word, f"unknown word{hint}")


_ROUNDING = 1e-9
"""How far above 1 probabilities may add up: 0.71% and 99.29% do so by a bit."""

_TIMES = ("from", "until", "up", "down")
_CONDITION_WORDS = ("on", "in", "skip", "nth", "every", "times", "from", "until", "up", "while")
