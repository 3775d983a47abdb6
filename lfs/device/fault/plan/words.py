"""The words of a fault plan, and a cursor that steps over them.

Spaces, line ends and semicolons separate words, ``#`` begins a comment, quotes
hold a word together.  Whatever goes wrong is said of one word, by its line and
column.

Held by ``tests/device/fault/plan/test_grammar.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from lfs.common.errors import UsageError
from lfs.device.fault.plan.units import looks_like_number, read_count

T = TypeVar("T")


class PlanError(UsageError):
    """A plan that cannot be read; the text points at the word."""


@dataclass(frozen=True)
class Word:
    """One word and where it is, counted from 1."""

    text: str
    line: int
    column: int
    quoted: bool = False


def split_words(text: str) -> Iterator[Word]:
    """Yield the words of a plan; raises PlanError for a quote without an end."""
    for number, line in enumerate(text.split("\n"), 1):
        at = 0
        while at < len(line):
            if line[at].isspace() or line[at] == ";":
                at += 1
            elif line[at] == "#":
                break
            elif line[at] == '"':
                word, end = _quoted(line, at, number)
                yield Word(word, number, at + 1, quoted=True)
                at = end
            else:
                end = at
                while end < len(line) and not line[end].isspace() and line[end] not in ";#":
                    end += 1
                yield Word(line[at:end], number, at + 1)
                at = end


def _quoted(line: str, start: int, number: int) -> tuple[str, int]:
    """Return the word in quotes at ``start``, and where it ends."""
    word = ""
    at = start + 1
    while at < len(line) and line[at] != '"':
        escaped = line[at] == "\\" and at + 1 < len(line)
        at += escaped
        word += "\n" if escaped and line[at] == "n" else line[at]
        at += 1
    if at >= len(line):
        raise PlanError(f"fault plan, line {number}, column {start + 1}: a quote without its end")
    return word, at + 1


class Reader:
    """A cursor over the words of a plan; every error is a PlanError."""

    def __init__(self, text: str) -> None:
        """Begin before the first word of ``text``."""
        self._words = list(split_words(text))
        self._at = 0

    def _next(self) -> Word | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _accept(self, text: str) -> bool:
        """Step over a word if it is the next one."""
        word = self._next()
        if word is None or word.quoted or word.text != text:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            word = self._next()
            if word is None:
                self._missing(text)
            self._fail(word, f"{text} is expected here")

    def _more_numbers(self) -> bool:
        word = self._next()
        return word is not None and not word.quoted and looks_like_number(word.text)

    def _take(self, read: Callable[[str], T]) -> T:
        word = self._next()
        if word is None:
            try:
                read("")
            except ValueError as error:
                self._missing(str(error))
            raise AssertionError("an empty word was read")
        try:
            value = read(word.text)
        except ValueError as error:
            self._fail(word, f"{error} is expected here")
        self._at += 1
        return value

    def _take_text(self, what: str) -> str:
        word = self._next()
        if word is None or not word.text:
            self._missing(what)
        self._at += 1
        return word.text

    def _optional(self, read: Callable[[str], T], default: T) -> T:
        return self._take(read) if self._more_numbers() else default

    def _option(self, name: str, read: Callable[[str], T], default: T) -> T:
        return self._take(read) if self._accept(name) else default

    def _counts(self) -> tuple[int, ...]:
        counts = [self._take(read_count)]
        while self._more_numbers():
            counts.append(self._take(read_count))
        return tuple(counts)

    # ---------------------------------------------------------------------- errors

    def _fail(self, word: Word, reason: str) -> NoReturn:
        raise PlanError(
            f"fault plan, line {word.line}, column {word.column}: {word.text!r}: {reason}"
        )

    def _fail_last(self, reason: str) -> NoReturn:
        """Blame the word that was read last."""
        self._fail(self._words[self._at - 1], reason)

    def _missing(self, what: str) -> NoReturn:
        if not self._words:
            raise PlanError(f"fault plan: {what} is expected")
        last = self._words[-1]
        self._fail(last, f"{what} is expected after it")


def one_of(known: tuple[str, ...]) -> Callable[[str], str]:
    """Return what reads one of the ``known`` words."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return text

    return read


def above_zero(read: Callable[[str], int]) -> Callable[[str], int]:
    """Return what reads a time as ``read`` does, but not zero."""

    def read_above(text: str) -> int:
        value = read(text)
        if not value:
            raise ValueError("a time above 0")
        return value

    return read_above
