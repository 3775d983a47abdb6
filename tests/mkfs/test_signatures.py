from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lfs.device.file import FileDevice
from lfs.device.memory import MemoryDevice
from lfs.geometry import plan
from lfs.ondisk import Superblock
from mkfs.signatures import SIGNATURES, Signature, find_signature, wipe_signatures

SIZE_BYTES = 16 << 20


def _put(device: MemoryDevice, offset_bytes: int, data: bytes) -> None:
    """Write bytes anywhere; devices take whole sectors only."""
    start = offset_bytes - offset_bytes % 512
    end = -(-(offset_bytes + len(data)) // 512) * 512
    around = bytearray(device.read(start, end - start))
    around[offset_bytes - start : offset_bytes - start + len(data)] = data
    device.write(start, [bytes(around)])


def _superblock(label: bytes) -> Superblock:
    return plan(
        SIZE_BYTES,
        block_bytes=4096,
        segment_bytes=None,
        reserved_basis_points=0,
        uuid=bytes(16),
        label=label,
        hash_seed=bytes(16),
        created_ns=0,
        filesystem_id=bytes(8),
    )


@pytest.mark.parametrize("signature", SIGNATURES)
def test_find_signature_knows_each_of_the_table(signature: Signature) -> None:
    device = MemoryDevice(SIZE_BYTES)
    assert find_signature(device) is None
    _put(device, signature.offset_bytes, signature.magic)
    assert find_signature(device) == signature.what
    wipe_signatures(device)
    assert find_signature(device) is None


@pytest.mark.parametrize("offset_bytes", [4096, SIZE_BYTES - 4096])
def test_find_signature_either_superblock_is_enough(offset_bytes: int) -> None:
    device = MemoryDevice(SIZE_BYTES)
    _put(device, offset_bytes, _superblock(b"work").at(offset_bytes).pack())
    assert find_signature(device) == "an lfs filesystem labelled 'work'"
    _put(device, offset_bytes + 60, b"?")
    assert find_signature(device) == "a damaged lfs filesystem"
    wipe_signatures(device)
    assert find_signature(device) is None


@pytest.mark.parametrize("size_bytes", [0, 512, 4096, 8192])
def test_find_signature_tiny_device_has_none(size_bytes: int) -> None:
    device = MemoryDevice(size_bytes)
    assert find_signature(device) is None
    wipe_signatures(device)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["mkfs.ext4", "-q"], "an ext2, ext3 or ext4 filesystem"),
        (["mkfs.xfs", "-q"], "an XFS filesystem"),
        (["mkfs.btrfs", "-q"], "a btrfs filesystem"),
        (["mkfs.vfat"], "a FAT filesystem"),
        (["mkfs.f2fs", "-q"], "an F2FS filesystem"),
        (["mkswap"], "swap space"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_find_signature_knows_what_real_tools_write(
    tmp_path: Path, command: list[str], expected: str
) -> None:
    tool = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if tool is None:
        pytest.skip(f"{command[0]} is not installed")
    image = tmp_path / "foreign.img"
    with image.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run([tool, *command[1:], str(image)], check=True, capture_output=True)
    device = FileDevice(image)
    assert find_signature(device) == expected
    wipe_signatures(device)
    assert find_signature(device) is None
    device.close()
