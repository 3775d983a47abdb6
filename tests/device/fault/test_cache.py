from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfs.device.fault.cache import WriteCache, torn_sectors
from lfs.device.fault.plan.power import SURVIVAL_MODES, Survival
from lfs.device.memory import MemoryDevice

SECTOR = 512
SECTOR_COUNT = 32


def _sectors(text: str) -> bytes:
    """Return one sector for each letter; a dot is zeros."""
    return b"".join((b"\0" if each == "." else each.encode()) * SECTOR for each in text)


def _letters(data: bytes) -> str:
    """Return the first letter of each sector, and assert that the sector is whole."""
    found = ""
    for at in range(0, len(data), SECTOR):
        sector = data[at : at + SECTOR]
        assert sector == sector[:1] * SECTOR
        found += "." if sector[0] == 0 else chr(sector[0])
    return found


class Disk:
    """A small medium and its cache, read and written by letters."""

    def __init__(self) -> None:
        self.medium = MemoryDevice(SECTOR_COUNT * SECTOR)
        self.cache = WriteCache(self.medium)

    def add(self, sector: int, letters: str) -> int:
        return self.cache.add(sector * SECTOR, _sectors(letters))

    def seen(self, count: int = 8) -> str:
        return _letters(self.cache.read(0, count * SECTOR))

    def stored(self, count: int = 8) -> str:
        return _letters(self.medium.read(0, count * SECTOR))


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_cache_reads_see_the_newest_of_everything(disk: Disk) -> None:
    disk.medium.write(0, [_sectors("mmmmmmmm")])
    disk.add(1, "aaa")
    disk.add(2, "b")
    assert disk.seen() == "mabammmm"
    assert _letters(disk.cache.read(3 * SECTOR, SECTOR)) == "a"
    assert disk.stored() == "mmmmmmmm"
    assert len(disk.cache) == 2
    assert disk.cache.size_bytes == 4 * SECTOR


def test_cache_shrinks_by_the_oldest_first(disk: Disk) -> None:
    for sector, letter in enumerate("abcd"):
        disk.add(sector, letter)
    disk.cache.shrink(2 * SECTOR)
    assert disk.stored() == "ab......"
    assert disk.cache.size_bytes == 2 * SECTOR
    disk.cache.shrink(0)
    assert disk.stored() == "abcd...."
    assert (len(disk.cache), disk.cache.size_bytes) == (0, 0)


def test_cache_overtaking_write_is_not_undone_by_an_older_one(disk: Disk) -> None:
    disk.add(0, "aaaa")
    overtaking = disk.add(1, "bb")
    disk.cache.persist(overtaking)
    assert disk.stored() == ".bb....."
    assert disk.seen() == "abba...."
    disk.cache.shrink(0)
    assert disk.stored() == "abba...."


def test_cache_overtaking_write_leaves_newer_ones_alone(disk: Disk) -> None:
    middle = disk.add(0, "bbb")
    disk.add(1, "c")
    disk.cache.persist(middle)
    assert disk.stored() == "bbb....."
    assert disk.seen() == "bcb....."
    disk.cache.shrink(0)
    assert disk.stored() == "bcb....."


def test_cache_discard_forgets_the_range_and_keeps_the_rest(disk: Disk) -> None:
    disk.medium.write(0, [_sectors("mmmmmmmm" + "nnnnnnnn")])
    disk.add(6, "aaaaaaaaaa")
    disk.cache.discard(8 * SECTOR, 8 * SECTOR)
    assert disk.seen(16) == "mmmmmmaa........"
    disk.cache.shrink(0)
    assert disk.stored(16) == "mmmmmmaa........"


def test_cache_write_after_a_discard_is_kept(disk: Disk) -> None:
    disk.add(0, "aaaa")
    disk.cache.discard(0, 8 * SECTOR)
    disk.add(1, "b")
    disk.cache.shrink(0)
    assert disk.stored() == ".b......"


@pytest.mark.parametrize(
    ("survival", "survivors", "stored"),
    [
        (Survival("none"), [], "........"),
        (Survival("all"), [1, 2, 3, 4], "abcd...."),
        (Survival("writes", (4, 2, 2, 9)), [2, 4], ".b.d...."),
    ],
)
def test_cache_cut_leaves_what_survives(
    disk: Disk, survival: Survival, survivors: list[int], stored: str
) -> None:
    for sector, letter in enumerate("abcd"):
        disk.add(sector, letter)
    assert disk.cache.cut(survival, random.Random(1)) == (survivors, 4)
    assert disk.stored() == stored
    assert disk.seen() == stored
    assert (len(disk.cache), disk.cache.size_bytes) == (0, 0)


def _cut_outcomes(survival: Survival, count: int) -> set[str]:
    """Return what is stored after many cuts with ``count`` writes in the cache."""
    generator = random.Random(5)
    outcomes = set()
    for _ in range(400):
        disk = Disk()
        for sector, letter in enumerate("abcdefgh"[:count]):
            disk.add(sector, letter)
        survivors, total = disk.cache.cut(survival, generator)
        assert total == count
        stored = disk.stored(count)
        assert [number for number, each in enumerate(stored, 1) if each != "."] == survivors
        outcomes.add(stored)
    return outcomes


def test_cache_cut_in_order_leaves_every_prefix_and_nothing_else() -> None:
    assert _cut_outcomes(Survival("order"), 3) == {"...", "a..", "ab.", "abc"}


def test_cache_cut_any_leaves_every_subset() -> None:
    assert len(_cut_outcomes(Survival("any"), 4)) == 16


