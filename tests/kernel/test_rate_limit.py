"""Lines that repeat themselves: the first ones are logged, all are counted."""

from __future__ import annotations

import logging

import pytest

from lfs.kernel.logs import Line, LogQueue
from lfs.kernel.rate_limit import BURST, KINDS_MAX, WINDOW_SECONDS, RateLimit


class Log:
    """A log that is read at once, at times that the test sets."""

    def __init__(self) -> None:
        self.now_seconds = 0.0
        self.lines: list[str] = []
        self.queue = LogQueue(self, "a.img", RateLimit(lambda: self.now_seconds))

    def send(self, line: Line) -> None:
        self.lines.append(line.text.removeprefix("a.img: "))

    def say(self, text: str, level: int = logging.ERROR) -> None:
        self.queue.handle(logging.LogRecord("test", level, "", 0, text, (), None))

    def recent(self) -> list[str]:
        return [line.partition(" a.img: ")[2] for line in self.queue.recent()]


@pytest.fixture
def log() -> Log:
    return Log()


def test_one_kind_is_logged_so_often_and_then_counted(log: Log) -> None:
    texts = [f"read inode {number} 'name {number}': damaged" for number in range(BURST + 7)]
    for text in texts:
        log.say(text)
    assert log.recent() == texts[:BURST]
    log.now_seconds = WINDOW_SECONDS
    log.say("something else")
    summary = f"7 more like it were not logged: {texts[-1]}"
    assert log.recent() == [*texts[:BURST], summary, "something else"]
    log.say(texts[0])
    assert log.recent()[-1] == texts[0]
    log.queue.flush()
    assert log.lines == log.recent()


def test_who_looks_is_told_what_was_left_out(log: Log) -> None:
    for _ in range(BURST + 1):
        log.say("again")
    log.now_seconds = WINDOW_SECONDS
    assert log.recent()[-1] == "1 more like it were not logged: again"
    assert log.recent().count(log.recent()[-1]) == 1


def test_end_tells_what_was_left_out(log: Log) -> None:
    for _ in range(BURST + 2):
        log.say("again")
    log.queue.flush()
    assert log.lines == ["again"] * BURST + ["2 more like it were not logged: again"]


@pytest.mark.parametrize(
    "text",
    [
        "write inode 7 bytes 0+4096: Input/output error: read-only from now on",
        "the mount stays writable",
        "lookup directory 7 'x': damaged",
    ],
)
def test_first_of_a_kind_is_logged_whatever_else_repeats_itself(log: Log, text: str) -> None:
    for number in range(1000):
        log.say(f"write inode {number} bytes 0+4096: Input/output error")
    log.say(text)
    assert log.recent()[-1] == text


@pytest.mark.parametrize("quoted", ["'a 1'", '"it\'s"', "'a\\'b \"c'", "b'\\xff'", "0xbeef", "12"])
def test_names_and_numbers_make_no_kind(log: Log, quoted: str) -> None:
    for _ in range(BURST):
        log.say("lookup directory 1 'x': damaged at 5")
        log.say("lookup directory 1 b'x': damaged at 5")
    log.say(f"lookup directory 1 {quoted}: damaged at 0x99")
    assert len(log.recent()) == 2 * BURST


def test_what_people_do_is_always_logged(log: Log) -> None:
    for _ in range(2 * BURST):
        log.say("remounted with ro", logging.INFO)
    assert len(log.recent()) == 2 * BURST


def test_kinds_are_bounded_and_none_is_left_out_untold() -> None:
    limit = RateLimit(lambda: 0.0)
    told = []
    kinds = ["x" * number for number in range(1, 3 * KINDS_MAX)]
    for kind in kinds:
        for _ in range(BURST + 1):
            told += limit.ended()
            limit.admits(kind)
        assert len(limit._windows) <= KINDS_MAX
    told += limit.ended(all_of_them=True)
    assert len(told) == len(kinds)
    assert all(line.startswith("1 more") for line in told)
