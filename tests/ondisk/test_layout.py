"""Layouts: what follows from the annotations of a class."""

from typing import Annotated, ClassVar, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfs.ondisk.layout import (
    I64,
    U8,
    U16,
    U32,
    U64,
    AfterZeros,
    Bytes4,
    Layout,
    Structure,
)


class Place(NamedTuple):
    address: U64
    checksum: U32


class Example(NamedTuple):
    head: U8
    place: Place
    pair: tuple[U16, U16]
    time_ns: Annotated[I64, AfterZeros(3)]
    places: tuple[Place, ...]
    names: list[bytes]


class Marked:
    magic: ClassVar[Bytes4] = b"MARK"
    owner: ClassVar[U32]
    number: int
    """Not stored: no layout is said."""
    level: U16

    def __init__(self, level: int) -> None:
        self.level = level


EXAMPLE = Layout(Example, 32)
MARKED = Layout(Marked, 12)
TEXT = bytes.fromhex("01 0200000000000000 03000000 0400 0500 000000 faffffffffffffff 00000000")


def test_rows_are_the_fields_in_order_and_what_is_between() -> None:
    assert EXAMPLE.rows == [
        ("head", 0, "B"),
        ("place_address", 1, "Q"),
        ("place_checksum", 9, "I"),
        ("pair_0", 13, "H"),
        ("pair_1", 15, "H"),
        ("zero", 17, "3s"),
        ("time_ns", 20, "q"),
        ("zero", 28, "4s"),
    ]
    assert [row.size for row in EXAMPLE.rows] == [1, 8, 4, 2, 2, 3, 8, 4]
    assert EXAMPLE.attributes == ["head", "place", "pair", "time_ns"]
    assert (EXAMPLE.size, EXAMPLE.struct.size, EXAMPLE.offset("time_ns")) == (32, 32, 20)


def test_structure_byte_by_byte() -> None:
    example = Example(1, Place(2, 3), (4, 5), -6, (), [])
    assert EXAMPLE.pack(example) == TEXT
    fields = EXAMPLE.unpack(b"before" + TEXT, 6)
    assert fields == {"head": 1, "place": Place(2, 3), "pair": (4, 5), "time_ns": -6}
    assert type(fields["place"]) is Place
    assert EXAMPLE.build(fields, places=(), names=[]) == example


def test_zeros_are_ignored_when_read() -> None:
    dirty = bytearray(TEXT)
    dirty[17:20] = dirty[28:] = b"any"
    dirty.append(7)
    assert EXAMPLE.unpack(bytes(dirty)) == EXAMPLE.unpack(TEXT)


def test_what_is_no_attribute_is_constant_or_given() -> None:
    raw = MARKED.pack(Marked(7), owner=5)
    assert raw == b"MARK\x05\0\0\0\x07\0\0\0"
    assert MARKED.unpack(raw) == {"magic": b"MARK", "owner": 5, "level": 7}
    assert MARKED.attributes == ["level"]
    assert MARKED.pack(owner=5, level=7) == raw
    assert MARKED.pack(Marked(7), owner=5, magic=b"mark") == b"mark" + raw[4:]
    assert vars(MARKED.build(MARKED.unpack(raw))) == {"level": 7}
    with pytest.raises(AttributeError, match="owner"):
        MARKED.pack(Marked(7))


@pytest.mark.parametrize("size", [0, 27])
def test_size_below_that_of_the_fields_is_refused(size: int) -> None:
    with pytest.raises(AssertionError):
        Layout(Example, size)


def test_annotation_that_is_only_a_text_is_refused() -> None:
    class Text:
        number: "U32"

    with pytest.raises(AssertionError, match="number"):
        Layout(Text, 4)


def test_big_endian_numbers() -> None:
    assert Layout(Place, 12, order=">").pack(Place(1, 2)) == bytes([*[0] * 7, 1, 0, 0, 0, 2])


class Named(Structure):
    UNCOMPARED = "note"
    magic: ClassVar[Bytes4] = b"NAME"
    ino: U64
    size: U32 = 7
    note: str = ""


def test_structure_is_what_its_fields_are() -> None:
    named = Named(ino=1)
    assert named.fields() == {"ino": 1, "size": 7, "note": ""}
    assert named == Named(ino=1, size=7) == Named(ino=1, note="another")
    assert named != Named(ino=1, size=8)
    assert named != (1, 7, "")
    other = named.replaced(ino=2)
    assert (named.ino, other.ino, other.size) == (1, 2, 7)
    assert repr(other) == "Named(ino=2, size=7, note='')"


@given(
    st.builds(
        Example,
        st.integers(0, 255),
        st.builds(Place, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)),
        st.tuples(*[st.integers(0, 2**16 - 1)] * 2),
        st.integers(-(2**63), 2**63 - 1),
        st.just(()),
        st.just([]),
    )
)
def test_structure_comes_back(example: Example) -> None:
    fields = EXAMPLE.unpack(EXAMPLE.pack(example))
    assert EXAMPLE.build(fields, places=(), names=[]) == example
