"""What all tests share: the hypothesis profile, and skips that name what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a shared machine may stall any single example.  A failure prints
# the blob that replays it.
settings.register_profile(
    "lfs", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lfs")


def _missing_for_fuse() -> str | None:
    """Return what keeps this machine from mounting, or None."""
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed"
    if not Path("/dev/fuse").exists():
        return "/dev/fuse is missing"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no permission on /dev/fuse"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that mount where mounting is impossible, unless LFS_REQUIRE_FUSE is set."""
    missing = _missing_for_fuse()
    if missing is None or os.environ.get("LFS_REQUIRE_FUSE"):
        return
    for item in items:
        if item.get_closest_marker("fuse"):
            item.add_marker(pytest.mark.skip(reason=missing))
