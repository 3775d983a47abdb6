"""The inode map against a sorted dictionary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.common.checksum import checksum
from lfs.imap.map import Packable
from lfs.ondisk import NO_BLOCK, Pointer, Record
from tests.imap.trees import HIGHEST, LOWEST, Tree, filled, key_of, value_of


def test_imap_without_a_tree_has_nothing() -> None:
    tree = Tree()
    assert tree.imap.get(key_of(1)) is None
    assert tree.items() == []
    assert tree.imap.root == NO_BLOCK
    tree.rebuild()
    tree.check()


def test_imap_change_lies_over_the_tree() -> None:
    tree, _ = filled(range(50))
    tree.imap.put(key_of(7), b"new")
    tree.imap.delete(key_of(8))
    assert tree.imap.get(key_of(7)) == b"new"
    assert tree.imap.get(key_of(8)) is None
    assert tree.imap.get_stored(key_of(7)) == value_of(7)
    assert tree.imap.get_stored(key_of(8)) == value_of(8)
    tree.rebuild()
    assert tree.imap.get_stored(key_of(7)) == b"new"
    assert tree.imap.get_stored(key_of(8)) is None


def test_imap_bounds_a_record_that_grows_before_it_is_logged() -> None:
    imap = Tree().imap
    imap.put(key_of(1), b"short")
    imap.apply(key_of(1), bytes(50))
    bound_bytes = imap.unlogged_bytes
    assert imap.take_unlogged() == [Record(key_of(1), bytes(50))]
    assert bound_bytes >= 19 + 50


def test_imap_logs_each_changed_key_once_with_its_last_value() -> None:
    imap = Tree().imap
    imap.put(key_of(2), b"old")
    imap.put(key_of(1), b"x")
    imap.put(key_of(2), b"new")
    imap.delete(key_of(3))
    imap.apply(key_of(4), b"told otherwise")
    bound_bytes = imap.unlogged_bytes
    records = imap.take_unlogged()
    assert records == [
        Record(key_of(2), b"new"),
        Record(key_of(1), b"x"),
        Record(key_of(3), None),
    ]
    assert sum(19 + len(value or b"") for _, value in records) <= bound_bytes
    assert imap.take_unlogged() == []
    assert imap.unlogged_bytes == 0


def test_imap_knows_which_changes_may_make_it_grow() -> None:
    tree, model = filled(range(50))
    imap = tree.imap
    key = key_of(7)
    imap.put(key, bytes(len(model[key])), may_grow=False)
    imap.delete(key_of(8))
    assert (imap.growing_count, imap.growing_bytes) == (0, 0)
    imap.put(key, bytes(200))
    assert imap.growing_count == 1
    assert imap.growing_bytes >= 200
    # Once it may have grown, a shorter one counts as what it is.
    imap.put(key, bytes(10), may_grow=False)
    assert imap.growing_count == 1
    assert 10 <= imap.growing_bytes < 10 + 60
    tree.rebuild()
    assert (imap.growing_count, imap.growing_bytes) == (0, 0)


def test_imap_leads_to_the_nodes_of_its_tree_only() -> None:
    tree, _ = filled(range(600))
    imap = tree.imap
    key = key_of(300)
    pointers = [Pointer(a, checksum(tree.blocks[a])) for a in tree.path(key)]
    for level, pointer in enumerate(reversed(pointers)):
        assert imap.leads_to(key, level, pointer)
        assert not imap.leads_to(key, level, Pointer(pointer.address + 100_000, pointer.checksum))
    assert not imap.leads_to(key_of(0), 0, pointers[-1])
    tree.rebuild([key])
    assert not imap.leads_to(key, 0, pointers[-1])


def test_imap_scan_goes_on_while_items_change() -> None:
    tree, model = filled(range(0, 1200, 2))
    seen = []
    for position, (key, value) in enumerate(tree.imap.scan(LOWEST, HIGHEST)):
        seen.append(key)
        assert model[key] == value or value == b"changed"
        number = int.from_bytes(key[:8], "big")
        if position == 100:
            # Behind it and far ahead of it.
            for other in (number - 50, number + 601):
                tree.imap.put(key_of(other), b"changed")
                model[key_of(other)] = b"changed"
            tree.imap.delete(key_of(number + 600))
        if position == 200:
            tree.rebuild()
    assert seen == sorted(set(seen))
    numbers = [int.from_bytes(key[:8], "big") for key in seen]
    # The deleted one is gone, the new one behind came too late, the one ahead is there.
    assert numbers == sorted({*range(0, 1200, 2), 801} - {800})


def test_imap_scan_sees_many_changes_in_one_leaf() -> None:
    tree = Tree()
    model = {key_of(number): value_of(number) for number in range(2000)}
    for key, value in model.items():
        tree.imap.put(key, value)
    # No tree below them, and more than one batch.
    assert tree.items() == sorted(model.items())


numbers = st.integers(0, 400)
STEPS = st.one_of(
    st.tuples(st.just("put"), numbers, st.integers(1, 150)),
    st.tuples(st.just("delete"), numbers, st.integers(1, 200)),
    st.tuples(st.just("rebuild"), numbers, st.integers(0, 2)),
    st.tuples(st.just("scan"), numbers, st.integers(0, 300)),
)


@given(st.lists(STEPS, max_size=25))
def test_imap_is_a_sorted_dictionary(steps: list[tuple[str, int, int]]) -> None:
    tree = Tree()
    model: dict[bytes, bytes] = {}
    for seed, (call, start, count) in enumerate(steps):
        keys = [key_of(number) for number in range(start, start + count)]
        if call == "put":
            # Every other key, so that there is room between for later ones.
            for number in range(start, start + 2 * count, 2):
                value = value_of(number, seed)
                tree.imap.put(key_of(number), value)
                model[key_of(number)] = value
        elif call == "delete":
            for key in keys:
                tree.imap.delete(key)
                model.pop(key, None)
        elif call == "rebuild":
            tree.rebuild(keys)
            tree.check()
        else:
            low, high = key_of(start), key_of(start + count)
            expected = [(key, model[key]) for key in sorted(model) if low <= key < high]
            assert list(tree.imap.scan(low, high)) == expected
            assert tree.imap.get(low) == model.get(low)
    tree.rebuild()
    tree.check()
    assert tree.items() == sorted(model.items())


class Row(Packable):
    """A value of so many bytes that changes its length."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.stored_bytes = 20

    @property
    def packed_bytes(self) -> int:
        return self.length

    def pack(self) -> bytes:
        return bytes(self.length)


