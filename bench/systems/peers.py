"""The filesystems that others made: in C through FUSE, and of the kernel on a loop device."""

from __future__ import annotations

from pathlib import Path

from bench.systems.base import FuseSystem, System
from bench.systems.host import drop_kernel_caches, run


class Fuse2fs(FuseSystem):
    """ext2/3/4 in C through FUSE."""

    name = "fuse2fs"
    kind = "fuse"
    programs = ("fuse2fs", "mkfs.ext4", "fusermount3")

    def make(self) -> None:
        """Make an ext4 image."""
        self.make_image()
        run(["mkfs.ext4", "-q", "-F", "-E", "root_owner,nodiscard", self.medium])

    def mount(self) -> None:
        """Run fuse2fs in the foreground."""
        self.run_daemon(["fuse2fs", "-f", self.medium, self.place, "-o", "fakeroot"])


class Ntfs3g(System):
    """NTFS in C through FUSE."""

    name = "ntfs-3g"
    kind = "fuse"
    programs = ("ntfs-3g", "mkntfs")

    def make(self) -> None:
        """Make an NTFS image."""
        self.make_image()
        run(["mkntfs", "-q", "-F", "-Q", "-p", "0", "-H", "0", "-S", "0", self.medium])

    def mount(self) -> None:
        """Run ntfs-3g in the foreground."""
        self.run_daemon(["ntfs-3g", "-o", "no_detach", self.medium, self.place])

    def unmount(self) -> None:
        """Unmount and wait."""
        self.end_daemon(["umount", self.place])


class Bindfs(FuseSystem):
    """A directory of the host, passed through in C by FUSE."""

    has_image = False

    name = "bindfs"
    kind = "fuse"
    programs = ("bindfs", "fusermount3")

    def make(self) -> None:
        """Make the directory."""
        self.image.mkdir()

    def mount(self) -> None:
        """Run bindfs in the foreground."""
        self.run_daemon(["bindfs", "-f", self.image, self.place])

    def settle_medium(self) -> None:
        """Let the host write its own filesystem."""
        run(["sync", "-f", self.image])

    def drop_caches(self) -> None:
        """Let the host forget the directory and all that is in it."""
        self.settle_medium()
        # Its names and attributes are the host's, which are forgotten only with all others.
        drop_kernel_caches()


class LoopSystem(System):
    """A filesystem of the kernel on a loop device."""

    kind = "kernel"
    needs_root = True
    mount_options = "defaults"
    make_command: tuple[str, ...] = ()

    def __init__(
        self, work: Path, image_bytes: int, on_loop: bool = True, filled: bool = False
    ) -> None:
        """Prepare to keep everything in ``work``; there is always a loop device."""
        super().__init__(work, image_bytes, True, filled)

    def make(self) -> None:
        """Make the image."""
        self.make_image()
        run([*self.make_command, self.medium])

    def mount(self) -> None:
        """Mount the loop device."""
        run(["mount", "-o", self.mount_options, self.medium, self.place])


class Ext4(LoopSystem):
    """ext4, without the initialisation that would go on in the background."""

    name = "ext4"
    programs = ("mkfs.ext4",)
    make_command = (
        *("mkfs.ext4", "-q", "-F", "-E"),
        "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    )


class Xfs(LoopSystem):
    """XFS."""

    name = "xfs"
    programs = ("mkfs.xfs",)
    make_command = ("mkfs.xfs", "-q", "-f", "-K")


class Btrfs(LoopSystem):
    """Btrfs."""

    name = "btrfs"
    relocates = True
    programs = ("mkfs.btrfs",)
    make_command = ("mkfs.btrfs", "-q", "-f", "-K")
    # It would give freed space back to the host by itself.
    mount_options = "nodiscard"
