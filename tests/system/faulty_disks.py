"""A filesystem on a disk whose faults a test sets, and what it must have kept."""

from __future__ import annotations

from lfs.device.fault.device import FaultDevice
from lfs.device.fault.plan.grammar import parse_plan
from lfs.filesystem import Filesystem
from lfs.ondisk import CHECKPOINT_REGION_BYTES
from lfs.segments.usage import UsageTable
from tests.support.disks import BLOCK_BYTES, SEGMENT_BLOCKS, Disk, mounted_state, problems

MIB = 1 << 20
SEGMENT_BYTES = SEGMENT_BLOCKS * BLOCK_BYTES


class FaultyDisk(Disk):
    """A filesystem on a disk whose plan can be set."""

    def mount(self) -> None:
        """Mount by a disk without faults."""
        self.lines: list[str] = []
        self.faulty = FaultDevice(self.medium, parse_plan("seed 0"))
        self.filesystem = Filesystem.mount(
            self.faulty, self.now_ns, self.options, self.lines.append
        )

    def plan(self, text: str) -> None:
        """Let the disk have other faults from now on."""
        self.faulty.set_plan(parse_plan(text))

    @property
    def usage(self) -> UsageTable:
        """Return the usage table."""
        return self.filesystem.core.volume.usage

    def next_place(self) -> int:
        """Return the address that the next commit is promised."""
        return self.filesystem.core.volume.log.next_address

    def range_of(self, address: int) -> str:
        """Return the bytes of the segment that holds a block, as a plan names them."""
        start = self.usage.address_of(self.usage.segment_of(address)) * BLOCK_BYTES
        return f"{start}-{start + SEGMENT_BYTES}"

    def region_range(self) -> str:
        """Return the bytes of the region that the next checkpoint is written to."""
        number = self.filesystem.core.volume.state.checkpoint_number + 1
        start = self.superblock.checkpoint_offset_bytes[number % 2]
        return f"{start}-{start + CHECKPOINT_REGION_BYTES}"


def check_kept(disk: FaultyDisk) -> None:
    """Find the whole tree after a crash, by the newer checkpoint and after the next one too."""
    state = disk.state()
    crashed = disk.medium.copy()
    assert problems(crashed) == []
    assert mounted_state(crashed) == state
    disk.unmount()
    assert problems(disk.medium) == []
    assert mounted_state(disk.medium) == state
