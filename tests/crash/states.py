"""What the medium may hold when the power goes, and how each such state is called.

At a *point*, after some count of events, the medium holds everything flushed,
and of the *pending* writes since then any part.  A variant says which:

- ``all``         everything arrived;
- ``set-HEX``     pending write i arrived if bit i is set;
- ``lost-I``, ``only-I``, ``random-R``   all but one, one alone, any;
- ``torn-BYTES-WHICH@I``   the same, but of write I only some sectors of so many bytes;
- ``killed``      the daemon died, not the machine: everything is there, but
  what was pending may still be lost at a second crash.

Parts are joined by ``+``.  ``random-R`` draws from the point's name and R, so
that a variant means the same whatever else was explored.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lfs.device.memory import MemoryDevice
from lfs.device.recording import Discard, Event, Flush, Mark, Write, replay

SECTOR_BYTES = (512, 4096)
SUBSET_WRITES_MAX = 6
_MANY = 24


class Point(NamedTuple):
    """A place in the events: what is certain by then, and what is not.

    ``key`` makes the random draws of this point its own.
    """

    key: str
    event_count: int
    durable: MemoryDevice
    pending: tuple[Event, ...]
    is_promise: bool


def points(
    key: str, start: MemoryDevice, events: Sequence[Event], pending: Iterable[Event] = ()
) -> Iterator[Point]:
    """Yield the points worth a crash: after each change of the medium and each promise.

    ``pending`` may be lost though it is on ``start`` already: it came before a
    mount without a power cut.
    """
    durable = start.copy()
    unflushed = tuple(pending)
    for count, event in enumerate(events, 1):
        match event:
            case Write() | Discard():
                unflushed = (*unflushed, event)
                yield Point(key, count, durable, unflushed, False)
            case Flush():
                durable = durable.copy()
                replay(unflushed, durable)
                unflushed = ()
            case Mark(text) if text.startswith("promised"):
                yield Point(key, count, durable, unflushed, True)


def point_at(
    key: str,
    start: MemoryDevice,
    events: Sequence[Event],
    count: int,
    pending: Iterable[Event] = (),
) -> Point:
    """Return the point after ``count`` events; raises ValueError when there is none."""
    for point in points(key, start, events, pending):
        if point.event_count == count:
            return point
    raise ValueError(f"no crash is possible after {count} events")


# ------------------------------------------------------------------------- names


def variants(point: Point) -> list[str]:
    """Return what may have happened at ``point``, without what an earlier point has had."""
    count = len(point.pending)
    if count == 0:
        return ["all"]
    return ["all", "killed", *_subsets(count, point.is_promise), *_torn(point)]


def _subsets(count: int, is_promise: bool) -> list[str]:
    newest = count - 1
    if count <= SUBSET_WRITES_MAX:
        # Without its newest write a point is like the one before.
        first = 0 if is_promise else 1 << newest
        return [f"set-{mask:x}" for mask in range(first, (1 << count) - 1)]
    if count <= _MANY:
        lost: Iterable[int] = range(count)
    else:
        lost = {newest - (1 << n) for n in range(8) if 1 << n <= newest} | {0, newest}
    return [
        *(f"lost-{index}" for index in sorted(lost)),
        f"only-{newest}",
        "only-0",
        *(f"random-{number}" for number in range(4)),
    ]


def _torn(point: Point) -> Iterator[str]:
    newest = len(point.pending) - 1
    event = point.pending[newest]
    if not isinstance(event, Write):
        return
    for size in SECTOR_BYTES:
        count = len(event.data) // size
        if count < 2:
            continue
        for which in ("first", "half", "not-first", "not-last", "odd", "random0", "random1"):
            yield f"torn-{size}-{which}@{newest}"
        if newest:
            yield f"torn-{size}-half@{newest}+only-{newest}"
            yield f"torn-{size}-random2@{newest}+random-0"
            yield f"torn-{size}-not-first@{newest}+lost-{newest - 1}"
    if newest:
        older = random.Random(f"{point.key}:{point.event_count}").randrange(newest)
        if len(getattr(point.pending[older], "data", b"")) > SECTOR_BYTES[0]:
            yield f"torn-{SECTOR_BYTES[0]}-half@{older}"
            yield f"torn-{SECTOR_BYTES[0]}-random3@{older}"


# ------------------------------------------------------------------------- media


def medium_of(point: Point, variant: str) -> MemoryDevice:
    """Return the medium that a crash at ``point`` leaves; raises ValueError for no variant."""
    arrived: list[int] = list(range(len(point.pending)))
    torn: dict[int, list[int]] = {}
    unit_bytes = 0
    for part in variant.split("+"):
        word, _, rest = part.partition("-")
        if word == "torn":
            unit_bytes, index, sectors = _sectors(point, rest)
            torn[index] = sectors
        else:
            arrived = _arrived(point, word, rest, arrived)
    medium = point.durable.copy()
    for index in arrived:
        event = point.pending[index]
        if index in torn and isinstance(event, Write):
            for sector in torn[index]:
                start = sector * unit_bytes
                part_bytes = event.data[start : start + unit_bytes]
                medium.write(event.offset_bytes + start, [part_bytes])
        else:
            replay([event], medium)
    return medium


def _arrived(point: Point, word: str, rest: str, everything: list[int]) -> list[int]:
    match word:
        case "all" | "killed":
            return everything
        case "set":
            mask = int(rest, 16)
            return [index for index in everything if mask >> index & 1]
        case "lost":
            return [index for index in everything if index != int(rest)]
        case "only":
            return [int(rest)]
        case "random":
            choose = random.Random(f"{point.key}:{point.event_count}:{rest}")
            return [index for index in everything if choose.random() < 0.5]
    raise ValueError(f"no variant is called {word!r}")


def _sectors(point: Point, rest: str) -> tuple[int, int, list[int]]:
    """Return the size of a sector, the write that is torn and the sectors of it that arrived."""
    size_text, _, rest = rest.partition("-")
    which, _, index_text = rest.partition("@")
    size, index = int(size_text), int(index_text)
    event = point.pending[index]
    assert isinstance(event, Write), event
    sectors = list(range(-(-len(event.data) // size)))
    match which:
        case "first":
            kept = sectors[:1]
        case "half":
            kept = sectors[: len(sectors) // 2]
        case "not-first":
            kept = sectors[1:]
        case "not-last":
            kept = sectors[:-1]
        case "odd":
            kept = sectors[1::2]
        case _:
            choose = random.Random(f"{point.key}:{point.event_count}:{which}:{size}")
            kept = [sector for sector in sectors if choose.random() < 0.5]
    return size, index, kept
