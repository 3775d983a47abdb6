"""SQLite with several processes that write into one database at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk

pytestmark = pytest.mark.fuse

_WRITERS = 5
_TRANSACTIONS = 40
_ACCOUNTS = 20
_BALANCE = 1000
_SECONDS_MAX = 120.0

# Moves money between accounts, and keeps a line of each move: the sum stays, and
# the lines of each writer are all there, in their order.
_WRITER = """
import random, sqlite3, sys
path, writer, transactions, accounts, seed = sys.argv[1], *map(int, sys.argv[2:])
choose = random.Random(f"{seed}/{writer}")
database = sqlite3.connect(path, timeout=100.0, isolation_level=None)
for number in range(transactions):
    source, target = choose.sample(range(accounts), 2)
    amount = choose.randint(1, 50)
    database.execute("BEGIN IMMEDIATE")
    change = "UPDATE account SET balance = balance + ? WHERE id = ?"
    database.execute(change, (-amount, source))
    database.execute("INSERT INTO move VALUES (?, ?, ?, randomblob(700))", (writer, number, amount))
    database.execute(change, (amount, target))
    database.execute("COMMIT")
    (total,) = database.execute("SELECT sum(balance) FROM account").fetchone()
    assert total == accounts * 1000, total
"""


def _make_database(path: Path, mode: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        (found,) = database.execute(f"PRAGMA journal_mode={mode}").fetchone()
        assert found == mode
        database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
        database.execute("CREATE TABLE move (writer INTEGER, number INTEGER, amount, note BLOB)")
        database.execute("CREATE UNIQUE INDEX move_of_writer ON move (writer, number)")
        rows = [(number, _BALANCE) for number in range(_ACCOUNTS)]
        database.executemany("INSERT INTO account VALUES (?, ?)", rows)


def _write_at_once(path: Path, seed: int) -> None:
    numbers = (_TRANSACTIONS, _ACCOUNTS, seed)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, path, *map(str, (writer, *numbers))],
            stderr=subprocess.PIPE,
            text=True,
        )
        for writer in range(_WRITERS)
    ]
    try:
        errors = [writer.communicate(timeout=_SECONDS_MAX)[1] for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
    assert errors == [""] * _WRITERS, f"seed {seed}: {''.join(errors)}"


def _check_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (total,) = database.execute("SELECT sum(balance) FROM account").fetchone()
        assert total == _ACCOUNTS * _BALANCE
        moves = database.execute("SELECT writer, number FROM move ORDER BY writer, number")
        assert moves.fetchall() == [
            (writer, number) for writer in range(_WRITERS) for number in range(_TRANSACTIONS)
        ]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_writers_do_not_lose_money(disk: Disk, mode: str) -> None:
    path = disk.place / "database"
    _make_database(path, mode)
    _write_at_once(path, seed=1)
    _check_database(path)
    disk.remount()
    _check_database(path)
