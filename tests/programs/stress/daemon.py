"""What the daemon of a mount may use, and what it uses."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.mounting import MountedImage

# The daemon has about 14 open; what it opened for each file or request would pass this soon.
DESCRIPTORS_MAX = 24
_KIB = 1024
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_NAMES_AND_INODES = "2"
_SETTLE_SECONDS = 3.0
_SETTLE_SECONDS_MAX = 40.0


class Usage(NamedTuple):
    """What a daemon holds while nothing is on its filesystem."""

    memory_bytes: int
    descriptor_count: int
    free_blocks: int
    inode_count: int

    def __str__(self) -> str:
        """Return it as a line of the report."""
        return (
            f"{self.memory_bytes >> 20} MiB resident, {self.descriptor_count} descriptors,"
            f" {self.free_blocks} blocks free, {self.inode_count} inodes"
        )


def limit_descriptors(mounted: MountedImage) -> None:
    """Let the daemon open few files; the mount has opened all that it should need."""
    resource.prlimit(
        mounted.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS_MAX, DESCRIPTORS_MAX)
    )


def memory_bytes(mounted: MountedImage) -> int:
    """Return how much of the daemon is in memory."""
    for line in Path(f"/proc/{mounted.process.pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * _KIB
    raise AssertionError(f"the daemon has ended: {mounted.log}")


def usage(mounted: MountedImage) -> Usage:
    """Return what the daemon uses now."""
    space = os.statvfs(mounted.path)
    return Usage(
        memory_bytes(mounted),
        mounted.descriptor_count,
        space.f_bfree,
        space.f_files - space.f_ffree,
    )


def settled_usage(mounted: MountedImage) -> Usage:
    """Let the kernel forget what it knows, let the daemon finish its work, and return its use."""
    if os.access(_DROP_CACHES, os.W_OK):
        _DROP_CACHES.write_text(_NAMES_AND_INODES)
    deadline = time.monotonic() + _SETTLE_SECONDS_MAX
    before = usage(mounted)
    while True:
        # Longer than the daemon's background work sleeps, or each look would keep it from idling.
        time.sleep(_SETTLE_SECONDS)
        now = usage(mounted)
        if now.free_blocks == before.free_blocks or time.monotonic() > deadline:
            return now
        before = now
