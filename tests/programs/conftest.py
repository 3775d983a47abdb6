"""Fixtures: a mounted image, and the programs to run on it.

A program that is missing is installed from Debian when the tests run as root;
otherwise its test is skipped and names it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, Need


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A mounted disk; a test that passes ends with an unmount and a clean check."""
    one = Disk(tmp_path)
    try:
        yield one
        one.unmount()
    finally:
        one.close()


# Where a program is not in the Debian package of its own name, or needs more than that.
_PACKAGES = {
    "setfacl": "acl",
    "getfacl": "acl",
    "qemu-img": "qemu-utils",
    "nbdinfo": "libnbd-bin",
    "nbdcopy": "libnbd-bin",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "filefrag": "e2fsprogs",
    "losetup": "mount",
    "pg_ctlcluster": "postgresql",
    "dpkg-buildpackage": "dpkg-dev",
    "dh": "debhelper",
    "makeinfo": "texinfo",
    "i686-linux-gnu-gcc": "gcc-i686-linux-gnu libc6-dev-i386-cross",
}
_LISTS = Path("/var/lib/apt/lists")
_LISTS_AGE_SECONDS_MAX = 7 * 86400


def _update_lists() -> None:
    """Fetch the lists of packages where they are missing or old."""
    newest = max((path.stat().st_mtime for path in _LISTS.glob("*Packages*")), default=0.0)
    if time.time() - newest > _LISTS_AGE_SECONDS_MAX:
        subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)


def _install(programs: list[str]) -> None:
    """Install the packages of ``programs``; what that does not bring is still missing."""
    _update_lists()
    packages = sorted({part for name in programs for part in _PACKAGES.get(name, name).split()})
    subprocess.run(
        ["apt-get", "-qy", "install", "--no-install-recommends", *packages],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def need() -> Need:
    """Return a function that makes sure of programs, and skips the test without them.

    Where tests that mount must run, so must these: there it fails.
    """

    def ensure(*programs: str) -> None:
        missing = [name for name in programs if shutil.which(name) is None]
        installable = os.geteuid() == 0 and shutil.which("apt-get") is not None
        if missing and installable:
            _install(missing)
            missing = [name for name in programs if shutil.which(name) is None]
        if missing:
            text = f"not installed: {', '.join(missing)}"
            if installable and os.environ.get("LFS_REQUIRE_FUSE"):
                pytest.fail(text)
            pytest.skip(text)

    return ensure
