"""A user who knows all that is on the disk writes what looks like the log.

The disk is deterministic, so the adversary does each step on a copy first, sees where
the data will be, and puts there what a log write at just that place would say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lfs.commit.fixed_places import read_checkpoints, read_superblock
from lfs.common.errors import DamageError
from lfs.device.base import BlockDevice
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import (
    BLOCK_DATA,
    RESERVED_MAGICS,
    ROOT_INO,
    SUMMARY_COMMIT,
    SUMMARY_MAGIC,
    SYMLINK_BYTES_MAX,
    Entry,
    Record,
    Summary,
    pack_key,
)
from lfs.segments.reader import LogReader
from tests.support.disks import BLOCK_BYTES, LATER_NS, REGULAR, problems
from tests.support.state import tree_state
from tests.support.volumes import format_small, mount

FAR = 1 << 62
"""A sequence number that no real log reaches."""
NS = 2

Step = Callable[[Filesystem, list[int]], list[int]]
"""Write data, told where it will be; return where it is."""


def forged(device: BlockDevice, address: int, sequence: int = FAR, checksum: int = 0) -> bytes:
    """Return a block that proves, if it is believed at ``address``, that the log is damaged."""
    superblock = read_superblock(device)
    segment_blocks = superblock.segment_blocks
    start = address - (address - superblock.first_segment_block) % segment_blocks
    summary = Summary(
        sequence=sequence,
        address=address,
        next_address=address + 1,
        run_address=start,
        run_blocks=segment_blocks,
        run_sequence=sequence,
        run_next_address=min(address + 1, start + segment_blocks),
        payload_address=start,
        payload_blocks=1,
        summary_blocks=1,
        previous_checksum=checksum,
        flushed_sequence=sequence - 1,
        head=0,
        flags=SUMMARY_COMMIT,
        time_ns=0,
        entries=[Entry(BLOCK_DATA, ROOT_INO, 0, 0, [0])],
        records=[Record(pack_key(ROOT_INO, 0, 0), None)],
    )
    return summary.pack(superblock.filesystem_id).ljust(BLOCK_BYTES, b"\0")


def _blocks_of(filesystem: Filesystem, ino: int) -> list[int]:
    return [
        address + index for _, address, count in filesystem.extents(ino) for index in range(count)
    ]


def _write(name: bytes, count: int, piece_blocks: int) -> Step:
    """Write ``count`` blocks in pieces of so many."""

    def step(filesystem: Filesystem, places: list[int]) -> list[int]:
        device = filesystem.device
        assert isinstance(device, MemoryDevice)
        ino = filesystem.create(ROOT_INO, name, REGULAR, 0, 0, NS).ino
        blocks = [forged(device, place) for place in places or [1] * count]
        for first in range(0, count, piece_blocks):
            data = b"".join(blocks[first : first + piece_blocks])
            filesystem.write(ino, first * BLOCK_BYTES, data, NS)
        filesystem.sync(NS)
        return _blocks_of(filesystem, ino)

    return step


def _symlink(filesystem: Filesystem, places: list[int]) -> list[int]:
    device = filesystem.device
    assert isinstance(device, MemoryDevice)
    target = forged(device, (places or [1])[0])[:SYMLINK_BYTES_MAX]
    ino = filesystem.symlink(ROOT_INO, b"link", target, 0, 0, NS).ino
    filesystem.sync(NS)
    return _blocks_of(filesystem, ino)


def _cut(filesystem: Filesystem, places: list[int]) -> list[int]:
    """Cut a block of a file, which is then written elsewhere."""
    device = filesystem.device
    assert isinstance(device, MemoryDevice)
    ino = filesystem.create(ROOT_INO, b"cut", REGULAR, 0, 0, NS).ino
    block = forged(device, (places or [1])[0])
    filesystem.write(ino, 0, block + block, NS)
    filesystem.sync(NS)
    filesystem.setattr(ino, NS, size=BLOCK_BYTES - 1)
    filesystem.sync(NS)
    return _blocks_of(filesystem, ino)


def _nested(filesystem: Filesystem, places: list[int]) -> list[int]:
    """Keep a copy of the disk's own log, which is at its end, in a file."""
    end = filesystem.superblock.end_block
    image = filesystem.device.read((end - 512) * BLOCK_BYTES, 512 * BLOCK_BYTES)
    assert image.count(SUMMARY_MAGIC) > 5
    ino = filesystem.create(ROOT_INO, b"image", REGULAR, 0, 0, NS).ino
    filesystem.write(ino, 0, image, NS)
    filesystem.sync(NS)
    return _blocks_of(filesystem, ino)


