"""Where the tests beside this file mount."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lfs.kernel.mountpoint import find_mount
from tests.support.mounting import run


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    if find_mount(str(path)) is not None:
        assert run("lfs.mount.unmount", path).returncode == 0
