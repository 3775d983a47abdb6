"""The two ways in which the demo uses a filesystem: mounted, and as a library."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from lfs.common.errors import FilesystemError
from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem
from lfs.ondisk import ROOT_INO

MOUNT_SECONDS_MAX = 30
TOOLS = Path(sys.executable).parent


class DemoError(Exception):
    """Something is not as it must be; the text says what."""


class Source(NamedTuple):
    """One thing to copy: where it is, what it will be called, and its ``stat``."""

    path: Path
    name: str
    info: os.stat_result


class Files(ABC):
    """A filesystem that the demo copies to: by a mount or by the library."""

    crash_words: str

    @abstractmethod
    def start(self) -> None:
        """Mount the image."""

    @abstractmethod
    def crash(self) -> None:
        """Be gone without a word."""

    @abstractmethod
    def stop(self) -> None:
        """Unmount in order."""

    @abstractmethod
    def sync(self) -> None:
        """Return when everything before is durable."""

    @abstractmethod
    def copy(self, source: Source, name: str) -> int:
        """Copy ``source`` to ``name`` and return the bytes written."""

    @abstractmethod
    def same(self, source: Source, name: str) -> bool:
        """Tell whether ``name`` has type, content, permissions and time of ``source``."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Tell whether there is anything called ``name``."""


class MountedFiles(Files):
    """The mounted filesystem, used as any program would."""

    crash_words = "SIGKILL to the daemon"

    def __init__(self, image: Path, work: Path) -> None:
        """Mount ``image`` at a directory in ``work``."""
        self.image = image
        self.place = work / "mounted"
        self.place.mkdir()
        self.log = work / "mount.log"
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it serves."""
        with self.log.open("ab") as log:
            command: list[str | Path] = [TOOLS / "mount.lfs", "-f", self.image, self.place]
            # A session of its own: Ctrl-C is for the demo, which then cleans up.
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + MOUNT_SECONDS_MAX
        while not self._serves():
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise DemoError(f"mount.lfs failed: {self.log.read_text().strip()}")
            time.sleep(0.01)

    def _serves(self) -> bool:
        with contextlib.suppress(OSError):
            # A dead mount still has cached attributes, but cannot tell its free space.
            os.statvfs(self.place)
            return self.place.stat().st_dev != self.place.parent.stat().st_dev
        return False

    def crash(self) -> None:
        """Kill the daemon; the kernel then knows only a dead mount."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None

    def stop(self) -> None:
        """Unmount and wait for the daemon to finish."""
        if self.daemon is not None:
            self._run(TOOLS / "umount.lfs", self.place)
            self.daemon.wait(MOUNT_SECONDS_MAX)
            self.daemon = None

    @staticmethod
    def _run(*command: str | Path) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise DemoError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")

    def abandon(self) -> None:
        """Leave no mount and no daemon behind, whatever happened."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["fusermount3", "-u", "-z", self.place], **quiet)  # type: ignore[call-overload]

    def sync(self) -> None:
        """Use fsync of the root directory: the kernel passes on nothing else for all files."""
        directory = os.open(self.place, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def copy(self, source: Source, name: str) -> int:
        """Copy by plain system calls."""
        target = self.place / name
        if stat.S_ISDIR(source.info.st_mode):
            target.mkdir()
            return 0
        if stat.S_ISLNK(source.info.st_mode):
            target.symlink_to(os.readlink(source.path))
            return 0
        content = source.path.read_bytes()
        target.write_bytes(content)
        target.chmod(stat.S_IMODE(source.info.st_mode))
        os.utime(target, ns=(source.info.st_atime_ns, source.info.st_mtime_ns))
        return len(content)

    def same(self, source: Source, name: str) -> bool:
        """Compare by plain system calls."""
        target = self.place / name
        info = target.lstat()
        if stat.S_IFMT(info.st_mode) != stat.S_IFMT(source.info.st_mode):
            return False
        if stat.S_ISLNK(info.st_mode):
            return target.readlink() == source.path.readlink()
        if stat.S_ISDIR(info.st_mode):
            return True
        return (
            info.st_mode == source.info.st_mode
            and info.st_mtime_ns == source.info.st_mtime_ns
            and target.read_bytes() == source.path.read_bytes()
        )

    def exists(self, name: str) -> bool:
        """Ask by lstat."""
        return os.path.lexists(self.place / name)


class LibraryFiles(Files):
    """The same filesystem as a Python library, without FUSE."""

    crash_words = "dropped without unmounting"

    def __init__(self, image: Path) -> None:
        """Use ``image``."""
        self.image = image
        self.filesystem: Filesystem | None = None
        self.device: FileDevice | None = None

    @property
    def _mounted(self) -> Filesystem:
        assert self.filesystem is not None
        return self.filesystem

    def start(self) -> None:
        """Open the image and mount it."""
        self.device = FileDevice(self.image)
        self.filesystem = Filesystem.mount(self.device, time.time_ns(), report=lambda line: None)

    def crash(self) -> None:
        """Forget everything in memory."""
        assert self.device is not None
        self.filesystem = None
        self.device.close()

    def stop(self) -> None:
        """Unmount."""
        if self.filesystem is not None and self.device is not None:
            self.filesystem.unmount(time.time_ns())
            self.filesystem = None
            self.device.close()

    def sync(self) -> None:
        """Commit and flush."""
        self._mounted.sync(time.time_ns())

    def _find(self, name: str) -> int:
        ino = ROOT_INO
        for part in Path(name).parts:
            ino = self._mounted.lookup(ino, os.fsencode(part)).ino
        return ino

    def copy(self, source: Source, name: str) -> int:
        """Copy by calls of the library."""
        now_ns = time.time_ns()
        filesystem = self._mounted
        parent, leaf = self._find(str(Path(name).parent)), os.fsencode(Path(name).name)
        mode = source.info.st_mode
        user = (os.getuid(), os.getgid(), now_ns)
        filesystem.tick(now_ns, idle=False)
        if stat.S_ISDIR(mode):
            filesystem.mkdir(parent, leaf, 0o755, *user)
            return 0
        if stat.S_ISLNK(mode):
            filesystem.symlink(parent, leaf, os.fsencode(os.readlink(source.path)), *user)
            return 0
        content = source.path.read_bytes()
        ino = filesystem.create(parent, leaf, mode, *user).ino
        filesystem.write(ino, 0, content, now_ns)
        filesystem.setattr(ino, now_ns, mtime_ns=source.info.st_mtime_ns)
        return len(content)

    def same(self, source: Source, name: str) -> bool:
        """Compare by calls of the library."""
        filesystem = self._mounted
        inode = filesystem.getattr(self._find(name))
        if stat.S_IFMT(inode.mode) != stat.S_IFMT(source.info.st_mode):
            return False
        if stat.S_ISLNK(inode.mode):
            return filesystem.readlink(inode.ino) == os.fsencode(os.readlink(source.path))
        if stat.S_ISDIR(inode.mode):
            return True
        content = source.path.read_bytes()
        return (
            inode.mode == source.info.st_mode
            and inode.mtime_ns == source.info.st_mtime_ns
            and filesystem.read(inode.ino, 0, len(content) + 1, time.time_ns()) == content
        )

    def exists(self, name: str) -> bool:
        """Ask by lookup."""
        try:
            self._find(name)
        except FilesystemError:
            return False
        return True
