"""What an image has when a daemon has ended, or would end now."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lfs.device.file import FileDevice
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.mount.unmount import is_clean
from lfs.ondisk import ROOT_INO


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def clean(image: Path) -> bool:
    with contextlib.closing(FileDevice(image, True)) as device:
        return is_clean(device)


def would_survive(image: Path, name: bytes = b"f") -> bool:
    """Tell whether a mount after a crash now would find a file."""
    medium = MemoryDevice(image.stat().st_size)
    medium.write(0, [image.read_bytes()])
    filesystem = Filesystem.mount(medium, 0, Options(read_only=True))
    return any(entry.name == name for entry in filesystem.readdir(ROOT_INO))
