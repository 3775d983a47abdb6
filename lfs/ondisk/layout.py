"""How a structure lies on disk, as the class says that declares it.

A structure is declared once, by the annotations of a class: name and type of each field, in
the order in which they lie there.  ``Layout`` takes them from the class; size, offsets,
packing and unpacking follow, and tests hold the same rows against the tables in FORMAT.md::

    class Example(Structure):
        magic: ClassVar[Bytes4] = b"LEXA"
        filesystem_id: ClassVar[Bytes8]
        root: Pointer
        level: Annotated[U16, AfterZeros(2)]
        children: list[Pointer]

    EXAMPLE = Layout(Example, 32)

- A ``ClassVar`` is on disk and no attribute.  Its value is the same in all of them, or it
  is given to ``pack`` by whoever knows it.
- A named tuple of such fields lies there field by field, and so does a tuple of some length.
- Any other attribute is not part of the layout: it says what follows, or how many.
- Annotations are the types themselves: a module that declares a structure does without
  ``from __future__ import annotations``, because evaluating texts takes each command time.
- Bytes that belong to no field are written as zero and ignored when read: those that come
  before a field by ``AfterZeros``, and the rest up to the size.

Checking what was read is up to whoever unpacks.  What is packed or unpacked often calls
``struct`` itself, with the values in their order; tests hold it against ``pack`` and ``unpack``.

Held by ``tests/ondisk/test_layout.py``.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

Declared = TypeVar("Declared")


class Stored(NamedTuple):
    """A field is stored as ``struct`` does it for this code."""

    code: str


class AfterZeros(NamedTuple):
    """So many bytes of zero come before the field."""

    zero_count: int


U8 = Annotated[int, Stored("B")]
U16 = Annotated[int, Stored("H")]
U32 = Annotated[int, Stored("I")]
U64 = Annotated[int, Stored("Q")]
I64 = Annotated[int, Stored("q")]
Bytes4 = Annotated[bytes, Stored("4s")]
Bytes8 = Annotated[bytes, Stored("8s")]
Bytes16 = Annotated[bytes, Stored("16s")]
Bytes17 = Annotated[bytes, Stored("17s")]
Bytes64 = Annotated[bytes, Stored("64s")]

ZERO = "zero"
"""What a row is called that no field has."""


class Row(NamedTuple):
    """Some bytes of a structure: a row of its table in FORMAT.md."""

    name: str
    offset: int
    code: str

    @property
    def size(self) -> int:
        """Return how many bytes these are."""
        return struct.calcsize("=" + self.code)


class _Nested(NamedTuple):
    """The rows of a field that has several, and what makes the field of their values."""

    rows: list[str]
    make: Callable[[Iterable[Any]], object]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Structure:
    """A value whose fields are given by their names, and that nobody changes.

    It is what a dataclass would be, but no code is made for it, which takes a
    millisecond for each class: whoever checks types knows its fields.
    """

    UNCOMPARED: ClassVar[str] = ""
    """A field in which equal values may differ."""

    def __init__(self, **fields: Any) -> None:
        """Take every field that has no default, and any other."""
        self.__dict__.update(fields)

    def replaced(self, **fields: Any) -> Self:
        """Return the same with some other ``fields``."""
        return type(self)(**vars(self) | fields)

    def fields(self) -> dict[str, Any]:
        """Return every field."""
        hints = type(self).__annotations__.items()
        return {name: getattr(self, name) for name, hint in hints if not _is_constant(hint)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        unlike = {self.UNCOMPARED: None}
        return self.fields() | unlike == other.fields() | unlike

    def __repr__(self) -> str:
        texts = (f"{name}={value!r}" for name, value in self.fields().items())
        return f"{type(self).__name__}({', '.join(texts)})"


class Layout(Generic[Declared]):
    """The layout that a class declares."""

    def __init__(self, structure: type[Declared], size: int, order: str = "<") -> None:
        """Take the annotations of ``structure``, which has ``size`` bytes on disk.

        ``order`` is that of the bytes in numbers, as ``struct`` writes it.
        """
        self._structure = structure
        self._constants: dict[str, object] = {}
        self._names: list[str] = []
        self._nested: dict[str, _Nested] = {}
        self.rows: list[Row] = []
        self.attributes: list[str] = []
        """Names of the fields that are attributes too."""
        for name, hint in structure.__annotations__.items():
            assert not isinstance(hint, str), (structure, name, hint)
            is_attribute = not _is_constant(hint)
            stored: Any = hint if is_attribute else get_args(hint)[0]
            parts = _parts(name, stored)
            if not parts:
                continue
            for part, zeros, code in parts:
                self._append_zeros(zeros)
                self.rows.append(Row(part, self._end, code))
            self._names.append(name)
            if get_origin(stored) is not Annotated:
                make = getattr(stored, "_make", tuple)
                self._nested[name] = _Nested([part for part, _, _ in parts], make)
            if is_attribute:
                self.attributes.append(name)
            elif hasattr(structure, name):
                self._constants[name] = getattr(structure, name)
        self._append_zeros(size - self._end)
        self._values = [row.name for row in self.rows if row.name != ZERO]
        self.size = size
        self.struct = struct.Struct(
            order + "".join(f"{row.size}x" if row.name == ZERO else row.code for row in self.rows)
        )
        assert self.struct.size == self._end == size, (structure, self._end, size)

    @property
    def _end(self) -> int:
        return self.rows[-1].offset + self.rows[-1].size if self.rows else 0

    def _append_zeros(self, count: int) -> None:
        if count > 0:
            self.rows.append(Row(ZERO, self._end, f"{count}s"))

    def offset(self, name: str) -> int:
        """Return where in the structure the row called ``name`` is."""
        return next(row.offset for row in self.rows if row.name == name)

    def pack(self, structure: Declared | None = None, **given: object) -> bytes:
        """Return the bytes of a structure; ``given`` are fields that no attribute tells."""
        values: list[Any] = []
        known: dict[str, Any] = self._constants | given
        for name in self._names:
            value = known[name] if name in known else getattr(structure, name)
            values += value if name in self._nested else [value]
        return self.struct.pack(*values)

    def unpack(self, raw: bytes, offset: int = 0) -> dict[str, Any]:
        """Return every field of the structure at ``offset`` of ``raw``, by its name."""
        values = self.struct.unpack_from(raw, offset)
        fields: dict[str, Any] = dict(zip(self._values, values, strict=True))
        for name, (rows, make) in self._nested.items():
            fields[name] = make([fields.pop(row) for row in rows])
        return fields

    def build(self, fields: Mapping[str, Any], **rest: object) -> Declared:
        """Return the structure of unpacked ``fields``, and of the ``rest`` of its attributes."""
        return self._structure(**{name: fields[name] for name in self.attributes}, **rest)


def _is_constant(hint: Any) -> bool:
    """Tell whether a field with this annotation is no attribute."""
    return get_origin(hint) is ClassVar


def _parts(name: str, hint: Any) -> list[tuple[str, int, str]]:
    """Return name, zeros before it and code of each row of a field; none if it isn't stored."""
    if get_origin(hint) is Annotated:
        marks = get_args(hint)[1:]
        zeros = sum(mark.zero_count for mark in marks if isinstance(mark, AfterZeros))
        return [(name, zeros, mark.code) for mark in marks if isinstance(mark, Stored)]
    inner: Mapping[str, Any] = {}
    if get_origin(hint) is tuple and ... not in get_args(hint):
        inner = {str(index): each for index, each in enumerate(get_args(hint))}
    elif isinstance(hint, type) and issubclass(hint, tuple):
        inner = hint.__annotations__
    return [part for key, each in inner.items() for part in _parts(f"{name}_{key}", each)]
