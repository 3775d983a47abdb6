from __future__ import annotations

from lfs.device.memory import PAGE_BYTES, MemoryDevice


def test_memory_device_of_16_tib_costs_nothing() -> None:
    device = MemoryDevice(1 << 44)
    device.write((1 << 44) - 4096, [b"e" * 4096])
    assert device.read((1 << 44) - 8192, 8192) == bytes(4096) + b"e" * 4096
    assert device.stored_bytes == 4096
    device.discard(0, 1 << 44)
    assert device.stored_bytes == 0


def test_memory_device_copy_is_independent() -> None:
    device = MemoryDevice(65536)
    device.write(0, [b"a" * 8192])
    copy = device.copy()
    device.write(0, [b"b" * 512])
    copy.write(4096, [b"c" * 4096])
    assert copy.read(0, 8192) == b"a" * 4096 + b"c" * 4096
    assert device.read(0, 8192) == b"b" * 512 + b"a" * 7680


def test_differing_pages_are_those_written_or_forgotten_since() -> None:
    before = MemoryDevice(16 * PAGE_BYTES)
    before.write(0, [b"a" * 3 * PAGE_BYTES])
    device = before.copy()
    device.write(PAGE_BYTES, [b"a" * PAGE_BYTES])
    device.write(5 * PAGE_BYTES, [b"b" * PAGE_BYTES])
    device.write(6 * PAGE_BYTES, [bytes(PAGE_BYTES)])
    device.discard(0, PAGE_BYTES)
    found = dict(device.differing_pages(before))
    assert found == {0: bytes(PAGE_BYTES), 5: b"b" * PAGE_BYTES}