def test_cache_cut_torn_keeps_pieces_whole() -> None:
    outcomes = set()
    generator = random.Random(6)
    for _ in range(300):
        disk = Disk()
        # Sectors 1 to 6 lie in the pieces of two sectors 0-1, 2-3, 4-5 and 6-7.
        disk.add(1, "aaaaaa")
        disk.cache.cut(Survival("torn", atomic_bytes=1024), generator)
        outcomes.add(disk.stored())
    expected = {
        "." + first + second * 2 + third * 2 + last + "."
        for first in "a."
        for second in "a."
        for third in "a."
        for last in "a."
    }
    assert outcomes == expected


def test_cache_cut_of_overlapping_writes_keeps_their_order(disk: Disk) -> None:
    disk.add(0, "aaaa")
    disk.add(1, "bb")
    disk.add(2, "cc")
    disk.cache.cut(Survival("writes", (1, 3)), random.Random(1))
    assert disk.stored() == "aacc...."


def test_cache_cut_does_not_bring_back_what_newer_data_replaced(disk: Disk) -> None:
    disk.add(0, "aaa")
    disk.cache.persist(disk.add(1, "b"))
    disk.cache.cut(Survival("all"), random.Random(1))
    assert disk.stored() == "aba....."


@pytest.mark.parametrize("atomic_bytes", [512, 1024, 4096, 65536])
def test_torn_sectors_are_whole_pieces_of_the_device(atomic_bytes: int) -> None:
    generator = random.Random(7)
    size = atomic_bytes // SECTOR
    for _ in range(100):
        kept = torn_sectors(range(3, 29), atomic_bytes, generator)
        for piece in range(29 // size + 1):
            inside = [sector for sector in range(3, 29) if sector // size == piece]
            assert [sector for sector in kept if sector // size == piece] in ([], inside)


# ------------------------------------------------------------------------- a model

_places = st.tuples(st.integers(0, SECTOR_COUNT - 1), st.integers(1, 8)).map(
    lambda pair: (pair[0], min(pair[1], SECTOR_COUNT - pair[0]))
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _places),
        st.tuples(st.just("write"), _places),
        st.tuples(st.just("persist"), st.integers(0, 5)),
        st.tuples(st.just("shrink"), st.integers(0, 12)),
        st.tuples(st.just("discard"), st.integers(0, 3)),
        st.tuples(st.just("read"), _places),
    ),
    max_size=25,
)
_survivals = st.builds(
    Survival,
    st.sampled_from([*SURVIVAL_MODES, "writes"]),
    st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    st.sampled_from([512, 1024, 4096]),
)


class Model:
    """What each sector may hold: the newest content, and all that it ever held."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.newest = [b"\0" * SECTOR] * SECTOR_COUNT
        self.ever = [{content} for content in self.newest]
        self.cached: dict[int, range] = {}
        self.number = 0

    def write(self, place: tuple[int, int]) -> None:
        first, count = place
        self.number += 1
        contents = [bytes([self.number, sector]) * (SECTOR // 2) for sector in range(count)]
        cache_number = self.disk.cache.add(first * SECTOR, b"".join(contents))
        self.cached[cache_number] = range(first, first + count)
        for sector, content in enumerate(contents, first):
            self.newest[sector] = content
            self.ever[sector].add(content)

    def persist(self, which: int) -> None:
        if self.cached:
            number = sorted(self.cached)[which % len(self.cached)]
            self.disk.cache.persist(number)
            del self.cached[number]

    def shrink(self, sectors_max: int) -> None:
        self.disk.cache.shrink(sectors_max * SECTOR)
        assert self.disk.cache.size_bytes <= sectors_max * SECTOR
        while sum(map(len, self.cached.values())) > sectors_max:
            del self.cached[min(self.cached)]

    def discard(self, page: int) -> None:
        # Whole pages of 8 sectors, which the medium forgets at once.
        self.disk.cache.discard(page * 8 * SECTOR, 8 * SECTOR)
        for sector in range(page * 8, page * 8 + 8):
            self.newest[sector] = b"\0" * SECTOR
            self.ever[sector] = {self.newest[sector]}

    def read(self, place: tuple[int, int]) -> None:
        first, count = place
        data = self.disk.cache.read(first * SECTOR, count * SECTOR)
        assert data == b"".join(self.newest[first : first + count])

    def check(self) -> None:
        self.read((0, SECTOR_COUNT))
        assert len(self.disk.cache) == len(self.cached)
        assert self.disk.cache.size_bytes == SECTOR * sum(map(len, self.cached.values()))

    def stored(self) -> list[bytes]:
        raw = self.disk.medium.read(0, SECTOR_COUNT * SECTOR)
        return [raw[at : at + SECTOR] for at in range(0, len(raw), SECTOR)]


def _run(steps: list[tuple[str, object]]) -> Model:
    model = Model()
    for name, argument in steps:
        step: Callable[[object], None] = getattr(model, name)
        step(argument)
        model.check()
    return model


@given(_steps)
@settings(max_examples=150, deadline=None)
def test_cache_any_requests_match_the_model(steps: list[tuple[str, object]]) -> None:
    model = _run(steps)
    model.shrink(0)
    assert model.stored() == model.newest


@given(_steps, _survivals, st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_cache_after_a_cut_each_sector_is_old_or_of_a_survivor(
    steps: list[tuple[str, object]], survival: Survival, seed: int
) -> None:
    model = _run(steps)
    before = model.stored()
    places = [model.cached[number] for number in sorted(model.cached)]
    survivors, count = model.disk.cache.cut(survival, random.Random(seed))
    assert count == len(places)
    reachable = {sector for number in survivors for sector in places[number - 1]}
    for sector, (old, new) in enumerate(zip(before, model.stored(), strict=True)):
        assert new in model.ever[sector]
        assert new == old or sector in reachable
    if survival.mode == "all":
        assert model.stored() == model.newest
