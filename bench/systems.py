"""The filesystems that are compared: how each is made, mounted, remounted and removed.

Every system keeps its image (or, for bindfs, its directory) in the same folder,
so that all use the same backing storage.  An image may be *filled*: all of it is
allocated and written before anything is measured, and nothing gives space back.
On a sparse image every first write to a block makes the filesystem of the host
allocate it, and a flush then waits for the host's journal, which on a disk does
not happen; what writes to new places all the time would pay for it each time.

Filesystems of the kernel need a loop
device over the image; every other system that has an image can be given one too,
and then the kernel counts the requests of all alike (``bench.counters``).
``stop`` leaves nothing mounted, whatever happened before.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

MOUNT_SECONDS_MAX = 60
Command = list[str | Path]


class SetupError(Exception):
    """A system cannot be made or mounted; the text says why."""


def our_tool(module: str, *arguments: str | Path) -> Command:
    """Return the command line of one of this project's tools, installed or not."""
    return [sys.executable, "-m", module, *arguments]


def run(command: Command) -> str:
    """Run a command and return what it prints; raises SetupError with its last line on failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or ["no message"]
        raise SetupError(f"{' '.join(map(str, command[:4]))}: {lines[-1]}")
    return done.stdout


def _persist(command: Command) -> str:
    """Run a command as ``run`` does; while something is busy try again, for some seconds.

    A process that looks at all mounts, as ``df`` does, holds each for a moment.
    """
    for _ in range(50):
        try:
            return run(command)
        except SetupError as error:
            if "busy" not in str(error).lower():
                raise
        time.sleep(0.1)
    return run(command)


class System(ABC):
    """One filesystem under test, mounted at ``place``."""

    name = ""
    kind = ""
    programs: tuple[str, ...] = ()
    needs_root = False
    has_image = True
    keeps_content = True
    """Whether files are there again after an unmount and a mount."""
    module = ""
    """The Python module that its daemon imports, where it is one of Python."""

    def __init__(
        self, work: Path, image_bytes: int, on_loop: bool = False, filled: bool = False
    ) -> None:
        """Prepare to keep everything in ``work``; ``on_loop`` puts a loop device over the image.

        ``filled`` says that the image is not to be sparse.
        """
        self.image = work / f"{self.name}.img"
        self.on_loop = on_loop
        self.filled = filled
        self.loop_device: Path | None = None
        self.place = work / f"{self.name}.mounted"
        self.image_bytes = image_bytes
        self.daemon: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Return what keeps this system from running here, or None."""
        for program in cls.programs:
            if shutil.which(program) is None:
                return f"{program} is not installed"
        return "root is needed" if cls.needs_root and os.geteuid() != 0 else None

    def start(self) -> None:
        """Make the filesystem and mount it."""
        self.place.mkdir()
        self.make()
        self.mount()

    @property
    def medium(self) -> Path:
        """Return what the filesystem lies on: the loop device or the image."""
        return self.loop_device or self.image

    def make_image(self) -> None:
        """Make an empty image, and the loop device where there is to be one."""
        with self.image.open("wb") as image:
            image.truncate(self.image_bytes)
        if self.filled:
            _fill(self.image, self.image_bytes)
        if self.on_loop:
            # Another process may take the free device that was found.
            shown = _persist(["losetup", "--find", "--show", self.image])
            self.loop_device = Path(shown.strip())

    @abstractmethod
    def make(self) -> None:
        """Make the filesystem."""

    @abstractmethod
    def mount(self) -> None:
        """Mount it; return when it answers."""

    def unmount(self) -> None:
        """Unmount; return when everything is on the image."""
        _persist(["umount", self.place])

    def remount(self) -> None:
        """Mount anew, with nothing of it left in any cache."""
        self.unmount()
        self.drop_caches()
        self.mount()

    def drop_caches(self) -> None:
        """Let the host forget the contents of the image."""
        _drop_cached(self.image)

    def settle(self) -> None:
        """Let everything be written, by the filesystem and then by the host, of this system alone.

        A sync of the whole machine would wait for what others write too.
        """
        # syncfs(2) does not reach a filesystem through FUSE, and not each of them can sync
        # a directory.
        _sync(self.place)
        run(["sync", "-f", self.place])
        self.settle_medium()

    def settle_medium(self) -> None:
        """Let the host write what it has of the image."""
        if self.loop_device is not None:
            _sync(self.loop_device)
        _sync(self.image)

    def stop(self) -> None:
        """Unmount and remove, without complaint about what is gone already."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
        for _ in range(20):
            if not _is_mount(self.place):
                break
            tool = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
            subprocess.run([*tool, self.place], capture_output=True, check=False)
            time.sleep(0.05)
        if self.loop_device is not None:
            subprocess.run(["losetup", "-d", self.loop_device], capture_output=True, check=False)
            self.loop_device = None

    def run_daemon(self, command: Command, ready_text: str = "") -> None:
        """Start a FUSE daemon in the foreground and wait until it serves.

        That is when its log says ``ready_text``, where it has a word for it.
        """
        with self.image.with_suffix(".log").open("ab") as log:
            log_start = log.tell()
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + MOUNT_SECONDS_MAX
        while not _is_mount(self.place) or ready_text not in self._log_text(log_start):
            if self.daemon.poll() is not None or time.monotonic() > end:
                text = self._log_text(log_start).strip()
                raise SetupError(f"{self.name} does not mount: {text[-300:]}")
            time.sleep(0.001)

    def _log_text(self, start: int) -> str:
        return self.image.with_suffix(".log").read_bytes()[start:].decode(errors="replace")

    def end_daemon(self, command: Command) -> None:
        """Unmount a FUSE daemon by ``command`` and wait until it has ended."""
        _persist(command)
        assert self.daemon is not None
        self.daemon.wait(MOUNT_SECONDS_MAX)
        self.daemon = None


def _is_mount(place: Path) -> bool:
    """Tell whether something is mounted at ``place``; a dead mount counts."""
    text = Path("/proc/self/mounts").read_text(errors="replace")
    return f" {place} " in text


def _fill(image: Path, size_bytes: int) -> None:
    """Write all of ``image`` once, past the page cache where the host can do that."""
    block = mmap.mmap(-1, 4 << 20)
    try:
        descriptor = os.open(image, os.O_WRONLY | os.O_DIRECT)
    except OSError:
        descriptor = os.open(image, os.O_WRONLY)
    try:
        for offset in range(0, size_bytes, len(block)):
            os.pwrite(descriptor, memoryview(block)[: size_bytes - offset], offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _drop_cached(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class FuseSystem(System):
    """A filesystem that any user may mount."""

    def unmount(self) -> None:
        """Unmount and wait for the daemon, which has written everything then."""
        self.end_daemon(["fusermount3", "-u", self.place])


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


def drop_kernel_caches() -> None:
    """Let the kernel forget pages, names and inodes, where that is allowed."""
    with contextlib.suppress(OSError):
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")


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
        """Let the host forget the contents of the directory."""
        for path in self.image.rglob("*"):
            if path.is_file() and not path.is_symlink():
                _drop_cached(path)


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
    programs = ("mkfs.btrfs",)
    make_command = ("mkfs.btrfs", "-q", "-f", "-K")
    # It would give freed space back to the host by itself.
    mount_options = "nodiscard"


SYSTEMS: list[type[System]] = [
    Lfs,
    LfsWriteback,
    Ceiling,
    Fuse2fs,
    Ntfs3g,
    Bindfs,
    Ext4,
    Xfs,
    Btrfs,
]
