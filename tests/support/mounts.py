"""Mounted filesystems, as fixtures of all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounting import MountedImage, make_image

Mounter = Callable[..., MountedImage]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "test.img")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounter]:
    """Mount images on directories of the test's own; all are unmounted at its end."""
    mounted: list[MountedImage] = []

    def mount_image(image: Path, *arguments: str, name: str = "mnt") -> MountedImage:
        mounted.append(MountedImage(image, tmp_path / name, *arguments))
        return mounted[-1]

    yield mount_image
    for one in mounted:
        one.close()


@pytest.fixture(scope="module")
def shared_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MountedImage]:
    """One mount for all tests of a module that need nothing but a place for files."""
    base = tmp_path_factory.mktemp("shared")
    mounted = MountedImage(make_image(base / "test.img", "256M"), base / "mnt")
    yield mounted
    mounted.stop()


@pytest.fixture
def directory(shared_mount: MountedImage, request: pytest.FixtureRequest) -> Path:
    """Return an empty directory on the shared mount."""
    path: Path = shared_mount.path / request.node.name
    path.mkdir()
    return path
