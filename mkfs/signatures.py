"""Finding out what a device holds already.

A table of magic numbers, in the order in which they are asked: first those that
contain another's (a FAT boot sector ends like a partition table), longest first.
It is there so that nobody loses a disk to a typing error; it needs no external
program and knows what is met on disks and in image files today.  A file that is
no image has data all the same: whatever is not zeros is asked about.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from lfs.common.errors import DamageError
from lfs.device.base import BlockDevice
from lfs.device.file import FileDevice
from lfs.ondisk import (
    SUPERBLOCK_ALIGN_BYTES,
    SUPERBLOCK_MAGIC,
    SUPERBLOCK_OFFSET_BYTES,
    Superblock,
    backup_superblock_offset_bytes,
)

HEAD_BYTES = 512 * 1024
TAIL_BYTES = 512 * 1024
_WIPE_BYTES = 64 * 1024
_SCAN_BYTES = 1 << 20


class Signature(NamedTuple):
    """``magic`` at ``offset_bytes`` means that there is ``what``."""

    what: str
    offset_bytes: int
    magic: bytes


_ZFS_UBERBLOCK = (0x00BAB10C).to_bytes(8, "little")

SIGNATURES: tuple[Signature, ...] = (
    Signature("a btrfs filesystem", 0x10040, b"_BHRfS_M"),
    Signature("a bcachefs filesystem", 0x1018, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
    Signature("an XFS filesystem", 0, b"XFSB"),
    Signature("an F2FS filesystem", 0x400, b"\x10\x20\xf5\xf2"),
    Signature("an EROFS filesystem", 0x400, b"\xe2\xe1\xf5\xe0"),
    Signature("a JFS filesystem", 0x8000, b"JFS1"),
    Signature("a ReiserFS filesystem", 0x10034, b"ReIsEr"),
    Signature("an NTFS filesystem", 3, b"NTFS    "),
    Signature("an exFAT filesystem", 3, b"EXFAT   "),
    Signature("a FAT filesystem", 54, b"FAT12   "),
    Signature("a FAT filesystem", 54, b"FAT16   "),
    Signature("a FAT filesystem", 82, b"FAT32   "),
    Signature("a SquashFS filesystem", 0, b"hsqs"),
    Signature("an ISO 9660 filesystem", 0x8001, b"CD001"),
    Signature("a UDF filesystem", 0x8001, b"BEA01"),
    *(
        Signature("a ZFS pool", offset_bytes, _ZFS_UBERBLOCK)
        for offset_bytes in range(128 * 1024, 256 * 1024, 1024)
    ),
    *(
        Signature("swap space", page_bytes - 10, magic)
        for page_bytes in (4096, 8192, 16384, 65536)
        for magic in (b"SWAPSPACE2", b"SWAP-SPACE")
    ),
    *(Signature("an LVM2 volume", sector * 512, b"LABELONE") for sector in range(4)),
    Signature("a LUKS volume", 0, b"LUKS\xba\xbe"),
    Signature("a RAID member", 0, b"\xfc\x4e\x2b\xa9"),
    Signature("a RAID member", 4096, b"\xfc\x4e\x2b\xa9"),
    Signature("a Ceph BlueStore", 0, b"bluestore block device"),
    Signature("a QCOW disk image", 0, b"QFI\xfb"),
    Signature("a VMDK disk image", 0, b"KDMV"),
    Signature("a partition table (GPT)", 512, b"EFI PART"),
    Signature("a partition table (GPT)", 4096, b"EFI PART"),
    Signature("an ext2, ext3 or ext4 filesystem", 0x438, b"\x53\xef"),
    Signature("a NILFS2 filesystem", 0x406, b"\x34\x34"),
    Signature("a boot sector or partition table (MBR)", 510, b"\x55\xaa"),
)


def find_contents(device: FileDevice) -> str | None:
    """Return what ``device`` holds, such as "an XFS filesystem" or "data", or None.

    A disk without a signature holds nothing, as what comes from the factory or from
    another use is seldom zeros; a file holds data if it is not all zeros.  Raises
    DeviceError when it cannot be read.
    """
    found = find_signature(device)
    if found is None and not device.is_block_device and holds_data(device.fileno()):
        return "data (no filesystem that is known here)"
    return found


def holds_data(descriptor: int) -> bool:
    """Tell whether there is anything but zeros in a file; holes are not read.  Raises OSError."""
    end = os.fstat(descriptor).st_size
    position = 0
    while position < end:
        try:
            position = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                return False
            raise
        hole = os.lseek(descriptor, position, os.SEEK_HOLE)
        while position < hole:
            part = os.pread(descriptor, min(_SCAN_BYTES, hole - position), position)
            if part.strip(b"\0"):
                return True
            if not part:
                return False
            position += len(part)
    return False


def find_signature(device: BlockDevice) -> str | None:
    """Return what ``device`` holds, such as "an XFS filesystem", or None.

    Raises DeviceError when it cannot be read.
    """
    ours = _find_lfs(device)
    if ours is not None:
        return ours
    head = device.read(0, min(HEAD_BYTES, device.size_bytes))
    for signature in SIGNATURES:
        if head.startswith(signature.magic, signature.offset_bytes):
            return signature.what
    return None


def _find_lfs(device: BlockDevice) -> str | None:
    """Return a description of the lfs filesystem on ``device``, even of a damaged one."""
    damaged = None
    for offset_bytes in (
        SUPERBLOCK_OFFSET_BYTES,
        backup_superblock_offset_bytes(device.size_bytes),
    ):
        if not SUPERBLOCK_ALIGN_BYTES <= offset_bytes <= device.size_bytes - SUPERBLOCK_ALIGN_BYTES:
            continue
        raw = device.read(offset_bytes, SUPERBLOCK_ALIGN_BYTES)
        if not raw.startswith(SUPERBLOCK_MAGIC):
            continue
        try:
            superblock = Superblock.unpack(raw, offset_bytes)
        except DamageError:
            damaged = "a damaged lfs filesystem"
            continue
        label = superblock.label.decode(errors="replace")
        return "an lfs filesystem" + (f" labelled {label!r}" if label else "")
    return damaged


def wipe_signatures(device: BlockDevice) -> None:
    """Make both ends of ``device`` zeros and make that durable.

    Afterwards it looks like nothing, to this program and to others, until a
    superblock is written.  Raises DeviceError.
    """
    size_bytes = device.size_bytes
    tail_start_bytes = max(HEAD_BYTES, size_bytes - TAIL_BYTES)
    for start_bytes, end_bytes in ((0, HEAD_BYTES), (tail_start_bytes, size_bytes)):
        for offset_bytes in range(start_bytes, min(end_bytes, size_bytes), _WIPE_BYTES):
            length_bytes = min(_WIPE_BYTES, end_bytes - offset_bytes, size_bytes - offset_bytes)
            device.write(offset_bytes, [bytes(length_bytes)])
    device.flush()
