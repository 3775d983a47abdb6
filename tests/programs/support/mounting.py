"""A mounted image for real programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.mounting import MountedImage, command, environment, make_image

IMAGE_SIZE = "2G"
Need = Callable[..., None]


class Disk:
    """An image mounted at ``place``, checked whenever it is unmounted."""

    def __init__(self, work: Path) -> None:
        """Make an image in ``work`` and mount it."""
        self.image = make_image(work / "disk.img", IMAGE_SIZE)
        self.place = work / "mounted"
        self.mount()

    def mount(self) -> None:
        """Mount, after an ``unmount`` or a ``kill``."""
        self._mount = MountedImage(self.image, self.place)

    def kill(self) -> None:
        """End the daemon as a crash would."""
        self._mount.kill()

    def unmount(self) -> None:
        """Unmount as a user would, and check the image."""
        run_module("lfs.mount.unmount", self.place)
        self.close()
        run_module("fsck.main", "-f", self.image)

    def remount(self) -> None:
        """Unmount, check, and mount again."""
        self.unmount()
        self.mount()

    def close(self) -> None:
        """Leave no mount and no process behind."""
        self._mount.close()


def run(program: list[str | Path], place: Path | None = None, **options: object) -> str:
    """Run a program to its end and return what it prints; fail with that if it fails."""
    done = subprocess.run(
        program,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{program} exits with {done.returncode}: {done.stdout[-2000:]}"
    return str(done.stdout)


def run_module(module: str, *arguments: str | Path) -> str:
    """Run a tool of the project."""
    return run([*command(module, *arguments)], env=environment())


def git(place: Path, *arguments: str) -> str:
    """Run git, as somebody."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return run(["git", *identity, *arguments], place)
