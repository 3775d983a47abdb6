"""The superblock: identity and geometry of a filesystem (FORMAT.md, "Superblock").

It has 512 bytes, so that a sector holds either the old one or the new one, and a
copy at the end of the device.

Held by ``tests/ondisk/test_structures.py``.
"""

from typing import ClassVar, Self

from lfs.ondisk.layout import I64, U32, U64, Bytes8, Bytes16, Bytes64, Layout, Structure
from lfs.ondisk.seal import expect, seal_holds, sealed

FORMAT_VERSION = 2
FILESYSTEM_ID_BYTES = 8

BLOCK_BYTES_MIN = 1024
BLOCK_BYTES_MAX = 65536
SEGMENT_BLOCKS_MIN = 64
"""With smaller ones summaries, jumps and the tails of runs take too large a share."""
SUPERBLOCK_BYTES = 512
SUPERBLOCK_OFFSET_BYTES = 4096
SUPERBLOCK_ALIGN_BYTES = 4096
HEAD_AREA_BYTES = 65536
CHECKPOINT_REGION_BYTES = 65536
CHECKPOINT_REGION_COUNT = 2
SEGMENT_COUNT_MAX = 1 << 20
"""A mount takes some bytes of memory for each."""
BASIS_POINTS_MAX = 10_000

# Feature flags.  FORMAT.md, "Feature flags", lists the bits that are reserved.
COMPATIBLE_KNOWN = 0
READ_ONLY_COMPATIBLE_KNOWN = 0
INCOMPATIBLE_KNOWN = 0

SUPERBLOCK_MAGIC = b"lfs-disk"


class Superblock(Structure):
    """Identity and geometry of a filesystem (FORMAT.md, "Superblock")."""

    magic: ClassVar[Bytes8] = SUPERBLOCK_MAGIC
    checksum: ClassVar[U32] = 0
    format_version: U32 = FORMAT_VERSION
    offset_bytes: U64 = SUPERBLOCK_OFFSET_BYTES
    """Where this copy is."""
    generation: U64 = 1
    uuid: Bytes16
    label: Bytes64
    compatible: U64 = 0
    read_only_compatible: U64 = 0
    incompatible: U64 = 0
    block_bytes: U32
    segment_blocks: U32
    device_blocks: U64
    first_segment_block: U64
    segment_count: U64
    checkpoint_offset_bytes: tuple[U64, U64]
    checkpoint_region_bytes: ClassVar[U32] = CHECKPOINT_REGION_BYTES
    reserved_basis_points: U32
    created_ns: I64
    hash_seed: Bytes16
    filesystem_id: Bytes8
    """Random bytes that mark every structure of this filesystem and of no earlier one here."""
    copy_offset_bytes: U64
    """Where the copy at the end of the device is."""

    @property
    def end_block(self) -> int:
        """Return the address one past the last segment."""
        return self.first_segment_block + self.segment_count * self.segment_blocks

    def at(self, offset_bytes: int) -> Self:
        """Return the copy that belongs at ``offset_bytes``."""
        return self.replaced(offset_bytes=offset_bytes)

    def pack(self) -> bytes:
        """Return the 512 bytes of this superblock."""
        return sealed(SUPERBLOCK.pack(self), _CHECKSUM_OFFSET)

    @classmethod
    def unpack(cls, raw: bytes, offset_bytes: int) -> "Superblock":
        """Read a superblock found at ``offset_bytes``.

        Raises DamageError when magic, checksum, place or geometry are wrong.
        A newer format or an unknown feature is no damage: the caller looks at
        ``format_version`` and the flags.
        """
        expect(len(raw) >= SUPERBLOCK_BYTES, "superblock length", offset_bytes, 512, len(raw))
        raw = raw[:SUPERBLOCK_BYTES]
        fields = SUPERBLOCK.unpack(raw)
        magic, own_offset = fields["magic"], fields["offset_bytes"]
        expect(magic == SUPERBLOCK_MAGIC, "superblock magic", offset_bytes, SUPERBLOCK_MAGIC, magic)
        expect(
            seal_holds(raw, _CHECKSUM_OFFSET),
            "superblock checksum",
            offset_bytes,
            "a match",
            "a mismatch",
        )
        expect(
            own_offset == offset_bytes, "superblock place", offset_bytes, offset_bytes, own_offset
        )
        block = SUPERBLOCK.build(fields | {"label": fields["label"].rstrip(b"\0")})
        if block.format_version == FORMAT_VERSION:
            block._check_geometry(fields["checkpoint_region_bytes"])
        return block

    def _check_geometry(self, region_bytes: int) -> None:
        block_bytes = self.block_bytes
        sane = (
            BLOCK_BYTES_MIN <= block_bytes <= BLOCK_BYTES_MAX
            and block_bytes & (block_bytes - 1) == 0
            and self.segment_blocks >= SEGMENT_BLOCKS_MIN
            and 1 <= self.segment_count <= SEGMENT_COUNT_MAX
            and self.reserved_basis_points <= BASIS_POINTS_MAX
            and self.end_block <= self.device_blocks
            and self.generation < 1 << 63
            and self.copy_offset_bytes % SUPERBLOCK_ALIGN_BYTES == 0
            and self.end_block * block_bytes <= self.copy_offset_bytes < 1 << 63
            and self.device_blocks < 1 << 48
            and region_bytes == CHECKPOINT_REGION_BYTES
            and min(self.checkpoint_offset_bytes) >= HEAD_AREA_BYTES
            and not any(at % SUPERBLOCK_ALIGN_BYTES for at in self.checkpoint_offset_bytes)
            and abs(self.checkpoint_offset_bytes[0] - self.checkpoint_offset_bytes[1])
            >= CHECKPOINT_REGION_BYTES
            and max(self.checkpoint_offset_bytes) + CHECKPOINT_REGION_BYTES
            <= self.first_segment_block * block_bytes
        )
        expect(
            sane,
            "superblock geometry",
            self.offset_bytes,
            "a possible one",
            f"{self.segment_count} segments of {self.segment_blocks} blocks of {block_bytes} bytes"
            f" on {self.device_blocks} blocks",
        )


SUPERBLOCK = Layout(Superblock, SUPERBLOCK_BYTES)
_CHECKSUM_OFFSET = SUPERBLOCK.offset("checksum")


def superblock_seal_holds(raw: bytes) -> bool:
    """Tell whether what begins ``raw`` was written as a superblock, whatever is in it."""
    raw = raw[:SUPERBLOCK_BYTES]
    return raw.startswith(SUPERBLOCK_MAGIC) and seal_holds(raw, _CHECKSUM_OFFSET)


def backup_superblock_offset_bytes(device_bytes: int) -> int:
    """Return where the copy at the end of a device of ``device_bytes`` lies."""
    aligned = device_bytes - device_bytes % SUPERBLOCK_ALIGN_BYTES
    return aligned - SUPERBLOCK_ALIGN_BYTES
