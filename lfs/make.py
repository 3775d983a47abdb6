"""Making a new filesystem.

Superblocks come last, so that a device is not taken for a filesystem before it
is one.  Both checkpoint regions get a checkpoint, so that from the first moment
either leads to the same tree.

What an earlier filesystem left on the device, whatever its UUID, has another
``filesystem_id``: a new one is drawn each time.  Like the time, randomness is the
caller's to give.

Held by ``tests/mkfs/test_format.py`` and ``tests/library/test_face.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from lfs.common.errors import FilesystemError, UsageError
from lfs.device.base import BlockDevice
from lfs.filesystem import Filesystem
from lfs.geometry import (
    BLOCK_BYTES_USUAL,
    LABEL_BYTES_MAX,
    RESERVED_BASIS_POINTS_USUAL,
    plan,
)
from lfs.inodes.inode import S_IFDIR
from lfs.mounting import Mount
from lfs.ondisk import FILESYSTEM_ID_BYTES, SUPERBLOCK_ALIGN_BYTES, Superblock
from lfs.requests.core import Core
from lfs.segments import usage_loading
from lfs.volume.arguments import check_bytes, check_owner, check_time
from lfs.volume.options import Options
from lfs.volume.volume import Volume

ROOT_MODE = 0o755
_UUID_BYTES = 16
_HASH_SEED_BYTES = 16


def make_filesystem(
    device: BlockDevice,
    now_ns: int,
    draw: Callable[[int], bytes],
    *,
    block_bytes: int = BLOCK_BYTES_USUAL,
    label: bytes = b"",
    root_uid: int = 0,
    root_gid: int = 0,
) -> Superblock:
    """Make an empty filesystem on all of ``device``; return the superblock that describes it.

    What was there is not asked for and is lost, but signatures of other filesystems may
    stay: ``mkfs.lfs`` looks and wipes.  ``draw`` returns as many random bytes as it is
    asked for, as ``os.urandom`` does.

    A crash before this returns leaves no filesystem, or the whole new one.
    Raises UsageError for sizes that are impossible, EBUSY while the device is mounted, and
    DeviceError.
    """
    check_time(now_ns)
    check_owner(ROOT_MODE, root_uid, root_gid)
    check_bytes("label", label)
    if len(label) > LABEL_BYTES_MAX:
        raise UsageError(f"a label has at most {LABEL_BYTES_MAX} bytes")
    if block_bytes < device.sector_bytes:
        raise UsageError(f"blocks must not be smaller than sectors of {device.sector_bytes} bytes")
    if device.is_mounted:
        raise FilesystemError(errno.EBUSY, "the filesystem on this device is mounted")
    superblock = plan(
        device.size_bytes,
        block_bytes=block_bytes,
        segment_bytes=None,
        reserved_basis_points=RESERVED_BASIS_POINTS_USUAL,
        uuid=draw(_UUID_BYTES),
        label=label,
        hash_seed=draw(_HASH_SEED_BYTES),
        filesystem_id=draw(FILESYSTEM_ID_BYTES),
        created_ns=now_ns,
    )
    format_device(device, superblock, now_ns, ROOT_MODE, root_uid, root_gid)
    return superblock


def format_device(
    device: BlockDevice,
    superblock: Superblock,
    now_ns: int,
    root_mode: int = ROOT_MODE,
    root_uid: int = 0,
    root_gid: int = 0,
) -> None:
    """Make an empty filesystem on ``device``, described by ``superblock``.

    A crash before this returns leaves no filesystem, or the whole new one.
    Raises DeviceError.
    """
    primary_offset = superblock.offset_bytes
    backup_offset = superblock.copy_offset_bytes
    for offset in (primary_offset, backup_offset):
        device.write(offset, [bytes(SUPERBLOCK_ALIGN_BYTES)])
    device.flush()
    volume = Volume(device, superblock, Options())
    usage_loading.finish_loading(volume.usage, ())
    volume.log.start(1, 0, 0)
    filesystem = Filesystem(Mount(Core(volume)))
    filesystem.create_root(S_IFDIR | root_mode & 0o7777, root_uid, root_gid, now_ns)
    filesystem.checkpoint(now_ns)
    filesystem.unmount(now_ns)
    device.write(backup_offset, [_padded(superblock.at(backup_offset))])
    device.flush()
    device.write(primary_offset, [_padded(superblock)])
    device.flush()


def _padded(superblock: Superblock) -> bytes:
    return superblock.pack().ljust(SUPERBLOCK_ALIGN_BYTES, b"\0")
