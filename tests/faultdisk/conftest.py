"""Served disks for the tests beside this file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faultdisk.serving import ServedDisk, make_image

Serve = Callable[..., ServedDisk]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "disk.img")


@pytest.fixture
def serve(tmp_path: Path, image: Path) -> Iterator[Serve]:
    """Serve the image in a directory, or with ``nbd`` on a socket; all end with the test."""
    served: list[ServedDisk] = []

    def start(*arguments: str | Path, nbd: bool = False) -> ServedDisk:
        place = tmp_path / ("nbd" if nbd else "door")
        served.append(ServedDisk(place, image, *arguments, nbd=nbd))
        return served[-1]

    yield start
    for one in served:
        one.close()
