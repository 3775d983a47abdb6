"""Served disks and a write log for the tests beside this file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfs.device.recording import Discard, Event, Flush, Mark, Write
from lfs.device.write_log import WriteLog
from tests.faultdisk.daemons import ServedDisk, make_image
from tests.faultdisk.nbd_served import Served

Serve = Callable[..., ServedDisk]

EVENTS: list[Event] = [
    Write(0, b"a" * 512),
    Write(4096, bytes(8192), True),
    Mark("half way"),
    Flush(),
    Discard(512, 1024),
    Write(0, b"b" * 512),
]


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


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "writes.log"
    with WriteLog(path, 1 << 20) as log:
        for event in EVENTS:
            log.append(event)
    return path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Return a device in memory, to be served on a socket in this process."""
    one = Served(tmp_path)
    yield one
    one.clock.go.set()
    if one.server is not None:
        one.server.close()
