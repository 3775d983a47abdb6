"""Sample images, changes of them, and damage."""

from __future__ import annotations

from collections.abc import Callable

from fsck.check import check_device
from lfs.device.memory import MemoryDevice
from lfs.ondisk import (
    KIND_WINDOW,
    ROOT_INO,
    Extent,
    WindowItem,
    pack_key,
)
from tests.fsck.builder import ImageBuilder
from tests.fsck.plans import (
    BLOCK_BYTES,
    FILE_MODE,
    block,
)

Change = Callable[[ImageBuilder], object]


def flip(device: MemoryDevice, offset_bytes: int) -> None:
    """Change one bit of the byte at ``offset_bytes``."""
    sector = offset_bytes - offset_bytes % 512
    raw = bytearray(device.read(sector, 512))
    raw[offset_bytes - sector] ^= 1
    device.write(sector, [bytes(raw)])


def flip_block(device: MemoryDevice, address: int, offset_bytes: int = 0) -> None:
    """Change one bit in block ``address``."""
    flip(device, address * BLOCK_BYTES + offset_bytes)


def sample() -> ImageBuilder:
    """Return a builder with one of everything in a checkpoint and two commits after it."""
    builder = ImageBuilder()
    builder.add_directory(2, ROOT_INO, b"directory")
    builder.add_directory(3, 2, b"below")
    builder.add_file(4, ROOT_INO, b"inline", b"content of a small file")
    builder.add_symlink(5, 2, b"symlink", b"../inline")
    builder.add_file(6, 3, b"large")
    builder.write_blocks(6, 0, [block(b"first"), block(b"second")])
    builder.write_blocks(6, 5, [block(b"after a hole")])
    builder.change(6, size=5 * BLOCK_BYTES + 12)
    builder.link(ROOT_INO, b"second name", 6)
    builder.change(6, nlink=2)
    builder.set_xattr(4, b"user.short", b"value")
    builder.set_xattr(4, b"user.long", bytes(range(256)) * 9)
    builder.add_inode(7, FILE_MODE, nlink=0)
    builder.add_orphan(7)
    builder.commit()
    builder.open_run(2, order=1, area=3)
    builder.add_file(8, ROOT_INO, b"bulk")
    builder.write_blocks(8, 0, [block(b"bulk %d" % number) for number in range(70)])
    builder.commit()
    builder.open_run(1)
    builder.checkpoint()
    builder.add_file(9, 2, b"after the checkpoint")
    builder.write_blocks(9, 200, [block(b"logged")])
    builder.commit()
    builder.open_run(5)
    builder.write_blocks(6, 1, [block(b"second, rewritten")])
    builder.commit()
    return builder


def before(change: Change) -> ImageBuilder:
    """Return the sample's builder with ``change`` made before a checkpoint that ends the log."""
    builder = sample()
    change(builder)
    builder.open_run(8)
    builder.checkpoint()
    return builder


def after(change: Change) -> ImageBuilder:
    """Return the sample's builder with ``change`` in a last commit."""
    builder = sample()
    change(builder)
    builder.commit()
    return builder


def map_raw(builder: ImageBuilder, ino: int, address: int, value: int) -> None:
    """Map the only file block of ``ino`` to any address, with any checksum."""
    builder.change(ino, size=BLOCK_BYTES, blocks=1)
    window = WindowItem((Extent(0, 1, 0, address),), (value,))
    builder.extra[pack_key(ino, KIND_WINDOW, 0)] = window.pack()


def payload_address(builder: ImageBuilder, kind: int, position: int = 0) -> int:
    """Return the address of payload block number ``position`` of ``kind`` in the log."""
    blocks = [each for write in builder.writes for each in write.payload if each.kind == kind]
    return blocks[position].address


def codes(device: MemoryDevice, data: bool = True) -> list[str]:
    """Return the codes of the problems on ``device``."""
    return [problem.code for problem in check_device(device, data=data).problems]
