"""What every system under test can do: be made, mounted, remounted, settled and removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.systems.host import Command, SetupError, drop_cached, fill, is_mount, persist, run, sync

MOUNT_SECONDS_MAX = 60


class System(ABC):
    """One filesystem under test, mounted at ``place``."""

    name = ""
    kind = ""
    programs: tuple[str, ...] = ()
    needs_root = False
    has_image = True
    keeps_content = True
    """Whether files are there again after an unmount and a mount."""
    relocates = False
    """Whether what is overwritten goes to another place, so that reading in order may find gaps."""
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

    @contextmanager
    def another(self, image_bytes: int) -> Iterator[System]:
        """Yield one more of its kind, on a disk of its own, and remove it afterwards."""
        folder = self.image.with_suffix(".another")
        folder.mkdir()
        other = type(self)(folder, image_bytes, self.on_loop, self.filled)
        try:
            other.start()
            yield other
        finally:
            other.stop()
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def medium(self) -> Path:
        """Return what the filesystem lies on: the loop device or the image."""
        return self.loop_device or self.image

    def make_image(self) -> None:
        """Make an empty image, and the loop device where there is to be one."""
        with self.image.open("wb") as image:
            image.truncate(self.image_bytes)
        if self.filled:
            fill(self.image, self.image_bytes)
        if self.on_loop:
            # Another process may take the free device that was found.
            shown = persist(["losetup", "--find", "--show", self.image])
            self.loop_device = Path(shown.strip())

    @abstractmethod
    def make(self) -> None:
        """Make the filesystem."""

    @abstractmethod
    def mount(self) -> None:
        """Mount it; return when it answers."""

    def unmount(self) -> None:
        """Unmount; return when everything is on the image."""
        persist(["umount", self.place])

    def remount(self) -> None:
        """Mount anew, with nothing of it left in any cache."""
        self.unmount()
        self.drop_caches()
        self.mount()

    def drop_caches(self) -> None:
        """Let the host forget the contents of the image."""
        drop_cached(self.image)

    def settle(self) -> None:
        """Let everything be written, by the filesystem and then by the host, of this system alone.

        A sync of the whole machine would wait for what others write too.
        """
        # syncfs(2) does not reach a filesystem through FUSE, and not each of them can sync
        # a directory.
        sync(self.place)
        run(["sync", "-f", self.place])
        self.settle_medium()

    def settle_medium(self) -> None:
        """Let the host write what it has of the image."""
        if self.loop_device is not None:
            sync(self.loop_device)
        sync(self.image)

    def stop(self) -> None:
        """Unmount and remove, without complaint about what is gone already."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
        for _ in range(20):
            if not is_mount(self.place):
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
        while not is_mount(self.place) or ready_text not in self._log_text(log_start):
            if self.daemon.poll() is not None or time.monotonic() > end:
                text = self._log_text(log_start).strip()
                raise SetupError(f"{self.name} does not mount: {text[-300:]}")
            time.sleep(0.001)

    def _log_text(self, start: int) -> str:
        return self.image.with_suffix(".log").read_bytes()[start:].decode(errors="replace")

    def end_daemon(self, command: Command) -> None:
        """Unmount a FUSE daemon by ``command`` and wait until it has ended."""
        persist(command)
        assert self.daemon is not None
        self.daemon.wait(MOUNT_SECONDS_MAX)
        self.daemon = None


class FuseSystem(System):
    """A filesystem that any user may mount."""

    def unmount(self) -> None:
        """Unmount and wait for the daemon, which has written everything then."""
        self.end_daemon(["fusermount3", "-u", self.place])
