"""Fixtures: a mounted image, and the programs to run on it.

A program that is missing is installed from Debian when the tests run as root;
otherwise its test is skipped and names it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.mounting import Disk, Need


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A mounted disk; a test that passes ends with an unmount and a clean check."""
    one = Disk(tmp_path)
    try:
        yield one
        one.unmount()
    finally:
        one.close()


@pytest.fixture
def need() -> Need:
    """Return a function that makes sure of programs; Debian calls their packages the same."""

    def ensure(*programs: str) -> None:
        missing = [name for name in programs if shutil.which(name) is None]
        if missing and os.geteuid() == 0 and shutil.which("apt-get"):
            with contextlib.suppress(subprocess.SubprocessError):
                subprocess.run(
                    ["apt-get", "-qy", "install", "--no-install-recommends", *missing],
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                    capture_output=True,
                    check=True,
                )
        missing = [name for name in programs if shutil.which(name) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")

    return ensure
