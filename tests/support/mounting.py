"""Images that are really mounted, each by a ``mount.lfs`` of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfs.fuse.clock import kernel_ns
from lfs.kernel.logs import SYSTEM_LOG
from lfs.kernel.mountpoint import MountError, find_mount, unmount
from mkfs.main import main as mkfs
from tests.support.needs import reason_to_skip
from tests.support.patience import HANG_SECONDS

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = HANG_SECONDS
POLL_SECONDS = 0.01


def make_image(path: Path, size: str = "64M") -> Path:
    """Make an image with an empty filesystem."""
    assert mkfs(["-q", str(path), size]) == 0
    return path


def command(module: str, *arguments: str | Path) -> list[str]:
    """Return the command line that runs a module of the project."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment in which a module of the project is found."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a module of the project to its end."""
    return subprocess.run(
        command(module, *arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def without_log_notice(text: str) -> str:
    """Return what a command printed without the line about a machine that has no system log."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if f"no system log runs here ({SYSTEM_LOG})" not in line)


def wait_until(condition: object, what: str) -> None:
    """Call ``condition`` until it is true; fail after ``WAIT_SECONDS``."""
    assert callable(condition)
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
        time.sleep(POLL_SECONDS)


def wait_for_tick() -> None:
    """Wait until a change made now gets a later stamp than those before."""
    before = kernel_ns()
    wait_until(lambda: kernel_ns() > before, "the kernel's clock advances")


class MountedImage:
    """An image mounted by a ``mount.lfs -f`` that is a child of the test."""

    def __init__(self, image: Path, directory: Path, *arguments: str) -> None:
        """Mount ``image`` on ``directory``, which is made; where nothing can be mounted, skip."""
        reason = reason_to_skip((), is_fuse=True)
        if reason is not None:
            pytest.skip(reason)
        self.image = image
        self.path = directory
        directory.mkdir(exist_ok=True)
        self.log_path = image.with_suffix(".log")
        self._log_start = len(self.log) if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command("lfs.mount.main", image, directory, "-f", *arguments),
                env=environment(),
                stderr=log,
            )
        wait_until(self._settled, "it is mounted")
        assert self.process.poll() is None, self.log

    def _settled(self) -> bool:
        if self.process.poll() is not None:
            return True
        # Not only mounted: the daemon has asked what it wants to know, too.
        return ": mounted\n" in self.log[self._log_start :]

    @property
    def log(self) -> str:
        """Return what the daemon logged."""
        return self.log_path.read_text()

    def await_log(self, text: str, count: int = 1) -> None:
        """Return once the daemon has said ``text`` so often: lines come a little later."""
        wait_until(lambda: self.log.count(text) >= count, f"the daemon says: {text}")

    @property
    def descriptor_count(self) -> int:
        """Return how many files the daemon has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> None:
        """Unmount, and wait for the daemon to end well."""
        wait_until(self._is_unmounted, "nobody uses the mount any more")
        assert self.process.wait(WAIT_SECONDS) == 0, self.log

    def _is_unmounted(self) -> bool:
        """Unmount; a program that looks at every mount, as df does, may be in it for a moment."""
        try:
            unmount(str(self.path))
        except MountError as error:
            if "is busy" not in str(error):
                raise
            return False
        return True

    def signal(self, number: signal.Signals) -> int:
        """Send the daemon a signal, wait for its end, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """End the daemon as a crash would, and clear the mount point."""
        self.signal(signal.SIGKILL)
        unmount(str(self.path), lazily=True)

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        try:
            if find_mount(str(self.path)) is not None and self.process.poll() is None:
                self.stop()
            self.process.wait(WAIT_SECONDS)
        except (MountError, AssertionError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(WAIT_SECONDS)
            raise
        finally:
            if find_mount(str(self.path)) is not None:
                unmount(str(self.path), lazily=True)


_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(source: Path, target: Path, flags: int) -> None:
    """Call renameat2(2), which Python lacks."""
    at_fdcwd = -100
    arguments = (at_fdcwd, os.fsencode(source), at_fdcwd, os.fsencode(target), flags)
    if _libc.renameat2(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def shown_to_others(path: Path) -> Iterator[Path]:
    """Show what is mounted on ``path`` where any user gets at it, as not in pytest's folders."""
    open_path = Path(f"/tmp/lfs-shown-{os.getpid()}")
    open_path.mkdir()
    try:
        subprocess.run(["mount", "--bind", path, open_path], check=True)
        yield open_path
        subprocess.run(["umount", "-i", open_path], check=True)
    finally:
        open_path.rmdir()
