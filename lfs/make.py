"""Making a new filesystem.

Superblocks come last, so that a device is not taken for a filesystem before it
is one.  Both checkpoint regions get a checkpoint, so that from the first moment
either leads to the same tree.

What an earlier filesystem left on the device, whatever its UUID, has another
``filesystem_id``: the caller draws a new one each time.
"""

from __future__ import annotations

from lfs.device.base import BlockDevice
from lfs.filesystem import Filesystem
from lfs.inodes.inode import S_IFDIR
from lfs.mounting import Mount
from lfs.ondisk import SUPERBLOCK_ALIGN_BYTES, Superblock
from lfs.requests.core import Core
from lfs.segments import usage_loading
from lfs.volume.options import Options
from lfs.volume.volume import Volume


def format_device(
    device: BlockDevice,
    superblock: Superblock,
    now_ns: int,
    root_mode: int = 0o755,
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
