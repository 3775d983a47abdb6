"""Loop devices for tests, and partitions of them; where there are none the test is skipped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.needs import missing
from tests.support.patience import HANG_SECONDS


def run(*command: object) -> str:
    """Run a command of the system, or skip the test where it can't be had."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=True, timeout=HANG_SECONDS
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"no loop devices here: {' '.join(words)}: {reason}")
    return done.stdout.strip()


@contextmanager
def loop_device(image: Path, *options: str) -> Iterator[Path]:
    """Attach a loop device to ``image`` for as long as the ``with`` lasts."""
    reason = missing("loop")
    if reason is not None:
        pytest.skip(reason)
    path = Path(run("losetup", *options, "--find", "--show", image))
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True, timeout=HANG_SECONDS)


@contextmanager
def partition(disk: Path, number: int, start_bytes: int, size_bytes: int) -> Iterator[Path]:
    """Make a partition of a loop device that has ``--partscan``."""
    path = Path(f"{disk}p{number}")
    run("addpart", disk, number, start_bytes // 512, size_bytes // 512)
    try:
        if not path.exists():
            pytest.skip(f"{path} does not appear")
        yield path
    finally:
        run("delpart", disk, number)


@contextmanager
def second_node(device: Path, path: Path) -> Iterator[Path]:
    """Make another node of a block device."""
    try:
        os.mknod(path, 0o60600, device.stat().st_rdev)
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        pytest.skip(f"nodes of devices can't be used here: {error.strerror}")
    yield path
    path.unlink()
