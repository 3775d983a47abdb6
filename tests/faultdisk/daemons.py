"""Disks served by a ``faultdisk serve -f`` that is a child of the test."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import IO

from faultdisk.daemon.control import Answer, ask
from lfs.kernel.mountpoint import find_mount, unmount
from tests.support.mounting import WAIT_SECONDS, command, environment, run


def make_image(path: Path, size_bytes: int = 8 << 20) -> Path:
    """Make a sparse image of zeros."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


class ServedDisk:
    """One server in the foreground; ``place`` is its directory or its NBD socket."""

    def __init__(self, place: Path, image: Path, *arguments: str | Path, nbd: bool = False) -> None:
        """Serve ``image``; ``arguments`` come after it."""
        self.place = place
        self.error_path = image.with_suffix(".stderr")
        if nbd:
            words: list[str | Path] = ["--nbd", place, image]
        else:
            place.mkdir(exist_ok=True)
            words = [image, place]
        with self.error_path.open("wb") as errors:
            self.process = subprocess.Popen(
                command("faultdisk.main", "serve", "-f", *words, *arguments),
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        self._output: IO[str] = self.process.stdout
        self.printed = [self._output.readline().rstrip("\n") for _ in range(3)]
        if not self.printed[0]:
            self.close()
            raise AssertionError(f"faultdisk serve failed: {self.errors}")

    @property
    def disk(self) -> Path:
        """Return the file that is the disk."""
        return self.place / "disk"

    @property
    def uri(self) -> str:
        """Return how NBD clients name it."""
        return f"nbd+unix:///?socket={self.place}"

    @property
    def errors(self) -> str:
        """Return what it printed on standard error."""
        return self.error_path.read_text()

    @property
    def control(self) -> str:
        """Return the control socket."""
        return f"{self.place}.faultdisk"

    def ask(self, name: str, **arguments: object) -> Answer:
        """Ask at the control socket."""
        return ask(self.control, name, **arguments)

    def plan(self, text: str) -> None:
        """Set a plan."""
        self.ask("set", plan=text)

    def fault_kinds(self) -> set[str]:
        """Return what has happened so far."""
        return set(self.ask("show")["faults"])

    def wait(self) -> int:
        """Return the exit code, once it has ended."""
        return self.process.wait(WAIT_SECONDS)

    def signal(self, number: signal.Signals) -> int:
        """Send it a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def stop(self) -> None:
        """End it in order."""
        self.ask("stop")
        assert self.wait() == 0, self.errors

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        try:
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(WAIT_SECONDS)
        finally:
            self._output.close()
            if find_mount(os.fspath(self.place)) is not None:
                unmount(os.fspath(self.place), lazily=True)


def faultdisk(*arguments: str | Path) -> str:
    """Run a command to its end, which must be a good one; return what it printed."""
    done = run("faultdisk.main", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
