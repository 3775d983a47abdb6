"""``lfs`` on a mounted filesystem."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lfs.cli.main import main

pytestmark = pytest.mark.fuse


def test_filefrag_shows_the_extents_of_what_was_just_written(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / "f"
    path.write_bytes(os.urandom(1 << 20))
    assert main(["filefrag", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"File size of {path} is 1048576 (256 blocks of 4096 bytes)"
    assert sum(int(line.split(":")[3]) for line in lines if ".." in line) == 256


def test_filefrag_shows_holes(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory / "f"
    with path.open("wb") as file:
        file.write(os.urandom(8192))
        file.seek(1 << 20)
        file.write(os.urandom(8192))
    assert main(["filefrag", str(path)]) == 0
    extents = [line for line in capsys.readouterr().out.splitlines() if ".." in line]
    assert [line.split(":")[1].replace(" ", "") for line in extents] == ["0..1", "256..257"]


def test_sync_succeeds(directory: Path) -> None:
    (directory / "f").write_text("content")
    assert main(["sync", str(directory)]) == 0
