"""Every command as its installed program runs it, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.mounting import WAIT_SECONDS, environment

NAMES = {
    "mkfs.lfs": "mkfs",
    "fsck.lfs": "fsck",
    "mount.lfs": "mount",
    "umount.lfs": "umount",
    "lfs": "lfs",
    "faultdisk": "faultdisk",
}
"""The programs, and the functions that they call."""
FAILED = {"fsck.lfs": 8, "mount.lfs": 2, "umount.lfs": 2}
"""What is not 1 of the exit codes for output that can't be written."""
INTERRUPTED = {"fsck.lfs": 32}
"""What is not the signal of the exit codes after Ctrl-C."""
_RUN = "from lfs.command import entries; entries.{}()"
# Whoever runs the tests in the background lets them ignore SIGINT.
_ATTENTIVE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


class Ended(NamedTuple):
    """How a process ended, and what it wrote."""

    code: int
    output: bytes
    errors: bytes


def program(name: str, prologue: str = "") -> list[str]:
    """Return the command line of a program that does ``prologue`` before anything else."""
    return [sys.executable, "-c", _ATTENTIVE + prologue + _RUN.format(NAMES[name])]


def run(
    name: str,
    *arguments: str | bytes | Path,
    prologue: str = "",
    stdout: int = subprocess.PIPE,
    variables: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program to its end."""
    done = subprocess.run(
        [*program(name, prologue), *arguments],
        env=environment() | dict(variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=WAIT_SECONDS,
        check=False,
    )
    return Ended(done.returncode, done.stdout or b"", done.stderr)


def interrupted_code(name: str) -> int:
    """Return how a program ends that Ctrl-C ends, as ``Ended`` has it."""
    return INTERRUPTED.get(name, -signal.SIGINT)


def interrupting(number: int, marker: Path) -> str:
    """Return a prologue that interrupts the program at one of the events that Python reports.

    Those are imports, files opened, processes started ...: ``number`` counts them
    from when ``start`` is in charge, and ``marker`` is made when it comes to that.
    """
    return (
        "import os, sys\n"
        f"left = [{number}]\n"
        "def hook(event, arguments):\n"
        "    if signal.getsignal(signal.SIGINT) is signal.default_int_handler: return\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0:\n"
        f"        os.close(os.open({os.fspath(marker)!r}, os.O_CREAT | os.O_WRONLY))\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(hook)\n"
    )


def closed_pipe() -> int:
    """Return a descriptor of a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer
