"""Programs that people use, on a mounted image, before and after a remount.

Every test ends with an unmount and a clean ``fsck.lfs -f``.
"""

from __future__ import annotations

import shutil
import sqlite3
import sysconfig
from contextlib import closing
from pathlib import Path

import pytest

from tests.programs.support.mounting import Disk, Need, git, run
from tests.support.client import Data

pytestmark = pytest.mark.fuse


# --------------------------------------------------------------------------- git


def _make_repository(place: Path) -> None:
    """Commit the Python library, some thousand files, as a local repository."""
    skipped = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages", "*.so", "*.a")
    shutil.copytree(sysconfig.get_path("stdlib"), place, ignore=skipped, symlinks=True)
    git(place, "init", "-q")
    git(place, "add", "-A", "-f")
    git(place, "commit", "-q", "-m", "Python")


def _check_clone(clone: Path, tree: str) -> None:
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "rev-parse", "HEAD^{tree}") == tree


def test_git_clone_commit_and_fsck(disk: Disk, need: Need, tmp_path: Path) -> None:
    need("git")
    source, clone = tmp_path / "source", disk.place / "clone"
    _make_repository(source)
    git(tmp_path, "clone", "-q", "--no-local", str(source), str(clone))
    _check_clone(clone, git(source, "rev-parse", "HEAD^{tree}"))
    for path in sorted(clone.glob("*.py"))[:100]:
        path.write_text(path.read_text() + "# changed\n")
    git(clone, "commit", "-q", "-a", "-m", "Change")
    git(clone, "gc", "-q")
    tree = git(clone, "rev-parse", "HEAD^{tree}")
    _check_clone(clone, tree)
    disk.remount()
    _check_clone(clone, tree)


# ---------------------------------------------------------- access control lists


def _make_lists(top: Path) -> None:
    """Make a tree of which every part has a list, given or inherited."""
    top.mkdir()
    run(["setfacl", "-m", "u:1001:rwx,g:2001:rx,m::rx", top])
    run(["setfacl", "-d", "-m", "u:1001:rwx,g:2001:r-x,o::---", top])
    (top / "inner").mkdir()
    for path in (top / "file", top / "inner/file"):
        path.write_text("content")
    run(["setfacl", "-m", "u:1002:r", top / "inner/file"])
    run(["chmod", "2750", top / "inner"])


def _lists(top: Path) -> str:
    return run(["getfacl", "-R", "-n", "."], top)


def test_lists_are_copied_and_packed(disk: Disk, need: Need) -> None:
    need("setfacl", "getfacl", "tar", "rsync")
    source = disk.place / "source"
    _make_lists(source)
    expected = _lists(source)
    assert expected.count("user:1001:rwx") == 4 + 2
    assert "default:mask::rwx" in expected
    assert "# flags: -s-" in expected
    archive = disk.place / "tree.tar"
    run(["tar", "--acls", "-cf", archive, "."], source)
    for name in ("copied", "packed", "synchronised"):
        (disk.place / name).mkdir()
    run(["cp", "-a", f"{source}/.", "copied"], disk.place)
    run(["tar", "--acls", "-xpf", archive], disk.place / "packed")
    run(["rsync", "-aA", f"{source}/", "synchronised"], disk.place)
    for _ in range(2):
        for name in ("source", "copied", "packed", "synchronised"):
            assert _lists(disk.place / name) == expected, name
        disk.remount()


def test_lists_are_restored_and_removed(disk: Disk, need: Need, tmp_path: Path) -> None:
    need("setfacl", "getfacl")
    source = disk.place / "source"
    _make_lists(source)
    saved = tmp_path / "lists"
    saved.write_text(_lists(source))
    run(["setfacl", "-R", "-b", "-k", source])
    assert "1001" not in _lists(source)
    assert not run(["getfacl", "-R", "-s", "."], source)
    run(["setfacl", f"--restore={saved}"], source)
    assert _lists(source) == saved.read_text()


# --------------------------------------------------------------------------- tar


def _make_tree(top: Path, file_count: int) -> None:
    """Make files of 0 to 20,000 bytes in directories of a hundred, some names being links."""
    for number in range(file_count):
        directory = top / f"part{number // 1000}" / f"directory{number // 100}"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"file {number} \u00e4\u03b2"
        length = number * 7919 % (20_000 if number % 10 == 0 else 900)
        if number % 50 == 1:
            path.symlink_to(f"../somewhere/{number}")
        elif number % 50 == 2:
            path.hardlink_to(directory / f"file {number - 2} \u00e4\u03b2")
        else:
            path.write_bytes(Data(number, length).bytes())
            path.chmod(0o600 + number % 64)


