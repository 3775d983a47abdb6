"""The target of mkfs.lfs: who uses it, how large it is, how large it is to be.

A mounted target is found in /proc and /sys: by device number, by the source
that a mount names, and by the file behind a loop device.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from lfs.device.file import FileDevice
from lfs.errors import UsageError
from mkfs.geometry import format_size


def _unescape(text: str) -> str:
    r"""Return a field of mountinfo or swaps with ``\040`` and the like decoded."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _is_same(path: str, status: os.stat_result) -> bool:
    """Tell whether ``path`` is the file or device with ``status``."""
    if not path.startswith("/"):
        return False
    try:
        other = Path(path).stat()
    except OSError:
        return False
    if stat.S_ISBLK(status.st_mode):
        return stat.S_ISBLK(other.st_mode) and other.st_rdev == status.st_rdev
    return os.path.samestat(other, status)


def find_use(path: Path, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> str | None:
    """Return how the system uses ``path``, such as "mounted on /mnt", or None."""
    status = path.stat()
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    is_block_device = stat.S_ISBLK(status.st_mode)
    for line in (proc / "self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        source = _unescape(fields[fields.index("-") + 2])
        if (is_block_device and fields[2] == number) or _is_same(source, status):
            return f"mounted on {_unescape(fields[4])}"
    for backing_file in sorted(sys.glob("block/loop*/loop/backing_file")):
        try:
            backing = backing_file.read_text(errors="surrogateescape").rstrip("\n")
        except OSError:  # detached meanwhile
            continue
        if _is_same(backing, status):
            return f"in use as /dev/{backing_file.parts[-3]}"
    if (proc / "swaps").exists():
        for line in (proc / "swaps").read_text(errors="surrogateescape").splitlines()[1:]:
            if _is_same(_unescape(line.split()[0]), status):
                return "in use as swap space"
    return None


def refuse_used(path: Path) -> None:
    """Raise UsageError when the system uses ``path``."""
    use = find_use(path)
    if use is not None:
        raise UsageError(f"{path} is {use}")


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
        raise UsageError(f"cannot make {path} {size} long: {error.strerror}") from error


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
