"""What a request costs the core alone: run by ``bench/core.py``, in a process of its own.

A script, so that it can measure any version of the project: it takes the core from where
``PYTHONPATH`` points, and uses nothing that has changed since version 0.1.0 was begun.
Times are those of the processor, user and system, in microseconds for each operation.

usage: core_worker.py DIRECTORY COUNT ROUNDS
"""

from __future__ import annotations

import gc
import json
import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lfs.device.file import FileDevice
from lfs.filesystem import Filesystem

ROOT_INO = 1
REGULAR = stat.S_IFREG | 0o644
BLOCK = os.urandom(4096)
_MKFS = "import sys; from mkfs.main import main; sys.exit(main(sys.argv[1:]))"


class Load:
    """The operations on one filesystem, each on many files of one block."""

    def __init__(self, filesystem: Filesystem, count: int) -> None:
        """Do ``count`` of each."""
        self._filesystem = filesystem
        self._count = count
        self._now_ns = time.time_ns()
        self._round = 0
        self._directory = ROOT_INO
        self._inos: list[int] = []
        self._order = list(range(count))
        random.Random(1).shuffle(self._order)

    def operations(self) -> Iterator[tuple[str, int, Callable[[], None]]]:
        """Yield name, number and work of each operation, to be done in this order."""
        self._round += 1
        name = b"directory %d" % self._round
        self._directory = self._filesystem.mkdir(ROOT_INO, name, 0o755, 0, 0, self._now()).ino
        yield "create, write, release", self._count, self._create
        yield "overwrite", self._count, self._overwrite
        yield "append, sync", self._count // 4, self._append
        yield "lookup", self._count, self._lookup
        yield "read", self._count, self._read
        yield "rename", self._count, self._rename
        yield "unlink, forget", self._count, self._unlink

    def _now(self) -> int:
        self._now_ns += 1000
        return self._now_ns

    def _create(self) -> None:
        filesystem = self._filesystem
        self._inos = []
        for number in range(self._count):
            name = b"file %d" % number
            ino = filesystem.create(self._directory, name, REGULAR, 0, 0, self._now()).ino
            filesystem.open(ino)
            filesystem.write(ino, 0, BLOCK, self._now())
            filesystem.release(ino)
            self._inos.append(ino)
        filesystem.sync(self._now())

    def _overwrite(self) -> None:
        for ino in self._inos:
            self._filesystem.write(ino, 0, BLOCK, self._now())
        self._filesystem.sync(self._now())

    def _append(self) -> None:
        filesystem = self._filesystem
        log = filesystem.create(self._directory, b"log", REGULAR, 0, 0, self._now()).ino
        for number in range(self._count // 4):
            filesystem.write(log, number * len(BLOCK), BLOCK, self._now())
            filesystem.sync(self._now())

    def _lookup(self) -> None:
        for number in self._order:
            self._filesystem.lookup(self._directory, b"file %d" % number)

    def _read(self) -> None:
        for number in self._order:
            self._filesystem.read(self._inos[number], 0, len(BLOCK), self._now())

    def _rename(self) -> None:
        directory = self._directory
        for number in self._order:
            old, new = b"file %d" % number, b"name %d" % number
            self._filesystem.rename(directory, old, directory, new, self._now())
        self._filesystem.sync(self._now())

    def _unlink(self) -> None:
        for number in self._order:
            self._filesystem.unlink(self._directory, b"name %d" % number, self._now())
            self._filesystem.forget(self._inos[number])
        self._filesystem.sync(self._now())


def main() -> None:
    """Measure, and print the least of all rounds of each operation as JSON."""
    folder, count, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    path = folder / "image"
    path.write_bytes(b"")
    os.truncate(path, 2 << 30)
    subprocess.run([sys.executable, "-c", _MKFS, str(path)], check=True, stdout=subprocess.DEVNULL)
    least: dict[str, float] = {}
    device = FileDevice(path)
    try:
        load = Load(Filesystem.mount(device, time.time_ns()), count)
        for _ in range(rounds):
            for name, number, work in load.operations():
                gc.collect()
                begun = time.process_time()
                work()
                taken_us = (time.process_time() - begun) / number * 1e6
                least[name] = min(least.get(name, taken_us), taken_us)
    finally:
        device.close()
        path.unlink()
    print(json.dumps(least))


if __name__ == "__main__":
    main()
