"""lfs itself, and the ceilings that are served by the same loop.

All are mounted so that nobody keeps processors awake, as peers in C are; ``lfs-awake`` is lfs
as it is mounted by default.
"""

from __future__ import annotations

import sys

from bench.systems.base import FuseSystem
from bench.systems.host import drop_kernel_caches, our_tool, run

ASLEEP = "cpu_latency=any"


class Lfs(FuseSystem):
    """This filesystem."""

    name = "lfs"
    kind = "lfs"
    module = "lfs.mount.session"
    programs = ("fusermount3",)
    relocates = True
    mount_options = ASLEEP
    options_given = ""
    """What the command was told to add, to every variant."""

    def make(self) -> None:
        """Run mkfs.lfs."""
        self.make_image()
        run(our_tool("mkfs.main", "-q", "-K", self.medium))

    def mount(self) -> None:
        """Run mount.lfs in the foreground, so that its process is known."""
        options = ",".join(filter(None, (self.mount_options, self.options_given)))
        self.run_daemon(
            our_tool("lfs.mount.main", "-f", self.medium, self.place, "-o", options), ": mounted\n"
        )

    def crash(self) -> None:
        """Kill the daemon and clear the dead mount away."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None
        run(["fusermount3", "-u", "-z", self.place])


class LfsAwake(Lfs):
    """This filesystem as it is mounted by default, which may keep processors awake."""

    name = "lfs-awake"
    kind = "variant"
    mount_options = "cpu_latency=auto"


class LfsWriteback(Lfs):
    """This filesystem, where the kernel collects writes before it passes them on."""

    name = "lfs-writeback"
    kind = "variant"
    mount_options = f"{ASLEEP},writeback_cache"


class Ceiling(FuseSystem):
    """A filesystem in memory that does nothing, behind the same loop."""

    has_image = False
    keeps_content = False

    name = "ceiling"
    kind = "ceiling"
    module = "bench.ceilings.ceiling"
    programs = ("fusermount3",)
    mount_options = ASLEEP

    def make(self) -> None:
        """Need no image."""

    def mount(self) -> None:
        """Start it."""
        self.run_daemon([sys.executable, "-m", self.module, self.place, self.mount_options])

    def remount(self) -> None:
        """Let the kernel forget what it can; the contents live as long as the process."""
        drop_kernel_caches()


class LeanCeiling(Ceiling):
    """A filesystem that does still less: nothing but what Python, pyfuse3 and the kernel do."""

    name = "lean-ceiling"
    module = "bench.ceilings.lean"
