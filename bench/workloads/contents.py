"""Contents of files: small writes that are made durable, streams, and blocks at random."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

from bench.workloads.workload import BLOCK, KIB, MIB, Context, Workload

CHUNK = os.urandom(MIB)


# -------------------------------------------------------------------------------- fsync


def _append_sync(context: Context) -> float:
    with (context.folder / "log").open("wb", buffering=0) as file:

        def work() -> None:
            for _ in range(context.scale.syncs):
                file.write(BLOCK)
                os.fsync(file)

        return context.rate(context.scale.syncs, work)


def _prepared_file(context: Context, size: int) -> Path:
    path = context.folder / "data"
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(CHUNK)):
            file.write(CHUNK)
        os.fsync(file)
    return path


def _overwrite_sync(context: Context) -> float:
    choose = random.Random(1)
    with _prepared_file(context, 16 * MIB).open("r+b", buffering=0) as file:

        def work() -> None:
            for _ in range(context.scale.syncs):
                os.pwrite(file.fileno(), BLOCK, choose.randrange(16 * MIB // len(BLOCK)) * 4 * KIB)
                os.fsync(file)

        return context.rate(context.scale.syncs, work)


def _replace_sync(context: Context) -> float:
    def work() -> None:
        for number in range(context.scale.syncs):
            new = context.folder / "new"
            with new.open("wb", buffering=0) as file:
                file.write(BLOCK)
                os.fsync(file)
            new.rename(context.folder / f"file{number % 10}")

    return context.rate(context.scale.syncs, work)


def _sqlite(context: Context) -> float:
    with closing(sqlite3.connect(context.folder / "database", isolation_level=None)) as database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, value TEXT)")

        def work() -> None:
            for number in range(context.scale.syncs):
                database.execute("INSERT INTO item (value) VALUES (?)", (f"value {number}" * 8,))

        return context.rate(context.scale.syncs, work)


# ------------------------------------------------------------------------------ streams


def _stream_write(context: Context) -> float:
    size = context.scale.stream_bytes
    return context.rate(size / MIB, lambda: _prepared_file(context, size))


def _read_through(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def _read_cold(context: Context) -> float:
    path = _prepared_file(context, context.scale.stream_bytes)
    return context.rate(context.scale.stream_bytes / MIB, lambda: _read_through(path), cold=True)


def _read_warm(context: Context) -> float:
    path = _prepared_file(context, context.scale.stream_bytes)
    _read_through(path)
    return context.rate(context.scale.stream_bytes / MIB, lambda: _read_through(path))


def _random_write(context: Context) -> float:
    size = context.scale.stream_bytes // 4
    choose = random.Random(2)
    with _prepared_file(context, size).open("r+b", buffering=0) as file:

        def work() -> None:
            for _ in range(context.scale.overwrites):
                os.pwrite(file.fileno(), BLOCK, choose.randrange(size // len(BLOCK)) * 4 * KIB)
            os.fsync(file)

        return context.rate(context.scale.overwrites, work)


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
