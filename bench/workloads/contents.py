"""Contents of files: small writes that are made durable, streams, and blocks at random."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

from bench.waits import Measured
from bench.workloads.workload import BLOCK, MIB, Context, Workload

CHUNK = os.urandom(MIB)


# -------------------------------------------------------------------------------- fsync


def _append_sync(context: Context) -> Measured:
    with (context.folder / "log").open("wb", buffering=0) as file:

        def append(number: int) -> None:
            file.write(BLOCK)
            os.fsync(file)

        return context.each(append, range(context.scale.syncs), probed=True)


def write_file(path: Path, size: int) -> None:
    """Write a file by 1 MiB and make it durable."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, len(CHUNK)):
            file.write(memoryview(CHUNK)[: size - start])
        os.fsync(file)


def _prepared_file(context: Context, size: int) -> Path:
    path = context.folder / "data"
    write_file(path, size)
    return path


def _places(choose: random.Random, count: int, size: int) -> list[int]:
    """Return offsets of blocks at random."""
    return [choose.randrange(size // len(BLOCK)) * len(BLOCK) for _ in range(count)]


def _overwrite_sync(context: Context) -> Measured:
    places = _places(random.Random(1), context.scale.syncs, 16 * MIB)
    with _prepared_file(context, 16 * MIB).open("r+b", buffering=0) as file:

        def overwrite(place: int) -> None:
            os.pwrite(file.fileno(), BLOCK, place)
            os.fsync(file)

        return context.each(overwrite, places, probed=True)


def _replace_sync(context: Context) -> Measured:
    def replace(number: int) -> None:
        new = context.folder / "new"
        with new.open("wb", buffering=0) as file:
            file.write(BLOCK)
            os.fsync(file)
        new.rename(context.folder / f"file{number % 10}")

    return context.each(replace, range(context.scale.syncs), probed=True)


def _sqlite(context: Context) -> Measured:
    with closing(sqlite3.connect(context.folder / "database", isolation_level=None)) as database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, value TEXT)")

        def insert(number: int) -> None:
            database.execute("INSERT INTO item (value) VALUES (?)", (f"value {number}" * 8,))

        return context.each(insert, range(context.scale.syncs), probed=True)


# ------------------------------------------------------------------------------ streams


def _stream_write(context: Context) -> float:
    size = context.scale.stream_bytes
    return context.rate(size / MIB, lambda: _prepared_file(context, size))


def read_through(path: Path) -> None:
    """Read a file by 1 MiB."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def _read_cold(context: Context) -> float:
    path = _prepared_file(context, context.scale.stream_bytes)
    return context.rate(context.scale.stream_bytes / MIB, lambda: read_through(path), cold=True)


def _read_warm(context: Context) -> float:
    path = _prepared_file(context, context.scale.stream_bytes)
    read_through(path)
    return context.rate(context.scale.stream_bytes / MIB, lambda: read_through(path))


def _random_write(context: Context) -> Measured:
    size = context.scale.stream_bytes // 4
    places = _places(random.Random(2), context.scale.overwrites, size)
    with _prepared_file(context, size).open("r+b", buffering=0) as file:

        def overwrite(place: int) -> None:
            os.pwrite(file.fileno(), BLOCK, place)

        return context.each(overwrite, places, finish=lambda: os.fsync(file))


CONTENTS: list[Workload] = [
    Workload("append+fsync", "fsync", "/s", "append 4 KiB, fsync", _append_sync),
    Workload(
        "overwrite+fsync",
        "fsync",
        "/s",
        "overwrite a 4 KiB block at random, fsync",
        _overwrite_sync,
    ),
    Workload(
        "replace+fsync", "fsync", "/s", "create, write 4 KiB, fsync, rename over", _replace_sync
    ),
    Workload("sqlite", "fsync", "/s", "SQLite transactions of one row", _sqlite),
    Workload("write", "write", "MiB/s", "write a file by 1 MiB, fsync at the end", _stream_write),
    Workload("read cold", "read", "MiB/s", "read a file by 1 MiB after a remount", _read_cold),
    Workload("read warm", "read", "MiB/s", "read it again", _read_warm),
    Workload(
        "random write", "random", "/s", "overwrite 4 KiB blocks at random, one fsync", _random_write
    ),
]