STEPS: dict[str, Step] = {
    "spans": _write(b"spans", 700, 256),
    "blocks": _write(b"blocks", 40, 1),
    "symlink": _symlink,
    "cut": _cut,
    "nested": _nested,
}


def _disk() -> MemoryDevice:
    device = MemoryDevice(16 << 20)
    format_small(device, BLOCK_BYTES, 64)
    filesystem = mount(device, 1)
    filesystem.create(ROOT_INO, b"root's", REGULAR, 0, 0, 1)
    filesystem.unmount(1)
    return device


def _foreseen(device: MemoryDevice, step: Step) -> list[int]:
    """Return where ``step`` puts its data, by doing it on a copy."""
    return step(mount(device.copy(), NS), [])


def _believable(device: MemoryDevice) -> Iterator[int]:
    """Yield each block in the segments that begins as only the log's do."""
    superblock = read_superblock(device)
    for address in range(superblock.first_segment_block, superblock.end_block):
        if device.read(address * BLOCK_BYTES, 512).startswith(RESERVED_MAGICS):
            yield address


def _hold_that_all_is_real(device: MemoryDevice) -> None:
    """Hold that what looks like a log write is one, and not from a user's future."""
    superblock = read_superblock(device)
    reader = LogReader(device, superblock)
    real: set[int] = set()
    for address in _believable(device):
        raw = device.read(address * BLOCK_BYTES, BLOCK_BYTES)
        if raw.startswith(SUMMARY_MAGIC):
            summary = reader.read_summary(address)
            assert summary.sequence < FAR, address
            real.update(range(address, address + summary.summary_blocks))
        else:
            # A later life of its run may have overwritten where it began.
            number = int.from_bytes(raw[4:8], "little")
            assert address in real or 0 < number < 512, address


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("ending", ["unmount", "crash", "removed"])
def test_forged_log_writes_are_never_believed(name: str, ending: str) -> None:
    device = _disk()
    step = STEPS[name]
    places = _foreseen(device, step)
    filesystem = mount(device, NS)
    assert step(filesystem, places) == places
    _hold_that_all_is_real(device)
    if ending == "removed":
        for entry in list(filesystem.readdir(ROOT_INO)):
            if entry.name != b"root's":
                filesystem.unlink(ROOT_INO, entry.name, NS)
                filesystem.forget(entry.ino)
        filesystem.checkpoint(NS)
        filesystem.checkpoint(NS)
    state = tree_state(filesystem, NS)
    if ending != "crash":
        filesystem.unmount(NS)
    for read_only in (False, True):
        copy = device.copy()
        again = Filesystem.mount(copy, LATER_NS, Options(read_only=read_only))
        assert not again.core.volume.failed
        assert tree_state(again, LATER_NS) == state
    assert problems(device) == []


