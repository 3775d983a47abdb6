"""What the host is asked for: commands, loop devices' images, caches, mounts."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

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


def persist(command: Command) -> str:
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


def is_mount(place: Path) -> bool:
    """Tell whether something is mounted at ``place``; a dead mount counts."""
    text = Path("/proc/self/mounts").read_text(errors="replace")
    return f" {place} " in text


def fill(image: Path, size_bytes: int) -> None:
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


def sync(path: Path) -> None:
    """Let the host write what it has of a file or device, if it can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def drop_cached(path: Path) -> None:
    """Let the host write and forget the contents of a file."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def drop_kernel_caches() -> None:
    """Let the kernel forget pages that are written, names and inodes, where that is allowed."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
