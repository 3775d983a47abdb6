"""The superblock: identity and geometry of a filesystem (FORMAT.md, "Superblock").

It has 512 bytes, so that a sector holds either the old one or the new one, and a
copy at the end of the device.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

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
_SUPERBLOCK = struct.Struct("<8sIIQQ16s64sQQQIIQQQQQIIq16s8sQ")
_SUPERBLOCK_CHECKSUM_OFFSET = 8
assert _SUPERBLOCK.size == 232


@dataclass(frozen=True, slots=True)
class Superblock:
    """Identity and geometry of a filesystem (FORMAT.md, "Superblock")."""

    uuid: bytes
    label: bytes
    block_bytes: int
    segment_blocks: int
    device_blocks: int
    first_segment_block: int
    segment_count: int
    checkpoint_offset_bytes: tuple[int, int]
    reserved_basis_points: int
    created_ns: int
    hash_seed: bytes
    filesystem_id: bytes
    """Random bytes that mark every structure of this filesystem and of no earlier one here."""
    copy_offset_bytes: int
    """Where the copy at the end of the device is."""
    generation: int = 1
    compatible: int = 0
    read_only_compatible: int = 0
    incompatible: int = 0
    format_version: int = FORMAT_VERSION
    offset_bytes: int = SUPERBLOCK_OFFSET_BYTES

    @property
    def end_block(self) -> int:
        """Return the address one past the last segment."""
        return self.first_segment_block + self.segment_count * self.segment_blocks

    def at(self, offset_bytes: int) -> Superblock:
        """Return the copy that belongs at ``offset_bytes``."""
        return replace(self, offset_bytes=offset_bytes)

    def pack(self) -> bytes:
        """Return the 512 bytes of this superblock."""
        raw = bytearray(SUPERBLOCK_BYTES)
        _SUPERBLOCK.pack_into(
            raw,
            0,
            SUPERBLOCK_MAGIC,
            0,
            self.format_version,
            self.offset_bytes,
            self.generation,
            self.uuid,
            self.label,
            self.compatible,
            self.read_only_compatible,
            self.incompatible,
            self.block_bytes,
            self.segment_blocks,
            self.device_blocks,
            self.first_segment_block,
            self.segment_count,
            *self.checkpoint_offset_bytes,
            CHECKPOINT_REGION_BYTES,
            self.reserved_basis_points,
            self.created_ns,
            self.hash_seed,
            self.filesystem_id,
            self.copy_offset_bytes,
        )
        return sealed(bytes(raw), _SUPERBLOCK_CHECKSUM_OFFSET)

    @classmethod
    def unpack(cls, raw: bytes, offset_bytes: int) -> Superblock:
        """Read a superblock found at ``offset_bytes``.

        Raises DamageError when magic, checksum, place or geometry are wrong.
        A newer format or an unknown feature is no damage: the caller looks at
        ``format_version`` and the flags.
        """
        expect(len(raw) >= SUPERBLOCK_BYTES, "superblock length", offset_bytes, 512, len(raw))
        raw = raw[:SUPERBLOCK_BYTES]
        fields = _SUPERBLOCK.unpack_from(raw)
        (magic, _, version, own_offset, generation, uuid, label) = fields[:7]
        expect(magic == SUPERBLOCK_MAGIC, "superblock magic", offset_bytes, SUPERBLOCK_MAGIC, magic)
        expect(
            seal_holds(raw, _SUPERBLOCK_CHECKSUM_OFFSET),
            "superblock checksum",
            offset_bytes,
            "a match",
            "a mismatch",
        )
        expect(
            own_offset == offset_bytes, "superblock place", offset_bytes, offset_bytes, own_offset
        )
        block = cls(
            uuid=uuid,
            label=label.rstrip(b"\0"),
            compatible=fields[7],
            read_only_compatible=fields[8],
            incompatible=fields[9],
            block_bytes=fields[10],
            segment_blocks=fields[11],
            device_blocks=fields[12],
            first_segment_block=fields[13],
            segment_count=fields[14],
            checkpoint_offset_bytes=(fields[15], fields[16]),
            reserved_basis_points=fields[18],
            created_ns=fields[19],
            hash_seed=fields[20],
            filesystem_id=fields[21],
            copy_offset_bytes=fields[22],
            generation=generation,
            format_version=version,
            offset_bytes=own_offset,
        )
        if version == FORMAT_VERSION:
            block._check_geometry(fields[17])
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


def superblock_seal_holds(raw: bytes) -> bool:
    """Tell whether what begins ``raw`` was written as a superblock, whatever is in it."""
    raw = raw[:SUPERBLOCK_BYTES]
    return raw.startswith(SUPERBLOCK_MAGIC) and seal_holds(raw, _SUPERBLOCK_CHECKSUM_OFFSET)


def backup_superblock_offset_bytes(device_bytes: int) -> int:
    """Return where the copy at the end of a device of ``device_bytes`` lies."""
    aligned = device_bytes - device_bytes % SUPERBLOCK_ALIGN_BYTES
    return aligned - SUPERBLOCK_ALIGN_BYTES