def test_forged_log_write_with_the_chain_s_own_numbers_is_never_the_next() -> None:
    # The adversary knows what the next log write will say, and writes it everywhere.
    device = _disk()
    step = STEPS["spans"]
    places = _foreseen(device, step)
    filesystem = mount(device, NS)
    log = filesystem.core.volume.log
    ino = filesystem.create(ROOT_INO, b"spans", REGULAR, 0, 0, NS).ino
    sequence, checksum = log.next_sequence + 1, log.previous_checksum
    blocks = [forged(device, place, sequence + n % 3, checksum) for n, place in enumerate(places)]
    filesystem.write(ino, 0, b"".join(blocks), NS)
    filesystem.sync(NS)
    state = tree_state(filesystem, NS)
    for cut_checkpoints in (0, 1):
        copy = device.copy()
        superblock = read_superblock(copy)
        for checkpoint in read_checkpoints(copy, superblock)[:cut_checkpoints]:
            region = superblock.checkpoint_offset_bytes[checkpoint.number % 2]
            copy.write(region, [bytes(65536)])
        assert tree_state(mount(copy, LATER_NS), LATER_NS) == state


def test_attributes_and_names_never_begin_a_block_of_a_summary() -> None:
    device = _disk()
    filesystem = mount(device, NS)
    for shift in range(4):
        value = (b"LSUM" * 20000)[shift : shift + 65536]
        ino = filesystem.create(ROOT_INO, b"LSUM%d" % shift, REGULAR, 0, 0, NS).ino
        filesystem.setxattr(ino, b"user.value", value, NS)
        small = filesystem.create(ROOT_INO, b"small%d" % shift, REGULAR, 0, 0, NS).ino
        filesystem.write(small, 0, value[:1000], NS)
        filesystem.sync(NS)
    _hold_that_all_is_real(device)
    continued = [a for a in _believable(device) if _begins_with(device, a, b"LSUC")]
    assert len(continued) > 50
    state = tree_state(filesystem, NS)
    assert tree_state(mount(device.copy(), LATER_NS), LATER_NS) == state
    filesystem.checkpoint(NS)
    _hold_that_all_is_real(device)
    assert problems(device) == []


def _begins_with(device: MemoryDevice, address: int, magic: bytes) -> bool:
    return device.read(address * BLOCK_BYTES, 512).startswith(magic)


def test_cleaner_moves_disguised_blocks_as_they_were() -> None:
    device = _disk()
    filesystem = mount(device, NS)
    contents: dict[int, bytes] = {}
    for number in range(120):
        block = b"LSUM" if number % 3 else b"\xccSUM"
        content = (block + b"%d" % number).ljust(BLOCK_BYTES, b"x") * 5
        ino = filesystem.create(ROOT_INO, b"%d" % number, REGULAR, 0, 0, NS).ino
        filesystem.write(ino, 0, content, NS)
        filesystem.sync(NS)
        contents[ino] = content
    for number in range(0, 120, 2):
        gone = filesystem.unlink(ROOT_INO, b"%d" % number, NS).ino
        filesystem.forget(gone)
        del contents[gone]
    filesystem.checkpoint(NS)
    cleaner = filesystem.core.cleaner
    cleaner.make_room(filesystem.core.volume.usage.clean_blocks, NS)
    assert filesystem.core.rounds.moved_blocks > 100
    _hold_that_all_is_real(device)
    filesystem.unmount(NS)
    filesystem = mount(device, LATER_NS)
    for ino, content in contents.items():
        assert filesystem.read(ino, 0, len(content), LATER_NS) == content
    assert problems(device) == []


def test_a_damaged_disguised_block_is_damage() -> None:
    device = _disk()
    filesystem = mount(device, NS)
    ino = filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, NS).ino
    filesystem.write(ino, 0, b"LSUM".ljust(3 * BLOCK_BYTES, b"x"), NS)
    filesystem.checkpoint(NS)
    address = _blocks_of(filesystem, ino)[0]
    raw = bytearray(device.read(address * BLOCK_BYTES, BLOCK_BYTES))
    for position, bit in ((0, 7), (1, 0), (100, 3)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << bit
        device.write(address * BLOCK_BYTES, [bytes(damaged)])
        with pytest.raises(DamageError):
            filesystem.read(ino, 0, BLOCK_BYTES, NS)
    assert any("data-" in problem for problem in problems(device))
