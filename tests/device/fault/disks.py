"""Faulty disks for the tests here, and a workload to run on them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from lfs.common.errors import DeviceError
from lfs.device.fault.clock import VirtualClock
from lfs.device.fault.device import Fault, FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.device.fault.plan.plan import FaultPlan
from lfs.device.memory import MemoryDevice
from lfs.device.recording import Event

SECTOR = 512
BLOCK = 4096
SIZE_BYTES = 1 << 20


class Disk(FaultDevice):
    """A faulty disk of 1 MiB that keeps all that it says."""

    def __init__(self, plan: str | FaultPlan = "", size_bytes: int = SIZE_BYTES) -> None:
        self.medium = MemoryDevice(size_bytes)
        self.events: list[Event] = []
        self.lines: list[str] = []
        self.clock = VirtualClock()
        super().__init__(
            self.medium,
            parse_plan(plan) if isinstance(plan, str) else plan,
            self.clock,
            self.events.append,
            self.lines.append,
        )

    def put(self, block: int, letter: str, count: int = 1) -> None:
        """Write ``count`` blocks of a letter."""
        self.write(block * BLOCK, [letter.encode() * BLOCK * count])

    def get(self, block: int) -> str:
        """Read a block; return its letter, or "?" when it is not all the same."""
        return _letter(self.read(block * BLOCK, BLOCK))

    def stored(self, count: int = 8) -> str:
        """Return the letters of the first blocks of the medium."""
        return "".join(_letter(self.medium.read(at * BLOCK, BLOCK)) for at in range(count))


def _letter(block: bytes) -> str:
    if block != block[:1] * len(block):
        return "?"
    return chr(block[0]) if block[0] else "."


def fails(code: int, request: Callable[[], object], text: str = ".") -> None:
    """Assert that a request fails with an errno and a text that matches."""
    with pytest.raises(DeviceError, match=text) as caught:
        request()
    assert caught.value.errno == code


def only(disk: Disk, kind: str) -> Fault:
    """Assert that one fault happened and is in all books; return it."""
    assert dict(disk.fault_counts) == {kind: 1}
    assert disk.report()["faults"] == {kind: 1}
    (fault,) = disk.faults
    assert fault.kind == kind
    assert disk.lines == [str(fault)]
    assert str(fault).startswith(f"fault 1: {kind}, {fault.operation}")
    return fault


def place(fault: Fault) -> tuple[int, int]:
    """Return where a fault was."""
    return fault.offset_bytes, fault.length_bytes


@dataclass
class Trace:
    """Everything that a run shows."""

    answers: list[bytes | str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    medium: bytes = b""


def trace(plan: FaultPlan, request_count: int = 150, workload_seed: int = 1) -> Trace:
    """Run a random workload under ``plan``; its requests do not depend on the plan's seed."""
    disk = Disk(plan)
    generator = random.Random(workload_seed)
    found = Trace()
    for number in range(request_count):
        offset = generator.randrange(64) * BLOCK
        length = generator.randrange(1, 5) * BLOCK
        operation = generator.choices(("write", "read", "flush", "discard"), (60, 30, 7, 3))[0]
        try:
            if operation == "write":
                disk.write(offset, [bytes([number % 255 + 1]) * length])
            elif operation == "read":
                found.answers.append(disk.read(offset, length))
            elif operation == "flush":
                disk.flush()
            else:
                disk.discard(offset, length)
        except DeviceError as error:
            found.answers.append(str(error))
        found.times_ns.append(disk.clock.now_ns())
    found.faults = [str(fault) for fault in disk.faults]
    found.medium = disk.medium.read(0, SIZE_BYTES)
    return found
