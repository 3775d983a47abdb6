"""Cases: one field of one structure of an image says something else.

Every checksum is right, up to the checkpoint, so nothing but the value tells.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lfs.device.memory import MemoryDevice

BLOCK_BYTES = 1024
SEGMENT_BLOCKS = 64
DEVICE_BYTES = 3 << 20
REGULAR = stat.S_IFREG | 0o644


class Field(NamedTuple):
    """A field of a structure at a byte of the device; ``code`` as ``struct`` has it."""

    name: str
    offset_bytes: int
    code: str

    @property
    def size(self) -> int:
        return struct.calcsize(self.code)


class Case(NamedTuple):
    """One field of one structure of a sample with another value."""

    sample: str
    structure: str
    field: Field
    value: bytes

    @property
    def identity(self) -> str:
        """Return what replays this case."""
        return f"{self.sample}/{self.structure}/{self.field.name}/{self.value.hex()}"


def fields_of(layout: struct.Struct, offset_bytes: int) -> Iterator[Field]:
    """Yield the fields of a structure at a byte of the device."""
    order = layout.format[0]
    offset = 0
    for match in re.finditer(r"(\d*)([a-zA-Z])", layout.format):
        count, letter = match.groups()
        repeat = int(count or 1) if letter not in "sx" else 1
        for _ in range(repeat):
            code = (count if letter in "sx" else "") + letter
            # What is zero may be anything else, too.
            yield Field(str(offset), offset_bytes + offset, order + code.replace("x", "s"))
            offset += struct.calcsize("<" + code)


def values(code: str, before: bytes) -> list[bytes]:
    """Return what a field is set to: extremes, and one more and less than it was."""
    size = len(before)
    if code.endswith("s"):
        found = [bytes(size), b"\xff" * size, before[:-1] + bytes([before[-1] ^ 1])]
    else:
        order = "big" if code[0] == ">" else "little"
        most = (1 << 8 * size) - 1
        number = int.from_bytes(before, order)  # type: ignore[arg-type]
        numbers = {0, 1, most, most - 1, most >> 1, (most >> 1) + 1, number + 1, number - 1}
        if size > 2:
            numbers |= {1 << 4 * size, number * 2, number + BLOCK_BYTES}
        found = [each.to_bytes(size, order) for each in sorted(numbers) if 0 <= each <= most]  # type: ignore[arg-type]
    return [each for each in found if each != before]


@dataclass
class Sample:
    """An image, its structures by name, and how their checksums are made right again."""

    name: str
    device: MemoryDevice
    structures: dict[str, list[Field]] = field(default_factory=dict)
    reseal: dict[str, Callable[[MemoryDevice], None]] = field(default_factory=dict)

    def add(
        self, name: str, fields: Iterator[Field], reseal: Callable[[MemoryDevice], None]
    ) -> None:
        """Add a structure."""
        self.structures[name] = [*fields]
        self.reseal[name] = reseal

    def cases(self) -> Iterator[Case]:
        """Yield every case of this sample."""
        for name, fields in self.structures.items():
            for each in fields:
                before = peek(self.device, each.offset_bytes, each.size)
                for value in values(each.code, before):
                    yield Case(self.name, name, each, value)

    def image(self, case: Case) -> MemoryDevice:
        """Return the image of a case."""
        device = self.device.copy()
        poke(device, case.field.offset_bytes, case.value)
        self.reseal[case.structure](device)
        return device


def peek(device: MemoryDevice, offset_bytes: int, length: int) -> bytes:
    """Return some bytes of a device."""
    start = offset_bytes - offset_bytes % 512
    end = -(-(offset_bytes + length) // 512) * 512
    return device.read(start, end - start)[offset_bytes - start :][:length]


def poke(device: MemoryDevice, offset_bytes: int, raw: bytes) -> None:
    """Change some bytes of a device."""
    start = offset_bytes - offset_bytes % 512
    end = -(-(offset_bytes + len(raw)) // 512) * 512
    around = bytearray(device.read(start, end - start))
    around[offset_bytes - start : offset_bytes - start + len(raw)] = raw
    device.write(start, [bytes(around)])
