"""The mounts that the conditions share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.posix.world import World
from tests.support.mounting import MountedImage, make_image


def _filled(mounted: MountedImage) -> None:
    """Use up all space, down to the last small file."""
    descriptor = os.open(mounted.path / "file", os.O_CREAT | os.O_WRONLY)
    for length in (1 << 16, 4096):
        try:
            while True:
                os.write(descriptor, bytes(length))
        except OSError:
            continue
    os.close(descriptor)


@pytest.fixture(scope="module")
def mounts() -> Iterator[dict[str, Path]]:
    """Three mounts: one to work on, one read-only, one full; every user can reach them."""
    with TemporaryDirectory(prefix="lfs-posix-") as name:
        os.chmod(name, 0o755)
        yield from _mounted(Path(name))


def _mounted(base: Path) -> Iterator[dict[str, Path]]:
    work = MountedImage(make_image(base / "work.img"), base / "work")
    read_only = MountedImage(make_image(base / "ro.img"), work.path / "ro")
    (read_only.path / "file").write_bytes(b"content")
    (read_only.path / "directory").mkdir()
    read_only.stop()
    read_only = MountedImage(base / "ro.img", work.path / "ro", "-o", "ro")
    full = MountedImage(make_image(base / "full.img", "16M"), base / "full")
    _filled(full)
    yield {"work": work.path, "ro": read_only.path, "full": full.path, "other": base}
    for mounted in (read_only, full, work):
        mounted.stop()


@pytest.fixture
def world(mounts: dict[str, Path]) -> World:
    """Return a tree of the test's own."""
    path = mounts["work"] / str(len(os.listdir(mounts["work"])))
    path.mkdir()
    return World.made(path, mounts["ro"], mounts["full"], mounts["other"])
