"""The target of mkfs.lfs: how large it is, how large it is to be.

That nobody else uses it is the device's business, but for a swap file: nobody has
opened or claimed that.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lfs.common.errors import UsageError
from lfs.common.sizes import format_size
from lfs.device.exclusion.mount_table import unescaped
from lfs.device.file import FileDevice
from lfs.device.file_limit import file_limit_bytes


def refuse_swap(path: Path, swaps: Path = Path("/proc/swaps")) -> None:
    """Raise UsageError when a file or disk is swap space, by its path."""
    real = os.path.realpath(path)
    with contextlib.suppress(OSError):
        for line in swaps.read_bytes().splitlines()[1:]:
            if unescaped(line.split()[0]) == real:
                raise UsageError(f"{path} is in use as swap space")


def final_size_bytes(device: FileDevice, wanted_bytes: int | None, force: bool) -> int:
    """Return how large the target is to be, in whole ``align_bytes``.

    An image file grows as wished and shrinks only with ``force``; a block device
    is as large as it is.  Raises UsageError.
    """
    if wanted_bytes is None:
        return device.size_bytes
    wanted_bytes -= wanted_bytes % device.align_bytes
    if device.is_block_device and wanted_bytes != device.size_bytes:
        raise UsageError(
            f"{device.path} is a block device of {format_size(device.size_bytes)}: "
            "leave SIZE away or give exactly that"
        )
    if wanted_bytes < device.size_bytes and not force:
        raise UsageError(
            f"{device.path} has {format_size(device.size_bytes)}, more than SIZE: "
            "use -f to cut it off"
        )
    return wanted_bytes


def resize_image(path: Path, size_bytes: int) -> None:
    """Make an image file ``size_bytes`` long, sparse where it grows; raises UsageError."""
    try:
        os.truncate(path, size_bytes)
    except OSError as error:
        size = format_size(size_bytes)
        limited = " (see ulimit -f)" if size_bytes > (file_limit_bytes() or size_bytes) else ""
        text = f"cannot make {path} {size} long: {error.strerror}{limited}"
        raise UsageError(text) from error


def create_image(path: Path, size_bytes: int) -> None:
    """Create a sparse image file; raises UsageError, and then there is none."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from error
    try:
        resize_image(path, size_bytes)
    except BaseException:
        path.unlink()
        raise
