"""lfs itself, and the ceiling that is served by the same loop."""

from __future__ import annotations

import sys

from bench.systems.base import FuseSystem
from bench.systems.host import drop_kernel_caches, our_tool, run


class Lfs(FuseSystem):
    """This filesystem."""

    name = "lfs"
    kind = "lfs"
    module = "lfs.mount.session"
    programs = ("fusermount3",)
    mount_options = ""

    def make(self) -> None:
        """Run mkfs.lfs."""
        self.make_image()
        run(our_tool("mkfs.main", "-q", "-K", self.medium))

    def mount(self) -> None:
        """Run mount.lfs in the foreground, so that its process is known."""
        options = ["-o", self.mount_options] if self.mount_options else []
        self.run_daemon(
            our_tool("lfs.mount.main", "-f", self.medium, self.place, *options), ": mounted\n"
        )

    def crash(self) -> None:
        """Kill the daemon and clear the dead mount away."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None
        run(["fusermount3", "-u", "-z", self.place])


class LfsWriteback(Lfs):
    """This filesystem, where the kernel collects writes before it passes them on."""

    name = "lfs-writeback"
    kind = "variant"
    mount_options = "writeback_cache"


class Ceiling(FuseSystem):
    """A filesystem in memory that does nothing, behind the same loop."""

    has_image = False
    keeps_content = False

    name = "ceiling"
    kind = "ceiling"
    module = "bench.ceiling"
    programs = ("fusermount3",)

    def make(self) -> None:
        """Need no image."""

    def mount(self) -> None:
        """Start it."""
        self.run_daemon([sys.executable, "-m", "bench.ceiling", self.place])

    def remount(self) -> None:
        """Let the kernel forget what it can; the contents live as long as the process."""
        drop_kernel_caches()
