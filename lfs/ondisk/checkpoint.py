"""The checkpoint region: where a mount begins (FORMAT.md, "Checkpoint region").

Held by ``tests/ondisk/test_structures.py``.
"""

from typing import ClassVar

from lfs.ondisk.block import Pointer
from lfs.ondisk.layout import I64, U32, U64, Bytes8, Layout, Structure
from lfs.ondisk.seal import expect, seal_holds, sealed
from lfs.ondisk.superblock import CHECKPOINT_REGION_BYTES

CHECKPOINT_MAGIC = b"lfs-ckpt"
CHECKPOINT_CLEAN = 1


class Checkpoint(Structure):
    """A point from which the whole filesystem can be found (FORMAT.md, "Checkpoint region")."""

    magic: ClassVar[Bytes8] = CHECKPOINT_MAGIC
    checksum: ClassVar[U32] = 0
    length: ClassVar[U32]
    offset_bytes: ClassVar[U64]
    filesystem_id: ClassVar[Bytes8]
    number: U64
    next_sequence: U64
    next_address: U64
    previous_checksum: U32
    flags: U32
    imap_root: Pointer
    imap_root_level: U32
    next_ino: U64
    inode_count: U64
    live_block_count: U64
    node_count: U64
    time_ns: I64
    usage_page_count: ClassVar[U32]
    usage_pages: tuple[Pointer, ...]

    @property
    def clean(self) -> bool:
        """Tell whether it was written at unmount."""
        return bool(self.flags & CHECKPOINT_CLEAN)

    def pack(self, filesystem_id: bytes, offset_bytes: int) -> bytes:
        """Return the bytes of the region that starts at ``offset_bytes`` of the device."""
        length = CHECKPOINT.size + USAGE_POINTER.size * len(self.usage_pages)
        assert length <= CHECKPOINT_REGION_BYTES
        header = CHECKPOINT.pack(
            self,
            length=length,
            offset_bytes=offset_bytes,
            filesystem_id=filesystem_id,
            usage_page_count=len(self.usage_pages),
        )
        raw = header + b"".join(map(USAGE_POINTER.pack, self.usage_pages))
        return sealed(raw, _CHECKSUM_OFFSET)

    @classmethod
    def unpack(cls, raw: bytes, filesystem_id: bytes, offset_bytes: int) -> "Checkpoint":
        """Read a checkpoint from its region; raises DamageError when it does not hold."""
        what, at = "checkpoint", offset_bytes
        expect(len(raw) >= CHECKPOINT.size, f"{what} length", at, "a header", len(raw))
        fields = CHECKPOINT.unpack(raw)
        magic, length = fields["magic"], fields["length"]
        own_offset, found_id = fields["offset_bytes"], fields["filesystem_id"]
        expect(magic == CHECKPOINT_MAGIC, f"{what} magic", at, CHECKPOINT_MAGIC, magic)
        wanted = CHECKPOINT.size + fields["usage_page_count"] * USAGE_POINTER.size
        expect(length == wanted <= len(raw), f"{what} length", at, wanted, (length, len(raw)))
        raw = raw[:length]
        holds = seal_holds(raw, _CHECKSUM_OFFSET)
        expect(holds, f"{what} checksum", at, "a match", "a mismatch")
        expect(own_offset == at, f"{what} place", at, at, own_offset)
        expect(found_id == filesystem_id, f"{what} filesystem", at, filesystem_id, found_id)
        pointers = USAGE_POINTER.struct.iter_unpack(raw[CHECKPOINT.size :])
        return CHECKPOINT.build(fields, usage_pages=tuple(map(Pointer._make, pointers)))


CHECKPOINT = Layout(Checkpoint, 128)
USAGE_POINTER = Layout(Pointer, 16)
USAGE_PAGE_COUNT_MAX = (CHECKPOINT_REGION_BYTES - CHECKPOINT.size) // USAGE_POINTER.size
_CHECKSUM_OFFSET = CHECKPOINT.offset("checksum")
