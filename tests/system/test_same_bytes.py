"""The same requests write the same bytes, today as when they were recorded (P7).

Whoever moves or rewrites code and means to change nothing is held by this.  A change
that is meant to show on disk changes digests: the failure tells the new ones.
"""

from __future__ import annotations

import hashlib
import random

import pytest

from lfs.device.memory import MemoryDevice
from lfs.device.recording import Discard, Flush, RecordingDevice, Write
from lfs.filesystem import Options
from tests.space.kinds import go
from tests.space.load import Run
from tests.support.client import Client
from tests.support.disks import BLOCK_BYTES, Disk, data
from tests.support.volumes import format_small, mount
from tests.support.workload import workload

# Compiled or not: what was recorded is the same.
pytestmark = pytest.mark.both_cores

MIB = 1 << 20


class Digest:
    """A digest of all that devices were told, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def take(self, device: RecordingDevice) -> None:
        """Add what ``device`` was told so far, and forget it."""
        for event in device.events:
            match event:
                case Write(offset_bytes, written, _):
                    self._hash.update(b"write %d %d " % (offset_bytes, len(written)))
                    self._hash.update(written)
                case Flush():
                    self._hash.update(b"flush ")
                case Discard(offset_bytes, length_bytes):
                    self._hash.update(b"discard %d %d " % (offset_bytes, length_bytes))
        device.events.clear()

    @property
    def text(self) -> str:
        """Return what tells it from others."""
        return self._hash.hexdigest()[:16]


def digest_of_requests(block_bytes: int, options: Options) -> str:
    """Make 600 requests of every kind, with three crashes among them and an unmount."""
    medium = MemoryDevice(24 * MIB)
    digest = Digest()
    format_small(medium, block_bytes, 64)
    requests = workload(1, 600, 6 * MIB)
    for start in range(0, len(requests), 150):
        device = RecordingDevice(medium)
        filesystem = mount(device, requests[start].now_ns, options)
        client = Client(filesystem)
        for request in requests[start : start + 150]:
            client.run(request)
            digest.take(device)
        if start + 150 < len(requests):
            filesystem.sync(requests[start + 149].now_ns)
        else:
            filesystem.unmount(requests[-1].now_ns)
        digest.take(device)
    return digest.text


def digest_of_cleaning(policy: str) -> str:
    """Overwrite a disk that is nearly full, three times as much as it holds, and let it rest."""
    disk = Disk(16 * MIB, 64, Options(cleaner_policy=policy))
    digest = Digest()
    choose = random.Random(2)
    inos = [disk.make_file(b"%d" % number, data(number, 4 * MIB)) for number in range(2)]
    for number in range(3 * 8 * MIB // (4 * BLOCK_BYTES)):
        offset = choose.randrange(4 * MIB // BLOCK_BYTES - 4) * BLOCK_BYTES
        disk.write(choose.choice(inos), offset, data(number, 4 * BLOCK_BYTES))
        if number % 20 == 0:
            disk.sync()
        digest.take(disk.device)
    disk.filesystem.tick(disk.now_ns + 10**10, idle=True)
    for second in range(11, 60):
        disk.filesystem.tick(disk.now_ns + second * 10**9, idle=True)
    assert disk.filesystem.core.rounds.cleaned_runs > 20
    disk.unmount()
    digest.take(disk.device)
    return digest.text


def digest_of_load(run_id: str) -> str:
    """Make a run on a disk that it fills; the digest is of what is there in the end."""
    run = Run(run_id)
    go(run)
    run.finish()
    return hashlib.sha256(run.device.read(0, run.device.size_bytes)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("block_bytes", "options", "expected"),
    [
        (1024, Options(), "9bb93f21a926b2aa"),
        (4096, Options(dirty_bytes_max=MIB, inode_count_max=16), "f5b872c6765f192f"),
    ],
)
def test_requests_write_the_same_bytes(block_bytes: int, options: Options, expected: str) -> None:
    assert digest_of_requests(block_bytes, options) == expected


@pytest.mark.parametrize(
    ("policy", "expected"), [("greedy", "6ad9b6d09fc4bd85"), ("cost-benefit", "6ef5eea72d6589ea")]
)
def test_cleaning_writes_the_same_bytes(policy: str, expected: str) -> None:
    assert digest_of_cleaning(policy) == expected


@pytest.mark.parametrize(
    ("run_id", "expected"),
    [
        ("small-2", "e2094f55baa955ed"),
        ("small-15", "d7a920e1f678d31f"),
        ("small-44", "472c2ebf4ea429de"),
        ("small-173", "2a2b7bd718fb361f"),
    ],
)
def test_full_disks_hold_the_same_bytes(run_id: str, expected: str) -> None:
    assert digest_of_load(run_id) == expected
