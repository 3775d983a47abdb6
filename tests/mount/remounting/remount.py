"""Remounting, as ``mount -o remount`` does it, and what it says when it refuses."""

from __future__ import annotations

import pytest

from lfs.mount.main import main
from tests.support.mounting import MountedImage

needs_root = pytest.mark.needs("root")
fuse = pytest.mark.fuse

Capture = pytest.CaptureFixture[str]


def remount(mounted: MountedImage, options: str) -> int:
    """Remount, and return the exit code."""
    return main([str(mounted.image), str(mounted.path), "-o", f"remount,{options}"])


def refusal(capsys: Capture, mounted: MountedImage, options: str) -> tuple[int, str]:
    """Remount, and return the exit code and the one line that says why not."""
    code = remount(mounted, options)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mount.lfs: ")
    assert err.count("\n") == 1
    return code, err.removeprefix("mount.lfs: ").rstrip("\n")