def test_tar_round_trip_of_ten_thousand_files(disk: Disk, need: Need, tmp_path: Path) -> None:
    need("tar", "diff")
    source, back = tmp_path / "source", tmp_path / "back"
    copy = disk.place / "copy"
    _make_tree(source, 10_000)
    for place in (copy, back):
        place.mkdir()
    archive = tmp_path / "tree.tar"
    run(["tar", "-cf", archive, "."], source)
    run(["tar", "-xpf", archive], copy)
    run(["diff", "-r", "--no-dereference", source, copy])
    disk.remount()
    run(["diff", "-r", "--no-dereference", source, copy])
    # tar itself compares modes, owners, times and links.
    run(["tar", "-df", archive], copy)
    run(["tar", "-cf", disk.place / "again.tar", "."], copy)
    run(["tar", "-xpf", disk.place / "again.tar"], back)
    run(["diff", "-r", "--no-dereference", source, back])
    run(["tar", "-df", archive], back)


# ------------------------------------------------------------------------ SQLite

_ROWS_PER_TRANSACTION = 50


def _change_database(path: Path, mode: str, transaction_count: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        (found,) = database.execute(f"PRAGMA journal_mode={mode}").fetchone()
        assert found == mode
        database.execute("CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, value BLOB)")
        for number in range(transaction_count):
            database.execute("BEGIN")
            rows = [
                (Data(index, 10 + index * 31 % 2000).bytes(),)
                for index in range(_ROWS_PER_TRANSACTION)
            ]
            database.executemany("INSERT INTO item (value) VALUES (?)", rows)
            database.execute("DELETE FROM item WHERE id % 97 = ?", (number % 97,))
            database.execute(
                "UPDATE item SET value = randomblob(500) WHERE id % 11 = ?", (number % 11,)
            )
            database.execute("ROLLBACK" if number % 5 == 4 else "COMMIT")


def _content_of_database(path: Path) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return database.execute("SELECT id, value FROM item ORDER BY id").fetchall()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_transactions(disk: Disk, mode: str) -> None:
    path = disk.place / "database"
    _change_database(path, mode, 60)
    content = _content_of_database(path)
    assert len(content) > 1000
    disk.remount()
    assert _content_of_database(path) == content
    _change_database(path, mode, 20)
    _content_of_database(path)


# --------------------------------------------------------------------------- fio


def test_fio_verifies_random_writes(disk: Disk, need: Need, tmp_path: Path) -> None:
    need("fio")
    command: list[str | Path] = [
        "fio",
        "--name=verify",
        f"--filename={disk.place / 'data'}",
        "--rw=randwrite",
        "--bsrange=512-64k",
        "--blockalign=512",
        "--size=96m",
        "--io_size=48m",
        "--fsync=100",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--randseed=7",
        "--ioengine=psync",
    ]
    run([*command, "--do_verify=1"], tmp_path)
    disk.remount()
    run([*command, "--verify_only=1"], tmp_path)


# ---------------------------------------------------------------------- C and make

_PART = """\
#include "parts.h"
int part{number}(int value) {{ return value * {number} + part{next}(value % 1000); }}
"""
_MAIN = """\
#include <stdio.h>
#include "parts.h"
int main(void) { printf("%d\\n", part0(12345)); return 0; }
"""
_MAKEFILE = """\
OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c parts.h
\t$(CC) -O1 -Wall -c -o $@ $<
"""


def _make_project(place: Path, part_count: int) -> None:
    place.mkdir()
    (place / "Makefile").write_text(_MAKEFILE)
    declarations = [f"int part{number}(int value);" for number in range(part_count + 1)]
    (place / "parts.h").write_text("\n".join(declarations) + "\n")
    (place / "main.c").write_text(_MAIN)
    for number in range(part_count):
        (place / f"part{number}.c").write_text(_PART.format(number=number, next=number + 1))
    last = f'#include "parts.h"\nint part{part_count}(int value) {{ return value; }}\n'
    (place / f"part{part_count}.c").write_text(last)


def _expected_output(part_count: int) -> str:
    total, value = 0, 12345
    for number in range(part_count):
        total += value * number
        value %= 1000
    return f"{total + value}\n"


def test_make_builds_a_c_program(disk: Disk, need: Need) -> None:
    need("make", "gcc")
    project = disk.place / "project"
    _make_project(project, 60)
    run(["make", "-j4", "CC=gcc"], project)
    assert run([project / "program"]) == _expected_output(60)
    disk.remount()
    assert run([project / "program"]) == _expected_output(60)
    # Times survived: nothing is to be made; and one change makes what depends on it.
    run(["make", "-q", "CC=gcc"], project)
    (project / "part1.c").write_text(_PART.format(number=1, next=2))
    assert run(["make", "CC=gcc"], project).count(" -c ") == 1
    assert run([project / "program"]) == _expected_output(60)
