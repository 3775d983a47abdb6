"""Memory of the daemon that is used again instead of being found anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.mounting import MountedImage
from tests.support.mounts import Mounter

pytestmark = pytest.mark.fuse

MIB = 1 << 20
STREAM_MIB = 32
FAULTS_PER_MIB_MAX = 64
"""A quarter of the pages of a MiB: each of them faults where memory is given back."""


def page_faults(mounted: MountedImage) -> int:
    """Return how many pages the daemon had to be given without a device access."""
    text = Path(f"/proc/{mounted.process.pid}/stat").read_text()
    return int(text.rsplit(")", 1)[1].split()[7])


def stream(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in range(STREAM_MIB):
        os.write(descriptor, bytes([number]) * MIB)
    os.fsync(descriptor)
    os.close(descriptor)


def test_buffers_of_a_large_write_use_the_same_memory_again(image: Path, mount: Mounter) -> None:
    mounted = mount(image)
    stream(mounted.path / "file")
    before = page_faults(mounted)
    stream(mounted.path / "file")
    assert page_faults(mounted) - before < STREAM_MIB * FAULTS_PER_MIB_MAX
