"""Exceptions that are no errors of the device, at each of its writes and flushes.

Whatever it was, what was synced before is there after the next mount, and nobody is told
that something lasts that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from lfs.alloc.delayed.write_out import WriteOut
from lfs.common.errors import FilesystemError
from lfs.device.base import Buffer
from lfs.device.memory import MemoryDevice
from lfs.filesystem import Filesystem, Options
from lfs.ondisk import ROOT_INO
from lfs.segments.writer import LogWriter
from tests.support.disks import REGULAR, data, problems
from tests.support.volumes import format_small, mount

EXCEPTIONS = [KeyboardInterrupt, MemoryError, SystemExit, ValueError, OSError]
FILE_COUNT = 12


class Interrupting(MemoryDevice):
    """A device whose request number ``number``, of writes and flushes, raises ``exception``."""

    number = -1
    exception: type[BaseException] = KeyboardInterrupt

    def count(self) -> None:
        """Count a request."""
        self.number -= 1
        if self.number == 0:
            raise self.exception

    def write(self, offset_bytes: int, buffers: Sequence[Buffer]) -> None:
        """Write, or be interrupted before."""
        self.count()
        super().write(offset_bytes, buffers)

    def flush(self) -> None:
        """Flush, or be interrupted before."""
        self.count()
        super().flush()


def requests(filesystem: Filesystem) -> list[Callable[[], object]]:
    """Return what writes: write-out at a limit, commits, checkpoints, moving by a turn."""
    inos = [filesystem.lookup(ROOT_INO, b"file %d" % number).ino for number in range(FILE_COUNT)]
    return [
        lambda: [filesystem.write(ino, 0, data(ino + 100, 20_000), 2) for ino in inos],
        lambda: filesystem.sync(2),
        lambda: [filesystem.write(ino, 4096, data(ino + 200, 90_000), 3) for ino in inos],
        lambda: filesystem.checkpoint(3),
        lambda: [filesystem.setattr(ino, 4, size=5000) for ino in inos],
        lambda: [filesystem.tick(10**12 * turn, True) for turn in range(1, 9)],
        lambda: filesystem.sync(10**13),
    ]


@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize("number", range(1, 40))
def test_interrupted_writing_is_no_success(number: int, exception: type[BaseException]) -> None:
    device = Interrupting(8 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 0, Options(dirty_bytes_max=128 << 10, extent_bytes_max=64 << 10))
    for file_number in range(FILE_COUNT):
        ino = filesystem.create(ROOT_INO, b"file %d" % file_number, REGULAR, 0, 0, 1).ino
        filesystem.write(ino, 0, data(file_number, 20_000), 1)
    filesystem.sync(1)
    device.number, device.exception = number, exception
    try:
        for request in requests(filesystem):
            request()
    except exception:
        assert filesystem.failure == exception.__name__ or exception is OSError
        assert filesystem.read_only
        with pytest.raises(FilesystemError):
            filesystem.sync(10**14)
    else:
        assert device.number > 0
    filesystem.abandon()
    assert problems(device) == []
    again = mount(device, 10**15)
    for entry in again.readdir(ROOT_INO):
        again.read(entry.ino, 0, 1 << 20, 10**15)


@pytest.mark.pure_core
@pytest.mark.parametrize("owner", [WriteOut, LogWriter])
@pytest.mark.parametrize("size", [20_000, 200_000])
def test_interrupted_amid_writing_is_no_success(
    monkeypatch: pytest.MonkeyPatch, owner: type, size: int
) -> None:
    # Not at the device: what is to be written has been taken, and is written nowhere yet.
    device = MemoryDevice(8 << 20)
    format_small(device, 4096, 64)
    filesystem = mount(device, 0, Options(dirty_bytes_max=128 << 10, extent_bytes_max=64 << 10))
    ino = filesystem.create(ROOT_INO, b"file", REGULAR, 0, 0, 1).ino

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def write_and_sync() -> None:
        filesystem.write(ino, 0, data(size, size), 1)
        filesystem.sync(1)

    monkeypatch.setattr(owner, "map" if owner is WriteOut else "emit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_and_sync()
    monkeypatch.undo()
    with pytest.raises(FilesystemError):
        filesystem.sync(2)
    assert filesystem.failure == "KeyboardInterrupt"
