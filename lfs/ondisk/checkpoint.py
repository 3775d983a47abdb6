"""The checkpoint region: where a mount begins (FORMAT.md, "Checkpoint region")."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lfs.ondisk.block import Pointer
from lfs.ondisk.seal import expect, seal_holds, sealed
from lfs.ondisk.superblock import CHECKPOINT_REGION_BYTES

CHECKPOINT_MAGIC = b"lfs-ckpt"
CHECKPOINT_CLEAN = 1
_CHECKPOINT = struct.Struct("<8sIIQ8sQQQIIQIIQQQQqII")
_USAGE_POINTER = struct.Struct("<QII")
_CHECKPOINT_CHECKSUM_OFFSET = 8
assert _CHECKPOINT.size == 128
assert _USAGE_POINTER.size == 16
USAGE_PAGE_COUNT_MAX = (CHECKPOINT_REGION_BYTES - _CHECKPOINT.size) // _USAGE_POINTER.size


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point from which the whole filesystem can be found (FORMAT.md, "Checkpoint region")."""

    number: int
    next_sequence: int
    next_address: int
    previous_checksum: int
    imap_root: Pointer
    imap_root_level: int
    next_ino: int
    inode_count: int
    live_block_count: int
    node_count: int
    time_ns: int
    clean: bool
    usage_pages: tuple[Pointer, ...]

    def pack(self, filesystem_id: bytes, offset_bytes: int) -> bytes:
        """Return the bytes of the region that starts at ``offset_bytes`` of the device."""
        length = _CHECKPOINT.size + _USAGE_POINTER.size * len(self.usage_pages)
        assert length <= CHECKPOINT_REGION_BYTES
        raw = bytearray(length)
        _CHECKPOINT.pack_into(
            raw,
            0,
            CHECKPOINT_MAGIC,
            0,
            length,
            offset_bytes,
            filesystem_id,
            self.number,
            self.next_sequence,
            self.next_address,
            self.previous_checksum,
            CHECKPOINT_CLEAN if self.clean else 0,
            self.imap_root.address,
            self.imap_root.checksum,
            self.imap_root_level,
            self.next_ino,
            self.inode_count,
            self.live_block_count,
            self.node_count,
            self.time_ns,
            len(self.usage_pages),
            0,
        )
        for index, pointer in enumerate(self.usage_pages):
            offset = _CHECKPOINT.size + index * _USAGE_POINTER.size
            _USAGE_POINTER.pack_into(raw, offset, pointer.address, pointer.checksum, 0)
        return sealed(bytes(raw), _CHECKPOINT_CHECKSUM_OFFSET)

    @classmethod
    def unpack(cls, raw: bytes, filesystem_id: bytes, offset_bytes: int) -> Checkpoint:
        """Read a checkpoint from its region; raises DamageError when it does not hold."""
        what = "checkpoint"
        expect(len(raw) >= _CHECKPOINT.size, f"{what} length", offset_bytes, "a header", len(raw))
        fields = _CHECKPOINT.unpack_from(raw)
        magic, _, length, own_offset, found_id = fields[:5]
        expect(magic == CHECKPOINT_MAGIC, f"{what} magic", offset_bytes, CHECKPOINT_MAGIC, magic)
        page_count = fields[18]
        wanted = _CHECKPOINT.size + page_count * _USAGE_POINTER.size
        expect(
            length == wanted <= len(raw), f"{what} length", offset_bytes, wanted, (length, len(raw))
        )
        raw = raw[:length]
        expect(
            seal_holds(raw, _CHECKPOINT_CHECKSUM_OFFSET),
            f"{what} checksum",
            offset_bytes,
            "a match",
            "a mismatch",
        )
        expect(own_offset == offset_bytes, f"{what} place", offset_bytes, offset_bytes, own_offset)
        expect(
            found_id == filesystem_id, f"{what} filesystem", offset_bytes, filesystem_id, found_id
        )
        pointers = [
            Pointer(address, value)
            for address, value, _ in _USAGE_POINTER.iter_unpack(raw[_CHECKPOINT.size :])
        ]
        return cls(
            number=fields[5],
            next_sequence=fields[6],
            next_address=fields[7],
            previous_checksum=fields[8],
            clean=bool(fields[9] & CHECKPOINT_CLEAN),
            imap_root=Pointer(fields[10], fields[11]),
            imap_root_level=fields[12],
            next_ino=fields[13],
            inode_count=fields[14],
            live_block_count=fields[15],
            node_count=fields[16],
            time_ns=fields[17],
            usage_pages=tuple(pointers),
        )
