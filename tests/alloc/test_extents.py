from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lfs.alloc.extents import DirtyExtents

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "append", "remove", "truncate"]),
        st.integers(0, 60),
        st.integers(0, 12),
    ),
    max_size=40,
)


def _extents(blocks: set[int]) -> list[tuple[int, int]]:
    """Return the maximal extents of a set of blocks."""
    found: list[tuple[int, int]] = []
    for block in sorted(blocks):
        if found and sum(found[-1]) == block:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((block, 1))
    return found


@given(STEPS)
def test_dirty_extents_match_a_set_of_blocks(steps: list[tuple[str, int, int]]) -> None:
    dirty = DirtyExtents()
    model: set[int] = set()
    for step, block, count in steps:
        before = len(model)
        start = max(model, default=-1) + 1 if step == "append" else block
        if step in ("add", "append"):
            model |= set(range(start, start + count))
            assert dirty.add(start, count) == len(model) - before
        elif step == "remove":
            model -= set(range(block, block + count))
            assert dirty.remove(block, count) == before - len(model)
        else:
            model = {kept for kept in model if kept < block}
            assert dirty.truncate(block) == before - len(model)
        expected = _extents(model)
        assert list(dirty) == expected
        assert len(dirty) == len(expected)
        assert dirty.count == len(model)
        assert dirty.largest() == max(expected, key=lambda extent: extent[1], default=None)
        for probe in range(75):
            holder = next((e for e in expected if e[0] <= probe < sum(e)), None)
            assert dirty.extent_at(probe) == holder
            assert (probe in dirty) == (probe in model)
            span = set(range(probe, probe + count))
            assert dirty.count_in(probe, count) == len(model & span)


def test_dirty_extents_are_clean_after_clear() -> None:
    dirty = DirtyExtents()
    dirty.add(3, 4)
    dirty.clear()
    assert (list(dirty), dirty.count) == ([], 0)
    assert dirty.add(5, 1) == 1


def test_dirty_extents_written_in_order_are_one() -> None:
    dirty = DirtyExtents()
    for block in range(0, 1000, 8):
        assert dirty.add(block, 8) == 8
    assert list(dirty) == [(0, 1000)]
    assert dirty.add(500, 8) == 0