@pytest.mark.pure_core
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "still", "delete", "apply", "apply", "pack", "log", "tree"]),
            st.integers(0, 5),
            st.integers(1, 40),
        ),
        max_size=60,
    )
)
def test_imap_counts_what_it_has_whoever_keeps_it(steps: list[tuple[str, int, int]]) -> None:
    """However values come and go, packed or not: what is counted of them is what they are."""
    tree, model = filled(range(6))
    imap = tree.imap
    rows: dict[int, Row] = {}
    for step, number, length in steps:
        key = key_of(number)
        if step == "put":
            imap.put(key, bytes(length))
        elif step == "still":
            imap.put(key, bytes(min(length, len(model[key]))), may_grow=False)
        elif step == "delete":
            imap.delete(key)
        elif step == "apply":
            row = rows.setdefault(number, Row(length))
            row.length = length
            imap.apply(key, row)
            assert imap.get(key) == bytes(length)
        elif step == "pack":
            if number in rows:
                # It may have changed since, and it is to be told of that.
                rows[number].length = length
                imap.pack_change(key, rows.pop(number))
        elif step == "log":
            expected = [(each, imap.changed_value(each)) for each in imap._unlogged]
            bound_bytes = imap.unlogged_bytes
            assert imap.take_unlogged() == expected
            assert sum(19 + len(value or b"") for _, value in expected) <= bound_bytes
        else:
            imap.take_unlogged()
            counted = {number: row.counted_bytes for number, row in rows.items()}
            tree.rebuild()
            for each, stored_bytes in counted.items():
                if stored_bytes >= 0:
                    assert rows[each].stored_bytes <= stored_bytes
            model = {key_of(each): imap.get(key_of(each)) or b"" for each in range(6)}
            assert (imap.growing_count, imap.growing_bytes, imap.changed_bytes) == (0, 0, 0)
        for row_number, row in rows.items():
            is_change = imap.changes.get(key_of(row_number)) is row
            assert row.counted_bytes == (row.length if is_change else -1)
        sizes = {each: 19 + len(imap.changed_value(each) or b"") for each in imap.changes}
        assert imap._still <= sizes.keys()
        assert imap._still_bytes == sum(sizes[each] for each in imap._still)
        assert imap.changed_bytes >= sum(sizes.values())
