"""``import lfs``: what it offers, what it costs, and the program in README.md."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lfs
from fsck.check import check_device
from lfs import (
    ROOT_INO,
    BlockDevice,
    FaultDevice,
    Filesystem,
    FilesystemError,
    MemoryDevice,
    Options,
    UsageError,
    make_filesystem,
    parse_plan,
)
from lfs.command.parts import EXTRAS
from lfs.common.compiled import is_compiled

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
NAMES = [name for name in lfs.__all__ if not name.startswith("_")]
CHEAP = {"lfs", "lfs.common", "lfs.common.compiled", "lfs.common.version"}


def python(code: str, directory: Path = ROOT) -> str:
    """Run a program in a process of its own that can import none of the parts; return its output.

    It must end well.
    """
    without = f"import sys; sys.modules.update(dict.fromkeys({[*EXTRAS]}))\n"
    done = subprocess.run(
        [sys.executable, "-c", without + code],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules(code: str) -> set[str]:
    """Return all modules that ``code`` imports in a process of its own."""
    listed = python(f"before = {{*sys.modules}}\n{code}\nprint(*sys.modules.keys() - before)")
    return set(listed.split())


@pytest.mark.parametrize("name", NAMES)
def test_face_offers_what_it_describes(name: str) -> None:
    """Each name is found in a process of its own, and told of in one line and where it is."""
    line = f"``{name}``"
    assert line in [row.partition("  ")[0] for row in (lfs.__doc__ or "").splitlines()]
    python(f"import lfs; lfs.{name}")
    value = getattr(lfs, name)
    if not isinstance(value, int):
        # Compiled classes have lost theirs.
        assert vars(value).get("__doc__") or getattr(value, "__doc__", None) or is_compiled()
        assert value.__name__ == name


def test_face_describes_nothing_else() -> None:
    rows = [row.partition("  ")[0] for row in (lfs.__doc__ or "").splitlines()]
    described = [row.strip("`") for row in rows if row.startswith("``") and row.endswith("``")]
    assert sorted(described) == sorted(NAMES)
    assert {*lfs.__all__} <= {*dir(lfs)}


def test_face_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="module 'lfs' has no attribute 'Filesytem'"):
        vars(lfs)["__getattr__"]("Filesytem")


def test_face_costs_nothing_before_it_is_asked() -> None:
    found = modules("import lfs")
    assert {name for name in found if name.partition(".")[0] == "lfs"} == CHEAP
    assert found - CHEAP <= {"importlib", "warnings"}


def test_face_of_a_device_does_not_bring_the_filesystem() -> None:
    found = modules("from lfs import MemoryDevice")
    assert "lfs.device.memory" in found
    assert found.isdisjoint({"lfs.filesystem", "sortedcontainers", "google_crc32c"})


def test_face_all_at_once_needs_no_part() -> None:
    """``from lfs import *`` in an installation without FUSE and NumPy."""
    assert "lfs.filesystem" in modules("from lfs import *; Filesystem, FaultDevice")


@pytest.mark.parametrize("block_bytes", [1024, 4096, 65536])
def test_made_filesystem_is_whole(block_bytes: int) -> None:
    device = MemoryDevice(256 * MIB)
    superblock = make_filesystem(
        device, 5, os.urandom, block_bytes=block_bytes, label=b"mine", root_uid=7, root_gid=8
    )
    assert (superblock.label, superblock.created_ns) == (b"mine", 5)
    assert check_device(device).is_clean
    filesystem = Filesystem.mount(device, 6, Options(read_only=True))
    root = filesystem.getattr(ROOT_INO)
    assert (root.uid, root.gid, root.mode & 0o7777) == (7, 8, 0o755)
    assert filesystem.statfs().block_bytes == block_bytes


def test_made_filesystem_depends_on_what_is_drawn_alone() -> None:
    devices = [MemoryDevice(16 * MIB) for _ in range(3)]
    for device, draw in zip(devices, (bytes, bytes, os.urandom), strict=True):
        make_filesystem(device, 5, draw)
    first, same, other = (device.read(0, device.size_bytes) for device in devices)
    assert first == same
    assert first != other


def test_made_filesystem_lies_on_a_faulty_disk_too() -> None:
    device = FaultDevice(MemoryDevice(16 * MIB), parse_plan("error EIO on write"))
    with pytest.raises(FilesystemError):
        make_filesystem(device, 5, os.urandom)


def refusing(device: BlockDevice, error: type[Exception], **choices: object) -> Exception:
    """Return what making is refused with before the device is touched."""
    if not device.is_mounted:
        device.write(4096, [b"a superblock's place".ljust(4096)])
    before = device.read(0, device.size_bytes)
    with pytest.raises(error) as caught:
        make_filesystem(device, **{"now_ns": 5, "draw": os.urandom} | choices)  # type: ignore[arg-type]
    assert device.read(0, device.size_bytes) == before
    return caught.value


def test_made_filesystem_is_refused_before_anything_changes() -> None:
    small, device = MemoryDevice(MIB), MemoryDevice(16 * MIB)
    assert "too small" in str(refusing(small, UsageError))
    assert "power of two" in str(refusing(device, UsageError, block_bytes=5000))
    assert "64 bytes" in str(refusing(device, UsageError, label=b"l" * 65))
    refusing(device, TypeError, label="text")
    refusing(device, FilesystemError, now_ns=1 << 64)
    refusing(device, FilesystemError, root_uid=-1)
    device.sector_bytes = 4096
    assert "sectors of 4096" in str(refusing(device, UsageError, block_bytes=1024))


def test_made_filesystem_spares_one_that_is_mounted() -> None:
    device = MemoryDevice(16 * MIB)
    make_filesystem(device, 5, os.urandom)
    filesystem = Filesystem.mount(device, 6)
    error = refusing(device, FilesystemError)
    assert isinstance(error, FilesystemError)
    assert error.errno == errno.EBUSY
    filesystem.unmount(7)
    make_filesystem(device, 8, os.urandom)
